using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Virtio;

/// <summary>One shared mapping of a front-end's file. Checks what the file is before mapping it; unmaps when disposed.</summary>
/// <remarks>The file may be on hugetlbfs: the mapping then begins and ends on its page size, and <see cref="Data"/> lies inside.</remarks>
internal sealed unsafe partial class GuestMapping : IDisposable
{
    private const long HugetlbfsMagic = 0x958458f6;
    private const int FGetSeals = 1034, SealShrink = 2;
    private const int ProtReadWrite = 3, MapShared = 1, MapNoReserve = 0x4000;
    private const uint FileTypeMask = 0xF000, RegularFile = 0x8000;

    private byte* _base;
    private readonly nuint _lengthBytes;
    private readonly int _guardEntry;

    private GuestMapping(byte* @base, nuint lengthBytes, byte* data, int guardEntry)
    {
        _base = @base;
        _lengthBytes = lengthBytes;
        Data = data;
        _guardEntry = guardEntry;
    }

    /// <summary>Where the region's first byte lies.</summary>
    public byte* Data { get; }

    /// <summary>Maps [offset, offset + length) of the file; both have been checked to be page multiples and not to wrap.</summary>
    public static Errno TryMap(int fd, ulong offset, ulong lengthBytes, long* faultCounter, out GuestMapping? mapping, out string reason)
    {
        mapping = null;
        reason = "";
        FileFacts facts = Inspect(fd);
        if (facts.Errno != Errno.None) { reason = "not a readable file"; return facts.Errno; }
        if (!facts.IsRegular) { reason = "not a regular file"; return Errno.EINVAL; }
        if (offset + lengthBytes > facts.SizeBytes)
        {
            reason = $"offset {offset} + size {lengthBytes} is past the end of the file ({facts.SizeBytes} bytes)";
            return Errno.EINVAL;
        }
        if (!GuestMemoryGuard.IsActive && !facts.IsSealed)
        {
            reason = "the file can be shrunk (no F_SEAL_SHRINK), and on this machine a shrunk file would end the process";
            return Errno.EPERM;
        }

        ulong mask = facts.PageBytes - 1;
        ulong start = offset & ~mask;
        ulong limit = (offset + lengthBytes + mask) & ~mask;
        var length = (nuint)(limit - start);
        void* address = Mmap(null, length, ProtReadWrite, MapShared | MapNoReserve, fd, (long)start);
        if ((nint)address == -1)
        {
            reason = "mmap failed";
            return (Errno)Marshal.GetLastSystemError();
        }
        int entry = GuestMemoryGuard.Register((nuint)address, length, faultCounter);
        if (entry < 0 && GuestMemoryGuard.IsActive)
        {
            _ = Munmap(address, length);
            reason = "too many guest memory regions in this process";
            return Errno.ENOSPC;
        }
        mapping = new GuestMapping((byte*)address, length, (byte*)address + (offset - start), entry);
        return Errno.None;
    }

    public void Dispose()
    {
        if (_base is null) { return; }
        GuestMemoryGuard.Unregister(_guardEntry); // before the range can belong to somebody else
        int result = Munmap(_base, _lengthBytes);
        _base = null;
        Invariant.That(result == 0);
    }

    private static FileFacts Inspect(int fd)
    {
        // struct stat and struct statfs differ per machine; statx is the same everywhere.
        byte* buffer = stackalloc byte[256];
        if (Statx(fd, "", 0x1000 /* AT_EMPTY_PATH */, 0x7ff /* STATX_BASIC_STATS */, buffer) != 0)
        {
            return new FileFacts((Errno)Marshal.GetLastSystemError(), false, 0, 0, false);
        }
        uint mode = *(ushort*)(buffer + 28);
        ulong size = *(ulong*)(buffer + 40);
        var page = (ulong)Environment.SystemPageSize;
        long* statfs = stackalloc long[32];
        if (Fstatfs(fd, statfs) == 0 && statfs[0] == HugetlbfsMagic) { page = (ulong)statfs[1]; }
        int seals = Fcntl(fd, FGetSeals, 0);
        return new FileFacts(Errno.None, (mode & FileTypeMask) == RegularFile, size, page, seals >= 0 && (seals & SealShrink) != 0);
    }

    private readonly record struct FileFacts(Errno Errno, bool IsRegular, ulong SizeBytes, ulong PageBytes, bool IsSealed);

    [LibraryImport("libc", EntryPoint = "mmap")]
    private static partial void* Mmap(void* address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "munmap")]
    private static partial int Munmap(void* address, nuint length);

    [LibraryImport("libc", EntryPoint = "statx", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Statx(int fd, string path, int flags, uint mask, byte* buffer);

    [LibraryImport("libc", EntryPoint = "fstatfs")]
    private static partial int Fstatfs(int fd, long* buffer);

    [LibraryImport("libc", EntryPoint = "fcntl")]
    private static partial int Fcntl(int fd, int command, int argument);
}
