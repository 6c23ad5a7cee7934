using System.Globalization;
using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>ioctls of block devices (<c>linux/fs.h</c>) and what sysfs says of them.</summary>
public static unsafe partial class BlockDevice
{
    private const nuint BLKSSZGET = 0x1268;
    private const nuint BLKDISCARD = 0x1277;
    private const nuint BLKZEROOUT = 0x127F;
    private const nuint BLKGETSIZE64 = 0x80081272;

    public static Errno SizeBytes(SafeHandle fd, out long sizeBytes)
    {
        ulong size = 0;
        Errno errno = Ioctl(fd, BLKGETSIZE64, &size);
        sizeBytes = (long)size;
        return errno;
    }

    public static Errno LogicalBlockSize(SafeHandle fd, out int blockSize)
    {
        int size = 0;
        Errno errno = Ioctl(fd, BLKSSZGET, &size);
        blockSize = size;
        return errno;
    }

    /// <summary>Blocks the calling thread. Discarded ranges may read as anything.</summary>
    public static Errno Discard(SafeHandle fd, long offset, long length) => IoctlRange(fd, BLKDISCARD, offset, length);

    /// <summary>Blocks the calling thread.</summary>
    public static Errno ZeroOut(SafeHandle fd, long offset, long length) => IoctlRange(fd, BLKZEROOUT, offset, length);

    /// <summary>The device zeroes ranges by itself; only then does a punched hole succeed on it.</summary>
    public static bool CanWriteZeroes(in FileStatus status)
    {
        string path = string.Create(CultureInfo.InvariantCulture, $"/sys/dev/block/{status.RdevMajor}:{status.RdevMinor}");
        foreach (string queue in (ReadOnlySpan<string>)["queue", "../queue"]) // a partition has the queue of its disk
        {
            string file = Path.Combine(path, queue, "write_zeroes_max_bytes");
            try
            {
                if (File.Exists(file)) { return File.ReadAllText(file).Trim() != "0"; }
            }
            catch (IOException) { return false; }
        }
        return false;
    }

    private static Errno IoctlRange(SafeHandle fd, nuint request, long offset, long length)
    {
        long* range = stackalloc long[2] { offset, length };
        return Ioctl(fd, request, range);
    }

    private static Errno Ioctl(SafeHandle fd, nuint request, void* argument)
    {
        while (IoctlCore(fd, request, argument) < 0)
        {
            var errno = (Errno)Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR) { return errno; }
        }
        return Errno.None;
    }

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    private static partial int IoctlCore(SafeHandle fd, nuint request, void* argument);
}
