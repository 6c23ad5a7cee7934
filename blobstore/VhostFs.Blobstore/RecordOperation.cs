using System.Buffers.Binary;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>Operation codes of log records (docs/blobstore-format.md, section 6).</summary>
internal enum RecordCode : byte
{
    Put = 1,
    Delete = 2,
    Patch = 3,
    Allocate = 4,
    Free = 5,
    Data = 6,
    Image = 7,
}

/// <summary>One decoded operation of a record. Spans point into the record.</summary>
internal readonly ref struct RecordOperation
{
    public RecordCode Code { get; init; }

    public TreeKey Key { get; init; }

    /// <summary>Put: the value. Patch: the bytes.</summary>
    public ReadOnlySpan<byte> Value { get; init; }

    public int PatchOffset { get; init; }

    /// <summary>Allocate, Free, Data: the blocks. Image: one block.</summary>
    public BlockRun Blocks { get; init; }

    /// <summary>Data: one checksum per block. Image: one.</summary>
    public ReadOnlySpan<byte> Crcs { get; init; }

    /// <summary>Image: which image of the batch.</summary>
    public int ImageIndex { get; init; }

    public uint CrcAt(int index) => BinaryPrimitives.ReadUInt32LittleEndian(Crcs[(4 * index)..]);
}

/// <summary>Walks over the operations of one record. Log bytes are hostile: a record that does not add up ends the walk with <see cref="IsBroken"/>.</summary>
internal ref struct RecordReader
{
    public const int HeaderBytes = 8;
    private ReadOnlySpan<byte> _rest;
    private int _left;

    /// <param name="record">The record behind its length field: operation count, reserved, operations.</param>
    public RecordReader(ReadOnlySpan<byte> record)
    {
        IsBroken = record.Length < 4;
        _left = IsBroken ? 0 : BinaryPrimitives.ReadUInt16LittleEndian(record);
        _rest = IsBroken ? default : record[4..];
        Current = default;
    }

    public bool IsBroken { get; private set; }

    public RecordOperation Current { get; private set; }

    public bool MoveNext()
    {
        if (_left == 0 || IsBroken)
        {
            IsBroken |= _rest.Length != 0;
            return false;
        }
        _left--;
        if (!TryRead(out RecordOperation operation, out int length)) { IsBroken = true; return false; }
        Current = operation;
        _rest = _rest[length..];
        return true;
    }

    private readonly bool TryRead(out RecordOperation operation, out int length)
    {
        operation = default;
        length = 0;
        ReadOnlySpan<byte> at = _rest;
        if (at.Length < 12) { return false; }
        var code = (RecordCode)at[0];
        int number = BinaryPrimitives.ReadUInt16LittleEndian(at[2..]);
        ulong first = BinaryPrimitives.ReadUInt64LittleEndian(at[4..]);
        switch (code)
        {
            case RecordCode.Put or RecordCode.Delete or RecordCode.Patch:
                int header = code == RecordCode.Patch ? 24 : 20;
                length = header + number;
                if (at.Length < length || number > Tree.MaxValueBytes || (code == RecordCode.Delete && number != 0)) { return false; }
                int offset = code == RecordCode.Patch ? BinaryPrimitives.ReadInt32LittleEndian(at[20..]) : 0;
                if (offset is < 0 or > Tree.MaxValueBytes) { return false; }
                operation = new RecordOperation
                {
                    Code = code,
                    Key = new TreeKey(first, BinaryPrimitives.ReadUInt64LittleEndian(at[12..])),
                    PatchOffset = offset,
                    Value = at[header..length],
                };
                return true;
            case RecordCode.Allocate or RecordCode.Free:
                length = 12;
                operation = new RecordOperation { Code = code, Blocks = new BlockRun(first, number) };
                return number is > 0 and <= PoolGeometry.MaxClusterBlocks;
            case RecordCode.Data:
                length = 12 + (4 * number);
                if (at.Length < length || number == 0) { return false; }
                operation = new RecordOperation { Code = code, Blocks = new BlockRun(first, number), Crcs = at[12..length] };
                return true;
            case RecordCode.Image:
                length = 16;
                if (at.Length < length) { return false; }
                operation = new RecordOperation { Code = code, Blocks = new BlockRun(first, 1), Crcs = at[12..16], ImageIndex = number };
                return true;
            default:
                return false;
        }
    }
}
