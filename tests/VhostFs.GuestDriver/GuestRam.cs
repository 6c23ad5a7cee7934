using System.Buffers.Binary;
using VhostFs.Linux;

namespace VhostFs.GuestDriver;

/// <summary>Guest memory of a test: a memfd, mapped here as the front-end's own view.</summary>
internal sealed unsafe class GuestRam : IDisposable
{
    public const ulong GuestBase = 0x1_0000_0000;
    public const int PageBytes = 4096;
    private int _next = PageBytes;

    public GuestRam(int lengthBytes, bool isSealed = false)
        : this(Memfd(), lengthBytes, isSealed)
    {
    }

    /// <summary>Guest memory in a file of any kind; owns the descriptor.</summary>
    public GuestRam(SafeFd fd, int lengthBytes, bool isSealed = false)
    {
        Fd = fd;
        LengthBytes = lengthBytes;
        Expect.Equal(Errno.None, FileCalls.Truncate(fd, lengthBytes));
        if (isSealed) { Expect.Equal(Errno.None, FileCalls.AddSeals(fd, FileCalls.F_SEAL_SHRINK)); }
        Expect.Equal(Errno.None, MemoryCalls.Map(fd, 0, lengthBytes, MemoryCalls.PROT_READ | MemoryCalls.PROT_WRITE, MemoryCalls.MAP_SHARED, out nuint address));
        UserBase = address;
    }

    public SafeFd Fd { get; }

    public int LengthBytes { get; }

    public nuint UserBase { get; }

    /// <summary>An offset of fresh memory.</summary>
    public int Allocate(int lengthBytes, int alignment = 16)
    {
        _next = (_next + alignment - 1) & ~(alignment - 1);
        int at = _next;
        _next += lengthBytes;
        Expect.True(_next <= LengthBytes);
        return at;
    }

    /// <summary>What is allocated from here on can be given back with <see cref="Rewind"/>.</summary>
    public int Mark => _next;

    public void Rewind(int mark) => _next = mark;

    public static ulong Gpa(int offset) => GuestBase + (ulong)offset;

    public ulong User(int offset) => UserBase + (ulong)offset;

    public Span<byte> At(int offset, int lengthBytes) => new((byte*)UserBase + offset, lengthBytes);

    public ushort Read16(int offset) => Volatile.Read(ref *(ushort*)((byte*)UserBase + offset));

    public void Write16(int offset, ushort value) => Volatile.Write(ref *(ushort*)((byte*)UserBase + offset), value);

    public uint Read32(int offset) => BinaryPrimitives.ReadUInt32LittleEndian(At(offset, 4));

    public void Dispose()
    {
        MemoryCalls.Unmap(UserBase, LengthBytes);
        Fd.Dispose();
    }

    private static SafeFd Memfd()
    {
        Expect.Equal(Errno.None, MemoryCalls.CreateMemfd("guest", sealable: true, out SafeFd fd));
        return fd;
    }
}
