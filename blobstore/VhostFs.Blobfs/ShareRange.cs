using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>The part of copy_file_range(2) that copies nothing: whole blocks of the source become blocks of the target too, in steps that are one transaction each.</summary>
/// <remarks>It locks both ranges, the file with the lower number first, and one range over both parts of the same file: everything else holds one lock at a time, so
/// that nobody waits in a circle. Under the locks no write is under way that was planned for a block with one owner.</remarks>
internal sealed class ShareRange(BlobfsState state, ContentLocks locks, InlineContent inline, Attributes attributes, ChangeNotices notices)
{
    /// <summary>Something of the range can be shared: both offsets lie equally in their blocks, and there is a whole block, or the end of the source.</summary>
    public bool IsPossible(in InodeRecord from, long sourceOffset, long targetOffset, long lengthBytes)
    {
        long first = FileLimits.BlockCeiling(sourceOffset), limit = sourceOffset + lengthBytes;
        bool isAligned = sourceOffset % FileLimits.BlockBytes == targetOffset % FileLimits.BlockBytes;
        return state.Data.CanShare && !from.IsInline && isAligned && (limit - first >= FileLimits.BlockBytes || (limit > first && limit == from.SizeBytes));
    }

    /// <summary>Shares from block-aligned offsets on, as far as it goes.</summary>
    /// <returns>The bytes that the target now has of the source; less than asked for where something has to be copied.</returns>
    public async IoTask<IoResult> ShareAsync(ulong source, long sourceOffset, ulong target, long targetOffset, long lengthBytes)
    {
        // A device that does not take the mark gets no shared block: everything is copied.
        if (await state.Volume.AllowSharingAsync() != Errno.None) { return new IoResult(0); }
        var request = new ShareRequest(source, sourceOffset, target, targetOffset, lengthBytes);
        if (source == target)
        {
            FsResult<LockedFile> both = await locks.LockAsync(source, Math.Min(sourceOffset, targetOffset), Math.Max(sourceOffset, targetOffset) + lengthBytes);
            if (both.IsError) { return IoResult.FromErrno(both.Errno); }
            IoResult within = await ShareLockedAsync(request, both.Value.Record);
            state.Data.Unlock(both.Value.Held);
            return within;
        }
        bool sourceFirst = source < target;
        FsResult<LockedFile> first = await (sourceFirst ? LockSourceAsync(request) : LockTargetAsync(request));
        if (first.IsError) { return IoResult.FromErrno(first.Errno); }
        FsResult<LockedFile> second = await (sourceFirst ? LockTargetAsync(request) : LockSourceAsync(request));
        IoResult shared = IoResult.FromErrno(second.Errno);
        if (!second.IsError)
        {
            shared = await ShareLockedAsync(request, (sourceFirst ? second : first).Value.Record);
            state.Data.Unlock(second.Value.Held);
        }
        state.Data.Unlock(first.Value.Held);
        return shared;
    }

    private IoTask<FsResult<LockedFile>> LockSourceAsync(in ShareRequest request) => locks.LockAsync(request.Source, request.SourceOffset, request.SourceOffset + request.Length);

    private IoTask<FsResult<LockedFile>> LockTargetAsync(in ShareRequest request) => locks.LockAsync(request.Target, request.TargetOffset, request.TargetOffset + request.Length);

    private async IoTask<IoResult> ShareLockedAsync(ShareRequest request, InodeRecord to)
    {
        if (to.IsInline && to.SizeBytes > 0)
        {
            Errno converted = await inline.ConvertAsync(request.Target);
            if (converted != Errno.None) { return IoResult.FromErrno(converted); }
        }
        long done = 0;
        ulong lsn = 0;
        Errno result = Errno.None;
        while (done < request.Length)
        {
            FsResult<ShareStep> step = await StepAsync(request.Skip(done));
            result = step.Errno;
            if (step.IsError || step.Value.Bytes == 0) { break; }
            done += step.Value.Bytes;
            lsn = step.Value.Lsn;
        }
        if (done == 0) { return IoResult.FromErrno(result); }
        // What was shared before an error counts, once it is logged.
        Errno logged = await state.Volume.LoggedAsync(lsn);
        return logged == Errno.None ? new IoResult((int)done) : IoResult.FromErrno(logged);
    }

    private async IoTask<FsResult<ShareStep>> StepAsync(ShareRequest request)
    {
        for (int attempt = 0; attempt < OperationLoop.MaxAttempts; attempt++)
        {
            Errno admitted = await state.Volume.AdmitAsync(Admission.Grow);
            if (admitted != Errno.None) { return admitted; }
            Errno done = TryStep(request, out ShareStep step);
            if (done != Residency.NotResident) { return new FsResult<ShareStep>(done, step); }
            Errno loaded = await state.Volume.LoadMissingAsync();
            if (loaded != Errno.None) { return loaded; }
        }
        return Errno.EIO;
    }

    private Errno TryStep(in ShareRequest request, out ShareStep step)
    {
        step = default;
        Transaction tx = state.Volume.Begin();
        Errno staged = Stage(tx, request, out long bytes);
        if (staged != Errno.None || bytes == 0) { tx.Abort(); return staged; }
        step = new ShareStep(bytes, tx.Commit());
        notices.Inode(request.Target, contentChanged: true);
        return Errno.None;
    }

    private Errno Stage(Transaction tx, in ShareRequest request, out long bytes)
    {
        bytes = 0;
        Errno staged = tx.TryGetInode(request.Source, out InodeRecord from);
        if (staged != Errno.None) { return staged; }
        staged = tx.TryGetInode(request.Target, out InodeRecord to);
        if (staged == Errno.None) { staged = Protection.Write(to, fromCache: false); }
        if (staged != Errno.None || from.IsInline || (to.IsInline && to.SizeBytes > 0)) { return staged; }
        long length = Math.Min(request.Length, from.SizeBytes - request.SourceOffset), limit = request.TargetOffset + length;
        // The last block of the source is zeroes behind its end, and can be the target's last one: else the target would lose what it has there.
        bool withLast = request.SourceOffset + length == from.SizeBytes && limit >= to.SizeBytes;
        long blocks = (withLast ? FileLimits.BlockCeiling(length) : length) / FileLimits.BlockBytes;
        if (blocks <= 0) { return Errno.None; }
        staged = state.Data.TryStageShare(tx, request.Source, request.SourceOffset / FileLimits.BlockBytes,
            request.Target, request.TargetOffset / FileLimits.BlockBytes, blocks, out long done, out long blocksDelta);
        if (staged != Errno.None || done == 0) { return staged; }
        bytes = Math.Min(done * FileLimits.BlockBytes, length);
        FsTime now = state.Clock();
        to = (to with
        {
            Flags = to.Flags & ~InodeFlags.Inline, // empty, or moved to blocks
            SizeBytes = Math.Max(to.SizeBytes, request.TargetOffset + bytes),
            Blocks = to.Blocks + blocksDelta,
        }).WithModify(now).WithChange(now);
        staged = attributes.StageDropCapability(tx, request.Target, ref to);
        return staged == Errno.None ? tx.PutInode(request.Target, to) : staged;
    }

    private readonly record struct ShareRequest(ulong Source, long SourceOffset, ulong Target, long TargetOffset, long Length)
    {
        public ShareRequest Skip(long bytes) => new(Source, SourceOffset + bytes, Target, TargetOffset + bytes, Length - bytes);
    }

    private readonly record struct ShareStep(long Bytes, ulong Lsn);
}
