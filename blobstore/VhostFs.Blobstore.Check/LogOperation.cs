using System.Buffers.Binary;

namespace VhostFs.Blobstore.Check;

internal enum LogOperationKind : byte
{
    Put = 1,
    Delete = 2,
    Patch = 3,
    Allocate = 4,
    Free = 5,
    Data = 6,
    Image = 7,
}

/// <summary>One operation of a record; which fields mean something follows from the kind.</summary>
/// <param name="Kind">What happens.</param>
/// <param name="Key">Put, Delete, Patch.</param>
/// <param name="Bytes">Put: the value. Patch: the new bytes. Data: the checksums. Image: the content.</param>
/// <param name="Number">Allocate, Free, Data: block count. Patch: offset. Image: checksum.</param>
/// <param name="Block">Allocate, Free, Data, Image: the first block.</param>
internal readonly record struct LogOperation(LogOperationKind Kind, ItemKey Key, ReadOnlyMemory<byte> Bytes, uint Number, ulong Block)
{
    private const int PrefixBytes = 4;
    private const int KeyBytes = 16;
    private const int MaxValueBytes = 3900;
    private const int MaxClusterBlocks = 4096;

    /// <summary>Takes the next operation off <paramref name="rest"/>; false when it is malformed. An image's content is filled in by the batch.</summary>
    public static bool TryTake(ref ReadOnlyMemory<byte> rest, out LogOperation operation)
    {
        operation = default;
        if (rest.Length < PrefixBytes) { return false; }
        var kind = (LogOperationKind)rest.Span[0];
        ushort small = BinaryPrimitives.ReadUInt16LittleEndian(rest.Span[2..]);
        int bodyBytes = kind switch
        {
            LogOperationKind.Put => KeyBytes + small,
            LogOperationKind.Delete => KeyBytes,
            LogOperationKind.Patch => KeyBytes + sizeof(uint) + small,
            LogOperationKind.Allocate or LogOperationKind.Free => sizeof(ulong),
            LogOperationKind.Data => sizeof(ulong) + sizeof(uint) * small,
            LogOperationKind.Image => sizeof(ulong) + sizeof(uint),
            _ => -1,
        };
        if (bodyBytes < 0 || rest.Length - PrefixBytes < bodyBytes) { return false; }
        bool isPossible = kind switch
        {
            LogOperationKind.Put or LogOperationKind.Patch => small <= MaxValueBytes,
            LogOperationKind.Delete => small == 0,
            LogOperationKind.Allocate or LogOperationKind.Free => small is > 0 and <= MaxClusterBlocks,
            LogOperationKind.Data => small > 0,
            _ => true,
        };
        if (!isPossible) { return false; }
        ReadOnlyMemory<byte> body = rest.Slice(PrefixBytes, bodyBytes);
        rest = rest[(PrefixBytes + bodyBytes)..];
        operation = kind switch
        {
            LogOperationKind.Put or LogOperationKind.Delete => new(kind, KeyOf(body.Span), body[KeyBytes..], 0, 0),
            LogOperationKind.Patch => new(kind, KeyOf(body.Span), body[(KeyBytes + sizeof(uint))..], BinaryPrimitives.ReadUInt32LittleEndian(body.Span[KeyBytes..]), 0),
            LogOperationKind.Data => new(kind, default, body[sizeof(ulong)..], small, BinaryPrimitives.ReadUInt64LittleEndian(body.Span)),
            LogOperationKind.Image => new(kind, new ItemKey(small, 0), default, BinaryPrimitives.ReadUInt32LittleEndian(body.Span[sizeof(ulong)..]), BinaryPrimitives.ReadUInt64LittleEndian(body.Span)),
            _ => new(kind, default, default, small, BinaryPrimitives.ReadUInt64LittleEndian(body.Span)),
        };
        return true;
    }

    /// <summary>Image: its index in the batch.</summary>
    public int ImageIndex => (int)Key.Object;

    /// <summary>Data: the checksum of one of its blocks.</summary>
    public uint CrcOf(int index) => BinaryPrimitives.ReadUInt32LittleEndian(Bytes.Span[(index * sizeof(uint))..]);

    private static ItemKey KeyOf(ReadOnlySpan<byte> body) =>
        new(BinaryPrimitives.ReadUInt64LittleEndian(body), BinaryPrimitives.ReadUInt64LittleEndian(body[sizeof(ulong)..]));
}
