using System.Buffers.Binary;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

[Flags]
internal enum VolumeFlags : uint
{
    None = 0,
    DataChecksums = 1,
    CleanlyClosed = 2,

    /// <summary><see cref="VolumeHeader.InodeCount"/> is right; versions that do not count drop it.</summary>
    CountsInodes = 4,
}

/// <summary>Where the log begins: the first batch that may hold records behind the checkpoint.</summary>
internal readonly record struct LogTail(ulong FirstLsn, int Position, uint PreviousCrc);

/// <summary>The header of a volume (docs/blobstore-format.md, section 3): the root of everything durable, replaced by each checkpoint.</summary>
internal readonly record struct VolumeHeader
{
    private const ulong Magic = 0x484C4F5653464856; // "VHFSVOLH"
    private const int CrcOffset = BlobData.BlockBytes - 4;

    /// <summary>No counter of ours gets here in any life time; a hostile one must not wrap round.</summary>
    internal const ulong MaxCounter = 1UL << 62;

    public VolumeFlags Flags { get; init; }

    public Guid Uuid { get; init; }

    public ulong VolumeId { get; init; }

    public ulong Generation { get; init; }

    public ulong LogEpoch { get; init; }

    public NodePointer Root { get; init; }

    public int Height { get; init; }

    public ulong CheckpointLsn { get; init; }

    public LogTail Tail { get; init; }

    public ulong NextInode { get; init; }

    public ulong SnapshotEpoch { get; init; }

    public ulong HashKey0 { get; init; }

    public ulong HashKey1 { get; init; }

    /// <summary>Inodes in the tree, with <see cref="VolumeFlags.CountsInodes"/>.</summary>
    public long InodeCount { get; init; }

    public void Write(Span<byte> block)
    {
        block.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(block, Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(block[8..], 1);
        BinaryPrimitives.WriteUInt32LittleEndian(block[12..], (uint)Flags);
        Uuid.TryWriteBytes(block[16..]);
        BinaryPrimitives.WriteUInt64LittleEndian(block[32..], VolumeId);
        BinaryPrimitives.WriteUInt64LittleEndian(block[40..], Generation);
        BinaryPrimitives.WriteUInt64LittleEndian(block[48..], LogEpoch);
        Root.Write(block[56..]);
        BinaryPrimitives.WriteInt32LittleEndian(block[76..], Height);
        BinaryPrimitives.WriteUInt64LittleEndian(block[80..], CheckpointLsn);
        BinaryPrimitives.WriteUInt64LittleEndian(block[88..], Tail.FirstLsn);
        BinaryPrimitives.WriteInt32LittleEndian(block[96..], Tail.Position);
        BinaryPrimitives.WriteUInt32LittleEndian(block[100..], Tail.PreviousCrc);
        BinaryPrimitives.WriteUInt64LittleEndian(block[104..], NextInode);
        BinaryPrimitives.WriteUInt64LittleEndian(block[112..], SnapshotEpoch);
        BinaryPrimitives.WriteUInt64LittleEndian(block[120..], HashKey0);
        BinaryPrimitives.WriteUInt64LittleEndian(block[128..], HashKey1);
        BinaryPrimitives.WriteInt64LittleEndian(block[136..], InodeCount);
        BinaryPrimitives.WriteUInt32LittleEndian(block[CrcOffset..], Crc32C.Compute(block[..CrcOffset]));
    }

    /// <summary>The header in this block, or null when there is no valid one of this volume.</summary>
    public static VolumeHeader? Read(ReadOnlySpan<byte> block, ulong volumeId, int ringBlocks)
    {
        if (BinaryPrimitives.ReadUInt64LittleEndian(block) != Magic
            || BinaryPrimitives.ReadUInt32LittleEndian(block[8..]) != 1
            || BinaryPrimitives.ReadUInt32LittleEndian(block[CrcOffset..]) != Crc32C.Compute(block[..CrcOffset]))
        {
            return null;
        }
        var header = new VolumeHeader
        {
            Flags = (VolumeFlags)BinaryPrimitives.ReadUInt32LittleEndian(block[12..]),
            Uuid = new Guid(block.Slice(16, 16)),
            VolumeId = BinaryPrimitives.ReadUInt64LittleEndian(block[32..]),
            Generation = BinaryPrimitives.ReadUInt64LittleEndian(block[40..]),
            LogEpoch = BinaryPrimitives.ReadUInt64LittleEndian(block[48..]),
            Root = NodePointer.Read(block[56..]),
            Height = BinaryPrimitives.ReadInt32LittleEndian(block[76..]),
            CheckpointLsn = BinaryPrimitives.ReadUInt64LittleEndian(block[80..]),
            Tail = new LogTail(
                BinaryPrimitives.ReadUInt64LittleEndian(block[88..]),
                BinaryPrimitives.ReadInt32LittleEndian(block[96..]),
                BinaryPrimitives.ReadUInt32LittleEndian(block[100..])),
            NextInode = BinaryPrimitives.ReadUInt64LittleEndian(block[104..]),
            SnapshotEpoch = BinaryPrimitives.ReadUInt64LittleEndian(block[112..]),
            HashKey0 = BinaryPrimitives.ReadUInt64LittleEndian(block[120..]),
            HashKey1 = BinaryPrimitives.ReadUInt64LittleEndian(block[128..]),
            InodeCount = BinaryPrimitives.ReadInt64LittleEndian(block[136..]),
        };
        bool plausible = header.VolumeId == volumeId && header.Tail.Position >= 0 && header.Tail.Position <= ringBlocks
            && header.CheckpointLsn < MaxCounter && header.Generation < MaxCounter && header.LogEpoch < MaxCounter
            && header.NextInode is > 0 and < MaxCounter && header.InodeCount is >= 0 and < (long)MaxCounter
            && header.Tail.FirstLsn <= header.CheckpointLsn + 1;
        return plausible ? header : null;
    }
}

/// <summary>Where a volume's header slots and its log ring lie.</summary>
internal readonly record struct Anchor(ulong FirstBlock, int BlockCount)
{
    /// <summary>Four of the largest batches: below that, a log could wait for room that never comes.</summary>
    public const int MinBlocks = 256;

    /// <summary>256 MiB: the whole log is read at mount.</summary>
    public const int MaxBlocks = 65536;

    public ulong RingFirst => FirstBlock + 2;

    public int RingBlocks => BlockCount - 4;

    /// <summary>Slots A0, B0, A1, B1: even generations go to the As.</summary>
    public ulong HeaderSlot(int slot) => slot < 2 ? FirstBlock + (ulong)slot : FirstBlock + (ulong)BlockCount - 4 + (ulong)slot;

    /// <summary>Both copies of a generation, far apart.</summary>
    public (ulong First, ulong Second) HeaderSlots(ulong generation)
    {
        int parity = (int)(generation & 1);
        return (HeaderSlot(parity), HeaderSlot(parity + 2));
    }
}
