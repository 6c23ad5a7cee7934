using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>Unmanaged memory, aligned to 4096 bytes (O_DIRECT) and not zeroed unless asked; owned by one object and freed by it.</summary>
public sealed unsafe class NativeBuffer : IDisposable
{
    public const int Alignment = 4096;
    private byte* _address;

    public NativeBuffer(int lengthBytes, bool zeroed = false)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(lengthBytes);
        _address = (byte*)NativeMemory.AlignedAlloc((nuint)lengthBytes, Alignment);
        Length = lengthBytes;
        if (zeroed) { Span.Clear(); }
    }

    ~NativeBuffer() => Free();

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
