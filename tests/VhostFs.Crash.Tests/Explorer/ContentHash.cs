using System.Buffers.Binary;
using System.Numerics;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>A 64-bit hash to tell contents apart; not against an adversary.</summary>
public struct ContentHash
{
    private const ulong Multiplier = 0x9E3779B97F4A7C15;
    private ulong _state;

    public readonly ulong Value => _state;

    public void Add(ulong value) => _state = BitOperations.RotateLeft((_state ^ value) * Multiplier, 29);

    public void Add(ReadOnlySpan<byte> bytes)
    {
        Add((ulong)bytes.Length);
        for (; bytes.Length >= sizeof(ulong); bytes = bytes[sizeof(ulong)..]) { Add(BinaryPrimitives.ReadUInt64LittleEndian(bytes)); }
        foreach (byte value in bytes) { Add(value); }
    }
}
