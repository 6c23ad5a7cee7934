using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>CRC32C (Castagnoli), as iSCSI computes it: <c>crc("123456789") = 0xE3069283</c>.</summary>
public static class Crc32C
{
    /// <summary>Bytes of one of three lanes computed side by side: the instruction has a latency of three cycles and a throughput of one.</summary>
    private const int LaneBytes = 1360;

    private static readonly uint[] s_shiftOneLane = ShiftTable(LaneBytes);

    public static uint Compute(ReadOnlySpan<byte> data) => ~Append(uint.MaxValue, data);

    public static uint Compute(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second) => ~Append(Append(uint.MaxValue, first), second);

    /// <summary>The checksum of bytes [offset, offset + length) of a scatter-gather list.</summary>
    public static uint Compute(IoVecs data, long offsetBytes, int lengthBytes)
    {
        uint state = uint.MaxValue;
        foreach (IoVec segment in data.AsSpan())
        {
            if (offsetBytes >= segment.Length) { offsetBytes -= segment.Length; continue; }
            int take = (int)Math.Min(segment.Length - offsetBytes, lengthBytes);
            state = Append(state, segment.Span.Slice((int)offsetBytes, take));
            lengthBytes -= take;
            offsetBytes = 0;
            if (lengthBytes == 0) { break; }
        }
        return ~state;
    }

    /// <summary>Feeds bytes into a running state that began as all ones and is complemented at the end.</summary>
    public static uint Append(uint state, ReadOnlySpan<byte> data)
    {
        if (Crc32CFolding.IsSupported && data.Length >= Crc32CFolding.MinBytes)
        {
            int folded = data.Length & ~(Crc32CFolding.StepBytes - 1);
            state = Crc32CFolding.Append(state, data[..folded]);
            data = data[folded..];
        }
        return AppendByInstruction(state, data);
    }

    /// <summary>Copies, and feeds what has been copied into the state. The source is read once, or the copy is what is summed: whatever somebody else does to the source meanwhile, the
    /// checksum is that of the copy.</summary>
    /// <param name="isStreaming">The target is native memory that nobody looks at soon; <see cref="StreamingCopy.Order"/> follows.</param>
    public static uint AppendCopy(uint state, ReadOnlySpan<byte> source, Span<byte> target, bool isStreaming)
    {
        if (!Crc32CFolding.IsSupported || source.Length < Crc32CFolding.MinBytes || source.Length % Crc32CFolding.StepBytes != 0)
        {
            source.CopyTo(target);
            return Append(state, target[..source.Length]);
        }
        return isStreaming && StreamingCopy.IsAligned(target) ? Crc32CFolding.AppendStreamingCopy(state, source, target) : Crc32CFolding.AppendCopy(state, source, target);
    }

    /// <summary>With the processor's instruction for 8 bytes, where there is one.</summary>
    internal static uint AppendByInstruction(uint state, ReadOnlySpan<byte> data)
    {
        ref byte at = ref MemoryMarshal.GetReference(data);
        int length = data.Length;
        while (length >= 3 * LaneBytes)
        {
            uint a = state, b = 0, c = 0;
            for (int i = 0; i < LaneBytes; i += 8)
            {
                a = BitOperations.Crc32C(a, Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref at, i)));
                b = BitOperations.Crc32C(b, Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref at, i + LaneBytes)));
                c = BitOperations.Crc32C(c, Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref at, i + (2 * LaneBytes))));
            }
            state = ShiftOneLane(ShiftOneLane(a) ^ b) ^ c;
            at = ref Unsafe.Add(ref at, 3 * LaneBytes);
            length -= 3 * LaneBytes;
        }
        for (; length >= 8; length -= 8)
        {
            state = BitOperations.Crc32C(state, Unsafe.ReadUnaligned<ulong>(ref at));
            at = ref Unsafe.Add(ref at, 8);
        }
        for (; length > 0; length--)
        {
            state = BitOperations.Crc32C(state, at);
            at = ref Unsafe.Add(ref at, 1);
        }
        return state;
    }

    /// <summary>The state after <see cref="LaneBytes"/> zero bytes: the checksum is linear, so a table per state byte suffices.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint ShiftOneLane(uint state)
    {
        ref uint table = ref MemoryMarshal.GetArrayDataReference(s_shiftOneLane);
        return Unsafe.Add(ref table, state & 0xFF)
            ^ Unsafe.Add(ref table, 256 + ((state >> 8) & 0xFF))
            ^ Unsafe.Add(ref table, 512 + ((state >> 16) & 0xFF))
            ^ Unsafe.Add(ref table, 768 + (state >> 24));
    }

    private static uint[] ShiftTable(int zeroBytes)
    {
        var table = new uint[1024];
        for (int i = 0; i < 4; i++)
        {
            for (uint value = 0; value < 256; value++)
            {
                uint state = value << (8 * i);
                for (int zero = 0; zero < zeroBytes; zero++) { state = BitOperations.Crc32C(state, (byte)0); }
                table[(256 * i) + (int)value] = state;
            }
        }
        return table;
    }
}
