using VhostFs.Linux;

namespace VhostFs.Fuse;

/// <summary>An errno, or a value when it is <see cref="Errno.None"/>.</summary>
public readonly record struct FsResult<T>(Errno Errno, T Value)
{
    public bool IsError => Errno != Errno.None;

    public static implicit operator FsResult<T>(Errno errno) => new(errno, default!);

    public static implicit operator FsResult<T>(T value) => new(Errno.None, value);
}

/// <summary>Seconds since the epoch (may be negative) and nanoseconds 0..999,999,999.</summary>
public readonly record struct FsTime(long Seconds, uint Nanoseconds);

/// <summary>What stat(2) and statx(2) tell of an inode.</summary>
public readonly record struct InodeAttributes(
    ulong Inode, uint Generation, uint Mode, uint LinkCount, uint Uid, uint Gid, uint DeviceNumber,
    long SizeBytes, long Blocks512, FsTime AccessTime, FsTime ModifyTime, FsTime ChangeTime, FsTime BirthTime, FsFlags Flags);

/// <summary>Flags of chattr(1) that are served: FS_*_FL of linux/fs.h.</summary>
[Flags]
public enum FsFlags : uint
{
    None = 0,
    SYNC = 0x8,
    IMMUTABLE = 0x10,
    APPEND = 0x20,
    NODUMP = 0x40,
    NOATIME = 0x80,
    DIRSYNC = 0x10000,
}

/// <summary>Who asks: the in-header's uid, gid and pid, and the supplementary group of FUSE_EXT_GROUPS if one came.</summary>
/// <remarks>With FUSE_ALLOW_IDMAP the kernel tells uid and gid only with requests that create something; with others they are -1.</remarks>
public readonly record struct FuseCaller(uint Uid, uint Gid, uint Pid, uint? SupplementaryGroup = null)
{
    public bool IsRoot => Uid == 0;

    public bool IsUnknown => Uid == uint.MaxValue;
}

/// <summary>What creating an object needs beside name and mode.</summary>
/// <param name="Umask">Applied unless the parent has a default ACL (FUSE_DONT_MASK).</param>
/// <param name="SecurityName">Name of the security xattr to set with the creation (FUSE_SECURITY_CTX), or empty.</param>
public readonly record struct CreateContext(FuseCaller Caller, uint Umask, IoVec SecurityName = default, IoVec SecurityValue = default);

/// <summary>Which attributes SETATTR changes; null leaves one as it is.</summary>
/// <param name="AccessTimeNow">Set the access time to the server's clock.</param>
/// <param name="KillPrivileges">FATTR_KILL_SUIDGID: clear set-id bits on a size or owner change.</param>
/// <param name="DropPrivileges">Nothing but this: clear set-id bits and file capabilities. Set-group-id without group execute, which is no privilege, goes if KillPrivileges is set, too.</param>
public readonly record struct SetAttributes(
    uint? Mode = null, uint? Uid = null, uint? Gid = null, long? SizeBytes = null,
    FsTime? AccessTime = null, FsTime? ModifyTime = null, FsTime? ChangeTime = null,
    bool AccessTimeNow = false, bool ModifyTimeNow = false, bool KillPrivileges = false, bool DropPrivileges = false);

public readonly record struct CreatedFile(InodeAttributes Attributes, ulong Handle);

/// <summary>What statfs(2) tells.</summary>
public readonly record struct FsStatistics(ulong Blocks, ulong FreeBlocks, ulong AvailableBlocks, ulong Files, ulong FreeFiles, uint BlockSize, uint NameLength);
