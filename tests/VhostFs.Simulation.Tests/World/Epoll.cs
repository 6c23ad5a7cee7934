using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Simulation.Tests.World;

/// <summary>epoll(7), never waiting: which of the simulation's real descriptors have something to tell.</summary>
internal sealed unsafe partial class Epoll : IDisposable
{
    public const uint EdgeTriggered = 1u << 31, OneShot = 1u << 30;
    private const int CloseOnExec = 0x80000;
    private const int Add = 1, Delete = 2;
    private const int MaxEvents = 32;

    // struct epoll_event is packed on x86-64 only.
    private static readonly int s_dataOffset = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 4 : 8;
    private static readonly int s_eventBytes = s_dataOffset + 8;
    private readonly SafeFd _fd;
    private readonly byte[] _events = new byte[MaxEvents * 16];

    public Epoll()
    {
        int raw = CreateCore(CloseOnExec);
        if (raw < 0) { throw new InvalidOperationException($"epoll_create1: {(Errno)Marshal.GetLastPInvokeError()}"); }
        _fd = new SafeFd(raw);
    }

    public void Watch(SafeFd fd, uint events, ulong data) => Control(Add, fd, events, data);

    public void Forget(SafeFd fd) => Control(Delete, fd, 0, 0);

    /// <summary>What is ready now, in the order in which it became so.</summary>
    public int Look(Span<(ulong Data, short Events)> ready)
    {
        int count;
        fixed (byte* events = _events) { count = WaitCore(_fd, events, Math.Min(ready.Length, MaxEvents), 0); }
        if (count < 0)
        {
            var errno = (Errno)Marshal.GetLastPInvokeError();
            return errno == Errno.EINTR ? 0 : throw new InvalidOperationException($"epoll_wait: {errno}");
        }
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> at = _events.AsSpan(i * s_eventBytes, s_eventBytes);
            ready[i] = (MemoryMarshal.Read<ulong>(at[s_dataOffset..]), (short)MemoryMarshal.Read<uint>(at));
        }
        return count;
    }

    public void Dispose() => _fd.Dispose();

    private void Control(int operation, SafeFd fd, uint events, ulong data)
    {
        byte* buffer = stackalloc byte[16];
        *(uint*)buffer = events;
        *(ulong*)(buffer + s_dataOffset) = data;
        if (ControlCore(_fd, operation, fd, buffer) == 0) { return; }
        var errno = (Errno)Marshal.GetLastPInvokeError();
        // A file that was closed under its watch is gone from the set already.
        if (operation != Delete || errno is not (Errno.ENOENT or Errno.EBADF)) { throw new InvalidOperationException($"epoll_ctl: {errno}"); }
    }

    [LibraryImport("libc", EntryPoint = "epoll_create1", SetLastError = true)]
    private static partial int CreateCore(int flags);

    [LibraryImport("libc", EntryPoint = "epoll_ctl", SetLastError = true)]
    private static partial int ControlCore(SafeHandle epoll, int operation, SafeHandle fd, byte* @event);

    [LibraryImport("libc", EntryPoint = "epoll_wait", SetLastError = true)]
    private static partial int WaitCore(SafeHandle epoll, byte* events, int maxEvents, int timeoutMs);
}
