using System.Runtime.InteropServices;

// The structures of linux/fuse.h, protocol 7.45, in its field order. All are free of implicit padding: what a reply carries is what the
// fields say. FuseWireTests checks sizes, offsets and golden bytes.
namespace VhostFs.Fuse;

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseInHeader(uint Length, uint Opcode, ulong Unique, ulong NodeId,
    uint Uid, uint Gid, uint Pid, ushort TotalExtLen = 0, ushort Padding = 0)
{
    public const int Size = 40;
}

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseOutHeader(uint Length, int Error, ulong Unique)
{
    public const int Size = 16;
}

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseAttr(ulong Inode, ulong SizeBytes, ulong Blocks512, ulong AccessSeconds, ulong ModifySeconds, ulong ChangeSeconds,
    uint AccessNanoseconds, uint ModifyNanoseconds, uint ChangeNanoseconds, uint Mode, uint LinkCount, uint Uid, uint Gid, uint DeviceNumber, uint BlockSize, uint Flags);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseEntryOut(ulong NodeId, ulong Generation, ulong EntrySeconds, ulong AttributeSeconds,
    uint EntryNanoseconds, uint AttributeNanoseconds, FuseAttr Attributes);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseAttrOut(ulong AttributeSeconds, uint AttributeNanoseconds, uint Dummy, FuseAttr Attributes);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseForgetIn(ulong LookupCount);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseForgetOne(ulong NodeId, ulong LookupCount);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseBatchForgetIn(uint Count, uint Dummy = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseGetattrIn(uint Flags, uint Dummy, ulong Handle);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseSetattrIn(SetAttrValid Valid, uint Padding, ulong Handle, ulong SizeBytes, ulong LockOwner,
    ulong AccessSeconds, ulong ModifySeconds, ulong ChangeSeconds, uint AccessNanoseconds, uint ModifyNanoseconds, uint ChangeNanoseconds,
    uint Mode, uint Unused4, uint Uid, uint Gid, uint Unused5 = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseMknodIn(uint Mode, uint DeviceNumber, uint Umask, uint Padding = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseMkdirIn(uint Mode, uint Umask);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseRenameIn(ulong NewDirectory);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseRename2In(ulong NewDirectory, uint Flags, uint Padding = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseLinkIn(ulong OldNodeId);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseOpenIn(uint Flags, uint OpenFlags = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseOpenOut(ulong Handle, OpenReplyFlags OpenFlags, uint BackingId = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseCreateIn(uint Flags, uint Mode, uint Umask, uint OpenFlags = 0);

/// <summary>CREATE and TMPFILE reply: <c>fuse_entry_out</c>, then <c>fuse_open_out</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseCreateOut(FuseEntryOut Entry, FuseOpenOut Open);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseReleaseIn(ulong Handle, uint Flags, uint ReleaseFlags, ulong LockOwner);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseFlushIn(ulong Handle, uint Unused, uint Padding, ulong LockOwner);

/// <summary><c>fuse_file_lock</c>: both ends inclusive; the type as in fcntl(2).</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseFileLock(ulong FirstByte, ulong LastByte, uint Type, uint Pid);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseLkIn(ulong Handle, ulong Owner, FuseFileLock Lock, uint LockFlags, uint Padding = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseLkOut(FuseFileLock Lock);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseInterruptIn(ulong Unique);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseReadIn(ulong Handle, ulong OffsetBytes, uint SizeBytes, uint ReadFlags = 0, ulong LockOwner = 0, uint Flags = 0, uint Padding = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseWriteIn(ulong Handle, ulong OffsetBytes, uint SizeBytes, uint WriteFlags = 0, ulong LockOwner = 0, uint Flags = 0, uint Padding = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseWriteOut(uint SizeBytes, uint Padding = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseStatfsOut(ulong Blocks, ulong FreeBlocks, ulong AvailableBlocks, ulong Files, ulong FreeFiles,
    uint BlockSize, uint NameLength, uint FragmentSize, uint Padding = 0, ulong Spare0 = 0, ulong Spare1 = 0, ulong Spare2 = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseFsyncIn(ulong Handle, uint Flags, uint Padding = 0);

/// <summary>SETXATTR without FUSE_SETXATTR_EXT.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseSetxattrCompatIn(uint SizeBytes, uint Flags);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseSetxattrIn(uint SizeBytes, uint Flags, uint SetxattrFlags, uint Padding = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseGetxattrIn(uint SizeBytes, uint Padding = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseGetxattrOut(uint SizeBytes, uint Padding = 0);

/// <summary>The part of <c>fuse_init_in</c> that every protocol since 7.6 sends.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseInitIn(uint Major, uint Minor, uint MaxReadahead, uint Flags);

/// <summary>What FUSE_INIT_EXT (7.36) adds to <c>fuse_init_in</c>: flags2 and 11 unused words.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseInitExtIn(uint Flags2, uint Unused0 = 0,
    ulong Unused1 = 0, ulong Unused2 = 0, ulong Unused3 = 0, ulong Unused4 = 0, ulong Unused5 = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseInitOut(uint Major, uint Minor, uint MaxReadahead, uint Flags, ushort MaxBackground, ushort CongestionThreshold,
    uint MaxWrite, uint TimeGranularity, ushort MaxPages, ushort MapAlignment, uint Flags2, uint MaxStackDepth = 0, ushort RequestTimeout = 0,
    ushort Unused0 = 0, uint Unused1 = 0, ulong Unused2 = 0, ulong Unused3 = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseFallocateIn(ulong Handle, ulong OffsetBytes, ulong LengthBytes, uint Mode, uint Padding = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseLseekIn(ulong Handle, ulong OffsetBytes, uint Whence, uint Padding = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseLseekOut(ulong OffsetBytes);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseCopyFileRangeIn(ulong SourceHandle, ulong SourceOffset, ulong TargetNodeId, ulong TargetHandle, ulong TargetOffset,
    ulong LengthBytes, ulong Flags = 0);

/// <summary>Reply of COPY_FILE_RANGE_64; COPY_FILE_RANGE replies with <see cref="FuseWriteOut"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseCopyFileRangeOut(ulong BytesCopied);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseSyncfsIn(ulong Padding);

/// <summary>Followed by <see cref="InBytes"/> bytes that the command reads.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseIoctlIn(ulong Handle, uint Flags, uint Command, ulong Argument, uint InBytes, uint OutBytes);

/// <summary>Followed by what the command writes.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseIoctlOut(int Result, uint Flags = 0, uint InVectors = 0, uint OutVectors = 0);

/// <summary>Reply of FS_IOC_GETFLAGS: the command's type says long, and everybody means int.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseFlagsOut(FuseIoctlOut Ioctl, uint Flags);

/// <summary><c>struct fsxattr</c> of linux/fs.h.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FsXattr(uint XFlags, uint ExtentSize = 0, uint Extents = 0, uint ProjectId = 0, uint CopyExtentSize = 0, uint Padding0 = 0, uint Padding1 = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseFsXattrOut(FuseIoctlOut Ioctl, FsXattr Attributes);

/// <summary>Followed by the name, without NUL, zero-padded to a multiple of 8 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseDirent(ulong Inode, ulong Cookie, uint NameLength, uint Type)
{
    public const int Size = 24;
}

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseDirentPlus(FuseEntryOut Entry, FuseDirent Dirent)
{
    public const int Size = 152;
}

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseStatxIn(uint GetattrFlags, uint Reserved, ulong Handle, uint StatxFlags, uint StatxMask);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseStatxTime(long Seconds, uint Nanoseconds, int Reserved = 0);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseStatx(uint Mask, uint BlockSize, ulong Attributes, uint LinkCount, uint Uid, uint Gid, ushort Mode, ushort Spare0,
    ulong Inode, ulong SizeBytes, ulong Blocks512, ulong AttributesMask,
    FuseStatxTime AccessTime, FuseStatxTime BirthTime, FuseStatxTime ChangeTime, FuseStatxTime ModifyTime,
    uint DeviceNumberMajor, uint DeviceNumberMinor, uint DeviceMajor = 0, uint DeviceMinor = 0,
    FuseStatxSpare Spare2 = default, FuseStatxSpare Spare3 = default);

/// <summary>Half of the 14 spare words at the end of <c>struct fuse_statx</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseStatxSpare(ulong Spare0, ulong Spare1, ulong Spare2, ulong Spare3, ulong Spare4, ulong Spare5, ulong Spare6);

[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseStatxOut(ulong AttributeSeconds, uint AttributeNanoseconds, uint Flags, ulong Spare0, ulong Spare1, FuseStatx Statx);

/// <summary><c>fuse_ext_header</c>, and <c>fuse_secctx_header</c> when the type is a count up to FUSE_MAX_NR_SECCTX.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseExtHeader(uint SizeBytes, uint Type)
{
    public const int Size = 8;
}

/// <summary>Followed by the security xattr's name, NUL, and its value.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseSecctx(uint SizeBytes, uint Padding = 0)
{
    public const int Size = 8;
}

/// <summary>FUSE_NOTIFY_INVAL_INODE. A negative offset: attributes only; length 0: to the end.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseNotifyInvalInodeOut(ulong NodeId, long OffsetBytes, long LengthBytes)
{
    public const int Size = 24;
}

/// <summary>FUSE_NOTIFY_INVAL_ENTRY; the name and a NUL follow.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct FuseNotifyInvalEntryOut(ulong Parent, uint NameBytes, uint Flags)
{
    public const int Size = 16;

    /// <summary>The entry is looked up again, and no mount below it goes away (kernels from 6.2 on; older ones drop it).</summary>
    public const uint FUSE_EXPIRE_ONLY = 1;
}
