using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>fallocate(2): reserving, punching holes, zeroing, in bounded steps under one lock. A crash in between leaves some of the steps done.</summary>
internal sealed class Allocation(BlobfsState state, ContentLocks locks, InlineContent inline, Attributes attributes, ChangeNotices notices)
{
    public const uint KeepSize = 1;
    public const uint PunchHole = 2;
    public const uint ZeroRange = 0x10;

    public async IoTask<Errno> FallocateAsync(ulong node, uint mode, long offset, long length, bool killPrivileges)
    {
        bool punch = mode == (PunchHole | KeepSize), zero = (mode & ~KeepSize) == ZeroRange;
        if (!punch && !zero && (mode & ~KeepSize) != 0) { return Errno.EOPNOTSUPP; }
        if (offset < 0 || length <= 0) { return Errno.EINVAL; }
        if (offset > FileLimits.MaxFileBytes - length) { return Errno.EFBIG; }
        FsResult<LockedFile> locked = await locks.LockAsync(node, offset, offset + length);
        if (locked.IsError) { return locked.Errno; }
        InodeRecord record = locked.Value.Record;
        Errno result = Protection.Allocate(record, changesContent: punch || zero);
        bool inlinePunch = punch && record.IsInline;
        if (result == Errno.None && record.IsInline && record.SizeBytes > 0 && !punch) { result = await inline.ConvertAsync(node); }
        if (result == Errno.None && (punch || zero)) { result = await ZeroAsync(node, record, offset, offset + length, inlinePunch, killPrivileges); }
        if (result == Errno.None && !punch) { result = await ReserveAsync(node, offset, offset + length, (mode & KeepSize) != 0, killPrivileges); }
        state.Data.Unlock(locked.Value.Held);
        return result;
    }

    private async IoTask<Errno> ZeroAsync(ulong node, InodeRecord record, long first, long limit, bool isInline, bool killPrivileges)
    {
        // Bytes behind the size in its last block are zero already: the whole block can go.
        if (limit >= record.SizeBytes) { limit = Math.Max(limit, FileLimits.BlockCeiling(record.SizeBytes)); }
        BlobChange? edges = null;
        Errno result = Errno.None;
        if (!isInline && (first % FileLimits.BlockBytes != 0 || limit % FileLimits.BlockBytes != 0))
        {
            edges = state.Data.RentChange();
            result = await state.Data.PrepareZeroAsync(edges, node, first, limit - first);
        }
        while (result == Errno.None)
        {
            FsResult<bool> step = await state.Loop.Change<ZeroChange, bool>(new ZeroChange(this, node, first, limit, edges, isInline, killPrivileges));
            if (edges is not null)
            {
                state.Data.End(edges);
                edges = null;
            }
            result = step.Errno;
            if (step.Value) { break; }
        }
        if (edges is not null) { state.Data.End(edges); }
        return result;
    }

    private async IoTask<Errno> ReserveAsync(ulong node, long first, long limit, bool keepSize, bool killPrivileges)
    {
        long block = first / FileLimits.BlockBytes, limitBlock = FileLimits.BlockCeiling(limit) / FileLimits.BlockBytes;
        while (true)
        {
            BlobChange change = state.Data.RentChange();
            Errno result = await state.Data.PrepareAllocateAsync(change, node, block, limitBlock);
            if (result == Errno.None)
            {
                Invariant.That(change.LimitBlock > block);
                block = change.LimitBlock;
                long size = block >= limitBlock && !keepSize ? limit : 0;
                FsResult<Nothing> reserved = await state.Loop.Change<ReserveChange, Nothing>(new ReserveChange(this, node, change, size, killPrivileges));
                result = reserved.Errno;
            }
            state.Data.End(change);
            if (result != Errno.None || block >= limitBlock) { return result; }
        }
    }

    private Errno TryZero(in ZeroChange change, out bool complete, out ulong lsn)
    {
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = StageZero(tx, change, out complete);
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Inode(change.Node, contentChanged: true);
        return Errno.None;
    }

    private Errno StageZero(Transaction tx, in ZeroChange change, out bool complete)
    {
        complete = true;
        Errno staged = tx.TryGetInode(change.Node, out InodeRecord record);
        if (staged != Errno.None) { return staged; }
        if (change.IsInline) { staged = inline.StageZero(tx, change.Node, record, change.First, change.Limit); }
        else
        {
            long freed = 0;
            long firstBlock = FileLimits.BlockCeiling(change.First) / FileLimits.BlockBytes, limitBlock = change.Limit / FileLimits.BlockBytes;
            if (change.Edges is not null) { staged = state.Data.TryStage(tx, change.Edges); }
            if (staged == Errno.None && firstBlock < limitBlock && record.Blocks > 0)
            {
                staged = state.Data.TryStageUnmap(tx, change.Node, firstBlock, limitBlock, out freed, out complete);
            }
            record = record with { Blocks = record.Blocks + (change.Edges?.BlocksDelta ?? 0) - freed };
        }
        return staged == Errno.None ? StageChanged(tx, change.Node, record, change.KillPrivileges) : staged;
    }

    private Errno TryReserve(ulong node, BlobChange change, long size, bool killPrivileges, out ulong lsn)
    {
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = tx.TryGetInode(node, out InodeRecord record);
        if (staged == Errno.None) { staged = state.Data.TryStage(tx, change); }
        if (staged == Errno.None)
        {
            staged = StageChanged(tx, node, record with
            {
                Flags = record.Flags & ~InodeFlags.Inline, // converted, or empty
                SizeBytes = Math.Max(record.SizeBytes, size),
                Blocks = record.Blocks + change.BlocksDelta,
            }, killPrivileges);
        }
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Inode(node, contentChanged: true);
        return Errno.None;
    }

    private Errno StageChanged(Transaction tx, ulong node, InodeRecord record, bool killPrivileges)
    {
        FsTime now = state.Clock();
        record = record.WithModify(now).WithChange(now);
        if (killPrivileges) { record = record with { Mode = FileMode.KillSetId(record.Mode) }; }
        Errno dropped = attributes.StageDropCapability(tx, node, ref record);
        return dropped == Errno.None ? tx.PutInode(node, record) : dropped;
    }

    private readonly record struct ZeroChange(Allocation Allocation, ulong Node, long First, long Limit, BlobChange? Edges, bool IsInline, bool KillPrivileges) : ITreeChange<bool>
    {
        public Admission Admission => Admission.Release;

        public Errno Try(out bool result, out ulong lsn) => Allocation.TryZero(this, out result, out lsn);
    }

    private readonly record struct ReserveChange(Allocation Allocation, ulong Node, BlobChange Change, long SizeBytes, bool KillPrivileges) : ITreeChange<Nothing>
    {
        public Admission Admission => Admission.Grow;

        public Errno Try(out Nothing result, out ulong lsn)
        {
            result = default;
            return Allocation.TryReserve(Node, Change, SizeBytes, KillPrivileges, out lsn);
        }
    }
}
