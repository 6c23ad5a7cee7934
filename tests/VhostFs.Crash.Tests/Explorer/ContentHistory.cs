namespace VhostFs.Crash.Tests.Explorer;

/// <summary>What one part of a pool (a volume, a file system) held one after the other, and which of it was promised when.</summary>
/// <remarks>A content is its hash. Moments are those of the recording: a version exists from a moment on, a promise binds from a moment on.</remarks>
public sealed class ContentHistory(Func<long> now)
{
    /// <summary>The content of something that is not there.</summary>
    public const ulong Absent = 0;

    private readonly List<(long Moment, ulong Hash)> _versions = [];
    private readonly List<(long Moment, int Version)> _replied = [];
    private readonly List<(long Moment, int Version)> _durable = [];

    public int Current => _versions.Count - 1;

    public ulong CurrentHash => _versions[^1].Hash;

    /// <summary>The content has changed; a crash from now on may recover to this.</summary>
    public void Add(ulong hash) => AddAt(now(), hash);

    /// <summary>The content may have changed at this moment or later. Versions are added in their order.</summary>
    public void AddAt(long moment, ulong hash) => _versions.Add((moment, hash));

    /// <summary>What it may have been before the first version: a crash may go back there.</summary>
    public void Precede(ulong hash)
    {
        _versions.Insert(0, (-1, hash));
        for (int i = 0; i < _replied.Count; i++) { _replied[i] = (_replied[i].Moment, _replied[i].Version + 1); }
        for (int i = 0; i < _durable.Count; i++) { _durable[i] = (_durable[i].Moment, _durable[i].Version + 1); }
    }

    /// <summary>A change was replied to: the death of the process must not take it.</summary>
    public void Replied(int version) => Promise(_replied, version);

    /// <summary>A sync was replied to: a power cut must not take what was committed before it.</summary>
    public void Durable(int version)
    {
        Promise(_durable, version);
        Promise(_replied, version);
    }

    /// <summary>Null, or why this content must not be found after a crash right before <paramref name="moment"/>.</summary>
    public string? Judge(ulong hash, long moment, bool isPowerCut)
    {
        int least = Least(isPowerCut ? _durable : _replied, moment), found = -1;
        for (int i = 0; i < _versions.Count && _versions[i].Moment <= moment; i++)
        {
            if (_versions[i].Hash != hash) { continue; }
            if (i >= least) { return null; }
            found = i;
        }
        if (found >= 0) { return $"recovered version {found} of {_versions.Count}, but {least} had been promised"; }
        return _versions.Exists(version => version.Hash == hash) ? "the recovered content comes from the future" : hash == Absent ? "it is gone" : "the recovered content is none that there ever was";
    }

    private void Promise(List<(long Moment, int Version)> promises, int version)
    {
        int least = promises.Count == 0 ? 0 : promises[^1].Version;
        promises.Add((now(), Math.Max(version, least)));
    }

    // A promise made at moment m follows operations that completed before m.
    private static int Least(List<(long Moment, int Version)> promises, long moment)
    {
        int low = 0, high = promises.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (promises[middle].Moment <= moment) { low = middle + 1; }
            else { high = middle; }
        }
        return low == 0 ? 0 : promises[low - 1].Version;
    }
}
