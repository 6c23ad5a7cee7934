using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuse;

/// <summary>Open directories.</summary>
internal sealed class DirectoryHandlers(FuseSession session)
{
    private IFileSystem FileSystem => session.FileSystem;

    public async IoTask<int> OpendirAsync(FuseRequest request)
    {
        if (session.Has(FuseInitFlags.NO_OPENDIR_SUPPORT)) { return request.ReplyNotServed(); } // the kernel then stops asking
        if (!request.TryTake(out FuseOpenIn open)) { return request.ReplyError(Errno.EINVAL); }
        FsResult<ulong> opened = await FileSystem.OpenDirectoryAsync(request.NodeId, open.Flags);
        if (opened.IsError) { return request.ReplyError(opened.Errno); }
        if (!session.IsCurrent(request.Epoch)) { _ = await FileSystem.ReleaseDirectoryAsync(request.NodeId, opened.Value); }
        return request.Reply(new FuseOpenOut(opened.Value, session.OpenDirectoryFlags));
    }

    public async IoTask<int> ReaddirAsync(FuseRequest request, bool plus)
    {
        if (!request.TryTake(out FuseReadIn read)) { return request.ReplyError(Errno.EINVAL); }
        DirectoryReply entries = request.RentScratch().Directory;
        entries.Begin(session, request.Epoch, (int)Math.Min(read.SizeBytes, (uint)request.BodyRoom), plus);
        Errno done = await FileSystem.ReadDirectoryAsync(request.NodeId, read.Handle, read.OffsetBytes, entries);
        if (done != Errno.None) { return request.ReplyError(done); }
        // No room for even one entry: an empty reply would mean the end of the directory.
        if (entries.IsFull && entries.Length == 0) { return request.ReplyError(Errno.EINVAL); }
        return request.ReplyBytes(entries.Packed);
    }

    public async IoTask<int> ReleasedirAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseReleaseIn release)) { return request.ReplyError(Errno.EINVAL); }
        return request.ReplyError(await FileSystem.ReleaseDirectoryAsync(request.NodeId, release.Handle));
    }

    public async IoTask<int> FsyncdirAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseFsyncIn fsync)) { return request.ReplyError(Errno.EINVAL); }
        return request.ReplyError(await FileSystem.FsyncDirectoryAsync(request.NodeId, fsync.Handle, (fsync.Flags & FuseFlags.FSYNC_FDATASYNC) != 0));
    }
}
