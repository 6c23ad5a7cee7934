using System.Buffers.Binary;
using System.Text;

namespace VhostFs.Blobstore;

/// <summary>What a program has to know before it may open a pool (docs/blobstore-format.md, section 2).</summary>
[Flags]
internal enum IncompatibleFeatures : ulong
{
    None = 0,

    /// <summary>A block can have several owners, counted in SharedBlocks items. Set before the first one has, and never cleared.</summary>
    SharedBlocks = 1,

    /// <summary>Volume 0 has nodes in clusters, too, which the superblock lists.</summary>
    Nodes0Clusters = 2,

    /// <summary>Those of this program.</summary>
    Known = SharedBlocks | Nodes0Clusters,
}

/// <summary>What a program may know before it opens a pool, and need not (docs/blobstore-format.md, section 2).</summary>
[Flags]
internal enum CompatibleFeatures : ulong
{
    None = 0,

    /// <summary>Made to hold logical volumes: who looks for those need not open, and so write to, other pools.</summary>
    LogicalVolumes = 1,
}

/// <summary>The superblock (docs/blobstore-format.md, section 2).</summary>
/// <remarks>Four copies; the generation's parity picks the two that are written, so a torn write leaves the other two.</remarks>
internal sealed record Superblock
{
    public const ulong Magic = 0x4C4F4F5053464856; // "VHFSPOOL"
    private const int CrcOffset = BlobData.BlockBytes - 4;
    private const int HostOffset = 132;
    private const int HostBytes = 124;
    private const int Nodes0ClustersOffset = 256;
    private const int ExtentBytes = 8;

    public IncompatibleFeatures Incompatible { get; init; }

    /// <summary>A newer program made the pool: this one must not touch it.</summary>
    public bool IsForeign => (Incompatible & ~IncompatibleFeatures.Known) != 0 || ReadOnlyCompatibleFeatures != 0;

    public ulong ReadOnlyCompatibleFeatures { get; init; }

    public CompatibleFeatures Compatible { get; init; }

    public Guid Uuid { get; init; }

    public ulong Generation { get; init; }

    public ulong Epoch { get; init; }

    public required PoolGeometry Geometry { get; init; }

    /// <summary>Open for writing, or not closed properly.</summary>
    public bool IsOpen { get; init; }

    public int OwnerProcess { get; init; }

    public string OwnerHost { get; init; } = "";

    /// <summary>The two copies of a generation.</summary>
    public static (ulong First, ulong Second) Slots(ulong generation, ulong deviceBlocks)
    {
        ulong parity = generation & 1;
        return (parity, deviceBlocks - 2 + parity);
    }

    /// <summary>It was written for this block.</summary>
    public bool BelongsTo(ulong block)
    {
        (ulong first, ulong second) = Slots(Generation, Geometry.DeviceBlocks);
        return block == first || block == second;
    }

    public void Write(Span<byte> block)
    {
        block.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(block, Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(block[8..], 1);
        BinaryPrimitives.WriteUInt32LittleEndian(block[12..], BlobData.BlockBytes);
        BinaryPrimitives.WriteUInt64LittleEndian(block[16..], (ulong)Incompatible);
        BinaryPrimitives.WriteUInt64LittleEndian(block[24..], ReadOnlyCompatibleFeatures);
        BinaryPrimitives.WriteUInt64LittleEndian(block[32..], (ulong)Compatible);
        Uuid.TryWriteBytes(block[40..]);
        BinaryPrimitives.WriteUInt64LittleEndian(block[56..], Generation);
        BinaryPrimitives.WriteUInt64LittleEndian(block[64..], Epoch);
        BinaryPrimitives.WriteUInt64LittleEndian(block[72..], Geometry.DeviceBlocks);
        BinaryPrimitives.WriteUInt64LittleEndian(block[80..], Geometry.DataStart);
        BinaryPrimitives.WriteInt32LittleEndian(block[88..], Geometry.ClusterBlocks);
        BinaryPrimitives.WriteUInt32LittleEndian(block[92..], Geometry.ClusterCount);
        BinaryPrimitives.WriteUInt64LittleEndian(block[96..], Geometry.Anchor0.FirstBlock);
        BinaryPrimitives.WriteInt32LittleEndian(block[104..], Geometry.Anchor0.BlockCount);
        BinaryPrimitives.WriteInt32LittleEndian(block[108..], Geometry.Nodes0Clusters.Count);
        BinaryPrimitives.WriteUInt64LittleEndian(block[112..], Geometry.Nodes0First);
        BinaryPrimitives.WriteInt32LittleEndian(block[120..], Geometry.Nodes0Blocks);
        BinaryPrimitives.WriteUInt32LittleEndian(block[124..], IsOpen ? 1u : 0u);
        BinaryPrimitives.WriteInt32LittleEndian(block[128..], OwnerProcess);
        byte[] host = Encoding.UTF8.GetBytes(OwnerHost);
        host.AsSpan(0, Math.Min(host.Length, HostBytes)).CopyTo(block[HostOffset..]);
        for (int i = 0; i < Geometry.Nodes0Clusters.Count; i++)
        {
            Span<byte> extent = block.Slice(Nodes0ClustersOffset + (i * ExtentBytes), ExtentBytes);
            BinaryPrimitives.WriteUInt32LittleEndian(extent, Geometry.Nodes0Clusters[i].First);
            BinaryPrimitives.WriteUInt32LittleEndian(extent[4..], Geometry.Nodes0Clusters[i].Count);
        }
        BinaryPrimitives.WriteUInt32LittleEndian(block[CrcOffset..], Crc32C.Compute(block[..CrcOffset]));
    }

    /// <summary>The superblock in this block, or null when it is not a whole one.</summary>
    public static Superblock? Read(ReadOnlySpan<byte> block)
    {
        if (BinaryPrimitives.ReadUInt64LittleEndian(block) != Magic
            || BinaryPrimitives.ReadUInt32LittleEndian(block[8..]) != 1
            || BinaryPrimitives.ReadUInt32LittleEndian(block[12..]) != BlobData.BlockBytes
            || BinaryPrimitives.ReadUInt64LittleEndian(block[56..]) >= VolumeHeader.MaxCounter
            || BinaryPrimitives.ReadUInt64LittleEndian(block[64..]) >= VolumeHeader.MaxCounter
            || BinaryPrimitives.ReadUInt32LittleEndian(block[CrcOffset..]) != Crc32C.Compute(block[..CrcOffset]))
        {
            return null;
        }
        var incompatible = (IncompatibleFeatures)BinaryPrimitives.ReadUInt64LittleEndian(block[16..]);
        uint extents = incompatible.HasFlag(IncompatibleFeatures.Nodes0Clusters) ? BinaryPrimitives.ReadUInt32LittleEndian(block[108..]) : 0;
        if (extents > PoolGeometry.MaxNodes0Clusters) { return null; }
        return new Superblock
        {
            Incompatible = incompatible,
            ReadOnlyCompatibleFeatures = BinaryPrimitives.ReadUInt64LittleEndian(block[24..]),
            Compatible = (CompatibleFeatures)BinaryPrimitives.ReadUInt64LittleEndian(block[32..]),
            Uuid = new Guid(block.Slice(40, 16)),
            Generation = BinaryPrimitives.ReadUInt64LittleEndian(block[56..]),
            Epoch = BinaryPrimitives.ReadUInt64LittleEndian(block[64..]),
            Geometry = new PoolGeometry(
                BinaryPrimitives.ReadUInt64LittleEndian(block[72..]),
                BinaryPrimitives.ReadUInt64LittleEndian(block[80..]),
                BinaryPrimitives.ReadInt32LittleEndian(block[88..]),
                BinaryPrimitives.ReadUInt32LittleEndian(block[92..]),
                new Anchor(BinaryPrimitives.ReadUInt64LittleEndian(block[96..]), BinaryPrimitives.ReadInt32LittleEndian(block[104..])),
                BinaryPrimitives.ReadUInt64LittleEndian(block[112..]),
                BinaryPrimitives.ReadInt32LittleEndian(block[120..]))
            {
                Nodes0Clusters = ReadExtents(block[Nodes0ClustersOffset..], (int)extents),
            },
            IsOpen = (BinaryPrimitives.ReadUInt32LittleEndian(block[124..]) & 1) != 0,
            OwnerProcess = BinaryPrimitives.ReadInt32LittleEndian(block[128..]),
            OwnerHost = Encoding.UTF8.GetString(block.Slice(HostOffset, HostBytes)).TrimEnd('\0'),
        };
    }

    private static ClusterExtent[] ReadExtents(ReadOnlySpan<byte> source, int count)
    {
        if (count == 0) { return []; }
        var extents = new ClusterExtent[count];
        for (int i = 0; i < count; i++)
        {
            extents[i] = new ClusterExtent(BinaryPrimitives.ReadUInt32LittleEndian(source[(i * ExtentBytes)..]), BinaryPrimitives.ReadUInt32LittleEndian(source[((i * ExtentBytes) + 4)..]));
        }
        return extents;
    }
}
