using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Reads the whole content of a pool on a disk as one hash; opening it is the recovery.</summary>
public delegate IoTask<(ulong Hash, string? Problem)> ContentReader(Pool pool);

/// <summary>Judges one crash state: the checker finds nothing, the pool opens, and its content is one that it had, not older than what was promised.</summary>
public sealed class StateVerifier(DiskImage image, CrashTrace trace, ContentReader readContent, CheckOptions checkOptions)
{
    private const int MaxFindings = 3;

    private readonly NodeCache _nodes = new(16 << 20);
    private readonly Dictionary<ulong, int> _newestVersionOf = NewestVersions(trace);

    /// <summary>Null, or what is wrong. <paramref name="thorough"/>: recovery is also repeated, and the disk it leaves is checked.</summary>
    public string? Verify(CrashState state, bool thorough)
    {
        using var bdev = new ImageBdev(image);
        using var reactor = new IoReactor(new SimulatedDriver(), "recovery");
        try { return reactor.RunUntilComplete(() => VerifyAsync(bdev, state.LeastVersion, thorough)); }
        catch (Exception e) when (e is InvariantException or InvalidOperationException or NullReferenceException or IndexOutOfRangeException or ArgumentException or OverflowException or KeyNotFoundException)
        {
            return $"recovery ended with {e.GetType().Name}: {e.Message} {e.StackTrace?.Split('\n').FirstOrDefault()?.Trim()}";
        }
    }

    public static async IoTask<(ulong Hash, string? Problem)> ReadRawVolume(Pool pool)
    {
        OpenResult<Volume> volume = await pool.OpenVolumeAsync(RawWorkload.VolumeName);
        return volume.Value is null ? (0, volume.Error) : await VolumeContent.ReadAsync(volume.Value, []);
    }

    private async IoTask<string?> VerifyAsync(IBdev bdev, int leastVersion, bool thorough)
    {
        if (await CheckAsync(bdev) is { } damage) { return $"the checker, before recovery: {damage}"; }
        (ulong hash, string? problem) = await RecoverAsync(bdev);
        if (problem is not null) { return $"recovery: {problem}"; }
        if (!_newestVersionOf.TryGetValue(hash, out int version)) { return "the recovered content is none that there ever was"; }
        if (version < leastVersion) { return $"recovered version {version}, but {leastVersion} had been promised"; }
        if (!thorough) { return null; }
        if (await CheckAsync(bdev) is { } afterwards) { return $"the checker, after recovery: {afterwards}"; }
        (ulong again, problem) = await RecoverAsync(bdev);
        if (problem is not null) { return $"second opening: {problem}"; }
        return again == hash ? null : "the second opening found another content than the first";
    }

    private async IoTask<(ulong Hash, string? Problem)> RecoverAsync(IBdev bdev)
    {
        OpenResult<Pool> pool = await Pool.OpenAsync(bdev, new PoolOptions { NodeCache = _nodes });
        if (pool.Value is null) { return (0, pool.Error); }
        (ulong hash, string? problem) = await readContent(pool.Value);
        Errno closed = await pool.Value.CloseAsync();
        return (hash, problem ?? (closed == Errno.None ? null : $"closing failed: {closed}"));
    }

    private async IoTask<string?> CheckAsync(IBdev bdev)
    {
        CheckReport report = await PoolChecker.CheckAsync(bdev, checkOptions);
        return report.IsClean ? null : string.Join("; ", report.Findings.Where(finding => finding.Severity == CheckSeverity.Error).Take(MaxFindings));
    }

    private static Dictionary<ulong, int> NewestVersions(CrashTrace trace)
    {
        var versions = new Dictionary<ulong, int>();
        for (int i = 0; i < trace.Versions.Count; i++) { versions[trace.Versions[i]] = i; }
        return versions;
    }
}
