using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuse;

/// <summary>Extended attributes; EOPNOTSUPP for all of them when the export has none.</summary>
internal sealed class XattrHandlers(FuseSession session)
{
    private IFileSystem FileSystem => session.FileSystem;

    public async IoTask<int> SetxattrAsync(FuseRequest request)
    {
        if (!session.Options.Xattr) { return request.ReplyError(Errno.EOPNOTSUPP); }
        if (!TakeSetxattr(request, out FuseSetxattrIn set)) { return request.ReplyError(Errno.EINVAL); }
        if (set.SizeBytes > FuseFlags.XattrSizeMax) { return request.ReplyError(Errno.E2BIG); }
        if ((set.Flags & ~(FuseFlags.XATTR_CREATE | FuseFlags.XATTR_REPLACE)) != 0) { return request.ReplyError(Errno.EINVAL); }
        Errno bad = FuseName.TakeXattrName(request, out IoVec name);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        if (set.SizeBytes != request.RemainingBytes || !request.TryTakeBytes((int)set.SizeBytes, out IoVec value)) { return request.ReplyError(Errno.EINVAL); }
        bool killSgid = (set.SetxattrFlags & FuseFlags.SETXATTR_ACL_KILL_SGID) != 0;
        return request.ReplyError(await FileSystem.SetXattrAsync(request.NodeId, name, value, set.Flags, killSgid));
    }

    public async IoTask<int> GetxattrAsync(FuseRequest request)
    {
        if (!session.Options.Xattr) { return request.ReplyError(Errno.EOPNOTSUPP); }
        if (!request.TryTake(out FuseGetxattrIn get)) { return request.ReplyError(Errno.EINVAL); }
        Errno bad = FuseName.TakeXattrName(request, out IoVec name);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        if (!TryTarget(request, get.SizeBytes, out IoVec target)) { return request.ReplyError(Errno.EINVAL); }
        IoResult got = await FileSystem.GetXattrAsync(request.NodeId, name, target);
        return Reply(request, got, target);
    }

    public async IoTask<int> ListxattrAsync(FuseRequest request)
    {
        if (!session.Options.Xattr) { return request.ReplyError(Errno.EOPNOTSUPP); }
        if (!request.TryTake(out FuseGetxattrIn list)) { return request.ReplyError(Errno.EINVAL); }
        if (!TryTarget(request, list.SizeBytes, out IoVec target)) { return request.ReplyError(Errno.EINVAL); }
        IoResult got = await FileSystem.ListXattrAsync(request.Caller, request.NodeId, target);
        return Reply(request, got, target);
    }

    public async IoTask<int> RemovexattrAsync(FuseRequest request)
    {
        if (!session.Options.Xattr) { return request.ReplyError(Errno.EOPNOTSUPP); }
        Errno bad = FuseName.TakeXattrName(request, out IoVec name);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        return request.ReplyError(await FileSystem.RemoveXattrAsync(request.NodeId, name));
    }

    private bool TakeSetxattr(FuseRequest request, out FuseSetxattrIn set)
    {
        if (session.Has(FuseInitFlags.SETXATTR_EXT)) { return request.TryTake(out set); }
        bool taken = request.TryTake(out FuseSetxattrCompatIn compat);
        set = new FuseSetxattrIn(compat.SizeBytes, compat.Flags, 0);
        return taken;
    }

    /// <summary>Where the value goes before it is sent: empty for a size query; false when the reply has no room for any value, or for the query's answer.</summary>
    private static bool TryTarget(FuseRequest request, uint sizeBytes, out IoVec target)
    {
        target = default;
        if (sizeBytes == 0) { return request.BodyRoom >= sizeof(ulong); }
        int length = Math.Min((int)Math.Min(sizeBytes, FuseFlags.XattrSizeMax), request.BodyRoom);
        if (length == 0) { return false; } // an empty target would be taken for a size query
        target = request.RentScratch().Memory.Slice(0, length);
        return true;
    }

    private static int Reply(FuseRequest request, IoResult got, IoVec target)
    {
        if (got.IsError) { return request.ReplyError(got.Errno); }
        if (target.IsEmpty) { return request.Reply(new FuseGetxattrOut((uint)got.Bytes)); }
        return got.Bytes > target.Length ? request.ReplyError(Errno.ERANGE) : request.ReplyBytes(target.Span[..got.Bytes]);
    }
}
