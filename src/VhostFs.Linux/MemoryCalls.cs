using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>mmap and its relatives, and memfd.</summary>
public static unsafe partial class MemoryCalls
{
    public const int PROT_NONE = 0;
    public const int PROT_READ = 1;
    public const int PROT_WRITE = 2;
    public const int MAP_SHARED = 1;
    public const int MAP_PRIVATE = 2;
    public const int MAP_FIXED = 0x10;
    public const int MAP_ANONYMOUS = 0x20;
    public const int MAP_NORESERVE = 0x4000;
    public const int MAP_POPULATE = 0x8000;
    public const int MADV_DONTNEED = 4;
    public const int MADV_REMOVE = 9;
    public const int MADV_DONTFORK = 10;
    public const int MADV_HUGEPAGE = 14;
    public const int MADV_NOHUGEPAGE = 15;
    public const int MADV_DONTDUMP = 16;
    public const uint MFD_CLOEXEC = 1;
    public const uint MFD_ALLOW_SEALING = 2;

    /// <param name="fd">null: anonymous memory.</param>
    public static Errno Map(SafeHandle? fd, long offset, long lengthBytes, int protection, int flags, out nuint address, nuint hint = 0)
    {
        bool added = false;
        try
        {
            fd?.DangerousAddRef(ref added);
            int raw = fd is null ? -1 : (int)fd.DangerousGetHandle();
            nint result = MmapCore(hint, (nuint)lengthBytes, protection, fd is null ? flags | MAP_ANONYMOUS : flags, raw, offset);
            if (result == -1)
            {
                address = 0;
                return LastErrno();
            }
            address = (nuint)result;
            return Errno.None;
        }
        finally
        {
            if (added) { fd!.DangerousRelease(); }
        }
    }

    public static Errno Unmap(nuint address, long lengthBytes) => MunmapCore(address, (nuint)lengthBytes) == 0 ? Errno.None : LastErrno();

    public static Errno Advise(nuint address, long lengthBytes, int advice) => MadviseCore(address, (nuint)lengthBytes, advice) == 0 ? Errno.None : LastErrno();

    /// <summary>Pages that the C library keeps for later allocations go back to the kernel, of all its arenas.</summary>
    public static void TrimHeap()
    {
        try { _ = MallocTrimCore(0); }
        catch (EntryPointNotFoundException) { } // a C library that is not GNU's
    }

    public static Errno CreateMemfd(string name, bool sealable, out SafeFd fd)
    {
        int raw = MemfdCreateCore(name, MFD_CLOEXEC | (sealable ? MFD_ALLOW_SEALING : 0));
        fd = new SafeFd(raw);
        return raw >= 0 ? Errno.None : LastErrno();
    }

    private static Errno LastErrno() => (Errno)Marshal.GetLastPInvokeError();

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    private static partial nint MmapCore(nuint hint, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
    private static partial int MunmapCore(nuint address, nuint length);

    [LibraryImport("libc", EntryPoint = "madvise", SetLastError = true)]
    private static partial int MadviseCore(nuint address, nuint length, int advice);

    [LibraryImport("libc", EntryPoint = "malloc_trim")]
    private static partial int MallocTrimCore(nuint pad);

    [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int MemfdCreateCore(string name, uint flags);
}
