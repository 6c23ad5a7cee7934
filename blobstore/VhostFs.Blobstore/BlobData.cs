using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Contents of a volume's blobs: sparse arrays of 4 KiB blocks.</summary>
/// <remarks>A change has two phases. Prepare (may wait): reserves blocks, writes new data to them, reads what partial blocks keep. Stage (synchronous): puts the
/// new map into a transaction, together with whatever else belongs to the operation. Readers see the new content when the transaction commits.
/// Every change holds a range lock from before its preparation until after its commit; reads hold none.</remarks>
public sealed class BlobData
{
    public const int BlockBytes = 4096;

    /// <summary>Files up to this size may live in one item of the tree instead.</summary>
    public const int MaxInlineBytes = 2048;

    /// <summary>Bound of one write.</summary>
    public const int MaxWriteBytes = 1 << 20;

    private readonly Volume _volume;
    private readonly BlobLocks _locks = new();
    private readonly BlobReader _reader;
    private readonly BlobWriter _writer;
    private readonly BlobMap _map;
    private readonly BlobSharer _sharer;

    internal BlobData(Volume volume, Pool pool)
    {
        _volume = volume;
        _reader = new BlobReader(volume, pool);
        _writer = new BlobWriter(volume, pool, _reader);
        _map = new BlobMap(volume, pool.ExtentEditor);
        _sharer = new BlobSharer(volume, pool.ExtentEditor);
    }

    /// <summary>Reads [offset, offset + target length) as far as <paramref name="sizeBytes"/>; holes and unwritten ranges read as zeroes. EIO: a checksum does not match.</summary>
    public IoTask<IoResult> ReadAsync(ulong blob, long sizeBytes, long offsetBytes, IoVecs target) => _reader.ReadAsync(blob, sizeBytes, offsetBytes, target);

    public BlobChange RentChange() => _writer.Rent();

    /// <summary>Prepares writing all of <paramref name="source"/>, at most <see cref="MaxWriteBytes"/>.</summary>
    /// <returns>None, ENOSPC, EIO, EINVAL (too long).</returns>
    public IoTask<Errno> PrepareWriteAsync(BlobChange change, ulong blob, long offsetBytes, IoVecs source) => _writer.PrepareWriteAsync(change, blob, offsetBytes, source);

    /// <summary>Prepares zeroing the ragged ends of a range: the first and the last block, where only a part of a mapped block is in the range.</summary>
    public IoTask<Errno> PrepareZeroAsync(BlobChange change, ulong blob, long offsetBytes, long lengthBytes) => _writer.PrepareZeroAsync(change, blob, offsetBytes, lengthBytes);

    /// <summary>Prepares giving blocks to holes in [first, limit), a bounded number; <see cref="BlobChange.LimitBlock"/> tells how far it got.</summary>
    public IoTask<Errno> PrepareAllocateAsync(BlobChange change, ulong blob, long firstBlock, long limitBlock) => _writer.PrepareAllocateAsync(change, blob, firstBlock, limitBlock);

    /// <summary>The change has blocks to stage; an empty one must not make a transaction of its own.</summary>
    public static bool IsEmpty(BlobChange change) => change.Count == 0;

    /// <summary>Puts a prepared change into a transaction. None, NotResident, EIO, or EDQUOT: it takes more blocks than the volume may have.</summary>
    public Errno TryStage(Transaction transaction, BlobChange change)
    {
        Errno staged = _map.TryStage(transaction, change);
        return staged == Errno.None && !_volume.AllowsBlocks(transaction.BlocksDelta) ? Errno.EDQUOT : staged;
    }

    /// <summary>Ends a change, committed or given up: lets go of its memory and of blocks it did not use.</summary>
    public void End(BlobChange change) => _writer.End(change);

    /// <summary>Unmaps whole blocks in [first, limit), a bounded number per transaction. Not complete: commit and call again.</summary>
    public Errno TryStageUnmap(Transaction transaction, ulong blob, long firstBlock, long limitBlock, out long blocksFreed, out bool complete) =>
        _map.TryStageUnmap(transaction, blob, firstBlock, limitBlock, out blocksFreed, out complete);

    /// <summary>Blocks of two blobs can be the same: only in a volume with data checksums.</summary>
    public bool CanShare => _volume.HasDataChecksums;

    /// <summary>Maps <paramref name="count"/> blocks of the target as those of the source are: written ones become shared, others become holes. The ranges do not overlap,
    /// the caller holds locks on both, and <see cref="Volume.AllowSharingAsync"/> has succeeded.</summary>
    /// <param name="done">A bounded number per transaction: commit and call again. 0: the next block cannot be shared (it has 65,535 owners); copy it.</param>
    /// <param name="blocksDelta">Blocks to add to the target's count.</param>
    public Errno TryStageShare(Transaction transaction, ulong source, long sourceBlock, ulong target, long targetBlock, long count, out long done, out long blocksDelta) =>
        _sharer.TryStage(transaction, source, sourceBlock, target, targetBlock, count, out done, out blocksDelta);

    /// <summary>SEEK_DATA or SEEK_HOLE from <paramref name="offsetBytes"/> on; unwritten ranges count as holes. ENXIO past the end or when there is no more data.</summary>
    public Errno TrySeek(ulong blob, long sizeBytes, long offsetBytes, bool data, out long result) => _map.TrySeek(blob, sizeBytes, offsetBytes, data, out result);

    /// <summary>Waits for the range [first, limit), in bytes, in order of arrival.</summary>
    public IoTask<BlobLock> LockAsync(ulong blob, long first, long limit) => _locks.LockAsync(blob, first, limit);

    public bool TryLock(ulong blob, long first, long limit, out BlobLock held) => _locks.TryLock(blob, first, limit, out held);

    public void Unlock(BlobLock held) => _locks.Unlock(held);
}
