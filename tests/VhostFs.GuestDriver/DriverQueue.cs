using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.GuestDriver;

[StructLayout(LayoutKind.Sequential)]
internal record struct Desc(ulong Address, uint Length, ushort Flags = 0, ushort Next = 0)
{
    public const ushort FlagNext = 1, FlagWrite = 2, FlagIndirect = 4;
}

/// <summary>The driver side of one virtqueue, for good and for bad: what both layouts have in common. Chains are counted, and have a head: of their descriptors, or a buffer id.</summary>
internal abstract partial class DriverQueue : IDisposable
{
    // A lost call shows as slowness, not as a hang.
    private const int MaxSleepMs = 100;
    private readonly Thread? _caller;
    private readonly ManualResetEvent _isOver = new(false);
    private bool _readSleeps;

    /// <param name="isCallBlocking">Reading the call eventfd sleeps: one system call less per wait than to poll first. A thread calls now and then, too, so that nobody sleeps for ever.</param>
    protected DriverQueue(GuestRam ram, int index, int size, VirtioFeatures features, bool isCallBlocking)
    {
        Ram = ram;
        Index = index;
        Size = size;
        Features = features;
        Expect.Equal(Errno.None, EventFd.Create(out SafeFd kick));
        Expect.Equal(Errno.None, EventFd.Create(out SafeFd call, nonBlocking: !isCallBlocking));
        Expect.Equal(Errno.None, EventFd.Create(out SafeFd err));
        (KickFd, CallFd, ErrFd) = (kick, call, err);
        if (!isCallBlocking) { return; }
        _readSleeps = true;
        // No timer: the thread pool's workers spin before they sleep, on somebody's processor.
        _caller = new Thread(CallNowAndThen) { IsBackground = true, Name = "now and then" };
        _caller.Start();
    }

    public int Index { get; }
    public int Size { get; }
    public VirtioFeatures Features { get; }
    public bool HasEventIdx => (Features & VirtioFeatures.EventIdx) != 0;
    public SafeFd KickFd { get; }
    public SafeFd CallFd { get; }
    public SafeFd ErrFd { get; }

    /// <summary>Chains made available so far, modulo 65,536.</summary>
    public ushort AvailIndex { get; set; }

    /// <summary>Chains taken back so far, modulo 65,536.</summary>
    public ushort LastUsed { get; set; }

    /// <summary>Chains that the device has given back, modulo 65,536.</summary>
    public abstract ushort UsedIndex { get; }

    public abstract bool HasUsed { get; }

    /// <summary>Where the ring's parts are, for SET_VRING_ADDR.</summary>
    public abstract ulong Descriptors { get; }
    public abstract ulong Available { get; }
    public abstract ulong Used { get; }

    /// <summary>For SET_VRING_BASE, when nothing is in flight.</summary>
    public abstract uint Base { get; }

    /// <summary>Written by <see cref="KickOnce"/> so far.</summary>
    public long Kicks { get; private set; }

    protected GuestRam Ram { get; }

    public static DriverQueue New(GuestRam ram, int index, int size, VirtioFeatures features, bool isCallBlocking = false) => (features & VirtioFeatures.RingPacked) != 0
        ? new PackedDriverQueue(ram, index, size, features, isCallBlocking: isCallBlocking)
        : new SplitDriverQueue(ram, index, size, features, isCallBlocking: isCallBlocking);

    /// <summary>A chain of these descriptors, not yet available; returns its head.</summary>
    public abstract ushort Chain(params ReadOnlySpan<Desc> parts);

    public ushort IndirectChain(params ReadOnlySpan<Desc> parts)
    {
        int table = Ram.Allocate(16 * parts.Length);
        for (int i = 0; i < parts.Length; i++) { WriteTableEntry(table, i, parts[i], isLast: i == parts.Length - 1); }
        return Chain(new Desc(GuestRam.Gpa(table), (uint)(16 * parts.Length), Desc.FlagIndirect));
    }

    /// <summary>A chain of one descriptor with a head of the caller's choice.</summary>
    public abstract void SetChain(ushort head, Desc only);

    /// <summary>An entry of an indirect table at an offset of guest memory.</summary>
    public abstract void WriteTableEntry(int table, int index, Desc part, bool isLast);

    public abstract void MakeAvailable(ushort head);

    public abstract bool TryTakeUsed(out uint id, out uint length);

    /// <summary>A call when the chain with this number comes back; in a packed ring every chain up to it is one descriptor.</summary>
    public abstract void WantCallAt(ushort index);

    public abstract void SuppressCalls();

    /// <summary>For a driver that polls: no calls from here on, for as long as this is repeated now and then.</summary>
    public abstract void PutCallsOff();

    /// <summary>As new, on memory that is all zeroes.</summary>
    public abstract void Forget();

    public void Kick() => Expect.Equal(Errno.None, EventFd.Signal(KickFd));

    /// <summary>At most one kick for all that was made available since the last call, when the device wants any.</summary>
    public void KickOnce()
    {
        // What is new must be visible before the look at the device's wish: the device writes its wish first and looks for new entries then.
        Interlocked.MemoryBarrier();
        if (!TakeKickWish()) { return; }
        Kicks++;
        Kick();
    }

    public ulong TakeCalls() => EventFd.TryConsume(CallFd, out ulong count) ? count : 0;

    /// <summary>Sleeps until the device calls for the next used entry; at most a tenth of a second, so that a lost call shows as slowness, not as a hang.</summary>
    public void WaitForCall()
    {
        if (HasEventIdx) { WantCallAt(LastUsed); }
        // The wish must be visible before the look: the device writes the entry first and reads the wish then.
        Interlocked.MemoryBarrier();
        if (HasUsed || (_readSleeps && TakeCalls() > 0)) { return; }
        // Reading does not sleep, or not any more: O_NONBLOCK is the eventfd's, and some devices set it.
        _readSleeps = false;
        var wait = new PollFd(CallFd.Fd, PollFd.POLLIN);
        if (Poll(ref wait, 1, MaxSleepMs) > 0) { TakeCalls(); }
    }

    public void Dispose()
    {
        if (_caller is { IsAlive: true })
        {
            _isOver.Set();
            _caller.Join();
        }
        _isOver.Dispose();
        KickFd.Dispose();
        CallFd.Dispose();
        ErrFd.Dispose();
    }

    /// <summary>The device wants a kick for what was made available since the last question.</summary>
    protected abstract bool TakeKickWish();

    private void CallNowAndThen()
    {
        while (!_isOver.WaitOne(MaxSleepMs)) { EventFd.Signal(CallFd); }
    }

    [LibraryImport("libc", EntryPoint = "poll")]
    private static partial int Poll(ref PollFd first, ulong count, int timeoutMs);

    [StructLayout(LayoutKind.Sequential)]
    private record struct PollFd(int Fd, short Events, short Occurred = 0)
    {
        public const short POLLIN = 1;
    }
}
