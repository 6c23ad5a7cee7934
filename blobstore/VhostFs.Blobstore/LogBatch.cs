using System.Buffers.Binary;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>Field offsets of a log batch's header (docs/blobstore-format.md, section 6), and its checksum.</summary>
internal static class LogBatchHeader
{
    public const ulong Magic = 0x42474F4C53464856; // "VHFSLOGB"
    public const int Bytes = 128;
    public const int Uuid = 8;
    public const int Epoch = 24;
    public const int FirstLsn = 32;
    public const int RecordCount = 40;
    public const int RecordBytes = 44;
    public const int ImageCount = 48;
    public const int TotalBlocks = 52;
    public const int DurableLsn = 56;
    public const int NextInode = 64;
    public const int PreviousCrc = 72;
    public const int Crc = 124;

    public static uint ComputeCrc(ReadOnlySpan<byte> batch, int recordBytes) =>
        Crc32C.Compute(batch[..Crc], batch.Slice(Bytes, recordBytes));

    /// <summary>Blocks of header and records.</summary>
    public static int RecordBlocks(int recordBytes) => (Bytes + recordBytes + BlobData.BlockBytes - 1) / BlobData.BlockBytes;

    /// <summary>Completes header and padding around the records; returns the checksum.</summary>
    public static uint Write(Span<byte> batch, in LogBatchIdentity identity, in LogBatchExtent extent)
    {
        batch[..Bytes].Clear();
        batch[(Bytes + extent.RecordBytes)..].Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(batch, Magic);
        identity.Volume.TryWriteBytes(batch[Uuid..]);
        BinaryPrimitives.WriteUInt64LittleEndian(batch[Epoch..], identity.Epoch);
        BinaryPrimitives.WriteUInt64LittleEndian(batch[FirstLsn..], identity.FirstLsn);
        BinaryPrimitives.WriteInt32LittleEndian(batch[RecordCount..], extent.Records);
        BinaryPrimitives.WriteInt32LittleEndian(batch[RecordBytes..], extent.RecordBytes);
        BinaryPrimitives.WriteInt32LittleEndian(batch[ImageCount..], extent.Images);
        BinaryPrimitives.WriteInt32LittleEndian(batch[TotalBlocks..], (batch.Length / BlobData.BlockBytes) + extent.Images);
        BinaryPrimitives.WriteUInt64LittleEndian(batch[DurableLsn..], extent.DurableLsn);
        BinaryPrimitives.WriteUInt64LittleEndian(batch[NextInode..], extent.NextInode);
        BinaryPrimitives.WriteUInt32LittleEndian(batch[PreviousCrc..], identity.PreviousCrc);
        uint crc = ComputeCrc(batch, extent.RecordBytes);
        BinaryPrimitives.WriteUInt32LittleEndian(batch[Crc..], crc);
        return crc;
    }
}

/// <summary>A batch being filled or written: record bytes in one buffer, images as the pages they came in. In log memory, where there is some, every record counts as soon as it is in.</summary>
internal sealed class LogBatch : IDisposable
{
    /// <summary>Bound of header and records of one batch.</summary>
    public const int BufferBytes = 256 * 1024;

    private readonly IoVecList _vecs = new(64);
    private LogBuffer? _buffer;
    private LogBatchIdentity _identity;
    private int _recordBytes;
    private uint _recordsCrc;

    public List<ImageBlock> Images { get; } = [];

    public ulong FirstLsn => _identity.FirstLsn;

    public int RecordCount { get; private set; }

    public ulong LastLsn => FirstLsn + (ulong)RecordCount - 1;

    public bool IsEmpty => RecordCount == 0;

    public int RecordBlocks => LogBatchHeader.RecordBlocks(_recordBytes);

    public int Blocks => RecordBlocks + Images.Count;

    /// <summary>A record of any size still fits.</summary>
    public bool HasRoom => LogBatchHeader.Bytes + _recordBytes + 4 + Transaction.MaxRecordBytes <= BufferBytes;

    /// <summary>All of it is in log memory, and so is what comes before it or the bdev has that: it survives the end of the process.</summary>
    public bool IsStaged { get; private set; }

    /// <param name="stage">What comes before it survives the end of the process.</param>
    public void Begin(in LogBatchIdentity identity, bool stage, LogBuffers buffers)
    {
        _buffer ??= buffers.Rent();
        _identity = identity;
        _recordsCrc = uint.MaxValue;
        IsStaged = stage && _buffer.IsStaged;
        if (IsStaged) { _buffer.Descriptor.Begin(identity); }
    }

    public void Add(ulong lsn, ReadOnlySpan<byte> record, List<ImageBlock> images, ulong durableLsn, ulong nextInode)
    {
        Invariant.That(lsn == FirstLsn + (ulong)RecordCount && HasRoom);
        Span<byte> room = _buffer!.Memory.Span.Slice(LogBatchHeader.Bytes + _recordBytes, 4 + record.Length);
        BinaryPrimitives.WriteInt32LittleEndian(room, record.Length);
        record.CopyTo(room[4..]);
        _recordBytes += room.Length;
        RecordCount++;
        foreach (ImageBlock image in images)
        {
            image.Page.References++;
            IsStaged &= image.Page.Number != 0;
            if (IsStaged) { _buffer.Descriptor.SetImage(Images.Count, image.Page.Number); }
            Images.Add(image);
        }
        if (!IsStaged) { return; } // it waits for the bdev, and so does everything after it in this batch
        _recordsCrc = Crc32C.Append(_recordsCrc, room);
        _buffer.Descriptor.Publish(Extent(durableLsn, nextInode));
    }

    /// <summary>Completes header and padding; the list of what to write is valid until <see cref="Clear"/>.</summary>
    public IoVecs Seal(ulong durableLsn, ulong nextInode, out uint crc)
    {
        LogBatchExtent extent = Extent(durableLsn, nextInode);
        Span<byte> batch = _buffer!.Memory.Span[..(RecordBlocks * BlobData.BlockBytes)];
        crc = LogBatchHeader.Write(batch, _identity, extent);
        // The next batch names this one by its checksum: who finds both must come to the same one.
        if (IsStaged) { _buffer.Descriptor.Publish(extent); }
        _vecs.Clear();
        _vecs.Add(_buffer.Memory.Slice(0, batch.Length));
        foreach (ImageBlock image in Images) { _vecs.Add(image.Page.Memory); }
        return _vecs.View();
    }

    /// <summary>The bdev has it, or nobody was told of it: empties the batch for reuse and lets go of its memory.</summary>
    public void Clear(LogBuffers buffers)
    {
        if (_buffer is not null)
        {
            // Before the memory of which it speaks is anybody else's.
            if (_buffer.IsStaged) { _buffer.Descriptor.Clear(); }
            buffers.Return(_buffer);
        }
        foreach (ImageBlock image in Images) { PagePool.Release(image.Page); }
        Reset();
    }

    /// <summary>The bdev does not take it: what it holds stays in log memory, for who opens the volume next. What never was there is let go.</summary>
    public void Abandon(LogBuffers buffers)
    {
        if (_buffer is { IsStaged: true } && RecordCount > 0) { Reset(); }
        else { Clear(buffers); }
    }

    public void Dispose() => _vecs.Dispose();

    private LogBatchExtent Extent(ulong durableLsn, ulong nextInode) => new(RecordCount, _recordBytes, Images.Count, ~_recordsCrc, durableLsn, nextInode);

    private void Reset()
    {
        Images.Clear();
        _buffer = null;
        _recordBytes = 0;
        RecordCount = 0;
        IsStaged = false;
    }
}

/// <summary>Memory for one batch's header and records: a chunk of log memory, or private.</summary>
internal sealed class LogBuffer
{
    private readonly NativeBuffer? _private;
    private readonly LogChunk _chunk;

    public LogBuffer(LogChunk chunk)
    {
        _chunk = chunk;
        Memory = chunk.Memory;
    }

    public LogBuffer()
    {
        _private = new NativeBuffer(LogBatch.BufferBytes);
        Memory = _private.Vec;
    }

    public IoVec Memory { get; }

    public bool IsStaged => _private is null;

    /// <summary>When <see cref="IsStaged"/>.</summary>
    public BatchDescriptor Descriptor => _chunk.Descriptor;

    public void GiveBack(LogMemory? memory)
    {
        if (_private is not null) { _private.Dispose(); }
        else { memory!.Return(_chunk); }
    }
}

/// <summary>Batch buffers, rented per batch: an idle volume has none.</summary>
internal sealed class LogBuffers(LogMemory? memory)
{
    private const int MaxKept = 8;
    private readonly Stack<LogBuffer> _free = new();

    public LogBuffer Rent()
    {
        if (_free.TryPop(out LogBuffer? buffer)) { return buffer; }
        return memory is not null && memory.TryRent(out LogChunk chunk) ? new LogBuffer(chunk) : new LogBuffer();
    }

    public void Return(LogBuffer buffer)
    {
        if (_free.Count < MaxKept) { _free.Push(buffer); }
        else { buffer.GiveBack(memory); }
    }
}
