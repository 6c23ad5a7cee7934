using System.Buffers.Binary;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Where one record lies in the scanned ring.</summary>
internal readonly record struct ScannedRecord(ulong Lsn, int Offset, int Length, int FirstImageOffset);

/// <summary>The reading side of the log: the whole ring in memory, and the chain of valid batches from the tail on (docs/blobstore-format.md, section 7).</summary>
internal sealed class LogScan : IDisposable
{
    private const int BlockBytes = BlobData.BlockBytes;

    /// <summary>What is read of a ring that is known to be empty: several batches, were there a later life.</summary>
    private const int FirstBlocks = 64;

    private readonly ScanMemory _memory;
    private readonly NativeBuffer _buffer;
    private readonly IoVec _ring;
    private readonly VolumeHeader _header;
    private readonly int _ringBlocks;

    /// <summary>Position and length of the batches of the chain.</summary>
    private readonly Dictionary<int, int> _chained = [];

    /// <summary>Where the chain ends, and what the batch that continues it names.</summary>
    private int _end;
    private uint _previousCrc;
    private ulong _nextLsn;
    private ulong _epoch;

    /// <summary>Of the ring, from the tail on to the end of the chain.</summary>
    private long _usedBlocks;

    /// <summary>Bytes that may still be summed: a hostile ring of overlapping headers must not cost more than a few passes.</summary>
    private long _budgetBytes;

    private LogScan(ScanMemory memory, NativeBuffer buffer, IoVec ring, VolumeHeader header, int ringBlocks)
    {
        _memory = memory;
        _buffer = buffer;
        _ring = ring;
        _header = header;
        _ringBlocks = ringBlocks;
        _budgetBytes = 16L * ring.Length;
    }

    /// <summary>Records behind the checkpoint, in order.</summary>
    public List<ScannedRecord> Records { get; } = [];

    /// <summary>The last LSN of the chain.</summary>
    public ulong EndLsn { get; private set; }

    /// <summary>Everything up to here was durable once: the highest durable LSN that any valid batch tells.</summary>
    public ulong ProvenLsn { get; private set; }

    /// <summary>The next inode number after the record with this LSN's batch.</summary>
    public ulong NextInode { get; private set; }

    /// <summary>What the log holds behind a checkpoint.</summary>
    /// <param name="isKnownEmpty">After a clean close nothing follows; only that the device has not lost a later life is looked for.</param>
    /// <param name="memory">For the ring, until the scan is disposed of.</param>
    public static async IoTask<OpenResult<LogScan>> ReadAsync(IBdev bdev, Anchor anchor, VolumeHeader header, bool isKnownEmpty, ScanMemory memory)
    {
        int blocks = isKnownEmpty ? Math.Min(FirstBlocks, anchor.RingBlocks) : anchor.RingBlocks;
        NativeBuffer buffer = await memory.RentAsync(blocks * BlockBytes);
        IoVec ring = buffer.Slice(0, blocks * BlockBytes);
        Errno read = await ReadRingAsync(bdev, anchor, ring);
        // After a clean close the log is empty: what it held does not matter, as long as the rest of it proves nothing else.
        if (read != Errno.None && (header.Flags & VolumeFlags.CleanlyClosed) != 0) { read = await ReadReadableAsync(bdev, anchor, ring); }
        if (read != Errno.None)
        {
            memory.Return(buffer);
            return $"the log of volume {header.VolumeId} cannot be read: {read}";
        }
        if (isKnownEmpty && blocks < anchor.RingBlocks && HasLaterLife(ring.Span, header))
        {
            memory.Return(buffer);
            return await ReadAsync(bdev, anchor, header, isKnownEmpty: false, memory);
        }
        var scan = new LogScan(memory, buffer, ring, header, blocks);
        scan.FollowChain();
        scan.FindProven();
        return scan;
    }

    /// <summary>Every life begins its log at the start of the ring, in a new epoch. A batch of one that the header knows nothing of: the device lost a header, and the whole ring has to tell what else.</summary>
    private static bool HasLaterLife(ReadOnlySpan<byte> first, VolumeHeader header)
    {
        for (; first.Length > 0; first = first[BlockBytes..])
        {
            if (BinaryPrimitives.ReadUInt64LittleEndian(first) == LogBatchHeader.Magic && new Guid(first.Slice(LogBatchHeader.Uuid, 16)) == header.Uuid
                && BinaryPrimitives.ReadUInt64LittleEndian(first[LogBatchHeader.Epoch..]) > header.LogEpoch) { return true; }
        }
        return false;
    }

    private static async IoTask<Errno> ReadRingAsync(IBdev bdev, Anchor anchor, IoVec ring)
    {
        using var list = new IoVecList(1);
        list.Add(ring);
        return (await bdev.ReadAsync((long)anchor.RingFirst * BlockBytes, list.View())).Errno;
    }

    /// <summary>Block by block; one that cannot be read counts as empty.</summary>
    private static async IoTask<Errno> ReadReadableAsync(IBdev bdev, Anchor anchor, IoVec ring)
    {
        using var list = new IoVecList(1);
        for (int block = 0; block < ring.Length / BlockBytes; block++)
        {
            list.Clear();
            list.Add(ring.Slice(block * BlockBytes, BlockBytes));
            IoResult read = await bdev.ReadAsync(((long)anchor.RingFirst + block) * BlockBytes, list.View());
            if (read.IsError) { ring.Slice(block * BlockBytes, BlockBytes).Span.Clear(); }
        }
        return Errno.None;
    }

    public ReadOnlySpan<byte> RecordBytes(ScannedRecord record) => _ring.Span.Slice(record.Offset, record.Length);

    public IoVec Image(ScannedRecord record, int index) => _ring.Slice(record.FirstImageOffset + (index * BlockBytes), BlockBytes);

    public void Dispose() => _memory.Return(_buffer);

    /// <summary>Looks at every block where a batch may begin, also behind a gap: one there may prove that what is missing had been acknowledged.</summary>
    /// <remarks>Not inside of batches: their images are the guest's bytes and can look like anything.</remarks>
    private void FindProven()
    {
        for (int position = 0; position < _ringBlocks; position++)
        {
            if (_chained.TryGetValue(position, out int blocks)) { position += blocks - 1; continue; }
            if (!TryParse(position, out Batch batch)) { continue; }
            ProvenLsn = Math.Max(ProvenLsn, batch.DurableLsn);
            position += batch.TotalBlocks - 1;
        }
    }

    /// <summary>A batch that continues the chain but is not in the ring: puts it where the log would have, in memory.</summary>
    /// <param name="position">Its first block in the ring.</param>
    /// <param name="blocks">Its bytes there.</param>
    public bool TryAppend(StagedBatch batch, out int position, out IoVec blocks)
    {
        int count = batch.Blocks.Length / BlockBytes;
        position = _end + count > _ringBlocks ? 0 : _end;
        blocks = default;
        // Not over what is still needed: from the tail on to the end of the chain, round the ring.
        long skipped = position == _end ? 0 : _ringBlocks - _end;
        if (count > _ringBlocks || _usedBlocks + skipped + count > _ringBlocks) { return false; }
        blocks = _ring.Slice(position * BlockBytes, count * BlockBytes);
        byte[] before = blocks.Span.ToArray();
        batch.Blocks.CopyTo(blocks.Span);
        if (TryNext(position, out Batch next) && next.TotalBlocks == count)
        {
            _usedBlocks += skipped;
            Append(next);
            return true;
        }
        before.CopyTo(blocks.Span);
        return false;
    }

    private void FollowChain()
    {
        _end = _header.Tail.Position;
        _previousCrc = _header.Tail.PreviousCrc;
        _nextLsn = _header.Tail.FirstLsn;
        _epoch = _header.LogEpoch;
        NextInode = _header.NextInode;
        ProvenLsn = _header.CheckpointLsn;
        EndLsn = Math.Max(_nextLsn - 1, _header.CheckpointLsn);
        long blocks = 0;
        while (blocks < _ringBlocks && (TryNext(_end, out Batch batch) || TryNext(0, out batch)))
        {
            if (batch.Position != _end) { _usedBlocks += _ringBlocks - _end; }
            Append(batch);
            blocks += batch.TotalBlocks;
        }
    }

    private bool TryNext(int at, out Batch next) =>
        TryParse(at, out next) && next.FirstLsn == _nextLsn && next.PreviousCrc == _previousCrc && next.Epoch >= _epoch;

    private void Append(in Batch batch)
    {
        AddRecords(batch);
        _chained[batch.Position] = batch.TotalBlocks;
        ProvenLsn = Math.Max(ProvenLsn, batch.DurableLsn);
        _usedBlocks += batch.TotalBlocks;
        _end = batch.Position + batch.TotalBlocks;
        _previousCrc = batch.Crc;
        _nextLsn += (ulong)batch.RecordCount;
        _epoch = batch.Epoch;
        NextInode = Math.Max(NextInode, batch.NextInode);
        EndLsn = Math.Max(_nextLsn - 1, _header.CheckpointLsn);
    }

    private void AddRecords(in Batch batch)
    {
        int offset = (batch.Position * BlockBytes) + LogBatchHeader.Bytes;
        int images = (batch.Position + batch.TotalBlocks - batch.ImageCount) * BlockBytes;
        for (int i = 0; i < batch.RecordCount; i++)
        {
            int length = BinaryPrimitives.ReadInt32LittleEndian(_ring.Span[offset..]);
            ulong lsn = batch.FirstLsn + (ulong)i;
            if (lsn > _header.CheckpointLsn) { Records.Add(new ScannedRecord(lsn, offset + 4, length, images)); }
            offset += 4 + length;
        }
    }

    /// <summary>A batch is taken only when everything about it is right: nothing after this looks at unchecked bytes.</summary>
    private bool TryParse(int position, out Batch batch)
    {
        batch = default;
        if (position < 0 || position >= _ringBlocks) { return false; }
        ReadOnlySpan<byte> bytes = _ring.Span[(position * BlockBytes)..];
        if (BinaryPrimitives.ReadUInt64LittleEndian(bytes) != LogBatchHeader.Magic || new Guid(bytes.Slice(LogBatchHeader.Uuid, 16)) != _header.Uuid) { return false; }
        int records = BinaryPrimitives.ReadInt32LittleEndian(bytes[LogBatchHeader.RecordCount..]);
        int recordBytes = BinaryPrimitives.ReadInt32LittleEndian(bytes[LogBatchHeader.RecordBytes..]);
        int images = BinaryPrimitives.ReadInt32LittleEndian(bytes[LogBatchHeader.ImageCount..]);
        int total = BinaryPrimitives.ReadInt32LittleEndian(bytes[LogBatchHeader.TotalBlocks..]);
        if (records < 0 || recordBytes < 0 || images < 0 || total < 1 || total > Math.Min(_ringBlocks - position, Log.MaxBatchBlocks) || images >= total) { return false; }
        if ((long)recordBytes > ((long)(total - images) * BlockBytes) - LogBatchHeader.Bytes) { return false; }
        _budgetBytes -= (long)total * BlockBytes;
        if (_budgetBytes < 0) { return false; }
        uint crc = BinaryPrimitives.ReadUInt32LittleEndian(bytes[LogBatchHeader.Crc..]);
        if (LogBatchHeader.ComputeCrc(bytes, recordBytes) != crc) { return false; }
        ulong epoch = BinaryPrimitives.ReadUInt64LittleEndian(bytes[LogBatchHeader.Epoch..]);
        if (epoch < _header.LogEpoch || BinaryPrimitives.ReadUInt64LittleEndian(bytes[LogBatchHeader.NextInode..]) >= VolumeHeader.MaxCounter) { return false; }
        batch = new Batch(
            position, total, images, records, crc, epoch,
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[LogBatchHeader.FirstLsn..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[LogBatchHeader.DurableLsn..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[LogBatchHeader.NextInode..]),
            BinaryPrimitives.ReadUInt32LittleEndian(bytes[LogBatchHeader.PreviousCrc..]));
        return HasWholeRecords(bytes.Slice(LogBatchHeader.Bytes, recordBytes), bytes.Slice((total - images) * BlockBytes, images * BlockBytes), records);
    }

    private static bool HasWholeRecords(ReadOnlySpan<byte> bytes, ReadOnlySpan<byte> images, int count)
    {
        for (int i = 0; i < count; i++)
        {
            if (bytes.Length < 4) { return false; }
            int length = BinaryPrimitives.ReadInt32LittleEndian(bytes);
            if (length < 0 || length > bytes.Length - 4) { return false; }
            var reader = new RecordReader(bytes.Slice(4, length));
            while (reader.MoveNext())
            {
                RecordOperation operation = reader.Current;
                if (operation.Code != RecordCode.Image) { continue; }
                if (operation.ImageIndex >= images.Length / BlockBytes) { return false; }
                // A batch with a torn image is a torn batch.
                if (Crc32C.Compute(images.Slice(operation.ImageIndex * BlockBytes, BlockBytes)) != operation.CrcAt(0)) { return false; }
            }
            if (reader.IsBroken) { return false; }
            bytes = bytes[(4 + length)..];
        }
        return bytes.IsEmpty;
    }

    private readonly record struct Batch(
        int Position, int TotalBlocks, int ImageCount, int RecordCount, uint Crc, ulong Epoch, ulong FirstLsn, ulong DurableLsn, ulong NextInode, uint PreviousCrc);
}
