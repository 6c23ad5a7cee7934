using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Simulation.Tests.Guest;

/// <summary>The memory of one guest: a memfd, mapped here as the driver's own view.</summary>
internal sealed unsafe class GuestRam : IDisposable
{
    public const ulong GuestBase = 0x4000_0000;
    private const int PageBytes = 4096;
    private readonly nuint _address;
    private int _next;

    public GuestRam(int lengthBytes)
    {
        Errno made = MemoryCalls.CreateMemfd("simulated guest", sealable: true, out SafeFd fd);
        if (made == Errno.None) { made = FileCalls.Truncate(fd, lengthBytes); }
        nuint address = 0;
        if (made == Errno.None) { made = MemoryCalls.Map(fd, 0, lengthBytes, MemoryCalls.PROT_READ | MemoryCalls.PROT_WRITE, MemoryCalls.MAP_SHARED, out address); }
        if (made != Errno.None) { throw new InvalidOperationException($"no guest memory: {made}"); }
        Fd = fd;
        _address = address;
        LengthBytes = lengthBytes;
    }

    public SafeFd Fd { get; }

    public int LengthBytes { get; }

    /// <summary>What the front-end calls its own addresses: anything, so not where the memory happens to be.</summary>
    public static ulong UserBase => 0x7000_0000_0000;

    public static ulong Guest(int offset) => GuestBase + (ulong)offset;

    public static ulong User(int offset) => UserBase + (ulong)offset;

    public int Allocate(int lengthBytes)
    {
        int at = _next;
        _next += (lengthBytes + PageBytes - 1) & ~(PageBytes - 1);
        return _next <= LengthBytes ? at : throw new InvalidOperationException("the guest is too small");
    }

    public Span<byte> At(int offset, int lengthBytes)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)(offset + lengthBytes), (uint)LengthBytes);
        return new Span<byte>((byte*)_address + offset, lengthBytes);
    }

    public T Read<T>(int offset)
        where T : unmanaged => MemoryMarshal.Read<T>(At(offset, sizeof(T)));

    public void Write<T>(int offset, T value)
        where T : unmanaged => MemoryMarshal.Write(At(offset, sizeof(T)), value);

    public void Dispose()
    {
        MemoryCalls.Unmap(_address, LengthBytes);
        Fd.Dispose();
    }
}
