using System.Buffers.Binary;

namespace VhostFs.Blobstore.Check;

/// <summary>Section 6 of the format: one valid batch of the log ring.</summary>
internal sealed class LogBatch
{
    private const int BlockBytes = BlockReader.BlockBytes;
    private const int HeaderBytes = 128;
    private const int CrcOffset = 124;

    private readonly List<List<LogOperation>> _records = [];

    private LogBatch(ReadOnlySpan<byte> header, uint position)
    {
        Position = position;
        Epoch = BinaryPrimitives.ReadUInt64LittleEndian(header[24..]);
        FirstLsn = BinaryPrimitives.ReadUInt64LittleEndian(header[32..]);
        RecordCount = BinaryPrimitives.ReadUInt32LittleEndian(header[40..]);
        RecordBytes = BinaryPrimitives.ReadUInt32LittleEndian(header[44..]);
        ImageCount = BinaryPrimitives.ReadUInt32LittleEndian(header[48..]);
        TotalBlocks = BinaryPrimitives.ReadUInt32LittleEndian(header[52..]);
        DurableLsn = BinaryPrimitives.ReadUInt64LittleEndian(header[56..]);
        NextInode = BinaryPrimitives.ReadUInt64LittleEndian(header[64..]);
        PreviousCrc = BinaryPrimitives.ReadUInt32LittleEndian(header[72..]);
        Crc = BinaryPrimitives.ReadUInt32LittleEndian(header[CrcOffset..]);
    }

    /// <summary>Block index in the ring.</summary>
    public uint Position { get; }

    public ulong Epoch { get; }

    public ulong FirstLsn { get; }

    public uint RecordCount { get; }

    public uint TotalBlocks { get; }

    public ulong DurableLsn { get; }

    public ulong NextInode { get; }

    public uint PreviousCrc { get; }

    public uint Crc { get; }

    public uint RingLimit => Position + TotalBlocks;

    /// <summary>Operations of each record, in LSN order.</summary>
    public IReadOnlyList<IReadOnlyList<LogOperation>> Records => _records;

    /// <summary>The checksum is right, but the content is not a batch: written wrongly, not torn.</summary>
    public string? Malformed { get; private set; }

    private uint RecordBytes { get; }

    private uint ImageCount { get; }

    /// <summary>The batch at a ring block, or null when there is none whose checksums hold. <paramref name="checksumBytes"/> is what was read for that.</summary>
    public static LogBatch? Parse(ReadOnlyMemory<byte> ring, uint position, Guid volume, ulong logEpoch, out long checksumBytes)
    {
        checksumBytes = 0;
        ReadOnlyMemory<byte> bytes = ring[(int)(position * BlockBytes)..];
        ReadOnlySpan<byte> header = bytes.Span[..HeaderBytes];
        if (!header[..8].SequenceEqual("VHFSLOGB"u8) || new Guid(header.Slice(8, 16)) != volume) { return null; }
        var batch = new LogBatch(header, position);
        long headBlocks = ((long)HeaderBytes + batch.RecordBytes + BlockBytes - 1) / BlockBytes;
        if (batch.Epoch < logEpoch || batch.NextInode >= Header.MaxCounter || batch.TotalBlocks == 0 || (long)batch.TotalBlocks * BlockBytes > bytes.Length || headBlocks + batch.ImageCount != batch.TotalBlocks) { return null; }
        checksumBytes = (long)batch.TotalBlocks * BlockBytes;
        ReadOnlyMemory<byte> records = bytes.Slice(HeaderBytes, (int)batch.RecordBytes);
        if (Checksum.Of(header[..CrcOffset], records.Span) != batch.Crc) { return null; }
        return batch.TryParseRecords(records, bytes.Slice((int)headBlocks * BlockBytes, (int)batch.ImageCount * BlockBytes)) ? batch : null;
    }

    // False: an image is torn, the batch does not count. A malformed record is remembered: the checksum says that it was written so.
    private bool TryParseRecords(ReadOnlyMemory<byte> rest, ReadOnlyMemory<byte> images)
    {
        for (uint i = 0; i < RecordCount; i++)
        {
            if (rest.Length < 8 || BinaryPrimitives.ReadUInt32LittleEndian(rest.Span) is var length && (length < 4 || length > rest.Length - 4))
            {
                Malformed = $"record {i} of {RecordCount} does not fit into the batch";
                return true;
            }
            int operationCount = BinaryPrimitives.ReadUInt16LittleEndian(rest.Span[4..]);
            int recordBytes = (int)BinaryPrimitives.ReadUInt32LittleEndian(rest.Span);
            ReadOnlyMemory<byte> body = rest.Slice(8, recordBytes - 4);
            rest = rest[(4 + recordBytes)..];
            var operations = new List<LogOperation>(Math.Min(operationCount, body.Length / 4));
            for (int j = 0; j < operationCount; j++)
            {
                if (!LogOperation.TryTake(ref body, out LogOperation operation))
                {
                    Malformed = $"operation {j} of record {i} is malformed";
                    return true;
                }
                if (operation.Kind == LogOperationKind.Image)
                {
                    if (operation.ImageIndex >= ImageCount)
                    {
                        Malformed = $"operation {j} of record {i} names image {operation.ImageIndex} of {ImageCount}";
                        return true;
                    }
                    ReadOnlyMemory<byte> content = images.Slice(operation.ImageIndex * BlockBytes, BlockBytes);
                    if (Checksum.Of(content.Span) != operation.Number) { return false; }
                    operation = operation with { Bytes = content };
                }
                operations.Add(operation);
            }
            if (body.Length != 0) { Malformed = $"record {i} is longer than its operations"; }
            _records.Add(operations);
        }
        if (rest.Length != 0) { Malformed = "bytes behind the last record"; }
        return true;
    }
}
