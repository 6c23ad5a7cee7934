using System.Numerics;
using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>Which blocks of a volume's data clusters can be given to new data.</summary>
/// <remarks>
/// A block is free here, reserved or in use (bit set), or freed but not yet usable (bit set, listed in <see cref="_pending"/>): a freed block is used again only
/// after the record that freed it is durable and after every read that may have looked it up before has ended.
/// </remarks>
internal sealed class BlockAllocator(ulong dataStart, int clusterBlocks)
{
    /// <summary>A run of this many blocks is good enough for any request.</summary>
    private const int EnoughBlocks = 64;

    /// <summary>Clusters with free blocks that one request looks at.</summary>
    private const int MaxLooks = 16;

    /// <summary>Room that a blob looks for when it grows and cannot go on where it is: 64 KiB, and 256 KiB from a megabyte on.</summary>
    private const int SmallWindow = 16, LargeWindow = 64;

    private const ulong LargeBlob = 256;

    private readonly List<Cluster> _clusters = [];
    private readonly Dictionary<uint, Cluster> _byIndex = [];
    private readonly Queue<PendingFree> _pending = new();
    private readonly Queue<Cluster> _unmappable = new();

    /// <summary>All clusters before this one are full.</summary>
    private int _hint;

    /// <summary>Can be reserved now.</summary>
    public long FreeBlocks { get; private set; }

    /// <summary>Freed, but not usable before the next sync.</summary>
    public long PendingBlocks { get; private set; }

    public long TotalBlocks => (long)_clusters.Count * clusterBlocks;

    public uint ClusterOf(ulong block) => (uint)((block - dataStart) / (ulong)clusterBlocks);

    /// <summary>The whole run lies in one data cluster of this volume.</summary>
    public bool Owns(ulong first, int count) =>
        first >= dataStart && count > 0
        && (first - dataStart) / (ulong)clusterBlocks < uint.MaxValue
        && ((first - dataStart) % (ulong)clusterBlocks) + (ulong)count <= (ulong)clusterBlocks
        && _byIndex.ContainsKey(ClusterOf(first));

    /// <summary>Blocks from this one on to the end of its cluster.</summary>
    public int LeftInCluster(ulong block) => clusterBlocks - InCluster(block);

    /// <param name="bitmap">The Allocation item's value; empty: all free.</param>
    public void AddCluster(uint index, ReadOnlySpan<byte> bitmap)
    {
        var cluster = new Cluster(index, new ulong[(clusterBlocks + 63) / 64], _clusters.Count);
        Span<byte> bits = MemoryMarshal.AsBytes(cluster.Used.AsSpan());
        bitmap[..Math.Min(bitmap.Length, bits.Length)].CopyTo(bits);
        if (clusterBlocks % 64 != 0) { cluster.Used[^1] |= ulong.MaxValue << (clusterBlocks % 64); }
        int used = 0;
        foreach (ulong word in cluster.Used) { used += BitOperations.PopCount(word); }
        cluster.Free = (cluster.Used.Length * 64) - used;
        _clusters.Add(cluster);
        _byIndex.Add(index, cluster);
        FreeBlocks += cluster.Free;
    }

    public void Clear()
    {
        _clusters.Clear();
        _byIndex.Clear();
        FreeBlocks = 0;
        _hint = 0;
    }

    /// <summary>Reserves up to <paramref name="wanted"/> consecutive blocks; the reservation is in memory only until a transaction allocates them.</summary>
    /// <remarks>A blob goes on where it is. When others have taken that place, one that grows little by little goes on in a window that is free, so that many that grow at once do not lie one
    /// block of each after the other. Else first fit, so that space just freed is used before the device has to provide more; but large requests pass over a bounded number of small holes.</remarks>
    /// <param name="near">Where the blob would go on; 0: it begins.</param>
    /// <param name="blobBlocks">How large the blob is, about.</param>
    public bool TryReserve(int wanted, ulong near, ulong blobBlocks, out BlockRun run)
    {
        int enough = Math.Min(wanted, EnoughBlocks);
        if (near != 0 && TryGoOn(near, wanted, enough, out run)) { return true; }
        if (near != 0 && wanted < SmallWindow && TryReserveWindow(wanted, blobBlocks < LargeBlob ? SmallWindow : LargeWindow, out run)) { return true; }
        (Cluster? Cluster, int First, int Count) best = default;
        int looked = 0;
        for (int at = _hint; at < _clusters.Count && looked < MaxLooks && best.Count < enough; at++)
        {
            Cluster cluster = _clusters[at];
            if (cluster.Free == 0)
            {
                if (at == _hint) { _hint++; }
                continue;
            }
            looked++;
            FindRun(cluster, wanted, enough, out int first, out int count);
            if (count > best.Count) { best = (cluster, first, count); }
        }
        run = default;
        if (best.Cluster is null) { return false; }
        run = Take(best.Cluster, best.First, best.Count);
        return true;
    }

    /// <summary>A reservation that no transaction used.</summary>
    public void Release(BlockRun run) => ClearBits(run);

    /// <summary>Makes freed blocks usable that the device still keeps: they are to be unmapped when there is time for it, unless they are used before.</summary>
    public void ReleaseMapped(BlockRun run)
    {
        ClearBits(run);
        Cluster cluster = _byIndex[ClusterOf(run.First)];
        int first = InCluster(run.First);
        for (int i = first; i < first + run.Count; i++) { cluster.Mapped[i / 64] |= 1UL << (i % 64); }
        if (cluster.IsListed) { return; }
        cluster.IsListed = true;
        _unmappable.Enqueue(cluster);
    }

    /// <summary>Reserves the next free run of at least <paramref name="minBlocks"/> blocks that the device still keeps, for an unmap; <see cref="Release"/> ends it.</summary>
    public bool TryTakeUnmappable(int minBlocks, out BlockRun run)
    {
        for (; _unmappable.TryPeek(out Cluster? cluster); _unmappable.Dequeue().IsListed = false)
        {
            for (int first = 0; first < clusterBlocks; first++)
            {
                int count = 0;
                while (first + count < clusterBlocks && IsFreeAndMapped(cluster, first + count)) { count++; }
                if (count >= minBlocks)
                {
                    run = Take(cluster, first, count);
                    return true;
                }
                first += count;
            }
        }
        run = default;
        return false;
    }

    /// <summary>A transaction freed these blocks.</summary>
    public void Free(ulong lsn, BlockRun run, ulong readEpoch)
    {
        PendingBlocks += run.Count;
        _pending.Enqueue(new PendingFree(lsn, run, readEpoch));
    }

    /// <summary>Takes the next freed run that is durable and that no read can still look at; the caller makes it usable with <see cref="Release"/> or <see cref="ReleaseMapped"/>.</summary>
    public bool TryTakeReleasable(ulong durableLsn, ulong oldestReadEpoch, out BlockRun run)
    {
        run = default;
        if (!_pending.TryPeek(out PendingFree next) || next.Lsn > durableLsn || next.ReadEpoch >= oldestReadEpoch) { return false; }
        _pending.Dequeue();
        PendingBlocks -= next.Run.Count;
        run = next.Run;
        return true;
    }

    private static bool IsFreeAndMapped(Cluster cluster, int block) => (~cluster.Used[block / 64] & cluster.Mapped[block / 64] & (1UL << (block % 64))) != 0;

    private int InCluster(ulong block) => (int)((block - dataStart) % (ulong)clusterBlocks);

    private ulong FirstBlock(Cluster cluster) => dataStart + ((ulong)cluster.Index * (ulong)clusterBlocks);

    private bool TryGoOn(ulong near, int wanted, int enough, out BlockRun run)
    {
        run = default;
        if (near < dataStart || !_byIndex.TryGetValue(ClusterOf(near), out Cluster? cluster)) { return false; }
        int first = InCluster(near), count = FreeFrom(cluster, first, wanted);
        if (count < enough) { return false; }
        run = Take(cluster, first, count);
        return true;
    }

    /// <summary>In the first window (aligned) with nothing in it, of a bounded number of clusters.</summary>
    private bool TryReserveWindow(int wanted, int windowBlocks, out BlockRun run)
    {
        run = default;
        ulong window = ulong.MaxValue >> (64 - windowBlocks);
        for (int at = _hint, looked = 0; at < _clusters.Count && looked < MaxLooks; at++)
        {
            Cluster cluster = _clusters[at];
            if (cluster.Free < windowBlocks) { continue; }
            looked++;
            for (int first = 0; first < clusterBlocks; first += windowBlocks)
            {
                if (((cluster.Used[first / 64] >> (first % 64)) & window) != 0) { continue; }
                run = Take(cluster, first, FreeFrom(cluster, first, wanted));
                return true;
            }
        }
        return false;
    }

    private BlockRun Take(Cluster cluster, int first, int count)
    {
        SetBits(cluster, first, count);
        return new BlockRun(FirstBlock(cluster) + (ulong)first, count);
    }

    /// <summary>How many blocks from this one on are free, not more than wanted.</summary>
    private int FreeFrom(Cluster cluster, int first, int wanted)
    {
        int count = 0;
        while (count < wanted && first + count < clusterBlocks && (cluster.Used[(first + count) / 64] & (1UL << ((first + count) % 64))) == 0) { count++; }
        return count;
    }

    /// <summary>The first free run of at least <paramref name="enough"/> blocks, else the longest; not more than wanted.</summary>
    private void FindRun(Cluster cluster, int wanted, int enough, out int first, out int count)
    {
        first = count = 0;
        for (int at = NextClear(cluster, 0); at < clusterBlocks && count < enough;)
        {
            int length = FreeFrom(cluster, at, wanted);
            if (length > count)
            {
                first = at;
                count = length;
            }
            at = NextClear(cluster, at + length);
        }
    }

    private int NextClear(Cluster cluster, int from)
    {
        for (int word = from / 64; from < clusterBlocks && word < cluster.Used.Length; word++)
        {
            ulong free = ~cluster.Used[word];
            if (word == from / 64) { free &= ulong.MaxValue << (from % 64); }
            if (free != 0) { return (word * 64) + BitOperations.TrailingZeroCount(free); }
        }
        return clusterBlocks;
    }

    private void SetBits(Cluster cluster, int first, int count)
    {
        for (int i = first; i < first + count; i++)
        {
            cluster.Used[i / 64] |= 1UL << (i % 64);
            cluster.Mapped[i / 64] &= ~(1UL << (i % 64));
        }
        cluster.Free -= count;
        FreeBlocks -= count;
    }

    private void ClearBits(BlockRun run)
    {
        Cluster cluster = _byIndex[ClusterOf(run.First)];
        int first = InCluster(run.First);
        for (int i = first; i < first + run.Count; i++)
        {
            Invariant.That((cluster.Used[i / 64] & (1UL << (i % 64))) != 0, "a block is freed once");
            cluster.Used[i / 64] &= ~(1UL << (i % 64));
        }
        cluster.Free += run.Count;
        FreeBlocks += run.Count;
        _hint = Math.Min(_hint, cluster.Position);
    }

    private sealed class Cluster(uint index, ulong[] used, int position)
    {
        public uint Index => index;

        /// <summary>Where it stands in the list.</summary>
        public int Position => position;

        public ulong[] Used => used;

        /// <summary>Freed since the device was last told that it need not keep them.</summary>
        public ulong[] Mapped { get; } = new ulong[used.Length];

        /// <summary>Waits in the queue of clusters to unmap.</summary>
        public bool IsListed { get; set; }

        public int Free { get; set; }
    }

    private readonly record struct PendingFree(ulong Lsn, BlockRun Run, ulong ReadEpoch);
}
