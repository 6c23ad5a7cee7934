namespace VhostFs.Fuse;

/// <summary><c>fuse_setattr_in.valid</c>: FATTR_*.</summary>
[Flags]
public enum SetAttrValid : uint
{
    MODE = 1 << 0,
    UID = 1 << 1,
    GID = 1 << 2,
    SIZE = 1 << 3,
    ATIME = 1 << 4,
    MTIME = 1 << 5,
    FH = 1 << 6,
    ATIME_NOW = 1 << 7,
    MTIME_NOW = 1 << 8,
    LOCKOWNER = 1 << 9,
    CTIME = 1 << 10,
    KILL_SUIDGID = 1 << 11,
}

/// <summary><c>fuse_open_out.open_flags</c>: FOPEN_*.</summary>
[Flags]
public enum OpenReplyFlags : uint
{
    None = 0,
    DIRECT_IO = 1 << 0,
    KEEP_CACHE = 1 << 1,
    NONSEEKABLE = 1 << 2,
    CACHE_DIR = 1 << 3,
    STREAM = 1 << 4,
    NOFLUSH = 1 << 5,
    PARALLEL_DIRECT_WRITES = 1 << 6,
}

/// <summary>Single-purpose flags and limits of linux/fuse.h and of the system calls behind it.</summary>
internal static class FuseFlags
{
    public const uint OPEN_KILL_SUIDGID = 1 << 0;
    public const uint WRITE_CACHE = 1 << 0;
    public const uint WRITE_KILL_SUIDGID = 1 << 2;
    public const uint FSYNC_FDATASYNC = 1 << 0;
    public const uint SETXATTR_ACL_KILL_SGID = 1 << 0;

    public const uint LK_FLOCK = 1 << 0;

    /// <summary>FUSE_MAX_NR_SECCTX: an extension of this type or below is a fuse_secctx_header, its type the count.</summary>
    public const uint MAX_NR_SECCTX = 31;
    public const uint EXT_GROUPS = 32;

    /// <summary>FUSE_INVALID_UIDGID: the caller's id has no place in an id-mapped mount.</summary>
    public const uint INVALID_UIDGID = uint.MaxValue;

    public const uint O_ACCMODE = 3;
    public const uint O_RDONLY = 0;
    public const uint O_WRONLY = 1;
    public const uint O_RDWR = 2;
    public const uint O_TRUNC = 0x200;
    public const uint O_APPEND = 0x400;

    public const uint S_IFMT = 0xF000;
    public const uint S_IFREG = 0x8000;
    public const uint PermissionBits = 0xFFF;

    public const uint XATTR_CREATE = 1;
    public const uint XATTR_REPLACE = 2;

    public const uint SEEK_DATA = 3;
    public const uint SEEK_HOLE = 4;

    public const uint RENAME_NOREPLACE = 1;
    public const uint RENAME_EXCHANGE = 2;
    public const uint RENAME_WHITEOUT = 4;

    public const uint FALLOC_KEEP_SIZE = 1;
    public const uint FALLOC_PUNCH_HOLE = 2;
    public const uint FALLOC_ZERO_RANGE = 0x10;

    public const int NameMax = 255;
    public const int PathMax = 4096;
    public const int XattrSizeMax = 65536;
}
