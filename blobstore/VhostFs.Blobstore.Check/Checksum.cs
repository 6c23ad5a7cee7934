using System.Buffers.Binary;
using System.Numerics;

namespace VhostFs.Blobstore.Check;

/// <summary>CRC32C as the format defines it: initial value all ones, final complement. <c>Of("123456789") = 0xE3069283</c>.</summary>
internal static class Checksum
{
    public static uint Of(ReadOnlySpan<byte> bytes) => ~Append(uint.MaxValue, bytes);

    public static uint Of(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second) => ~Append(Append(uint.MaxValue, first), second);

    /// <summary>A structure whose last four bytes are the checksum of the rest.</summary>
    public static bool HoldsAtEnd(ReadOnlySpan<byte> structure) =>
        BinaryPrimitives.ReadUInt32LittleEndian(structure[^4..]) == Of(structure[..^4]);

    private static uint Append(uint state, ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length >= sizeof(ulong))
        {
            state = BitOperations.Crc32C(state, BinaryPrimitives.ReadUInt64LittleEndian(bytes));
            bytes = bytes[sizeof(ulong)..];
        }
        foreach (byte value in bytes) { state = BitOperations.Crc32C(state, value); }
        return state;
    }
}
