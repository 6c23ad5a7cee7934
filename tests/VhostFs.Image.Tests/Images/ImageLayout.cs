namespace VhostFs.Image.Tests.Images;

/// <summary>Where a volume lies on a disk, and what its newest header, tree and log say.</summary>
internal sealed class ImageVolume
{
    public required ulong Id { get; init; }

    public required string Name { get; init; }

    public required ulong AnchorFirst { get; init; }

    public required int AnchorBlocks { get; init; }

    /// <summary>Slot of the newest header: 0 A0, 1 B0, 2 A1, 3 B1.</summary>
    public required int NewestSlot { get; init; }

    public required ImageTree Tree { get; init; }

    public required IReadOnlyList<ImageBatch> Log { get; init; }

    public ulong RingFirst => AnchorFirst + 2;

    public int RingBlocks => AnchorBlocks - 4;

    public ulong Slot(int index) => index < 2 ? AnchorFirst + (ulong)index : AnchorFirst + (ulong)AnchorBlocks - 4 + (ulong)index;

    /// <summary>Everything up to here was durable: the checkpoint, or the highest that a batch of the chain tells.</summary>
    public ulong ProvenLsn => Math.Max(DiskFormat.U64(Tree.Header, 80), Log.Count == 0 ? 0 : Log.Max(batch => batch.DurableLsn));

    public ulong CheckpointLsn => DiskFormat.U64(Tree.Header, 80);
}

/// <summary>A batch of the log's chain.</summary>
internal sealed record ImageBatch(int Position, byte[] Bytes)
{
    public ulong FirstLsn => DiskFormat.U64(Bytes, 32);

    public int RecordCount => (int)DiskFormat.U32(Bytes, 40);

    public int RecordBytes => (int)DiskFormat.U32(Bytes, 44);

    public int ImageCount => (int)DiskFormat.U32(Bytes, 48);

    public ulong LastLsn => FirstLsn + (ulong)RecordCount - 1;

    public ulong DurableLsn => DiskFormat.U64(Bytes, 56);

    public int Blocks => Bytes.Length / DiskFormat.BlockBytes;

    public void Seal()
    {
        int records = Math.Clamp(RecordBytes, 0, Bytes.Length - DiskFormat.BatchHeaderBytes);
        DiskFormat.Put32(Bytes, DiskFormat.BatchCrc, DiskFormat.Crc(Bytes.AsSpan(0, DiskFormat.BatchCrc), Bytes.AsSpan(DiskFormat.BatchHeaderBytes, records)));
    }
}

/// <summary>A pool on a disk: superblock, volumes, clusters.</summary>
internal sealed class ImageLayout
{
    private ImageLayout(byte[] superblock, int newest)
    {
        Superblock = superblock;
        NewestSuperblock = newest;
    }

    public byte[] Superblock { get; }

    /// <summary>0 E0, 1 O0, 2 E1, 3 O1.</summary>
    public int NewestSuperblock { get; }

    public List<ImageVolume> Volumes { get; } = [];

    public ImageVolume Catalogue => Volumes[0];

    /// <summary>Kind and owner of each cluster; kind 0: nobody's.</summary>
    public (int Kind, ulong Owner)[] Clusters { get; private set; } = [];

    public ulong DeviceBlocks => DiskFormat.U64(Superblock, 72);

    public ulong DataStart => DiskFormat.U64(Superblock, 80);

    public int ClusterBlocks => (int)DiskFormat.U32(Superblock, 88);

    public ulong NodeAreaFirst => DiskFormat.U64(Superblock, 112);

    public int NodeAreaBlocks => (int)DiskFormat.U32(Superblock, 120);

    public static ulong SuperblockPlace(int index, ulong deviceBlocks) => index < 2 ? (ulong)index : deviceBlocks - 4 + (ulong)index;

    public ImageVolume Volume(string name) => Volumes.First(volume => volume.Name == name);

    public ImageNode? NodeAt(ulong address) => Volumes.Select(volume => volume.Tree.NodeAt(address)).FirstOrDefault(node => node is not null);

    public static ImageLayout Read(ReadOnlySpan<byte> disk)
    {
        ulong blocks = (ulong)disk.Length / DiskFormat.BlockBytes;
        (byte[] superblock, int newest) = Newest(disk, Enumerable.Range(0, 4).Select(i => SuperblockPlace(i, blocks)), "VHFSPOOL"u8, 56);
        var layout = new ImageLayout(superblock, newest);
        layout.Volumes.Add(ReadVolume(disk, 0, "", DiskFormat.U64(superblock, 96), (int)DiskFormat.U32(superblock, 104)));
        layout.Clusters = new (int, ulong)[DiskFormat.U32(superblock, 92)];
        foreach (TreeItem item in layout.Catalogue.Tree.Items())
        {
            if (item.Type == DiskFormat.ClusterRun)
            {
                for (uint i = 0; i < DiskFormat.U32(item.Value, 0); i++) { layout.Clusters[item.Sub + i] = ((int)DiskFormat.U32(item.Value, 4), DiskFormat.U64(item.Value, 8)); }
            }
            else if (item.Type == DiskFormat.Volume)
            {
                string name = System.Text.Encoding.UTF8.GetString(item.Value.AsSpan(50));
                layout.Volumes.Add(ReadVolume(disk, item.Sub, name, DiskFormat.U64(item.Value, 0), (int)DiskFormat.U32(item.Value, 8)));
            }
        }
        return layout;
    }

    private static ImageVolume ReadVolume(ReadOnlySpan<byte> disk, ulong id, string name, ulong anchor, int blocks)
    {
        ulong[] slots = [anchor, anchor + 1, anchor + (ulong)blocks - 2, anchor + (ulong)blocks - 1];
        (byte[] header, int newest) = Newest(disk, slots, "VHFSVOLH"u8, 40);
        return new ImageVolume
        {
            Id = id,
            Name = name,
            AnchorFirst = anchor,
            AnchorBlocks = blocks,
            NewestSlot = newest,
            Tree = ImageTree.Read(disk, header),
            Log = ReadLog(disk.Slice((int)(anchor + 2) * DiskFormat.BlockBytes, (blocks - 4) * DiskFormat.BlockBytes), header),
        };
    }

    private static List<ImageBatch> ReadLog(ReadOnlySpan<byte> ring, ReadOnlySpan<byte> header)
    {
        var log = new List<ImageBatch>();
        int position = (int)DiskFormat.U32(header, 96);
        ulong lsn = DiskFormat.U64(header, 88);
        uint previous = DiskFormat.U32(header, 100);
        while (Find(ring, position, lsn, previous) is { } at)
        {
            int bytes = (int)DiskFormat.U32(ring, (at * DiskFormat.BlockBytes) + 52) * DiskFormat.BlockBytes;
            var batch = new ImageBatch(at, ring.Slice(at * DiskFormat.BlockBytes, bytes).ToArray());
            log.Add(batch);
            position = at + batch.Blocks;
            lsn += (ulong)batch.RecordCount;
            previous = DiskFormat.U32(batch.Bytes, DiskFormat.BatchCrc);
        }
        return log;
    }

    private static int? Find(ReadOnlySpan<byte> ring, int position, ulong lsn, uint previous)
    {
        foreach (int at in new[] { position, 0 })
        {
            if (at >= ring.Length / DiskFormat.BlockBytes) { continue; }
            ReadOnlySpan<byte> batch = ring[(at * DiskFormat.BlockBytes)..];
            if (!batch.StartsWith("VHFSLOGB"u8) || DiskFormat.U64(batch, 32) != lsn || DiskFormat.U32(batch, 72) != previous) { continue; }
            if (DiskFormat.U32(batch, DiskFormat.BatchCrc) == DiskFormat.Crc(batch[..DiskFormat.BatchCrc], batch.Slice(DiskFormat.BatchHeaderBytes, (int)DiskFormat.U32(batch, 44)))) { return at; }
        }
        return null;
    }

    private static (byte[] Block, int Index) Newest(ReadOnlySpan<byte> disk, IEnumerable<ulong> places, ReadOnlySpan<byte> magic, int generationAt)
    {
        byte[]? newest = null;
        int index = -1, i = 0;
        foreach (ulong place in places)
        {
            ReadOnlySpan<byte> block = disk.Slice((int)place * DiskFormat.BlockBytes, DiskFormat.BlockBytes);
            bool valid = block.StartsWith(magic) && DiskFormat.U32(block, DiskFormat.BlockCrc) == DiskFormat.Crc(block[..DiskFormat.BlockCrc]);
            if (valid && (newest is null || DiskFormat.U64(block, generationAt) > DiskFormat.U64(newest, generationAt))) { (newest, index) = (block.ToArray(), i); }
            i++;
        }
        return (newest ?? throw new InvalidOperationException("an image of ours has all its blocks"), index);
    }
}
