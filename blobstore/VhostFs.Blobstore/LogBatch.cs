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
}

/// <summary>A batch being filled or written: record bytes in one buffer, images as the pages they came in.</summary>
internal sealed class LogBatch : IDisposable
{
    /// <summary>Bound of header and records of one batch.</summary>
    public const int BufferBytes = 256 * 1024;

    private readonly IoVecList _vecs = new(64);
    private NativeBuffer? _buffer;
    private int _recordBytes;

    public List<Page> Images { get; } = [];

    public ulong FirstLsn { get; private set; }

    public int RecordCount { get; private set; }

    public ulong LastLsn => FirstLsn + (ulong)RecordCount - 1;

    public bool IsEmpty => RecordCount == 0;

    public int RecordBlocks => (LogBatchHeader.Bytes + _recordBytes + BlobData.BlockBytes - 1) / BlobData.BlockBytes;

    public int Blocks => RecordBlocks + Images.Count;

    /// <summary>A record of any size still fits.</summary>
    public bool HasRoom => LogBatchHeader.Bytes + _recordBytes + 4 + Transaction.MaxRecordBytes <= BufferBytes;

    public void Add(ulong lsn, ReadOnlySpan<byte> record, List<Page> images, LogBuffers buffers)
    {
        _buffer ??= buffers.Rent();
        if (RecordCount == 0) { FirstLsn = lsn; }
        Invariant.That(lsn == FirstLsn + (ulong)RecordCount && HasRoom);
        Span<byte> room = _buffer.Span[(LogBatchHeader.Bytes + _recordBytes)..];
        BinaryPrimitives.WriteInt32LittleEndian(room, record.Length);
        record.CopyTo(room[4..]);
        _recordBytes += 4 + record.Length;
        RecordCount++;
        foreach (Page image in images)
        {
            image.References++;
            Images.Add(image);
        }
    }

    /// <summary>A batch without records, which only tells the durable LSN.</summary>
    public void MakeMarker(ulong nextLsn, LogBuffers buffers)
    {
        _buffer ??= buffers.Rent();
        FirstLsn = nextLsn;
    }

    /// <summary>Completes header and padding; the list of what to write is valid until <see cref="Clear"/>.</summary>
    public IoVecs Seal(Guid uuid, ulong epoch, ulong durableLsn, ulong nextInode, uint previousCrc, out uint crc)
    {
        Span<byte> batch = _buffer!.Span[..(RecordBlocks * BlobData.BlockBytes)];
        batch[..LogBatchHeader.Bytes].Clear();
        batch[(LogBatchHeader.Bytes + _recordBytes)..].Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(batch, LogBatchHeader.Magic);
        uuid.TryWriteBytes(batch[LogBatchHeader.Uuid..]);
        BinaryPrimitives.WriteUInt64LittleEndian(batch[LogBatchHeader.Epoch..], epoch);
        BinaryPrimitives.WriteUInt64LittleEndian(batch[LogBatchHeader.FirstLsn..], FirstLsn);
        BinaryPrimitives.WriteInt32LittleEndian(batch[LogBatchHeader.RecordCount..], RecordCount);
        BinaryPrimitives.WriteInt32LittleEndian(batch[LogBatchHeader.RecordBytes..], _recordBytes);
        BinaryPrimitives.WriteInt32LittleEndian(batch[LogBatchHeader.ImageCount..], Images.Count);
        BinaryPrimitives.WriteInt32LittleEndian(batch[LogBatchHeader.TotalBlocks..], Blocks);
        BinaryPrimitives.WriteUInt64LittleEndian(batch[LogBatchHeader.DurableLsn..], durableLsn);
        BinaryPrimitives.WriteUInt64LittleEndian(batch[LogBatchHeader.NextInode..], nextInode);
        BinaryPrimitives.WriteUInt32LittleEndian(batch[LogBatchHeader.PreviousCrc..], previousCrc);
        crc = LogBatchHeader.ComputeCrc(batch, _recordBytes);
        BinaryPrimitives.WriteUInt32LittleEndian(batch[LogBatchHeader.Crc..], crc);
        _vecs.Clear();
        _vecs.Add(_buffer.Slice(0, batch.Length));
        foreach (Page image in Images) { _vecs.Add(image.Memory); }
        return _vecs.View();
    }

    /// <summary>Empties the batch for reuse and lets go of its memory.</summary>
    public void Clear(PagePool pages, LogBuffers buffers)
    {
        foreach (Page image in Images) { pages.Release(image); }
        Images.Clear();
        if (_buffer is not null) { buffers.Return(_buffer); }
        _buffer = null;
        _recordBytes = 0;
        RecordCount = 0;
    }

    public void Dispose() => _vecs.Dispose();
}

/// <summary>Batch buffers, rented per batch: an idle volume has none.</summary>
internal sealed class LogBuffers
{
    private const int MaxKept = 8;
    private readonly Stack<NativeBuffer> _free = new();

    public NativeBuffer Rent() => _free.TryPop(out NativeBuffer? buffer) ? buffer : new NativeBuffer(LogBatch.BufferBytes);

    public void Return(NativeBuffer buffer)
    {
        if (_free.Count < MaxKept) { _free.Push(buffer); }
        else { buffer.Dispose(); }
    }
}
