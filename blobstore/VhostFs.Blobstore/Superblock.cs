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

    /// <summary>Of these, this program knows the ones above.</summary>
    public IncompatibleFeatures Incompatible { get; init; }

    /// <summary>A newer program made the pool: this one must not touch it.</summary>
    public bool IsForeign => (Incompatible & ~IncompatibleFeatures.SharedBlocks) != 0 || ReadOnlyCompatibleFeatures != 0;

    public ulong ReadOnlyCompatibleFeatures { get; init; }

    public CompatibleFeatures Compatible { get; init; }

    public Guid Uuid { get; init; }

    public ulong Generation { get; init; }

    public ulong Epoch { get; init; }

    public PoolGeometry Geometry { get; init; }

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
        BinaryPrimitives.WriteUInt64LittleEndian(block[112..], Geometry.Nodes0First);
        BinaryPrimitives.WriteInt32LittleEndian(block[120..], Geometry.Nodes0Blocks);
        BinaryPrimitives.WriteUInt32LittleEndian(block[124..], IsOpen ? 1u : 0u);
        BinaryPrimitives.WriteInt32LittleEndian(block[128..], OwnerProcess);
        byte[] host = Encoding.UTF8.GetBytes(OwnerHost);
        host.AsSpan(0, Math.Min(host.Length, HostBytes)).CopyTo(block[HostOffset..]);
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
        return new Superblock
        {
            Incompatible = (IncompatibleFeatures)BinaryPrimitives.ReadUInt64LittleEndian(block[16..]),
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
                BinaryPrimitives.ReadInt32LittleEndian(block[120..])),
            IsOpen = (BinaryPrimitives.ReadUInt32LittleEndian(block[124..]) & 1) != 0,
            OwnerProcess = BinaryPrimitives.ReadInt32LittleEndian(block[128..]),
            OwnerHost = Encoding.UTF8.GetString(block.Slice(HostOffset, HostBytes)).TrimEnd('\0'),
        };
    }
}
