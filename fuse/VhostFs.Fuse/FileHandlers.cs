using System.Runtime.CompilerServices;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuse;

/// <summary>Opening files and what an open file does. Payload stays in the guest's segments.</summary>
internal sealed class FileHandlers(FuseSession session)
{
    public static readonly int WriteArgumentBytes = Unsafe.SizeOf<FuseWriteIn>();

    /// <summary>A copy's byte count must fit IoResult; the kernel takes a short copy.</summary>
    private const long MaxCopyBytes = int.MaxValue & ~4095;

    private IFileSystem FileSystem => session.FileSystem;

    public async IoTask<int> OpenAsync(FuseRequest request)
    {
        if (session.Has(FuseInitFlags.NO_OPEN_SUPPORT)) { return request.ReplyNotServed(); } // the kernel then stops asking
        if (!request.TryTake(out FuseOpenIn open)) { return request.ReplyError(Errno.EINVAL); }
        bool writes = (open.Flags & FuseFlags.O_ACCMODE) != FuseFlags.O_RDONLY || (open.Flags & FuseFlags.O_TRUNC) != 0;
        if (writes && session.Options.ReadOnly) { return request.ReplyError(Errno.EROFS); }
        FsResult<ulong> opened = await FileSystem.OpenAsync(request.NodeId, OpenFlags(open.Flags), KillsPrivileges(open.OpenFlags));
        if (opened.IsError) { return request.ReplyError(opened.Errno); }
        if (!session.IsCurrent(request.Epoch)) { _ = await FileSystem.ReleaseAsync(request.NodeId, opened.Value); }
        return request.Reply(new FuseOpenOut(opened.Value, session.OpenFlags));
    }

    public async IoTask<int> CreateAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseCreateIn create) || !request.TryReserveExtensions()) { return request.ReplyError(Errno.EINVAL); }
        Errno bad = FuseName.TakeName(request, out IoVec name);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        bad = CreateExtensions.Decode(request, session.Flags, create.Umask, out CreateContext context);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        FsResult<CreatedFile> created = await FileSystem.CreateAsync(context, request.NodeId, name,
            create.Mode & FuseFlags.PermissionBits, OpenFlags(create.Flags), KillsPrivileges(create.OpenFlags));
        return await ReplyCreatedAsync(request, created);
    }

    /// <summary>TMPFILE carries a name, too: Linux sends "/", and it means nothing.</summary>
    public async IoTask<int> TmpfileAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseCreateIn create) || !request.TryReserveExtensions()) { return request.ReplyError(Errno.EINVAL); }
        Errno bad = request.TakeString(FuseFlags.NameMax, out IoVec _);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        bad = CreateExtensions.Decode(request, session.Flags, create.Umask, out CreateContext context);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        FsResult<CreatedFile> created = await FileSystem.TemporaryFileAsync(context, request.NodeId,
            create.Mode & FuseFlags.PermissionBits, OpenFlags(create.Flags));
        return await ReplyCreatedAsync(request, created);
    }

    public async IoTask<int> ReadAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseReadIn read) || read.OffsetBytes > long.MaxValue) { return request.ReplyError(Errno.EINVAL); }
        long length = Math.Min(Math.Min(read.SizeBytes, (uint)FuseInit.MaxWriteBytes), request.BodyRoom);
        length = Math.Min(length, long.MaxValue - (long)read.OffsetBytes);
        IoVecList target = request.Payload;
        target.AddSlice(request.Writable.View(), FuseOutHeader.Size, length);
        IoResult done = await FileSystem.ReadAsync(request.NodeId, read.Handle, (long)read.OffsetBytes, target.View());
        if (done.IsError) { return request.ReplyError(done.Errno); }
        Invariant.That(done.Bytes <= length);
        return request.ReplyWritten(done.Bytes);
    }

    public async IoTask<int> WriteAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseWriteIn write)) { return request.ReplyError(Errno.EINVAL); }
        if (write.SizeBytes > FuseInit.MaxWriteBytes || write.SizeBytes != request.RemainingBytes) { return request.ReplyError(Errno.EINVAL); }
        if (write.OffsetBytes > (ulong)(long.MaxValue - write.SizeBytes)) { return request.ReplyError(Errno.EFBIG); }
        IoVecList source = request.Payload;
        long taken = source.AddSlice(request.Readable.View(), FuseInHeader.Size + WriteArgumentBytes, write.SizeBytes);
        Invariant.That(taken == write.SizeBytes);
        IoResult done = await FileSystem.WriteAsync(request.NodeId, write.Handle, (long)write.OffsetBytes, source.View(), WriteFlags(write.Flags),
            (write.WriteFlags & FuseFlags.WRITE_CACHE) != 0, (write.WriteFlags & FuseFlags.WRITE_KILL_SUIDGID) != 0);
        if (done.IsError) { return request.ReplyError(done.Errno); }
        Invariant.That(done.Bytes <= write.SizeBytes);
        return request.Reply(new FuseWriteOut((uint)done.Bytes));
    }

    public async IoTask<int> FlushAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseFlushIn flush)) { return request.ReplyError(Errno.EINVAL); }
        return request.ReplyError(await FileSystem.FlushAsync(request.NodeId, flush.Handle, flush.LockOwner));
    }

    public async IoTask<int> ReleaseAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseReleaseIn release)) { return request.ReplyError(Errno.EINVAL); }
        return request.ReplyError(await FileSystem.ReleaseAsync(request.NodeId, release.Handle));
    }

    public async IoTask<int> FsyncAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseFsyncIn fsync)) { return request.ReplyError(Errno.EINVAL); }
        return request.ReplyError(await FileSystem.FsyncAsync(request.NodeId, fsync.Handle, (fsync.Flags & FuseFlags.FSYNC_FDATASYNC) != 0));
    }

    public async IoTask<int> FallocateAsync(FuseRequest request)
    {
        const uint known = FuseFlags.FALLOC_KEEP_SIZE | FuseFlags.FALLOC_PUNCH_HOLE | FuseFlags.FALLOC_ZERO_RANGE;
        if (!request.TryTake(out FuseFallocateIn range)) { return request.ReplyError(Errno.EINVAL); }
        if ((range.Mode & ~known) != 0) { return request.ReplyError(Errno.EOPNOTSUPP); }
        if (range.LengthBytes is 0 or > long.MaxValue || range.OffsetBytes > long.MaxValue) { return request.ReplyError(Errno.EINVAL); }
        if (range.OffsetBytes + range.LengthBytes > long.MaxValue) { return request.ReplyError(Errno.EFBIG); }
        // The SETATTR before has left set-group-id without group execute. Who is not in the group may not leave it, and who is the kernel does not tell: rather does a member
        // lose it. (Writes leave it, as the protocol says of HANDLE_KILLPRIV_V2.)
        if (!request.Caller.IsRoot && session.LastDrop == (request.NodeId, request.Caller.Pid))
        {
            session.LastDrop = default;
            FsResult<InodeAttributes> dropped = await FileSystem.SetAttributesAsync(request.Caller, request.NodeId, new SetAttributes(KillPrivileges: true, DropPrivileges: true));
            if (dropped.IsError) { return request.ReplyError(dropped.Errno); }
        }
        return request.ReplyError(await FileSystem.FallocateAsync(request.Caller, request.NodeId, range.Handle, range.Mode, (long)range.OffsetBytes, (long)range.LengthBytes));
    }

    /// <summary>Only SEEK_DATA and SEEK_HOLE need us; the kernel answers the others from the file's size.</summary>
    /// <remarks>A kernel with a write-back cache does not write back before it asks: what we know as a hole may be data there, and who copies what we call data (cp, tar) would lose it.
    /// With ENOSYS it asks no more, and the whole file is data.</remarks>
    public async IoTask<int> LseekAsync(FuseRequest request)
    {
        if (session.Has(FuseInitFlags.WRITEBACK_CACHE)) { return request.ReplyNotServed(); }
        if (!request.TryTake(out FuseLseekIn seek)) { return request.ReplyError(Errno.EINVAL); }
        if (seek.Whence is not (FuseFlags.SEEK_DATA or FuseFlags.SEEK_HOLE)) { return request.ReplyError(Errno.EINVAL); }
        if (seek.OffsetBytes > long.MaxValue) { return request.ReplyError(Errno.ENXIO); }
        FsResult<long> found = await FileSystem.SeekAsync(request.NodeId, seek.Handle, (long)seek.OffsetBytes, seek.Whence);
        return found.IsError ? request.ReplyError(found.Errno) : request.Reply(new FuseLseekOut((ulong)found.Value));
    }

    /// <param name="wide">COPY_FILE_RANGE_64: the reply counts in 64 bits.</param>
    public async IoTask<int> CopyFileRangeAsync(FuseRequest request, bool wide)
    {
        if (!request.TryTake(out FuseCopyFileRangeIn copy) || copy.Flags != 0) { return request.ReplyError(Errno.EINVAL); }
        if (copy.SourceOffset > long.MaxValue || copy.TargetOffset > long.MaxValue) { return request.ReplyError(Errno.EINVAL); }
        long length = (long)Math.Min(copy.LengthBytes, MaxCopyBytes);
        if (copy.SourceOffset > (ulong)(long.MaxValue - length)) { return request.ReplyError(Errno.EOVERFLOW); }
        if (copy.TargetOffset > (ulong)(long.MaxValue - length)) { return request.ReplyError(Errno.EFBIG); }
        IoResult done = await FileSystem.CopyFileRangeAsync(request.NodeId, copy.SourceHandle, (long)copy.SourceOffset,
            copy.TargetNodeId, copy.TargetHandle, (long)copy.TargetOffset, length);
        if (done.IsError) { return request.ReplyError(done.Errno); }
        return wide ? request.Reply(new FuseCopyFileRangeOut((ulong)done.Bytes)) : request.Reply(new FuseWriteOut((uint)done.Bytes));
    }

    private async IoTask<int> ReplyCreatedAsync(FuseRequest request, FsResult<CreatedFile> created)
    {
        if (created.IsError) { return request.ReplyError(created.Errno); }
        InodeAttributes attributes = created.Value.Attributes;
        if (!session.IsCurrent(request.Epoch))
        {
            _ = await FileSystem.ReleaseAsync(attributes.Inode, created.Value.Handle);
            FileSystem.Forget(attributes.Inode, 1);
        }
        return request.Reply(new FuseCreateOut(session.ToEntry(attributes), new FuseOpenOut(created.Value.Handle, session.OpenFlags)));
    }

    /// <summary>With the write-back cache the guest reads the rest of a page it writes to.</summary>
    private uint OpenFlags(uint flags)
    {
        bool writeOnly = session.Has(FuseInitFlags.WRITEBACK_CACHE) && (flags & FuseFlags.O_ACCMODE) == FuseFlags.O_WRONLY;
        return writeOnly ? (flags & ~FuseFlags.O_ACCMODE) | FuseFlags.O_RDWR : flags;
    }

    /// <summary>With the write-back cache the guest places appended data itself.</summary>
    private uint WriteFlags(uint flags) => session.Has(FuseInitFlags.WRITEBACK_CACHE) ? flags & ~FuseFlags.O_APPEND : flags;

    private static bool KillsPrivileges(uint openFlags) => (openFlags & FuseFlags.OPEN_KILL_SUIDGID) != 0;
}
