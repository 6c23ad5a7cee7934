using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>Knows which reads are still under way that may have looked up a block before it was freed.</summary>
/// <remarks>Two counters take turns: the epoch moves on when no read of the epoch before the current one is left.</remarks>
internal sealed class ReadEpochs
{
    private readonly int[] _active = new int[2];

    /// <summary>Blocks freed now carry this epoch.</summary>
    public ulong Current { get; private set; } = 2;

    /// <summary>Every read that is still under way began in this epoch or later.</summary>
    public ulong Oldest
    {
        get
        {
            Advance();
            if (_active[(Current - 1) & 1] > 0) { return Current - 1; }
            return _active[Current & 1] > 0 ? Current : Current + 1;
        }
    }

    public ulong Begin()
    {
        _active[Current & 1]++;
        return Current;
    }

    public void End(ulong epoch)
    {
        Invariant.That(_active[epoch & 1] > 0);
        _active[epoch & 1]--;
    }

    private void Advance()
    {
        // Readers of Current - 1 are gone: reads that begin from now on get a new epoch, those of Current become the old ones.
        if (_active[(Current - 1) & 1] == 0) { Current++; }
    }
}
