using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>Changes of size. Shrinking zeroes the tail of the last block and sets the size in one transaction; blocks behind it go in bounded steps afterwards.</summary>
/// <remarks>Invariant: no written block lies behind the size unless an ORPHAN item (kind Truncating) says so; the steps run under the lock on everything
/// from the new size on, and a mount finishes them: a file that grows again reads zeroes.</remarks>
internal sealed class Truncation(BlobfsState state)
{
    private readonly HashSet<ulong> _underWay = [];

    /// <summary>Steps of a truncation of this inode are still to come: it is running, or an error stopped it.</summary>
    public bool IsUnderWay(ulong inode) => _underWay.Contains(inode);

    /// <summary>Sets the size, and whatever else <paramref name="changes"/> says, in one transaction.</summary>
    public async IoTask<FsResult<InodeAttributes>> SetSizeAsync(ContentLocks locks, InlineContent inline, Attributes attributes, ChangeNotices notices, ulong node, SetAttributes changes)
    {
        long size = changes.SizeBytes ?? 0;
        if (size < 0) { return Errno.EINVAL; }
        if (size > FileLimits.MaxFileBytes) { return Errno.EFBIG; }
        FsResult<LockedFile> locked = await locks.LockAsync(node, size, long.MaxValue);
        if (locked.IsError) { return locked.Errno; }
        InodeRecord record = locked.Value.Record;
        Errno result = Errno.None;
        if (record.IsInline && record.SizeBytes > 0 && !InlineContent.Fits(size)) { result = await inline.ConvertAsync(node); }
        BlobChange? tail = null;
        if (result == Errno.None && !record.IsInline && size < record.SizeBytes && size % FileLimits.BlockBytes != 0)
        {
            tail = state.Data.RentChange();
            result = await state.Data.PrepareZeroAsync(tail, node, size, FileLimits.BlockCeiling(size) - size);
        }
        FsResult<InodeAttributes> set = result;
        if (result == Errno.None)
        {
            set = await state.Loop.Change<SizeChange, InodeAttributes>(new SizeChange(this, inline, attributes, notices, node, changes, tail, size < record.SizeBytes));
        }
        if (tail is not null) { state.Data.End(tail); }
        if (!set.IsError && _underWay.Contains(node))
        {
            result = await FinishLockedAsync(node);
            if (result != Errno.None) { set = result; }
        }
        state.Data.Unlock(locked.Value.Held);
        return set;
    }

    /// <summary>At mount: finishes what a crash interrupted.</summary>
    public async IoTask<Errno> FinishAsync(ulong inode)
    {
        BlobLock held = await state.Data.LockAsync(inode, 0, long.MaxValue);
        Errno result = await FinishLockedAsync(inode);
        state.Data.Unlock(held);
        return result;
    }

    /// <summary>Before a file grows: waits for a truncation that is running, and finishes one that an error stopped. Else old content would come to light.</summary>
    public async IoTask<Errno> ResumeAsync(ulong inode, long sizeBytes)
    {
        BlobLock held = await state.Data.LockAsync(inode, FileLimits.BlockFloor(sizeBytes), long.MaxValue);
        Errno result = IsUnderWay(inode) ? await FinishLockedAsync(inode) : Errno.None;
        state.Data.Unlock(held);
        return result;
    }

    private async IoTask<Errno> FinishLockedAsync(ulong inode)
    {
        while (true)
        {
            FsResult<bool> step = await state.Loop.Change<StepChange, bool>(new StepChange(this, inode));
            if (step.IsError) { return step.Errno; }
            if (!step.Value) { continue; }
            _underWay.Remove(inode);
            return Errno.None;
        }
    }

    private Errno TrySetSize(SizeChange change, out InodeAttributes result, out ulong lsn)
    {
        result = default;
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = StageSetSize(tx, change, out InodeRecord record, out bool complete);
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        change.Notices.Inode(change.Node, contentChanged: true);
        if (!complete) { _underWay.Add(change.Node); }
        result = record.ToAttributes(change.Node);
        return Errno.None;
    }

    private Errno StageSetSize(Transaction tx, in SizeChange change, out InodeRecord record, out bool complete)
    {
        complete = true;
        ulong node = change.Node;
        Errno found = tx.TryGetInode(node, out record);
        if (found != Errno.None) { return found; }
        found = Protection.SetAttributes(record, change.Changes);
        if (found != Errno.None) { return found; }
        long size = change.Changes.SizeBytes ?? 0;
        bool grows = size > record.SizeBytes;
        Errno staged = Errno.None;
        if (record.IsInline && InlineContent.Fits(size)) { staged = change.Inline.StageResize(tx, node, ref record, size); }
        else
        {
            // An inline file that comes here is empty; one with content was moved to a block before.
            if (change.Tail is not null) { staged = state.Data.TryStage(tx, change.Tail); }
            record = record with { SizeBytes = size, Flags = record.Flags & ~InodeFlags.Inline, Blocks = record.Blocks + (change.Tail?.BlocksDelta ?? 0) };
            if (staged == Errno.None && !grows && record.Blocks > 0) { staged = StageUnmap(tx, node, ref record, out complete); }
            if (staged == Errno.None && !complete) { staged = StagePending(tx, node, size); }
        }
        if (staged != Errno.None) { return staged; }
        FsTime now = state.Clock();
        if (change.Changes.ModifyTime is null && !change.Changes.ModifyTimeNow) { record = record.WithModify(now); }
        staged = change.Attributes.StageApply(tx, node, ref record, change.Changes, now);
        return staged == Errno.None ? tx.PutInode(node, record) : staged;
    }

    /// <summary>An inode that is an orphan already needs no second mark: it goes as a whole.</summary>
    private static Errno StagePending(Transaction tx, ulong node, long size)
    {
        Errno found = Orphans.TryGetItem(tx, node, out OrphanKind kind, out _);
        if (found != Errno.None) { return found; }
        return kind == OrphanKind.Nameless ? Errno.None : Orphans.StageItem(tx, node, OrphanKind.Truncating, size);
    }

    private Errno StageUnmap(Transaction tx, ulong node, ref InodeRecord record, out bool complete)
    {
        long first = FileLimits.BlockCeiling(record.SizeBytes) / FileLimits.BlockBytes;
        Errno staged = state.Data.TryStageUnmap(tx, node, first, FileLimits.MaxBlocks, out long freed, out complete);
        record = record with { Blocks = record.Blocks - freed };
        return staged;
    }

    private Errno TryStep(ulong inode, out bool complete, out ulong lsn)
    {
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = StageStep(tx, inode, out complete);
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        return Errno.None;
    }

    private Errno StageStep(Transaction tx, ulong inode, out bool complete)
    {
        complete = true;
        Errno found = tx.TryGetInode(inode, out InodeRecord record);
        if (found == Errno.ESTALE) { return tx.Delete(BlobfsKeys.Orphan(inode)); }
        if (found != Errno.None) { return found; }
        Errno staged = StageUnmap(tx, inode, ref record, out complete);
        if (staged == Errno.None) { staged = tx.PutInode(inode, record); }
        if (staged != Errno.None || !complete) { return staged; }
        found = Orphans.TryGetItem(tx, inode, out OrphanKind kind, out _);
        if (found != Errno.None) { return found; }
        return kind == OrphanKind.Truncating ? tx.Delete(BlobfsKeys.Orphan(inode)) : Errno.None;
    }

    private readonly record struct SizeChange(
        Truncation Truncation, InlineContent Inline, Attributes Attributes, ChangeNotices Notices, ulong Node, SetAttributes Changes, BlobChange? Tail, bool Shrinks) : ITreeChange<InodeAttributes>
    {
        public Admission Admission => Shrinks ? Admission.Release : Admission.Grow;

        public Errno Try(out InodeAttributes result, out ulong lsn) => Truncation.TrySetSize(this, out result, out lsn);
    }

    private readonly record struct StepChange(Truncation Truncation, ulong Inode) : ITreeChange<bool>
    {
        public Admission Admission => Admission.Release;

        public Errno Try(out bool result, out ulong lsn) => Truncation.TryStep(Inode, out result, out lsn);
    }
}
