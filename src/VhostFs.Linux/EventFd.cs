using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>eventfd: a counter that can be waited for.</summary>
public static unsafe partial class EventFd
{
    private const int EFD_CLOEXEC = 0x80000;
    private const int EFD_NONBLOCK = 0x800;

    public static Errno Create(out SafeFd fd, bool nonBlocking = true)
    {
        int raw = EventFdCore(0, EFD_CLOEXEC | (nonBlocking ? EFD_NONBLOCK : 0));
        fd = new SafeFd(raw);
        return raw >= 0 ? Errno.None : (Errno)Marshal.GetLastPInvokeError();
    }

    /// <summary>Adds one. EAGAIN (the counter is full) is success: the other side has a wake-up pending.</summary>
    public static Errno Signal(SafeHandle fd)
    {
        ulong one = 1;
        IoResult written = FileCalls.Write(fd, new ReadOnlySpan<byte>(&one, sizeof(ulong)));
        return written.Errno == Errno.EAGAIN ? Errno.None : written.Errno;
    }

    /// <summary>Takes the counter; false when it is zero (or the descriptor is no eventfd).</summary>
    public static bool TryConsume(SafeHandle fd, out ulong count)
    {
        ulong value = 0;
        IoResult read = FileCalls.Read(fd, new Span<byte>(&value, sizeof(ulong)));
        count = value;
        return !read.IsError && value != 0;
    }

    [LibraryImport("libc", EntryPoint = "eventfd", SetLastError = true)]
    private static partial int EventFdCore(uint initial, int flags);
}
