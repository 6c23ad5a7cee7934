using System.Numerics;
using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>Unmanaged memory, aligned to 4096 bytes (O_DIRECT) and not zeroed unless asked; owned by one object and freed by it.</summary>
public sealed unsafe class NativeBuffer : IDisposable
{
    public const int Alignment = 4096;
    private const int HugePageBytes = 2 << 20;
    private byte* _address;

    public NativeBuffer(int lengthBytes, bool zeroed = false)
        : this(lengthBytes, Alignment)
    {
        if (zeroed) { Span.Clear(); }
    }

    private NativeBuffer(int lengthBytes, int alignment)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(lengthBytes);
        _address = (byte*)NativeMemory.AlignedAlloc((nuint)lengthBytes, (nuint)alignment);
        Length = lengthBytes;
    }

    ~NativeBuffer() => Free();

    /// <summary>Aligned to its length if that is a power of two, else to that of a huge page, and of huge pages where the kernel has some: fewer look-ups for who copies, and for the kernel when it pins them.</summary>
    public static NativeBuffer Huge(int lengthBytes)
    {
        var buffer = new NativeBuffer(lengthBytes, BitOperations.IsPow2(lengthBytes) ? lengthBytes : HugePageBytes);
        _ = MemoryCalls.Advise(buffer.Address, lengthBytes, MemoryCalls.MADV_HUGEPAGE); // a wish: a kernel without them says EINVAL
        return buffer;
    }

    public int Length { get; private set; }

    public nuint Address => (nuint)_address;

    public Span<byte> Span => new(_address, Length);

    public IoVec Vec => new((nuint)_address, Length);

    public IoVec Slice(int start, int lengthBytes) => Vec.Slice(start, lengthBytes);

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        NativeMemory.AlignedFree(_address);
        _address = null;
        Length = 0;
    }
}
