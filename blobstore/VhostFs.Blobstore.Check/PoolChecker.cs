using VhostFs.Bdev;
using VhostFs.Reactor;

namespace VhostFs.Blobstore.Check;

/// <summary>Reads a pool from the outside and verifies every rule of the format. Shares no code with the engine: what one gets wrong the other sees.</summary>
/// <remarks>
/// It never writes. It looks at the state that recovery would produce, by applying the logs in memory, so a pool can be checked right after
/// a crash. The image may be hostile: every address is checked before use, every structure is read once, and memory stays in
/// proportion to the device.
/// </remarks>
public static class PoolChecker
{
    private const int MaxZeroCheckBlocks = 128;

    public static async IoTask<CheckReport> CheckAsync(IBdev bdev, CheckOptions options)
    {
        var report = new CheckReport(options.MaxFindings);
        using var reader = new BlockReader(bdev);
        Superblock? superblock = await Superblock.FindAsync(reader, report);
        if (superblock is null || superblock.UnknownIncompatible != 0)
        {
            report.Unreadable = true;
            return report;
        }
        if (superblock.GeometryError(reader.BlockCount) is { } wrong)
        {
            report.Error("superblock", "device", wrong);
            report.Unreadable = true;
            return report;
        }
        var clusters = new ClusterMap(superblock);
        var catalogue = new PoolCatalogue(report, clusters);
        if (!await ReadCatalogueAsync(reader, report, superblock, clusters, catalogue))
        {
            report.Unreadable = true;
            return report;
        }
        foreach (VolumeEntry volume in catalogue.Volumes)
        {
            // A volume being deleted is already nobody's; its clusters are given back in steps.
            if (!volume.IsBeingDeleted) { await CheckVolumeAsync(reader, report, superblock, clusters, volume, options); }
        }
        if (options.VerifyFreeClusters) { await CheckFreeClustersAsync(reader, report, clusters); }
        return report;
    }

    private static async IoTask<bool> ReadCatalogueAsync(BlockReader reader, CheckReport report, Superblock superblock, ClusterMap clusters, PoolCatalogue catalogue)
    {
        var anchor = new Anchor("volume 0", 0, superblock.PoolUuid, superblock.AnchorFirst, superblock.AnchorBlocks);
        ulong nodeLimit = superblock.NodeAreaFirst + superblock.NodeAreaBlocks;
        using var volume = new VolumeReader(reader, report, anchor, null, block => (block >= superblock.NodeAreaFirst && block < nodeLimit) || clusters.Holds(block, 4, ClusterKind.Node, 0));
        if (await volume.ReadAsync(superblock.Epoch) is null) { return false; }
        catalogue.Read(volume.Items);
        return true;
    }

    private static async IoTask<bool> CheckVolumeAsync(BlockReader reader, CheckReport report, Superblock superblock, ClusterMap clusters, VolumeEntry entry, CheckOptions options)
    {
        report.Counts.Volumes++;
        var anchor = new Anchor($"volume {entry.Id}", entry.Id, entry.Uuid, entry.AnchorFirst, entry.AnchorBlocks);
        if (!clusters.Holds(anchor.First, anchor.Blocks, ClusterKind.Anchor, entry.Id)) { return false; } // reported with the catalogue
        using var volume = new VolumeReader(reader, report, anchor, clusters, block => clusters.Holds(block, 4, ClusterKind.Node, entry.Id));
        Header? header = await volume.ReadAsync(superblock.Epoch);
        if (header is null) { return false; }

        var shared = new SharedBlockChecker(report, anchor.Name, header, clusters);
        var extents = new ExtentChecker(report, anchor.Name, header, clusters, shared);
        var blobfs = options.VerifyBlobfs ? new BlobfsChecker(report, anchor.Name, header, volume.NextInode) : null;
        var allocation = new List<(ItemKey Key, ReadOnlyMemory<byte> Value)>();
        MappedBlocks mapped = default;
        ulong inode = 0;
        foreach ((ItemKey key, ReadOnlyMemory<byte> value) in volume.Items.InOrder())
        {
            report.Counts.Items++;
            if (key.Object != inode)
            {
                blobfs?.EndInode(inode, mapped);
                (inode, mapped) = (key.Object, default);
            }
            if (key is { Object: 0, Type: ItemKey.Allocation }) { allocation.Add((key, value)); }
            else if (key is { Object: 0, Type: ItemKey.SharedBlocks }) { shared.Add(key, value.Span, superblock.AllowsSharing); }
            else if (key.Object != 0 && key.Type == ItemKey.Extent) { mapped = extents.AddGroup(key, value, mapped); }
            else { blobfs?.Add(key, value); }
        }
        blobfs?.EndInode(inode, mapped);
        extents.CheckAllocation(allocation);
        shared.Finish();
        if (options.VerifyData) { await extents.VerifyDataAsync(reader, volume.Images); }
        if (blobfs is not null) { await blobfs.FinishAsync(reader, volume.Images); }
        return true;
    }

    private static async IoTask<bool> CheckFreeClustersAsync(BlockReader reader, CheckReport report, ClusterMap clusters)
    {
        var bytes = new byte[MaxZeroCheckBlocks * BlockReader.BlockBytes];
        for (uint cluster = 0; cluster < clusters.Count; cluster++)
        {
            if (clusters.KindOf(cluster) != ClusterKind.Free) { continue; }
            ulong first = clusters.DataStart + (ulong)cluster * clusters.ClusterBlocks;
            for (uint done = 0; done < clusters.ClusterBlocks; done += MaxZeroCheckBlocks)
            {
                Memory<byte> part = bytes.AsMemory(0, (int)Math.Min(MaxZeroCheckBlocks, clusters.ClusterBlocks - done) * BlockReader.BlockBytes);
                if (await reader.ReadAsync(first + done, part) && !part.Span.ContainsAnyExcept((byte)0)) { continue; }
                report.Error("cluster", $"cluster {cluster}", "belongs to nobody, but is not zero");
                break;
            }
        }
        return true;
    }
}
