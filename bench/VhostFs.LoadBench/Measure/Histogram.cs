using System.Numerics;

namespace VhostFs.LoadBench.Measure;

/// <summary>Counts of durations in nanoseconds, log-linear: 64 steps in each power of two, so that a percentile is wrong by less than 1.6 %.</summary>
internal sealed class Histogram
{
    private const int StepBits = 6, Steps = 1 << StepBits;
    private readonly long[] _counts = new long[(64 - StepBits) * Steps];
    private double _sumNs;

    public long Count { get; private set; }

    public long MaxNs { get; private set; }

    public double MeanNs => Count == 0 ? 0 : _sumNs / Count;

    public void Add(long ns)
    {
        ns = Math.Max(ns, 0);
        _counts[BucketOf(ns)]++;
        _sumNs += ns;
        Count++;
        MaxNs = Math.Max(MaxNs, ns);
    }

    public void Add(Histogram other)
    {
        for (int i = 0; i < _counts.Length; i++) { _counts[i] += other._counts[i]; }
        _sumNs += other._sumNs;
        Count += other.Count;
        MaxNs = Math.Max(MaxNs, other.MaxNs);
    }

    /// <summary>The duration that so many percent do not exceed: the middle of its step.</summary>
    public double PercentileNs(double percent)
    {
        var wanted = (long)Math.Ceiling(Count * percent / 100);
        long seen = 0;
        for (int i = 0; i < _counts.Length && Count > 0; i++)
        {
            seen += _counts[i];
            if (seen >= wanted && seen > 0) { return Math.Min((FirstOf(i) + FirstOf(i + 1) - 1) / 2.0, MaxNs); }
        }
        return 0;
    }

    public void Clear()
    {
        Array.Clear(_counts);
        (Count, MaxNs, _sumNs) = (0, 0, 0);
    }

    // Below 64 each value has a bucket; from there on, the highest 7 bits decide.
    private static int BucketOf(long ns)
    {
        if (ns < Steps) { return (int)ns; }
        int shift = BitOperations.Log2((ulong)ns) - StepBits;
        return (shift << StepBits) + (int)(ns >> shift);
    }

    private static double FirstOf(int bucket)
    {
        if (bucket < Steps) { return bucket; }
        int shift = (bucket >> StepBits) - 1;
        return Math.ScaleB((bucket & (Steps - 1)) + Steps, shift);
    }
}
