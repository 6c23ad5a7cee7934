namespace VhostFs.Bdev;

/// <summary>How long operations of one kind took, in ns: all together, the shortest and the longest.</summary>
public struct LatencySum
{
    private bool _hasOne;

    public long TotalNs { get; private set; }

    public long MinNs { get; private set; }

    public long MaxNs { get; private set; }

    public void Add(long ns)
    {
        TotalNs += ns;
        MinNs = _hasOne ? Math.Min(MinNs, ns) : ns;
        MaxNs = Math.Max(MaxNs, ns);
        _hasOne = true;
    }
}
