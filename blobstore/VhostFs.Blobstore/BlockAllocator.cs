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
    private readonly List<Cluster> _clusters = [];
    private readonly Dictionary<uint, Cluster> _byIndex = [];
    private readonly Queue<PendingFree> _pending = new();
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

    /// <param name="bitmap">The Allocation item's value; empty: all free.</param>
    public void AddCluster(uint index, ReadOnlySpan<byte> bitmap)
    {
        var cluster = new Cluster(index, new ulong[(clusterBlocks + 63) / 64]);
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
    }

    /// <summary>Reserves up to <paramref name="wanted"/> consecutive blocks; the reservation is in memory only until a transaction allocates them.</summary>
    public bool TryReserve(int wanted, out BlockRun run)
    {
        if (FreeBlocks > 0)
        {
            for (int i = 0; i < _clusters.Count; i++)
            {
                int at = (_hint + i) % _clusters.Count;
                Cluster cluster = _clusters[at];
                if (cluster.Free == 0 || !TryFindRun(cluster, wanted, out int first, out int count)) { continue; }
                _hint = at;
                SetBits(cluster, first, count);
                cluster.Next = first + count;
                run = new BlockRun(FirstBlock(cluster) + (ulong)first, count);
                return true;
            }
        }
        run = default;
        return false;
    }

    /// <summary>A reservation that no transaction used.</summary>
    public void Release(BlockRun run) => ClearBits(run);

    /// <summary>A transaction freed these blocks.</summary>
    public void Free(ulong lsn, BlockRun run, ulong readEpoch)
    {
        PendingBlocks += run.Count;
        _pending.Enqueue(new PendingFree(lsn, run, readEpoch));
    }

    /// <summary>Takes the next freed run that is durable and that no read can still look at; the caller makes it usable with <see cref="Release"/>, after unmapping it if it wants.</summary>
    public bool TryTakeReleasable(ulong durableLsn, ulong oldestReadEpoch, out BlockRun run)
    {
        run = default;
        if (!_pending.TryPeek(out PendingFree next) || next.Lsn > durableLsn || next.ReadEpoch >= oldestReadEpoch) { return false; }
        _pending.Dequeue();
        PendingBlocks -= next.Run.Count;
        run = next.Run;
        return true;
    }

    private ulong FirstBlock(Cluster cluster) => dataStart + ((ulong)cluster.Index * (ulong)clusterBlocks);

    /// <summary>The first free run at or behind the cluster's hint, else from its start; not more than wanted.</summary>
    private bool TryFindRun(Cluster cluster, int wanted, out int first, out int count)
    {
        first = NextClear(cluster, cluster.Next);
        if (first >= clusterBlocks) { first = NextClear(cluster, 0); }
        count = 0;
        while (count < wanted && first + count < clusterBlocks && (cluster.Used[(first + count) / 64] & (1UL << ((first + count) % 64))) == 0) { count++; }
        return count > 0;
    }

    private int NextClear(Cluster cluster, int from)
    {
        for (int word = from / 64; word < cluster.Used.Length; word++)
        {
            ulong free = ~cluster.Used[word];
            if (word == from / 64) { free &= ulong.MaxValue << (from % 64); }
            if (free != 0) { return (word * 64) + BitOperations.TrailingZeroCount(free); }
        }
        return clusterBlocks;
    }

    private void SetBits(Cluster cluster, int first, int count)
    {
        for (int i = first; i < first + count; i++) { cluster.Used[i / 64] |= 1UL << (i % 64); }
        cluster.Free -= count;
        FreeBlocks -= count;
    }

    private void ClearBits(BlockRun run)
    {
        Cluster cluster = _byIndex[ClusterOf(run.First)];
        int first = (int)((run.First - dataStart) % (ulong)clusterBlocks);
        for (int i = first; i < first + run.Count; i++)
        {
            Invariant.That((cluster.Used[i / 64] & (1UL << (i % 64))) != 0, "a block is freed once");
            cluster.Used[i / 64] &= ~(1UL << (i % 64));
        }
        cluster.Free += run.Count;
        FreeBlocks += run.Count;
    }

    private sealed class Cluster(uint index, ulong[] used)
    {
        public uint Index => index;

        public ulong[] Used => used;

        public int Free { get; set; }

        public int Next { get; set; }
    }

    private readonly record struct PendingFree(ulong Lsn, BlockRun Run, ulong ReadEpoch);
}
