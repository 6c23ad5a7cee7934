using System.Buffers.Binary;
using System.Numerics;

namespace VhostFs.Image.Tests.Images;

/// <summary>Offsets of docs/blobstore-format.md, once more: neither the engine's code nor the checker's, so that the tests take nobody's word.</summary>
internal static class DiskFormat
{
    public const int BlockBytes = 4096;
    public const int NodeBlocks = 4;
    public const int NodeBytes = NodeBlocks * BlockBytes;
    public const int NodeCrc = NodeBytes - 4;
    public const int SlotsAt = 64;
    public const int SlotBytes = 20;
    public const int BlockCrc = BlockBytes - 4;
    public const int BatchHeaderBytes = 128;
    public const int BatchCrc = 124;
    public const int ExtentHeaderBytes = 8;
    public const int ExtentRunBytes = 24;
    public const int ExtentGroupBlocks = 128;
    public const int SharedGroupBlocks = 128;

    public const int Inode = 0, Inline = 1, Xattr = 2, Extent = 3, DirectoryEntry = 4, Orphan = 8, Allocation = 9, Volume = 11, ClusterRun = 12, SharedBlocks = 13;
    public const int Anchor = 1, Node = 2, Data = 3;

    public static ulong U64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[at..]);

    public static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);

    public static ushort U16(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[at..]);

    public static void Put64(Span<byte> bytes, int at, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(bytes[at..], value);

    public static void Put32(Span<byte> bytes, int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(bytes[at..], value);

    public static void Put16(Span<byte> bytes, int at, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(bytes[at..], value);

    public static uint Crc(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second = default) => ~Append(Append(uint.MaxValue, first), second);

    private static uint Append(uint state, ReadOnlySpan<byte> bytes)
    {
        for (; bytes.Length >= 8; bytes = bytes[8..]) { state = BitOperations.Crc32C(state, U64(bytes, 0)); }
        foreach (byte value in bytes) { state = BitOperations.Crc32C(state, value); }
        return state;
    }
}

/// <summary>One item of a tree.</summary>
internal readonly record struct TreeItem(ulong Object, ulong Item, byte[] Value)
{
    public int Type => (int)(Item >> 60);

    public ulong Sub => Item & ((1UL << 60) - 1);
}
