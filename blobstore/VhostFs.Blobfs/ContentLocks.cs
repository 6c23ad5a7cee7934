using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>A regular file, locked for a change of its content, and its record as it was when the lock was got.</summary>
internal readonly record struct LockedFile(BlobLock Held, InodeRecord Record, long First);

/// <summary>Locks ranges of files for changes of content: whole blocks of a file in blocks, everything of an inline file.</summary>
/// <remarks>A file goes from inline to blocks once and never back, and only under a lock on everything: who holds any lock knows which it is.
/// Sizes: a change that ends behind the size holds a lock up to there, a truncation holds one from the new size on.</remarks>
internal sealed class ContentLocks(BlobfsState state, Attributes attributes)
{
    public static Errno CheckRegular(in InodeRecord record) =>
        record.IsRegular ? Errno.None : record.IsDirectory ? Errno.EISDIR : Errno.EINVAL;

    /// <summary>Waits for the range; <paramref name="append"/>: for everything from the end of the file on.</summary>
    public async IoTask<FsResult<LockedFile>> LockAsync(ulong node, long firstByte, long limitByte, bool append = false)
    {
        for (int attempt = 0; attempt < OperationLoop.MaxAttempts; attempt++)
        {
            FsResult<InodeRecord> before = await attributes.GetRecordAsync(node);
            Errno usable = before.IsError ? before.Errno : CheckRegular(before.Value);
            if (usable != Errno.None) { return usable; }
            if (state.Truncation.IsUnderWay(node) && (append || limitByte > before.Value.SizeBytes))
            {
                Errno resumed = await state.Truncation.ResumeAsync(node, before.Value.SizeBytes);
                if (resumed != Errno.None) { return resumed; }
                continue;
            }
            Range(before.Value, firstByte, limitByte, append, out long first, out long limit);
            BlobLock held = await state.Data.LockAsync(node, first, limit);
            FsResult<InodeRecord> record = await attributes.GetRecordAsync(node);
            if (record.IsError) { state.Data.Unlock(held); return record.Errno; }
            if (!append || FileLimits.BlockFloor(record.Value.SizeBytes) >= first) { return new LockedFile(held, record.Value, first); }
            state.Data.Unlock(held); // truncated while we waited: the end of the file lies before what we locked
        }
        return Errno.EIO;
    }

    /// <summary>Takes the lock if it is free, and nothing has to be done before.</summary>
    public bool TryLock(ulong node, in InodeRecord record, long firstByte, long limitByte, bool append, out BlobLock held)
    {
        if (state.Truncation.IsUnderWay(node))
        {
            held = null!;
            return false;
        }
        Range(record, firstByte, limitByte, append, out long first, out long limit);
        return state.Data.TryLock(node, first, limit, out held);
    }

    private static void Range(in InodeRecord record, long firstByte, long limitByte, bool append, out long first, out long limit)
    {
        first = record.IsInline ? 0 : FileLimits.BlockFloor(append ? record.SizeBytes : firstByte);
        limit = record.IsInline || append || limitByte > FileLimits.MaxFileBytes ? long.MaxValue : FileLimits.BlockCeiling(limitByte);
    }
}
