using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>What <c>statx</c> tells of a file.</summary>
public readonly record struct FileStatus(uint Mode, long SizeBytes, long Blocks512, ulong Inode, uint DeviceMajor, uint DeviceMinor, uint RdevMajor, uint RdevMinor, uint Links, uint OwnerUid)
{
    private const uint TypeMask = 0xF000; // S_IFMT
    private const uint OthersMask = 0x3F; // S_IRWXG | S_IRWXO
    public bool IsRegularFile => (Mode & TypeMask) == 0x8000;
    public bool IsCharacterDevice => (Mode & TypeMask) == 0x2000;
    public bool IsBlockDevice => (Mode & TypeMask) == 0x6000;
    public bool IsDirectory => (Mode & TypeMask) == 0x4000;
    public bool IsSocket => (Mode & TypeMask) == 0xC000;

    /// <summary>Its group and others may do nothing with it.</summary>
    public bool IsOwnersAlone => (Mode & OthersMask) == 0;
}

/// <summary>System calls on files. Each retries EINTR and returns its error as a value.</summary>
public static unsafe partial class FileCalls
{
    public const int O_RDONLY = 0;
    public const int O_WRONLY = 1;
    public const int O_RDWR = 2;
    public const int O_CREAT = 0x40;
    public const int O_EXCL = 0x80;
    public const int O_TRUNC = 0x200;
    public const int O_NONBLOCK = 0x800;
    public const int O_DSYNC = 0x1000;
    public const int O_CLOEXEC = 0x80000;
    public const int O_PATH = 0x200000;

    // These three differ between x86-64 and arm64.
    public static readonly int O_DIRECT = IsArm64 ? 0x10000 : 0x4000;
    public static readonly int O_DIRECTORY = IsArm64 ? 0x4000 : 0x10000;
    public static readonly int O_NOFOLLOW = IsArm64 ? 0x8000 : 0x20000;

    public const int FALLOC_FL_KEEP_SIZE = 1;
    public const int FALLOC_FL_PUNCH_HOLE = 2;
    public const int FALLOC_FL_ZERO_RANGE = 16;

    public const int F_SEAL_SEAL = 1;
    public const int F_SEAL_SHRINK = 2;
    public const int F_SEAL_GROW = 4;
    public const int F_SEAL_WRITE = 8;

    public const long TMPFS_MAGIC = 0x01021994;
    public const long RAMFS_MAGIC = 0x858458f6;
    public const long HUGETLBFS_MAGIC = 0x958458f6;

    private const int F_SETFD = 2;
    private const int F_GETFL = 3;
    private const int F_SETFL = 4;
    private const int F_ADD_SEALS = 1033;
    private const int F_GET_SEALS = 1034;
    private const int AT_FDCWD = -100;
    private const int AT_EMPTY_PATH = 0x1000;
    private const uint STATX_BASIC_STATS = 0x7ff;
    private const uint STATX_DIOALIGN = 0x2000;

    private static bool IsArm64 => RuntimeInformation.ProcessArchitecture == Architecture.Arm64;

    public static Errno Open(string path, int flags, int mode, out SafeFd fd)
    {
        while (true)
        {
            int raw = OpenCore(path, flags | O_CLOEXEC, mode);
            if (raw >= 0)
            {
                fd = new SafeFd(raw);
                return Errno.None;
            }
            Errno errno = LastErrno();
            if (errno != Errno.EINTR)
            {
                fd = SafeFd.Invalid;
                return errno;
            }
        }
    }

    public static Errno Status(SafeHandle fd, out FileStatus status)
    {
        Statx raw = default;
        if (StatxCore(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &raw) != 0)
        {
            status = default;
            return LastErrno();
        }
        status = new FileStatus(raw.Mode, (long)raw.Size, (long)raw.Blocks, raw.Inode, raw.DeviceMajor, raw.DeviceMinor, raw.RdevMajor, raw.RdevMinor, raw.Links, raw.OwnerUid);
        return Errno.None;
    }

    /// <summary>The magic number of the file system (<c>statfs.f_type</c>).</summary>
    public static Errno FileSystemType(SafeHandle fd, out long type)
    {
        long* buffer = stackalloc long[16]; // struct statfs is 120 bytes; f_type comes first
        while (FstatfsCore(fd, buffer) != 0)
        {
            Errno errno = LastErrno();
            if (errno != Errno.EINTR)
            {
                type = 0;
                return errno;
            }
        }
        type = buffer[0];
        return Errno.None;
    }

    /// <summary>What O_DIRECT asks of buffers and of offsets (STATX_DIOALIGN, Linux 6.1); both 0 when the kernel or the file system does not say.</summary>
    public static Errno DirectIoAlignment(SafeHandle fd, out int memoryBytes, out int offsetBytes)
    {
        Statx raw = default;
        memoryBytes = 0;
        offsetBytes = 0;
        if (StatxCore(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &raw) != 0) { return LastErrno(); }
        if ((raw.Mask & STATX_DIOALIGN) == 0) { return Errno.None; }
        memoryBytes = (int)raw.DirectMemoryAlign;
        offsetBytes = (int)raw.DirectOffsetAlign;
        return Errno.None;
    }

    public static Errno Truncate(SafeHandle fd, long length)
    {
        while (FtruncateCore(fd, length) != 0)
        {
            Errno errno = LastErrno();
            if (errno != Errno.EINTR) { return errno; }
        }
        return Errno.None;
    }

    public static Errno Fallocate(SafeHandle fd, int mode, long offset, long length)
    {
        while (FallocateCore(fd, mode, offset, length) != 0)
        {
            Errno errno = LastErrno();
            if (errno != Errno.EINTR) { return errno; }
        }
        return Errno.None;
    }

    public static Errno Sync(SafeHandle fd)
    {
        while (FsyncCore(fd) != 0)
        {
            Errno errno = LastErrno();
            if (errno != Errno.EINTR) { return errno; }
        }
        return Errno.None;
    }

    public static Errno SyncData(SafeHandle fd)
    {
        while (FdatasyncCore(fd) != 0)
        {
            Errno errno = LastErrno();
            if (errno != Errno.EINTR) { return errno; }
        }
        return Errno.None;
    }

    public static IoResult Read(SafeHandle fd, Span<byte> target)
    {
        fixed (byte* address = target)
        {
            while (true)
            {
                nint n = ReadCore(fd, address, (nuint)target.Length);
                if (n >= 0) { return new IoResult((int)n); }
                Errno errno = LastErrno();
                if (errno != Errno.EINTR) { return errno; }
            }
        }
    }

    /// <summary>At most 1024 entries (IOV_MAX).</summary>
    public static IoResult Read(SafeHandle fd, IoVecs target)
    {
        while (true)
        {
            nint n = ReadvCore(fd, target.Address, target.Count);
            if (n >= 0) { return new IoResult((int)n); }
            Errno errno = LastErrno();
            if (errno != Errno.EINTR) { return errno; }
        }
    }

    public static IoResult Write(SafeHandle fd, ReadOnlySpan<byte> source)
    {
        fixed (byte* address = source)
        {
            while (true)
            {
                nint n = WriteCore(fd, address, (nuint)source.Length);
                if (n >= 0) { return new IoResult((int)n); }
                Errno errno = LastErrno();
                if (errno != Errno.EINTR) { return errno; }
            }
        }
    }

    public static IoResult ReadAt(SafeHandle fd, long offset, Span<byte> target)
    {
        fixed (byte* address = target)
        {
            while (true)
            {
                nint n = PreadCore(fd, address, (nuint)target.Length, offset);
                if (n >= 0) { return new IoResult((int)n); }
                Errno errno = LastErrno();
                if (errno != Errno.EINTR) { return errno; }
            }
        }
    }

    public static IoResult WriteAt(SafeHandle fd, long offset, ReadOnlySpan<byte> source)
    {
        fixed (byte* address = source)
        {
            while (true)
            {
                nint n = PwriteCore(fd, address, (nuint)source.Length, offset);
                if (n >= 0) { return new IoResult((int)n); }
                Errno errno = LastErrno();
                if (errno != Errno.EINTR) { return errno; }
            }
        }
    }

    /// <summary>At most 1024 entries (IOV_MAX).</summary>
    public static IoResult ReadAt(SafeHandle fd, long offset, IoVecs target)
    {
        while (true)
        {
            nint n = PreadvCore(fd, target.Address, target.Count, offset);
            if (n >= 0) { return new IoResult((int)n); }
            Errno errno = LastErrno();
            if (errno != Errno.EINTR) { return errno; }
        }
    }

    /// <summary>At most 1024 entries (IOV_MAX).</summary>
    public static IoResult WriteAt(SafeHandle fd, long offset, IoVecs source)
    {
        while (true)
        {
            nint n = PwritevCore(fd, source.Address, source.Count, offset);
            if (n >= 0) { return new IoResult((int)n); }
            Errno errno = LastErrno();
            if (errno != Errno.EINTR) { return errno; }
        }
    }

    /// <summary>The open flags (F_GETFL): access mode, O_NONBLOCK, O_DIRECT.</summary>
    public static IoResult GetFlags(SafeHandle fd) => Fcntl(fd, F_GETFL, 0);

    public static Errno SetFlags(SafeHandle fd, int flags) => Fcntl(fd, F_SETFL, flags).Errno;

    /// <summary>Whether a program that this one starts gets the descriptor too.</summary>
    public static Errno SetInheritable(SafeHandle fd, bool inheritable) => Fcntl(fd, F_SETFD, inheritable ? 0 : 1).Errno;

    /// <summary>The seals of a memfd (F_SEAL_*); EINVAL when the file cannot have any.</summary>
    public static IoResult GetSeals(SafeHandle fd) => Fcntl(fd, F_GET_SEALS, 0);

    public static Errno AddSeals(SafeHandle fd, int seals) => Fcntl(fd, F_ADD_SEALS, seals).Errno;

    /// <summary>Waits for <paramref name="events"/>, an error or the end; the value is the number of descriptors with news: 0 when the time is up.</summary>
    public static IoResult Poll(SafeHandle fd, short events, int timeoutMs)
    {
        bool added = false;
        try
        {
            fd.DangerousAddRef(ref added);
            while (true)
            {
                var poll = new PollFd { Fd = (int)fd.DangerousGetHandle(), Events = events };
                int ready = PollCore(&poll, 1, timeoutMs);
                if (ready >= 0) { return new IoResult(ready); }
                Errno errno = LastErrno();
                if (errno != Errno.EINTR) { return errno; }
            }
        }
        finally
        {
            if (added) { fd.DangerousRelease(); }
        }
    }

    public static Errno Unlink(string path) => UnlinkCore(path) == 0 ? Errno.None : LastErrno();

    private static IoResult Fcntl(SafeHandle fd, int command, nint argument)
    {
        while (true)
        {
            int result = FcntlCore(fd, command, argument);
            if (result >= 0) { return new IoResult(result); }
            Errno errno = LastErrno();
            if (errno != Errno.EINTR) { return errno; }
        }
    }

    private static Errno LastErrno() => (Errno)Marshal.GetLastPInvokeError();

    private static int StatxCore(SafeHandle fd, string path, int flags, uint mask, Statx* target)
    {
        bool added = false;
        try
        {
            fd.DangerousAddRef(ref added);
            return StatxRaw((int)fd.DangerousGetHandle(), path, flags, mask, target);
        }
        finally
        {
            if (added) { fd.DangerousRelease(); }
        }
    }

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static partial int PollCore(PollFd* fds, nuint count, int timeoutMs);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenCore(string path, int flags, int mode);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int StatxRaw(int directory, string path, int flags, uint mask, Statx* target);

    [LibraryImport("libc", EntryPoint = "fstatfs", SetLastError = true)]
    private static partial int FstatfsCore(SafeHandle fd, void* target);

    [LibraryImport("libc", EntryPoint = "ftruncate", SetLastError = true)]
    private static partial int FtruncateCore(SafeHandle fd, long length);

    [LibraryImport("libc", EntryPoint = "fallocate", SetLastError = true)]
    private static partial int FallocateCore(SafeHandle fd, int mode, long offset, long length);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int FsyncCore(SafeHandle fd);

    [LibraryImport("libc", EntryPoint = "fdatasync", SetLastError = true)]
    private static partial int FdatasyncCore(SafeHandle fd);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    private static partial nint ReadCore(SafeHandle fd, byte* target, nuint length);

    [LibraryImport("libc", EntryPoint = "readv", SetLastError = true)]
    private static partial nint ReadvCore(SafeHandle fd, nuint vectors, int count);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    private static partial nint WriteCore(SafeHandle fd, byte* source, nuint length);

    [LibraryImport("libc", EntryPoint = "pread", SetLastError = true)]
    private static partial nint PreadCore(SafeHandle fd, byte* target, nuint length, long offset);

    [LibraryImport("libc", EntryPoint = "pwrite", SetLastError = true)]
    private static partial nint PwriteCore(SafeHandle fd, byte* source, nuint length, long offset);

    [LibraryImport("libc", EntryPoint = "preadv", SetLastError = true)]
    private static partial nint PreadvCore(SafeHandle fd, nuint vectors, int count, long offset);

    [LibraryImport("libc", EntryPoint = "pwritev", SetLastError = true)]
    private static partial nint PwritevCore(SafeHandle fd, nuint vectors, int count, long offset);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int FcntlCore(SafeHandle fd, int command, nint argument);

    [LibraryImport("libc", EntryPoint = "unlink", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int UnlinkCore(string path);

    /// <summary><c>struct statx</c>, as far as it is used; the same on every architecture.</summary>
    private struct PollFd
    {
        public int Fd;
        public short Events;
        public short Returned;
    }

    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct Statx
    {
        [FieldOffset(0)] public uint Mask;
        [FieldOffset(16)] public uint Links;
        [FieldOffset(20)] public uint OwnerUid;
        [FieldOffset(28)] public ushort Mode;
        [FieldOffset(32)] public ulong Inode;
        [FieldOffset(40)] public ulong Size;
        [FieldOffset(48)] public ulong Blocks;
        [FieldOffset(128)] public uint RdevMajor;
        [FieldOffset(132)] public uint RdevMinor;
        [FieldOffset(136)] public uint DeviceMajor;
        [FieldOffset(140)] public uint DeviceMinor;
        [FieldOffset(152)] public uint DirectMemoryAlign;
        [FieldOffset(156)] public uint DirectOffsetAlign;
    }
}
