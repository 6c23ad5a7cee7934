using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.Linux;

namespace VhostFs.Blobfs;

/// <summary>An inode as it lies in the tree, 160 bytes little-endian (docs/blobfs-format.md, "INODE").</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct InodeRecord(
    uint Mode, uint Uid, uint Gid, uint LinkCount, long SizeBytes, long Blocks, uint DeviceNumber, InodeFlags Flags,
    uint Generation, uint ProjectId, ulong Parent, ulong ChangeCounter,
    long AccessSeconds, uint AccessNanoseconds, uint ModifyNanoseconds, long ModifySeconds,
    long ChangeSeconds, uint ChangeNanoseconds, uint BirthNanoseconds, long BirthSeconds,
    uint XattrCount, uint XattrNameBytes, ulong EntryCount, ulong Reserved0, ulong Reserved1, ulong Reserved2, ulong Reserved3)
{
    public const int Size = 160;

    public bool IsRegular => (Mode & FileMode.S_IFMT) == FileMode.S_IFREG;

    public bool IsDirectory => (Mode & FileMode.S_IFMT) == FileMode.S_IFDIR;

    public bool IsSymbolicLink => (Mode & FileMode.S_IFMT) == FileMode.S_IFLNK;

    /// <summary>Content lies in the INLINE item (none: the file is empty).</summary>
    public bool IsInline => (Flags & InodeFlags.Inline) != 0;

    /// <summary>What a directory entry and READDIR call the type: DT_*.</summary>
    public byte EntryType => (byte)((Mode & FileMode.S_IFMT) >> 12);

    public FsTime AccessTime => new(AccessSeconds, AccessNanoseconds);

    public FsTime ModifyTime => new(ModifySeconds, ModifyNanoseconds);

    public FsTime ChangeTime => new(ChangeSeconds, ChangeNanoseconds);

    public FsTime BirthTime => new(BirthSeconds, BirthNanoseconds);

    /// <summary>False: the item does not have the length of an inode.</summary>
    public static bool TryRead(ReadOnlySpan<byte> value, out InodeRecord record)
    {
        Unsafe.SkipInit(out record);
        if (value.Length != Size) { record = default; return false; }
        record = MemoryMarshal.Read<InodeRecord>(value);
        return true;
    }

    public void Write(Span<byte> value)
    {
        Invariant.That(BitConverter.IsLittleEndian && Unsafe.SizeOf<InodeRecord>() == Size);
        MemoryMarshal.Write(value, this);
    }

    public InodeRecord WithAccess(FsTime time) => this with { AccessSeconds = time.Seconds, AccessNanoseconds = time.Nanoseconds };

    public InodeRecord WithModify(FsTime time) => this with { ModifySeconds = time.Seconds, ModifyNanoseconds = time.Nanoseconds };

    /// <summary>Every change of an inode goes through this: the change time and the change counter move together.</summary>
    public InodeRecord WithChange(FsTime time) =>
        this with { ChangeSeconds = time.Seconds, ChangeNanoseconds = time.Nanoseconds, ChangeCounter = ChangeCounter + 1 };

    public InodeRecord WithBirth(FsTime time) => (this with { BirthSeconds = time.Seconds, BirthNanoseconds = time.Nanoseconds })
        .WithAccess(time).WithModify(time).WithChange(time);

    public InodeAttributes ToAttributes(ulong inode) => new(
        inode, Generation, Mode, LinkCount, Uid, Gid, DeviceNumber, SizeBytes,
        // Inline content takes no block; saying 0 would make tools believe the file is one hole.
        IsInline ? (SizeBytes + 511) / 512 : Blocks * 8,
        AccessTime, ModifyTime, ChangeTime, BirthTime, InodeFlagRules.Told(Flags));
}

[Flags]
public enum InodeFlags : uint
{
    None = 0,
    Inline = 1,
    Immutable = 2,
    AppendOnly = 4,

    /// <summary>XATTR items may exist beyond the counted ones: chunks of a large value that was never finished. They go with the inode.</summary>
    XattrDebris = 8,

    NoDump = 16,
    NoAccessTime = 32,

    /// <summary>Every change of the inode is durable when it is replied to.</summary>
    Synchronous = 64,

    /// <summary>The same for the names in a directory.</summary>
    SynchronousDirectory = 128,
}

/// <summary>Mode bits of stat(2).</summary>
public static class FileMode
{
    public const uint S_IFMT = 0xF000;
    public const uint S_IFIFO = 0x1000;
    public const uint S_IFCHR = 0x2000;
    public const uint S_IFDIR = 0x4000;
    public const uint S_IFBLK = 0x6000;
    public const uint S_IFREG = 0x8000;
    public const uint S_IFLNK = 0xA000;
    public const uint S_IFSOCK = 0xC000;
    public const uint S_ISUID = 0x800;
    public const uint S_ISGID = 0x400;
    public const uint S_IXGRP = 0x8;
    public const uint PermissionMask = 0xFFF;

    /// <summary>What a write, a truncation or a change of owner leaves of a file's set-id bits: set-group-id without group execute is a lock mark, not a privilege.</summary>
    public static uint KillSetId(uint mode) =>
        (mode & S_IXGRP) != 0 ? mode & ~(S_ISUID | S_ISGID) : mode & ~S_ISUID;
}
