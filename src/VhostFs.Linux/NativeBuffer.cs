using System.Numerics;
using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>Unmanaged memory, aligned to 4096 bytes (O_DIRECT) and not zeroed unless asked; owned by one object and freed by it.</summary>
public sealed unsafe class NativeBuffer : IDisposable
{
    public const int Alignment = 4096;
    private const int HugePageBytes = 2 << 20;
    private const int MinMappedBytes = 2 * HugePageBytes;
    private readonly bool _isMapped;
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

    private NativeBuffer(nuint mapped, int lengthBytes)
    {
        _address = (byte*)mapped;
        _isMapped = true;
        Length = lengthBytes;
    }

    ~NativeBuffer() => Free();

    /// <summary>Whole pages, aligned to their length if that is a power of two, else to that of a huge page, and huge ones where the kernel has some: fewer look-ups for who copies, and for the kernel when it
    /// pins them. What is smaller than one is as any other buffer. What is large is not of the heap, which would keep it for later: when it is freed it is gone.</summary>
    public static NativeBuffer Huge(int lengthBytes)
    {
        if (lengthBytes < HugePageBytes) { return new NativeBuffer(lengthBytes); }
        lengthBytes = (lengthBytes + Alignment - 1) & -Alignment;
        int alignment = BitOperations.IsPow2(lengthBytes) ? lengthBytes : HugePageBytes;
        NativeBuffer buffer = lengthBytes < MinMappedBytes ? new NativeBuffer(lengthBytes, alignment) : Map(lengthBytes, alignment);
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

    private static NativeBuffer Map(int lengthBytes, int alignment)
    {
        long mappedBytes = (long)lengthBytes + alignment;
        Errno mapped = MemoryCalls.Map(null, 0, mappedBytes, MemoryCalls.PROT_READ | MemoryCalls.PROT_WRITE, MemoryCalls.MAP_PRIVATE, out nuint start);
        if (mapped != Errno.None) { throw new InsufficientMemoryException($"{mappedBytes} bytes cannot be mapped: {mapped}"); }
        nuint address = (start + (nuint)alignment - 1) & ~((nuint)alignment - 1);
        long before = (long)(address - start);
        if (before > 0) { MemoryCalls.Unmap(start, before); }
        if (before < alignment) { MemoryCalls.Unmap(address + (nuint)lengthBytes, alignment - before); }
        return new NativeBuffer(address, lengthBytes);
    }

    private void Free()
    {
        if (!_isMapped) { NativeMemory.AlignedFree(_address); }
        else if (_address is not null) { MemoryCalls.Unmap((nuint)_address, Length); }
        _address = null;
        Length = 0;
    }
}
