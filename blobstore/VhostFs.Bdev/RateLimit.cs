namespace VhostFs.Bdev;

/// <summary>So much in a second, of operations or of bytes: says when the next may begin. A second's worth is spread evenly; what was not used comes back for a millisecond only.</summary>
/// <remarks>The virtual scheduling algorithm of ATM (GCRA): one number, the time at which everything promised so far is paid for. Whoever asks gets his time at once and in order of asking,
/// so that nobody is overtaken, and one that is large waits no longer than what came before it takes.</remarks>
public sealed class RateLimit(long perSecond)
{
    private const long SecondNs = 1_000_000_000;
    private const long BurstNs = 1_000_000;

    private long _paidNs;

    /// <summary>How far what was promised reaches beyond now.</summary>
    public long AheadNs(long nowNs) => Math.Max(_paidNs, nowNs) - nowNs;

    /// <summary>When <paramref name="amount"/> may begin, not before <paramref name="nowNs"/>.</summary>
    public long Reserve(long nowNs, long amount)
    {
        long begin = Math.Max(nowNs, _paidNs - BurstNs);
        _paidNs = Math.Max(_paidNs, nowNs) + (long)((double)amount / perSecond * SecondNs);
        return begin;
    }
}

/// <summary>The limits of one bdev, as bdev_set_qos_limit names them; 0: none.</summary>
/// <param name="OperationsPerSecond">Reads and writes.</param>
/// <param name="BytesPerSecond">Of reads and writes together.</param>
public sealed record RateLimits(long OperationsPerSecond = 0, long BytesPerSecond = 0, long ReadBytesPerSecond = 0, long WriteBytesPerSecond = 0)
{
    public bool IsNone => (OperationsPerSecond | BytesPerSecond | ReadBytesPerSecond | WriteBytesPerSecond) == 0;
}
