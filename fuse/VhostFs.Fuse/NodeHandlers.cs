using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuse;

/// <summary>Names and attributes: everything that works on a node without opening it, except xattrs.</summary>
internal sealed class NodeHandlers(FuseSession session)
{
    private const uint NanosecondsPerSecond = 1_000_000_000;

    private IFileSystem FileSystem => session.FileSystem;

    public async IoTask<int> LookupAsync(FuseRequest request)
    {
        Errno bad = FuseName.TakeLookupName(request, out IoVec name);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        FsResult<InodeAttributes> found = await FileSystem.LookupAsync(request.NodeId, name);
        if (found.Errno == Errno.ENOENT && session.CachesNegativeEntries) { return request.Reply(session.NegativeEntry); }
        return ReplyEntry(request, found);
    }

    public void Forget(FuseRequest request)
    {
        request.CopyArguments(Unsafe.SizeOf<FuseForgetIn>());
        if (request.TryTake(out FuseForgetIn forget)) { FileSystem.Forget(request.NodeId, forget.LookupCount); }
    }

    /// <summary>The entries may fill a whole request: each is copied once, straight from the segments, by batches.</summary>
    public void BatchForget(FuseRequest request)
    {
        request.CopyArguments(Unsafe.SizeOf<FuseBatchForgetIn>());
        if (!request.TryTake(out FuseBatchForgetIn batch)) { return; }
        Span<FuseForgetOne> entries = stackalloc FuseForgetOne[64];
        long left = Math.Min(batch.Count, request.RemainingBytes / Unsafe.SizeOf<FuseForgetOne>());
        long offset = FuseInHeader.Size + Unsafe.SizeOf<FuseBatchForgetIn>();
        while (left > 0)
        {
            Span<FuseForgetOne> now = entries[..(int)Math.Min(left, entries.Length)];
            Span<byte> bytes = MemoryMarshal.AsBytes(now);
            request.Readable.View().CopyTo(offset, bytes);
            foreach (FuseForgetOne one in now) { FileSystem.Forget(one.NodeId, one.LookupCount); }
            offset += bytes.Length;
            left -= now.Length;
        }
    }

    // The handle that may come with GETATTR, SETATTR and STATX adds nothing: an open file's node is alive.
    public async IoTask<int> GetattrAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseGetattrIn _)) { return request.ReplyError(Errno.EINVAL); }
        FsResult<InodeAttributes> found = await FileSystem.GetAttributesAsync(request.NodeId);
        return ReplyAttributes(request, found);
    }

    public async IoTask<int> StatxAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseStatxIn _)) { return request.ReplyError(Errno.EINVAL); }
        FsResult<InodeAttributes> found = await FileSystem.GetAttributesAsync(request.NodeId);
        return found.IsError ? request.ReplyError(found.Errno) : request.Reply(session.ToStatxOut(found.Value));
    }

    public async IoTask<int> SetattrAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseSetattrIn set)) { return request.ReplyError(Errno.EINVAL); }
        Errno bad = Decode(set, out SetAttributes changes);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        // Before a write, fallocate or copy that is to cost a file its set-id bits, Linux sends a SETATTR that sets nothing (with a write-back cache: the change time), as
        // HANDLE_KILLPRIV_V2 leaves the bits to us. So does chown(-1, -1).
        const SetAttrValid nothing = SetAttrValid.CTIME | SetAttrValid.FH | SetAttrValid.LOCKOWNER;
        bool drops = (set.Valid & ~nothing) == 0 && session.Has(FuseInitFlags.HANDLE_KILLPRIV_V2);
        if (drops) { changes = new SetAttributes(DropPrivileges: true); }
        session.LastDrop = drops ? (request.NodeId, request.Caller.Pid) : default;
        FsResult<InodeAttributes> changed = await FileSystem.SetAttributesAsync(request.Caller, request.NodeId, changes);
        return ReplyAttributes(request, changed);
    }

    public async IoTask<int> ReadlinkAsync(FuseRequest request)
    {
        Scratch scratch = request.RentScratch();
        IoResult read = await FileSystem.ReadLinkAsync(request.NodeId, scratch.Memory.Slice(0, FuseFlags.PathMax));
        if (read.IsError) { return request.ReplyError(read.Errno); }
        return request.ReplyBytes(scratch.Memory.Span[..read.Bytes]);
    }

    public async IoTask<int> SymlinkAsync(FuseRequest request)
    {
        Errno bad = request.TryReserveExtensions() ? FuseName.TakeName(request, out IoVec name) : Refuse(out name);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        bad = FuseName.TakeLinkTarget(request, out IoVec target);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        bad = CreateExtensions.Decode(request, session.Flags, umask: 0, out CreateContext context);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        FsResult<InodeAttributes> made = await FileSystem.SymlinkAsync(context, request.NodeId, name, target);
        return ReplyEntry(request, made);
    }

    public async IoTask<int> MknodAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseMknodIn make) || !request.TryReserveExtensions()) { return request.ReplyError(Errno.EINVAL); }
        Errno bad = FuseName.TakeName(request, out IoVec name);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        uint mode = (make.Mode & FuseFlags.S_IFMT) == 0 ? make.Mode | FuseFlags.S_IFREG : make.Mode;
        if (!IsMakeable(mode)) { return request.ReplyError(Errno.EINVAL); }
        bad = CreateExtensions.Decode(request, session.Flags, make.Umask, out CreateContext context);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        FsResult<InodeAttributes> made = await FileSystem.MakeNodeAsync(context, request.NodeId, name, mode, make.DeviceNumber);
        return ReplyEntry(request, made);
    }

    public async IoTask<int> MkdirAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseMkdirIn make) || !request.TryReserveExtensions()) { return request.ReplyError(Errno.EINVAL); }
        Errno bad = FuseName.TakeName(request, out IoVec name);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        bad = CreateExtensions.Decode(request, session.Flags, make.Umask, out CreateContext context);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        FsResult<InodeAttributes> made = await FileSystem.MakeDirectoryAsync(context, request.NodeId, name, make.Mode & FuseFlags.PermissionBits);
        return ReplyEntry(request, made);
    }

    public async IoTask<int> UnlinkAsync(FuseRequest request)
    {
        Errno bad = FuseName.TakeName(request, out IoVec name);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        return request.ReplyError(await FileSystem.UnlinkAsync(request.NodeId, name));
    }

    public async IoTask<int> RmdirAsync(FuseRequest request)
    {
        Errno bad = FuseName.TakeName(request, out IoVec name);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        return request.ReplyError(await FileSystem.RemoveDirectoryAsync(request.NodeId, name));
    }

    public IoTask<int> RenameAsync(FuseRequest request) =>
        request.TryTake(out FuseRenameIn rename) ? RenameAsync(request, rename.NewDirectory, flags: 0) : new IoTask<int>(request.ReplyError(Errno.EINVAL));

    public IoTask<int> Rename2Async(FuseRequest request)
    {
        const uint known = FuseFlags.RENAME_NOREPLACE | FuseFlags.RENAME_EXCHANGE | FuseFlags.RENAME_WHITEOUT;
        const uint notWithExchange = FuseFlags.RENAME_NOREPLACE | FuseFlags.RENAME_WHITEOUT;
        if (!request.TryTake(out FuseRename2In rename) || (rename.Flags & ~known) != 0) { return new IoTask<int>(request.ReplyError(Errno.EINVAL)); }
        bool contradicts = (rename.Flags & FuseFlags.RENAME_EXCHANGE) != 0 && (rename.Flags & notWithExchange) != 0;
        return contradicts ? new IoTask<int>(request.ReplyError(Errno.EINVAL)) : RenameAsync(request, rename.NewDirectory, rename.Flags);
    }

    public async IoTask<int> LinkAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseLinkIn link)) { return request.ReplyError(Errno.EINVAL); }
        Errno bad = FuseName.TakeName(request, out IoVec newName);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        FsResult<InodeAttributes> linked = await FileSystem.LinkAsync(link.OldNodeId, request.NodeId, newName);
        return ReplyEntry(request, linked);
    }

    public async IoTask<int> StatfsAsync(FuseRequest request)
    {
        FsResult<FsStatistics> result = await FileSystem.StatFsAsync();
        if (result.IsError) { return request.ReplyError(result.Errno); }
        FsStatistics s = result.Value;
        return request.Reply(new FuseStatfsOut(s.Blocks, s.FreeBlocks, s.AvailableBlocks, s.Files, s.FreeFiles, s.BlockSize, s.NameLength, s.BlockSize));
    }

    public async IoTask<int> SyncfsAsync(FuseRequest request)
    {
        if (!request.TryTake(out FuseSyncfsIn _)) { return request.ReplyError(Errno.EINVAL); }
        return request.ReplyError(await FileSystem.SyncFsAsync());
    }

    private async IoTask<int> RenameAsync(FuseRequest request, ulong newParent, uint flags)
    {
        Errno bad = FuseName.TakeName(request, out IoVec name);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        bad = FuseName.TakeName(request, out IoVec newName);
        if (bad != Errno.None) { return request.ReplyError(bad); }
        return request.ReplyError(await FileSystem.RenameAsync(request.Caller, request.NodeId, name, newParent, newName, flags));
    }

    private int ReplyEntry(FuseRequest request, in FsResult<InodeAttributes> result)
    {
        if (result.IsError) { return request.ReplyError(result.Errno); }
        // The session that asked is over: its reference would never be forgotten.
        if (!session.IsCurrent(request.Epoch)) { FileSystem.Forget(result.Value.Inode, 1); }
        return request.Reply(session.ToEntry(result.Value));
    }

    private int ReplyAttributes(FuseRequest request, in FsResult<InodeAttributes> result) =>
        result.IsError ? request.ReplyError(result.Errno) : request.Reply(session.ToAttrOut(result.Value));

    private static Errno Decode(in FuseSetattrIn set, out SetAttributes changes)
    {
        SetAttrValid valid = set.Valid;
        changes = default;
        if (Has(valid, SetAttrValid.SIZE) && set.SizeBytes > long.MaxValue) { return Errno.EFBIG; }
        if (Has(valid, SetAttrValid.UID) && set.Uid == FuseFlags.INVALID_UIDGID) { return Errno.EINVAL; }
        if (Has(valid, SetAttrValid.GID) && set.Gid == FuseFlags.INVALID_UIDGID) { return Errno.EINVAL; }
        // Linux sets ATIME together with ATIME_NOW; NOW wins.
        bool accessNow = Has(valid, SetAttrValid.ATIME_NOW), modifyNow = Has(valid, SetAttrValid.MTIME_NOW);
        bool access = Has(valid, SetAttrValid.ATIME) && !accessNow, modify = Has(valid, SetAttrValid.MTIME) && !modifyNow;
        bool change = Has(valid, SetAttrValid.CTIME);
        if ((access && set.AccessNanoseconds >= NanosecondsPerSecond)
            || (modify && set.ModifyNanoseconds >= NanosecondsPerSecond)
            || (change && set.ChangeNanoseconds >= NanosecondsPerSecond)) { return Errno.EINVAL; }

        changes = new SetAttributes(
            Has(valid, SetAttrValid.MODE) ? set.Mode & FuseFlags.PermissionBits : null,
            Has(valid, SetAttrValid.UID) ? set.Uid : null,
            Has(valid, SetAttrValid.GID) ? set.Gid : null,
            Has(valid, SetAttrValid.SIZE) ? (long)set.SizeBytes : null,
            access ? new FsTime((long)set.AccessSeconds, set.AccessNanoseconds) : null,
            modify ? new FsTime((long)set.ModifySeconds, set.ModifyNanoseconds) : null,
            change ? new FsTime((long)set.ChangeSeconds, set.ChangeNanoseconds) : null,
            accessNow, modifyNow, Has(valid, SetAttrValid.KILL_SUIDGID));
        return Errno.None;
    }

    private static bool Has(SetAttrValid valid, SetAttrValid flag) => (valid & flag) != 0;

    private static bool IsMakeable(uint mode) => (mode & FuseFlags.S_IFMT) is 0x1000 or 0x2000 or 0x6000 or FuseFlags.S_IFREG or 0xC000; // FIFO CHR BLK REG SOCK


    private static Errno Refuse(out IoVec name)
    {
        name = default;
        return Errno.EINVAL;
    }
}
