using System.Buffers.Binary;
using VhostFs.Reactor;

namespace VhostFs.Blobstore.Check;

/// <summary>Section 2 of the format: what one valid superblock copy says.</summary>
internal sealed record Superblock(ulong Generation, ulong Epoch, ulong DeviceBlocks, ulong DataStart, uint ClusterBlocks, uint ClusterCount,
    ulong AnchorFirst, uint AnchorBlocks, ulong NodeAreaFirst, uint NodeAreaBlocks, Guid PoolUuid, ulong Incompatible, ulong ReadOnlyCompatible)
{
    private const int Version = 1;
    private const ulong SharedBlocksFeature = 1;
    private const ulong Nodes0ClustersFeature = 2;
    private const int MaxExtents = 128;
    private const int ExtentsOffset = 256;
    private const int ExtentBytes = 8;

    /// <summary>Blocks may have several owners.</summary>
    public bool AllowsSharing => (Incompatible & SharedBlocksFeature) != 0;

    public ulong UnknownIncompatible => Incompatible & ~(SharedBlocksFeature | Nodes0ClustersFeature);

    /// <summary>Clusters in which volume 0 has nodes, beside its node area.</summary>
    public IReadOnlyList<(uint First, uint Count)> NodeClusters { get; init; } = [];

    /// <summary>The newest valid copy of the four, or null; reports copies that are missing.</summary>
    public static async IoTask<Superblock?> FindAsync(BlockReader reader, CheckReport report)
    {
        if (reader.BlockCount < 8)
        {
            report.Error("superblock", "device", $"the device has only {reader.BlockCount} blocks");
            return null;
        }
        var block = new byte[BlockReader.BlockBytes];
        ulong[] places = [0, 1, 0, 0];
        var copies = new Superblock?[places.Length];
        for (uint i = 0; i < 2; i++) { copies[i] = await ReadCopyAsync(reader, block, places[i], i); }
        // The others lie at the end that these name; it is the end of the device when they are lost, or were being moved there as the pool grew.
        ulong[] ends = [.. copies[..2].OfType<Superblock>().OrderByDescending(copy => copy.Generation).Select(copy => copy.DeviceBlocks)
            .Where(end => end >= 8 && end < reader.BlockCount).Append(reader.BlockCount).Distinct()];
        for (uint parity = 0; parity < 2; parity++)
        {
            places[2 + parity] = ends[0] - 2 + parity;
            foreach (ulong place in ends.Select(end => end - 2 + parity))
            {
                if (await ReadCopyAsync(reader, block, place, parity) is not { } copy || copy.Generation <= copies[2 + parity]?.Generation) { continue; }
                (places[2 + parity], copies[2 + parity]) = (place, copy);
            }
        }
        DropForeign(copies, places, report);
        return Choose(copies, places, report);
    }

    /// <summary>Null: the geometry holds together and lies on the device.</summary>
    public string? GeometryError(ulong deviceBlocks)
    {
        if (Epoch >= Header.NearMaxCounter || Generation >= Header.NearMaxCounter) { return "a counter that no pool reaches"; }
        if (DeviceBlocks > deviceBlocks) { return $"it was made for {DeviceBlocks} blocks, the device has {deviceBlocks}"; }
        if (ClusterBlocks is < 32 or > 4096 || (ClusterBlocks & (ClusterBlocks - 1)) != 0) { return $"a cluster of {ClusterBlocks} blocks is not a power of two in 32..4096"; }
        if (DataStart % ClusterBlocks != 0) { return $"the data start {DataStart} is not a multiple of the cluster size"; }
        if (DataStart > DeviceBlocks || (ulong)ClusterCount * ClusterBlocks + 2 > DeviceBlocks - DataStart) { return $"{ClusterCount} clusters from block {DataStart} do not fit on the device"; }
        if (!LiesBefore(AnchorFirst, AnchorBlocks, DataStart)) { return "the anchor of volume 0 is not between the superblocks and the clusters"; }
        if (!LiesBefore(NodeAreaFirst, NodeAreaBlocks, DataStart)) { return "the node area of volume 0 is not between the superblocks and the clusters"; }
        if (AnchorFirst < NodeAreaFirst + NodeAreaBlocks && NodeAreaFirst < AnchorFirst + AnchorBlocks) { return "anchor and node area of volume 0 overlap"; }
        if (AnchorBlocks is < Anchor.MinBlocks or > Anchor.MaxBlocks) { return $"an anchor of volume 0 of {AnchorBlocks} blocks is not possible"; }
        if (!AreInOrder(NodeClusters, ClusterCount)) { return "the node clusters of volume 0 overlap or do not exist"; }
        if (NodeAreaFirst % 4 != 0 || NodeAreaBlocks % 4 != 0) { return "the node area of volume 0 is not made of whole nodes"; }
        return null;
    }

    private static bool LiesBefore(ulong first, uint count, ulong limit) => first >= 2 && first <= limit && count <= limit - first;

    private static bool AreInOrder(IReadOnlyList<(uint First, uint Count)> extents, uint clusterCount)
    {
        uint limit = 0;
        foreach ((uint first, uint count) in extents)
        {
            if (count == 0 || first < limit || first >= clusterCount || count > clusterCount - first) { return false; }
            limit = first + count;
        }
        return true;
    }

    private static async IoTask<Superblock?> ReadCopyAsync(BlockReader reader, byte[] block, ulong place, uint parity) =>
        await reader.ReadAsync(place, block) && Parse(block, parity) is { } copy && (place < 2 || place == copy.DeviceBlocks - 2 + parity) ? copy : null;

    // A superblock of another pool, whatever its generation, is a write that went to the wrong disk: the pool with most copies is the one that is here.
    private static void DropForeign(Superblock?[] copies, ulong[] places, CheckReport report)
    {
        IGrouping<Guid, Superblock>[] pools = [.. copies.OfType<Superblock>().GroupBy(copy => copy.PoolUuid).OrderByDescending(pool => pool.Count()).ThenByDescending(pool => pool.Max(copy => copy.Generation))];
        for (int i = 0; i < copies.Length && pools.Length > 1; i++)
        {
            if (copies[i] is not { } copy || copy.PoolUuid == pools[0].Key) { continue; }
            report.Warning("superblock", $"block {places[i]}", $"belongs to another pool, {copy.PoolUuid}");
            copies[i] = null;
        }
    }

    private static Superblock? Choose(Superblock?[] copies, ulong[] places, CheckReport report)
    {
        int chosen = -1;
        for (int i = 0; i < copies.Length; i++)
        {
            if (copies[i] is { } copy && (chosen < 0 || copy.Generation > copies[chosen]!.Generation)) { chosen = i; }
        }
        if (chosen < 0)
        {
            report.Error("superblock", "device", "no valid copy of the superblock; this is not a vhostfs pool, or all four copies are damaged");
            return null;
        }
        int twin = (chosen + 2) % 4;
        Superblock newest = copies[chosen]!;
        if (copies[twin] is null || copies[twin]!.Generation != newest.Generation)
        {
            report.Warning("superblock", $"block {places[twin]}", $"there is only one copy of generation {newest.Generation}");
        }
        else if (!copies[twin]!.SaysTheSameAs(newest))
        {
            report.Error("superblock", $"block {places[twin]}", $"the two copies of generation {newest.Generation} differ");
        }
        foreach (int older in new[] { (chosen + 1) % 4, (chosen + 3) % 4 })
        {
            // Not written before the second generation; a crash may leave it as it is now.
            if (copies[older] is { } copy && copy.DeviceBlocks != newest.DeviceBlocks) { report.Warning("superblock", $"block {places[older]}", "names another end: growing the pool was interrupted, and the next opening finishes it"); }
            if (newest.Generation > 2 && copies[older] is null) { report.Warning("superblock", $"block {places[older]}", $"the copy of generation {newest.Generation - 1} is damaged; the next write replaces it"); }
        }
        if (newest.UnknownIncompatible != 0) { report.Error("superblock", $"block {places[chosen]}", $"unknown incompatible features 0x{newest.UnknownIncompatible:x}"); }
        if (newest.ReadOnlyCompatible != 0) { report.Error("superblock", $"block {places[chosen]}", $"unknown read-only compatible features 0x{newest.ReadOnlyCompatible:x}: this version does not open the pool"); }
        return newest;
    }

    private static Superblock? Parse(ReadOnlySpan<byte> block, uint parity)
    {
        if (!block[..8].SequenceEqual("VHFSPOOL"u8) || !Checksum.HoldsAtEnd(block)) { return null; }
        if (BinaryPrimitives.ReadUInt32LittleEndian(block[8..]) != Version || BinaryPrimitives.ReadUInt32LittleEndian(block[12..]) != BlockReader.BlockBytes) { return null; }
        ulong generation = U64(block, 56), incompatible = U64(block, 16);
        if (generation % 2 != parity) { return null; } // a copy that was written to the wrong place
        uint extents = (incompatible & Nodes0ClustersFeature) != 0 ? U32(block, 108) : 0;
        if (extents > MaxExtents) { return null; }
        var nodeClusters = new (uint First, uint Count)[extents];
        for (int i = 0; i < nodeClusters.Length; i++) { nodeClusters[i] = (U32(block, ExtentsOffset + (i * ExtentBytes)), U32(block, ExtentsOffset + (i * ExtentBytes) + 4)); }
        return new Superblock(generation, U64(block, 64), U64(block, 72), U64(block, 80), U32(block, 88), U32(block, 92), U64(block, 96), U32(block, 104),
            U64(block, 112), U32(block, 120), new Guid(block.Slice(40, 16)), incompatible, U64(block, 24))
        {
            NodeClusters = nodeClusters,
        };
    }

    private bool SaysTheSameAs(Superblock other) => this with { NodeClusters = other.NodeClusters } == other && NodeClusters.SequenceEqual(other.NodeClusters);

    private static ulong U64(ReadOnlySpan<byte> block, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(block[offset..]);

    private static uint U32(ReadOnlySpan<byte> block, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(block[offset..]);
}
