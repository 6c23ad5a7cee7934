using System.Buffers.Binary;

namespace VhostFs.Blobstore.Check;

/// <summary>What the items of one inode say, and what other inodes say about it.</summary>
internal sealed class InodeFacts
{
    public const int RecordBytes = 160;
    public const uint TypeMask = 0xF000, Fifo = 0x1000, CharacterDevice = 0x2000, Directory = 0x4000, BlockDevice = 0x6000, Regular = 0x8000, SymbolicLink = 0xA000, Socket = 0xC000;

    private const uint InlineFlag = 1, XattrDebrisFlag = 8;

    public required uint Mode { get; init; }
    public required uint LinkCount { get; init; }
    public required ulong SizeBytes { get; init; }
    public required ulong Blocks { get; init; }
    public required uint Flags { get; init; }
    public required ulong Parent { get; init; }
    public required uint XattrCount { get; init; }
    public required uint XattrNameBytes { get; init; }
    public required ulong EntryCount { get; init; }

    /// <summary>Bytes of its Inline items; null without any.</summary>
    public ulong? InlineBytes { get; set; }
    public ulong XattrsFound { get; set; }
    public long XattrNameBytesFound { get; set; }
    public ulong EntriesFound { get; set; }

    /// <summary>Names that lead to it, in any directory.</summary>
    public ulong Names { get; set; }
    public ulong Subdirectories { get; set; }

    /// <summary>The directory with its last name.</summary>
    public ulong NamedIn { get; set; }

    /// <summary>0, or the kind of its Orphan item.</summary>
    public byte OrphanKind { get; set; }

    /// <summary>A walk along the parents got from here to the root.</summary>
    public bool ReachesRoot { get; set; }

    public uint Type => Mode & TypeMask;

    public bool HasXattrDebris => (Flags & XattrDebrisFlag) != 0;

    public bool IsInline => (Flags & InlineFlag) != 0;

    public static InodeFacts? Parse(ReadOnlySpan<byte> value) => value.Length != RecordBytes ? null : new InodeFacts
    {
        Mode = BinaryPrimitives.ReadUInt32LittleEndian(value),
        LinkCount = BinaryPrimitives.ReadUInt32LittleEndian(value[12..]),
        SizeBytes = BinaryPrimitives.ReadUInt64LittleEndian(value[16..]),
        Blocks = BinaryPrimitives.ReadUInt64LittleEndian(value[24..]),
        Flags = BinaryPrimitives.ReadUInt32LittleEndian(value[36..]),
        Parent = BinaryPrimitives.ReadUInt64LittleEndian(value[48..]),
        XattrCount = BinaryPrimitives.ReadUInt32LittleEndian(value[112..]),
        XattrNameBytes = BinaryPrimitives.ReadUInt32LittleEndian(value[116..]),
        EntryCount = BinaryPrimitives.ReadUInt64LittleEndian(value[120..]),
    };
}
