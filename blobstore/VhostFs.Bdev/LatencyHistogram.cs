using System.Numerics;
using System.Runtime.InteropServices;

namespace VhostFs.Bdev;

/// <summary>Counts of how long operations took, in ns, finer for the short ones: 128 buckets for each power of two.</summary>
/// <remarks>Laid out as spdk_histogram_data is, so that SPDK's scripts read it: range 0 holds 0 to 127 one by one; range r the values of 7 + r bits, in steps of 2^(r-1).</remarks>
public sealed class LatencyHistogram
{
    /// <summary>2^7 buckets in a range.</summary>
    public const int Granularity = 7;

    public const int Ranges = 64 - Granularity + 1;
    private const int BucketsPerRange = 1 << Granularity;

    private readonly ulong[] _counts = new ulong[Ranges * BucketsPerRange];

    /// <summary>Little-endian, range after range.</summary>
    public ReadOnlySpan<byte> Bytes => MemoryMarshal.AsBytes(_counts.AsSpan());

    public void Add(long ns) => _counts[IndexOf((ulong)Math.Max(ns, 0))]++;

    private static int IndexOf(ulong ns)
    {
        int range = Math.Max(64 - BitOperations.LeadingZeroCount(ns) - Granularity, 0);
        int shift = Math.Max(range - 1, 0);
        return range * BucketsPerRange + (int)(ns >> shift & (BucketsPerRange - 1));
    }
}
