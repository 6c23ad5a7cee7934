using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>WRITE: data first, then one transaction with extents, size, times and lost privileges.</summary>
internal sealed class FileWrites(BlobfsState state, ContentLocks locks, InlineContent inline, Attributes attributes, ChangeNotices notices)
{
    /// <param name="fromCache">The guest's cache had taken the data before.</param>
    /// <param name="append">Ignore the offset: write at the end of the file, wherever that is when our turn comes.</param>
    public IoTask<IoResult> WriteAsync(ulong node, long offset, IoVecs source, bool append, bool fromCache, bool killPrivileges)
    {
        long length = source.LengthBytes;
        if (length > int.MaxValue || offset < 0) { return new IoTask<IoResult>(IoResult.FromErrno(Errno.EINVAL)); }
        var request = new WriteRequest(node, offset, source, (int)length, append, fromCache, killPrivileges);
        Errno found = state.Volume.TryGetInode(node, out InodeRecord record);
        if (found == Residency.NotResident) { return WriteSlowAsync(request); }
        if (found == Errno.None) { found = Check(request, record, out long _); }
        if (found != Errno.None || length == 0) { return new IoTask<IoResult>(IoResult.FromErrno(found)); }
        return WriteNow(request, record);
    }

    // The usual case: nothing in the way, everything in memory, so that this returns a finished task or waits for one thing only.
    private IoTask<IoResult> WriteNow(in WriteRequest request, in InodeRecord record)
    {
        long at = request.Append ? record.SizeBytes : request.Offset;
        bool toInline = record.IsInline && InlineContent.Fits(at + request.Length);
        if (record.IsInline && !toInline && record.SizeBytes > 0) { return WriteSlowAsync(request); }
        if (!locks.TryLock(request.Node, record, at, at + request.Length, request.Append, out BlobLock held)) { return WriteSlowAsync(request); }
        if (!state.Volume.TryAdmit(Admission.Grow))
        {
            state.Data.Unlock(held);
            return WriteSlowAsync(request);
        }
        ulong lsn;
        if (toInline)
        {
            Errno written = TryCommitInline(request, at, out lsn);
            state.Data.Unlock(held);
            return written == Residency.NotResident ? WriteSlowAsync(request) : Finish(written, lsn, request.Length);
        }
        BlobChange change = state.Data.RentChange();
        IoTask<Errno> preparing = state.Data.PrepareWriteAsync(change, request.Node, at, request.Source);
        if (!preparing.IsCompleted) { return WritePreparingAsync(request, at, held, change, preparing); }
        Errno done = preparing.GetAwaiter().GetResult();
        lsn = 0;
        if (done == Errno.None) { done = TryCommit(request, at, change, out lsn); }
        if (done == Residency.NotResident) { return WritePreparingAsync(request, at, held, change, new IoTask<Errno>(Errno.None)); }
        state.Data.End(change);
        state.Data.Unlock(held);
        return Finish(done, lsn, request.Length);
    }

    private IoTask<IoResult> Finish(Errno done, ulong lsn, int length)
    {
        if (done != Errno.None) { return new IoTask<IoResult>(IoResult.FromErrno(done)); }
        return state.Volume.IsLogged(lsn) ? new IoTask<IoResult>(new IoResult(length)) : LoggedAsync(lsn, length);
    }

    private async IoTask<IoResult> LoggedAsync(ulong lsn, int length)
    {
        Errno logged = await state.Volume.LoggedAsync(lsn);
        return logged == Errno.None ? new IoResult(length) : IoResult.FromErrno(logged);
    }

    private async IoTask<IoResult> WritePreparingAsync(WriteRequest request, long at, BlobLock held, BlobChange change, IoTask<Errno> preparing)
    {
        Errno prepared = await preparing;
        FsResult<ulong> committed = prepared;
        if (prepared == Errno.None) { committed = await CommitAsync(request, at, change); }
        state.Data.End(change);
        state.Data.Unlock(held);
        return await Finish(committed.Errno, committed.Value, request.Length);
    }

    private async IoTask<IoResult> WriteSlowAsync(WriteRequest request)
    {
        FsResult<LockedFile> locked = await locks.LockAsync(request.Node, request.Offset, request.Offset + request.Length, request.Append);
        if (locked.IsError) { return IoResult.FromErrno(locked.Errno); }
        InodeRecord record = locked.Value.Record;
        Errno allowed = Check(request, record, out long at);
        FsResult<ulong> committed = allowed;
        if (allowed == Errno.None && request.Length > 0) { committed = await WriteLockedAsync(request, record, at); }
        state.Data.Unlock(locked.Value.Held);
        return request.Length == 0 && !committed.IsError ? new IoResult(0) : await Finish(committed.Errno, committed.Value, request.Length);
    }

    private async IoTask<FsResult<ulong>> WriteLockedAsync(WriteRequest request, InodeRecord record, long at)
    {
        if (record.IsInline && InlineContent.Fits(at + request.Length)) { return await CommitAsync(request, at, null); }
        if (record.IsInline && record.SizeBytes > 0)
        {
            Errno converted = await inline.ConvertAsync(request.Node);
            if (converted != Errno.None) { return converted; }
        }
        BlobChange change = state.Data.RentChange();
        Errno prepared = await state.Data.PrepareWriteAsync(change, request.Node, at, request.Source);
        FsResult<ulong> committed = prepared;
        if (prepared == Errno.None) { committed = await CommitAsync(request, at, change); }
        state.Data.End(change);
        return committed;
    }

    /// <summary>Commits under the lock, with as many attempts as it takes; the value is the LSN.</summary>
    /// <param name="change">Null: the content is inline.</param>
    private async IoTask<FsResult<ulong>> CommitAsync(WriteRequest request, long at, BlobChange? change)
    {
        for (int attempt = 0; attempt < OperationLoop.MaxAttempts; attempt++)
        {
            Errno admitted = await state.Volume.AdmitAsync(Admission.Grow);
            if (admitted != Errno.None) { return admitted; }
            Errno done = change is null ? TryCommitInline(request, at, out ulong lsn) : TryCommit(request, at, change, out lsn);
            if (done != Residency.NotResident) { return new FsResult<ulong>(done, lsn); }
            Errno loaded = await state.Volume.LoadMissingAsync();
            if (loaded != Errno.None) { return loaded; }
        }
        return Errno.EIO;
    }

    private Errno TryCommit(in WriteRequest request, long at, BlobChange change, out ulong lsn)
    {
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = tx.TryGetInode(request.Node, out InodeRecord record);
        if (staged == Errno.None) { staged = state.Data.TryStage(tx, change); }
        if (staged == Errno.None)
        {
            // An inline file that comes here is empty: there is no item to delete, and the lock covers everything.
            record = record with
            {
                Flags = record.Flags & ~InodeFlags.Inline,
                SizeBytes = Math.Max(record.SizeBytes, at + request.Length),
                Blocks = record.Blocks + change.BlocksDelta,
            };
            staged = StageInode(tx, request, ref record);
        }
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Inode(request.Node, contentChanged: true);
        return Errno.None;
    }

    private Errno TryCommitInline(in WriteRequest request, long at, out ulong lsn)
    {
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = tx.TryGetInode(request.Node, out InodeRecord record);
        if (staged == Errno.None) { staged = inline.StageWrite(tx, request.Node, ref record, at, request.Source, request.Length); }
        if (staged == Errno.None) { staged = StageInode(tx, request, ref record); }
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Inode(request.Node, contentChanged: true);
        return Errno.None;
    }

    private Errno StageInode(Transaction tx, in WriteRequest request, ref InodeRecord record)
    {
        FsTime now = state.Clock();
        record = record.WithModify(now).WithChange(now);
        if (request.KillPrivileges) { record = record with { Mode = FileMode.KillSetId(record.Mode) }; }
        Errno dropped = attributes.StageDropCapability(tx, request.Node, ref record);
        return dropped == Errno.None ? tx.PutInode(request.Node, record) : dropped;
    }

    private static Errno Check(in WriteRequest request, in InodeRecord record, out long at)
    {
        at = request.Append ? record.SizeBytes : request.Offset;
        Errno regular = ContentLocks.CheckRegular(record);
        if (regular == Errno.None) { regular = Protection.Write(record, request.FromCache); }
        if (regular != Errno.None) { return regular; }
        return at > FileLimits.MaxFileBytes - request.Length ? Errno.EFBIG : Errno.None;
    }

    private readonly record struct WriteRequest(ulong Node, long Offset, IoVecs Source, int Length, bool Append, bool FromCache, bool KillPrivileges);
}
