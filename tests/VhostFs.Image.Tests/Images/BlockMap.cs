namespace VhostFs.Image.Tests.Images;

/// <summary>What a block of a pool is.</summary>
internal enum BlockKind
{
    /// <summary>Explained by nothing: the format has got a kind that this walk does not know.</summary>
    Unknown,
    Superblock,
    OlderSuperblock,
    Header,
    OlderHeader,

    /// <summary>First block of a batch of the chain that a later batch proves to have been durable.</summary>
    LogBatch,

    /// <summary>Its other blocks.</summary>
    LogRecords,
    LogImage,

    /// <summary>The same of batches that nothing proves: what a power cut may take.</summary>
    LogTailBatch,
    LogTailRecords,
    LogTailImage,

    /// <summary>A batch without records: it only tells what was durable.</summary>
    LogMarker,

    /// <summary>In the ring, but not of the chain.</summary>
    LogUnused,
    Root,
    Inner,
    Leaf,

    /// <summary>A node slot that the durable tree does not reach.</summary>
    NodeUnused,

    /// <summary>Named by an extent, with a checksum.</summary>
    Data,

    /// <summary>Named by a record of the log, not by the tree yet: a proven one, or one of the tail.</summary>
    LoggedData,
    LogTailData,

    /// <summary>Its content is an image in the log.</summary>
    ImagedData,

    /// <summary>Preallocated: reads as zero whatever it holds.</summary>
    UnwrittenData,
    DataUnused,
    FreeCluster,

    /// <summary>Between the areas, where alignment leaves a rest.</summary>
    Gap,
}

/// <summary>The kind of every block of a pool, found by walking it.</summary>
internal sealed class BlockMap
{
    private readonly BlockKind[] _kinds;
    private readonly ulong[] _owners;

    private BlockMap(int blocks)
    {
        _kinds = new BlockKind[blocks];
        _owners = new ulong[blocks];
    }

    public int Count => _kinds.Length;

    public BlockKind KindOf(int block) => _kinds[block];

    /// <summary>The volume, 0 for what belongs to the pool.</summary>
    public ulong OwnerOf(int block) => _owners[block];

    public IEnumerable<(BlockKind Kind, ulong Owner)> Kinds => _kinds.Zip(_owners).Distinct().Order();

    public IEnumerable<int> Of(BlockKind kind, ulong owner) => Enumerable.Range(0, Count).Where(block => _kinds[block] == kind && _owners[block] == owner);

    public static BlockMap Of(ReadOnlySpan<byte> disk)
    {
        ImageLayout layout = ImageLayout.Read(disk);
        var map = new BlockMap(disk.Length / DiskFormat.BlockBytes);
        for (int i = 0; i < 4; i++)
        {
            map.Set(ImageLayout.SuperblockPlace(i, layout.DeviceBlocks), 1, i % 2 == layout.NewestSuperblock % 2 ? BlockKind.Superblock : BlockKind.OlderSuperblock, 0);
        }
        map.Set(layout.NodeAreaFirst, layout.NodeAreaBlocks, BlockKind.NodeUnused, 0);
        for (int i = 0; i < layout.Clusters.Length; i++)
        {
            (int kind, ulong owner) = layout.Clusters[i];
            BlockKind of = kind switch { 0 => BlockKind.FreeCluster, DiskFormat.Node => BlockKind.NodeUnused, DiskFormat.Data => BlockKind.DataUnused, DiskFormat.Anchor => BlockKind.Gap, _ => BlockKind.Unknown };
            map.Set(layout.DataStart + (ulong)(i * layout.ClusterBlocks), layout.ClusterBlocks, of, owner);
        }
        foreach (ImageVolume volume in layout.Volumes) { map.AddVolume(volume); }
        // Alignment: only what is empty may be left over.
        for (int block = 0; block < map.Count; block++)
        {
            bool isEmpty = !disk.Slice(block * DiskFormat.BlockBytes, DiskFormat.BlockBytes).ContainsAnyExcept((byte)0);
            if (map._kinds[block] == BlockKind.Unknown && isEmpty) { map._kinds[block] = BlockKind.Gap; }
            else if (map._kinds[block] == BlockKind.Gap && !isEmpty) { map._kinds[block] = BlockKind.Unknown; }
        }
        return map;
    }

    private void AddVolume(ImageVolume volume)
    {
        for (int i = 0; i < 4; i++) { Set(volume.Slot(i), 1, i % 2 == volume.NewestSlot % 2 ? BlockKind.Header : BlockKind.OlderHeader, volume.Id); }
        Set(volume.RingFirst, volume.RingBlocks, BlockKind.LogUnused, volume.Id);
        foreach (ImageNode node in volume.Tree.Nodes)
        {
            Set(node.Address, DiskFormat.NodeBlocks, node.Parent is null ? BlockKind.Root : node.Level > 0 ? BlockKind.Inner : BlockKind.Leaf, volume.Id);
        }
        foreach (TreeItem item in volume.Tree.Items().Where(item => item.Type == DiskFormat.Extent)) { AddExtents(item.Value, volume.Id); }
        foreach (ImageBatch batch in volume.Log)
        {
            bool isTail = batch.LastLsn > volume.ProvenLsn && batch.RecordCount > 0;
            ulong first = volume.RingFirst + (ulong)batch.Position;
            Set(first, 1, batch.RecordCount == 0 ? BlockKind.LogMarker : isTail ? BlockKind.LogTailBatch : BlockKind.LogBatch, volume.Id);
            int records = batch.Blocks - batch.ImageCount;
            Set(first + 1, records - 1, isTail ? BlockKind.LogTailRecords : BlockKind.LogRecords, volume.Id);
            Set(first + (ulong)records, batch.ImageCount, isTail ? BlockKind.LogTailImage : BlockKind.LogImage, volume.Id);
            AddRecords(batch, isTail, volume.Id);
        }
    }

    private void AddExtents(byte[] group, ulong owner)
    {
        for (int i = 0; i < DiskFormat.U16(group, 0); i++)
        {
            int run = DiskFormat.ExtentHeaderBytes + (i * DiskFormat.ExtentRunBytes);
            bool unwritten = (DiskFormat.U16(group, run + 2) & 1) != 0;
            Set(DiskFormat.U64(group, run + 8), group[run + 1] + 1, unwritten ? BlockKind.UnwrittenData : BlockKind.Data, owner);
        }
    }

    private void AddRecords(ImageBatch batch, bool isTail, ulong owner)
    {
        int at = DiskFormat.BatchHeaderBytes;
        for (int i = 0; i < batch.RecordCount; i++)
        {
            int end = at + 4 + (int)DiskFormat.U32(batch.Bytes, at);
            at += 8;
            while (at < end)
            {
                int number = DiskFormat.U16(batch.Bytes, at + 2), code = batch.Bytes[at];
                ulong block = DiskFormat.U64(batch.Bytes, at + 4);
                if (code == 5) { Set(block, number, BlockKind.DataUnused, owner); }
                if (code == 6) { Set(block, number, isTail ? BlockKind.LogTailData : BlockKind.LoggedData, owner); }
                if (code == 7) { Set(block, 1, BlockKind.ImagedData, owner); }
                at += code switch { 1 => 20 + number, 2 => 20, 3 => 24 + number, 4 or 5 => 12, 6 => 12 + (4 * number), 7 => 16, _ => throw new InvalidOperationException($"unknown operation {code} in the log") };
            }
        }
    }

    private void Set(ulong first, int count, BlockKind kind, ulong owner)
    {
        for (int i = 0; i < count; i++)
        {
            _kinds[(int)first + i] = kind;
            _owners[(int)first + i] = owner;
        }
    }
}
