using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>A piece of unmanaged memory; its layout is the kernel's <c>struct iovec</c>, so lists of it go to system calls as they are.</summary>
/// <remarks>It does not own the memory: whoever hands it out keeps the memory mapped until the operation using it has completed.</remarks>
[StructLayout(LayoutKind.Sequential)]
public readonly unsafe struct IoVec : IEquatable<IoVec>
{
    private readonly byte* _address;
    private readonly nuint _length;

    public IoVec(nuint address, int lengthBytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(lengthBytes);
        _address = (byte*)address;
        _length = (nuint)lengthBytes;
    }

    public nuint Address => (nuint)_address;

    public int Length => (int)_length;

    public bool IsEmpty => _length == 0;

    /// <summary>The bytes. Guest memory may change at any time: copy once, then check.</summary>
    public Span<byte> Span
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => new(_address, (int)_length);
    }

    public IoVec Slice(int start, int lengthBytes)
    {
        if ((uint)start > (uint)_length || (uint)lengthBytes > (uint)_length - (uint)start) { ThrowRange(); }
        return new IoVec((nuint)_address + (nuint)start, lengthBytes);
    }

    public IoVec Slice(int start) => Slice(start, Length - start);

    public bool Equals(IoVec other) => _address == other._address && _length == other._length;

    public override bool Equals(object? obj) => obj is IoVec other && Equals(other);

    public override int GetHashCode() => HashCode.Combine((nuint)_address, _length);

    public static bool operator ==(IoVec left, IoVec right) => left.Equals(right);

    public static bool operator !=(IoVec left, IoVec right) => !left.Equals(right);

    private static void ThrowRange() => throw new ArgumentOutOfRangeException(nameof(Length), "slice outside of the segment");
}
