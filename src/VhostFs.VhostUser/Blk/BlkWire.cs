using System.Runtime.InteropServices;

namespace VhostFs.VhostUser;

/// <summary>VIRTIO_BLK_F_* (virtio 1.2, 5.2.3).</summary>
[Flags]
internal enum BlkFeatures : ulong
{
    None = 0,
    SizeMax = 1UL << 1,
    SegMax = 1UL << 2,
    ReadOnly = 1UL << 5,
    BlkSize = 1UL << 6,
    Flush = 1UL << 9,
    Topology = 1UL << 10,
    ConfigWce = 1UL << 11,
    MultiQueue = 1UL << 12,
    Discard = 1UL << 13,
    WriteZeroes = 1UL << 14,
}

/// <summary>VIRTIO_BLK_T_* (virtio 1.2, 5.2.6).</summary>
internal enum BlkRequestType : uint
{
    In = 0,
    Out = 1,
    Flush = 4,
    GetId = 8,
    Discard = 11,
    WriteZeroes = 13,
}

/// <summary>VIRTIO_BLK_S_*.</summary>
internal enum BlkStatus : byte
{
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// <summary>The first 16 device-readable bytes of a request, struct virtio_blk_req.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct BlkRequestHeader(BlkRequestType Type, uint Reserved, ulong Sector)
{
    public const int Size = 16;
}

/// <summary>struct virtio_blk_discard_write_zeroes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct BlkRange(ulong Sector, uint SectorCount, uint Flags)
{
    public const int Size = 16;

    /// <summary>The range may be given back to the device below; for write-zeroes only.</summary>
    public const uint FlagUnmap = 1;
}

/// <summary>struct virtio_blk_config (virtio 1.2, 5.2.4); little-endian, sectors of 512 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 4)]
internal readonly record struct BlkConfig(ulong Capacity, uint SizeMax, uint SegMax, ushort Cylinders, byte Heads, byte Sectors, uint BlkSize,
    byte PhysicalBlockExponent, byte AlignmentOffset, ushort MinIoBlocks, uint OptimalIoBlocks, byte Writeback, byte Unused0, ushort QueueCount,
    uint MaxDiscardSectors, uint MaxDiscardRanges, uint DiscardSectorAlignment, uint MaxWriteZeroesSectors, uint MaxWriteZeroesRanges,
    byte WriteZeroesMayUnmap, byte Unused1, ushort Unused2)
{
    public const int Size = 60;

    /// <summary>The one field that a driver may write.</summary>
    public const int WritebackOffset = 32;
}
