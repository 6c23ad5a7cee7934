using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Virtio;
using VhostFs.VhostUser;

namespace VhostFs.GuestDriver;

[StructLayout(LayoutKind.Sequential)]
internal record struct Desc(ulong Address, uint Length, ushort Flags = 0, ushort Next = 0)
{
    public const ushort FlagNext = 1, FlagWrite = 2, FlagIndirect = 4;
}

/// <summary>The driver side of one split virtqueue, for good and for bad.</summary>
internal sealed partial class DriverQueue : IDisposable
{
    // A lost call shows as slowness, not as a hang.
    private const int MaxSleepMs = 100;
    private readonly GuestRam _ram;
    private readonly Thread? _caller;
    private readonly ManualResetEvent _isOver = new(false);
    private readonly int _desc, _avail, _used;
    private ushort _nextDesc, _kickedFor;
    private bool _readSleeps;

    /// <param name="isCallBlocking">Reading the call eventfd sleeps: one system call less per wait than to poll first. A thread calls now and then, too, so that nobody sleeps for ever.</param>
    public DriverQueue(GuestRam ram, int index, int size, VirtioFeatures features, ushort start = 0, bool isCallBlocking = false)
    {
        _ram = ram;
        Index = index;
        Size = size;
        Features = features;
        _desc = ram.Allocate(16 * size, 4096);
        _avail = ram.Allocate(6 + (2 * size), 4096);
        _used = ram.Allocate(6 + (8 * size), 4096);
        ram.Write16(_avail + 2, start);
        ram.Write16(_used + 2, start);
        AvailIndex = LastUsed = _kickedFor = start;
        Expect.Equal(Errno.None, EventFd.Create(out SafeFd kick));
        Expect.Equal(Errno.None, EventFd.Create(out SafeFd call, nonBlocking: !isCallBlocking));
        Expect.Equal(Errno.None, EventFd.Create(out SafeFd err));
        (KickFd, CallFd, ErrFd) = (kick, call, err);
        if (HasEventIdx) { WantCallAt(start); }
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
    public ushort AvailIndex { get; set; }
    public ushort LastUsed { get; set; }
    public ulong Descriptors => _ram.User(_desc);
    public ulong Available => _ram.User(_avail);
    public ulong Used => _ram.User(_used);
    public ushort UsedIndex => _ram.Read16(_used + 2);
    public ushort UsedFlags => _ram.Read16(_used);
    public bool HasUsed => UsedIndex != LastUsed;

    /// <summary>Written by <see cref="KickOnce"/> so far.</summary>
    public long Kicks { get; private set; }

    public ushort CallEvent => _ram.Read16(_avail + 4 + (2 * Size));
    public ushort KickEvent => _ram.Read16(_used + 4 + (8 * Size));

    public void WriteDescriptor(int at, Desc desc) => MemoryMarshal.Write(_ram.At(_desc + (16 * at), 16), desc);

    /// <summary>Places a chain of table entries and returns its head; does not make it available.</summary>
    public ushort Chain(params ReadOnlySpan<Desc> parts)
    {
        ushort head = _nextDesc;
        for (int i = 0; i < parts.Length; i++)
        {
            var next = (ushort)((_nextDesc + 1) % Size);
            bool isLast = i == parts.Length - 1;
            WriteDescriptor(_nextDesc, parts[i] with { Flags = (ushort)(parts[i].Flags | (isLast ? 0 : Desc.FlagNext)), Next = next });
            _nextDesc = next;
        }
        return head;
    }

    public ushort IndirectChain(params ReadOnlySpan<Desc> parts)
    {
        int table = _ram.Allocate(16 * parts.Length);
        for (int i = 0; i < parts.Length; i++)
        {
            bool isLast = i == parts.Length - 1;
            Desc part = parts[i] with { Flags = (ushort)(parts[i].Flags | (isLast ? 0 : Desc.FlagNext)), Next = (ushort)(i + 1) };
            MemoryMarshal.Write(_ram.At(table + (16 * i), 16), part);
        }
        return Chain(new Desc(GuestRam.Gpa(table), (uint)(16 * parts.Length), Desc.FlagIndirect));
    }

    public void MakeAvailable(ushort head)
    {
        _ram.Write16(_avail + 4 + (AvailIndex % Size * 2), head);
        PublishAvailable((ushort)(AvailIndex + 1));
    }

    public void PublishAvailable(ushort index)
    {
        AvailIndex = index;
        _ram.Write16(_avail + 2, index);
    }

    /// <summary>Whether a driver would kick for what it added since <paramref name="old"/>.</summary>
    public bool NeedsKick(ushort old) => HasEventIdx
        ? (ushort)(AvailIndex - KickEvent - 1) < (ushort)(AvailIndex - old)
        : (UsedFlags & 1) == 0;

    public void Kick() => Expect.Equal(Errno.None, EventFd.Signal(KickFd));

    /// <summary>At most one kick for all that was made available since the last call, when the device wants any.</summary>
    public void KickOnce()
    {
        if (AvailIndex == _kickedFor) { return; }
        // The new index must be visible before the look at the device's wish: the device writes its wish first and looks for new entries then.
        Interlocked.MemoryBarrier();
        bool isWanted = NeedsKick(_kickedFor);
        _kickedFor = AvailIndex;
        if (!isWanted) { return; }
        Kicks++;
        Kick();
    }

    public ulong TakeCalls() => EventFd.TryConsume(CallFd, out ulong count) ? count : 0;

    public void WantCallAt(ushort index) => _ram.Write16(_avail + 4 + (2 * Size), index);

    public void SuppressCalls() => _ram.Write16(_avail, 1);

    /// <summary>For a driver that polls: no calls from here on, for as long as this is repeated now and then.</summary>
    public void PutCallsOff()
    {
        if (!HasEventIdx) { SuppressCalls(); }
        // An index that has gone by causes a call only when the indices have come round.
        else if ((ushort)(LastUsed - CallEvent - 1) > 0x4000) { WantCallAt((ushort)(LastUsed - 1)); }
    }

    public bool TryTakeUsed(out uint id, out uint length)
    {
        id = length = 0;
        if (UsedIndex == LastUsed) { return false; }
        int at = _used + 4 + (LastUsed % Size * 8);
        id = _ram.Read32(at);
        length = _ram.Read32(at + 4);
        LastUsed++;
        return true;
    }

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
