using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Virtio;

/// <summary>One shared mapping of a front-end's file. Checks what the file is before mapping it; unmaps when disposed.</summary>
/// <remarks>The file may be on hugetlbfs: the mapping then begins and ends on its page size, and <see cref="Data"/> lies inside.</remarks>
internal sealed unsafe partial class GuestMapping : IDisposable
{
    private const int ProtReadWrite = MemoryCalls.PROT_READ | MemoryCalls.PROT_WRITE;
    private const int SharedFlags = MemoryCalls.MAP_SHARED | MemoryCalls.MAP_NORESERVE;

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
    public static Errno TryMap(SafeFd fd, ulong offset, ulong lengthBytes, long* faultCounter, out GuestMapping? mapping, out string reason)
    {
        mapping = null;
        reason = "";
        Errno read = FileCalls.Status(fd, out FileStatus status);
        if (read != Errno.None || !status.IsRegularFile) { reason = "not a regular file"; return Errno.EINVAL; }
        if (offset + lengthBytes > (ulong)status.SizeBytes)
        {
            reason = $"offset {offset} + size {lengthBytes} is past the end of the file ({status.SizeBytes} bytes)";
            return Errno.EINVAL;
        }
        IoResult seals = FileCalls.GetSeals(fd);
        bool isSealed = !seals.IsError && (seals.Value & FileCalls.F_SEAL_SHRINK) != 0;
        if (!SharedMemoryGuard.IsActive && !isSealed)
        {
            reason = "the file can be shrunk (no F_SEAL_SHRINK), and on this machine a shrunk file would end the process";
            return Errno.EPERM;
        }

        ulong pageBytes = PageBytes(fd);
        ulong mask = pageBytes - 1;
        ulong start = offset & ~mask;
        ulong limit = (offset + lengthBytes + mask) & ~mask;
        var length = (nuint)(limit - start);
        Errno mapped = MemoryCalls.Map(fd, (long)start, (long)length, ProtReadWrite, SharedFlags, out nuint address);
        if (mapped != Errno.None) { reason = "mmap failed"; return mapped; }
        int entry = SharedMemoryGuard.Register(address, length, faultCounter);
        if (entry < 0 && SharedMemoryGuard.IsActive)
        {
            MemoryCalls.Unmap(address, (long)length);
            reason = "too many guest memory regions in this process";
            return Errno.ENOSPC;
        }
        mapping = new GuestMapping((byte*)address, length, (byte*)address + (offset - start), entry);
        return Errno.None;
    }

    public void Dispose()
    {
        if (_base is null) { return; }
        SharedMemoryGuard.Unregister(_guardEntry); // before the range can belong to somebody else
        Errno unmapped = MemoryCalls.Unmap((nuint)_base, (long)_lengthBytes);
        _base = null;
        Invariant.That(unmapped == Errno.None);
    }

    /// <summary>What mappings of the file are multiples of: huge pages are mapped and unmapped whole.</summary>
    private static ulong PageBytes(SafeFd fd)
    {
        long* statfs = stackalloc long[32]; // f_type, f_bsize, ...
        bool isHuge = Fstatfs(fd, statfs) == 0 && statfs[0] == FileCalls.HUGETLBFS_MAGIC;
        return isHuge ? (ulong)statfs[1] : (ulong)Environment.SystemPageSize;
    }

    [LibraryImport("libc", EntryPoint = "fstatfs")]
    private static partial int Fstatfs(SafeHandle fd, long* buffer);
}
