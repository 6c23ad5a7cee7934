using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuse;

/// <summary>The flags of chattr(1) and lsattr(1), in both forms in which linux/fs.h has them. Every other ioctl is ENOTTY.</summary>
/// <remarks>A command's number names its direction and size, and the kernel moves exactly that (restricted ioctls); whatever the command, it moves no memory of the caller by itself.</remarks>
internal sealed class IoctlHandlers(FuseSession session)
{
    private const uint FS_IOC_GETFLAGS = 0x80086601;
    private const uint FS_IOC_SETFLAGS = 0x40086602;
    private const uint FS_IOC32_GETFLAGS = 0x80046601;
    private const uint FS_IOC32_SETFLAGS = 0x40046602;
    private const uint FS_IOC_FSGETXATTR = 0x801C581F;
    private const uint FS_IOC_FSSETXATTR = 0x401C5820;

    private const uint FUSE_IOCTL_UNRESTRICTED = 1 << 1;

    private const FsFlags Known = FsFlags.SYNC | FsFlags.IMMUTABLE | FsFlags.APPEND | FsFlags.NODUMP | FsFlags.NOATIME | FsFlags.DIRSYNC;

    /// <summary>FS_XFLAG_* of struct fsxattr: it has no word for DIRSYNC.</summary>
    private static readonly (uint XFlag, FsFlags Flag)[] s_xflags =
        [(0x8, FsFlags.IMMUTABLE), (0x10, FsFlags.APPEND), (0x20, FsFlags.SYNC), (0x40, FsFlags.NOATIME), (0x80, FsFlags.NODUMP)];

    public IoTask<int> IoctlAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseIoctlIn ioctl) || ioctl.InBytes > request.RemainingBytes) { return new IoTask<int>(request.ReplyError(Errno.EINVAL)); }
        if ((ioctl.Flags & FUSE_IOCTL_UNRESTRICTED) != 0) { return new IoTask<int>(request.ReplyError(Errno.ENOTTY)); }
        return ioctl.Command switch
        {
            FS_IOC_GETFLAGS or FS_IOC32_GETFLAGS => GetAsync(request, ioctl, extended: false),
            FS_IOC_FSGETXATTR => GetAsync(request, ioctl, extended: true),
            FS_IOC_SETFLAGS or FS_IOC32_SETFLAGS => SetAsync(request, ioctl),
            FS_IOC_FSSETXATTR => SetExtendedAsync(request, ioctl),
            _ => new IoTask<int>(request.ReplyError(Errno.ENOTTY)),
        };
    }

    private async IoTask<int> GetAsync(FuseRequest request, FuseIoctlIn ioctl, bool extended)
    {
        int bytes = extended ? Marshal.SizeOf<FsXattr>() : sizeof(uint);
        if (ioctl.OutBytes < bytes || request.BodyRoom < Marshal.SizeOf<FuseIoctlOut>() + bytes) { return request.ReplyError(Errno.EINVAL); }
        FsResult<InodeAttributes> found = await session.FileSystem.GetAttributesAsync(request.NodeId);
        if (found.IsError) { return request.ReplyError(found.Errno); }
        FsFlags flags = found.Value.Flags;
        return extended
            ? request.Reply(new FuseFsXattrOut(default, new FsXattr(ToXFlags(flags))))
            : request.Reply(new FuseFlagsOut(default, (uint)flags));
    }

    private IoTask<int> SetAsync(FuseRequest request, in FuseIoctlIn ioctl)
    {
        if (ioctl.InBytes < sizeof(uint) || !request.TryTake(out uint flags)) { return new IoTask<int>(request.ReplyError(Errno.EINVAL)); }
        return (flags & ~(uint)Known) != 0 ? new IoTask<int>(request.ReplyError(Errno.EOPNOTSUPP)) : SetAsync(request, (FsFlags)flags, Known);
    }

    /// <summary>Extent size hints and project ids are not kept: whoever wants one hears of it.</summary>
    private IoTask<int> SetExtendedAsync(FuseRequest request, in FuseIoctlIn ioctl)
    {
        if (ioctl.InBytes < Marshal.SizeOf<FsXattr>() || !request.TryTake(out FsXattr wanted)) { return new IoTask<int>(request.ReplyError(Errno.EINVAL)); }
        FsFlags flags = FsFlags.None, changeable = FsFlags.None;
        uint known = 0;
        foreach ((uint xflag, FsFlags flag) in s_xflags)
        {
            known |= xflag;
            changeable |= flag;
            if ((wanted.XFlags & xflag) != 0) { flags |= flag; }
        }
        bool served = (wanted.XFlags & ~known) == 0 && wanted is { ExtentSize: 0, ProjectId: 0, CopyExtentSize: 0 };
        return served ? SetAsync(request, flags, changeable) : new IoTask<int>(request.ReplyError(Errno.EOPNOTSUPP));
    }

    private async IoTask<int> SetAsync(FuseRequest request, FsFlags flags, FsFlags changeable)
    {
        if (session.Options.ReadOnly) { return request.ReplyError(Errno.EROFS); }
        Errno set = await session.FileSystem.SetFlagsAsync(request.Caller, request.NodeId, flags, changeable);
        if (set != Errno.None) { return request.ReplyError(set); }
        session.RaiseChangedUnseen(request.NodeId);
        return request.Reply(new FuseIoctlOut(0));
    }

    private static uint ToXFlags(FsFlags flags)
    {
        uint xflags = 0;
        foreach ((uint xflag, FsFlags flag) in s_xflags) { xflags |= (flags & flag) != 0 ? xflag : 0; }
        return xflags;
    }
}
