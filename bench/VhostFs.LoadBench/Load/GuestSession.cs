using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;

namespace VhostFs.LoadBench.Load;

/// <summary>A guest that has a device, and asks it for something small now and then: a file system for the attributes of its root, a disk for its first block.</summary>
internal sealed class GuestSession : IDisposable
{
    /// <summary>Of the guest; what it takes is not the server's.</summary>
    public const int RamBytes = 256 << 10;
    private const int QueueSize = 128, DiskBytes = 4096;

    private readonly FrontEnd _frontEnd;
    private readonly SlotQueue _queue;
    private readonly bool _isDisk;

    public GuestSession(string socket, DeviceKind kind = DeviceKind.Fs)
        : this(FrontEnd.Connect(socket, new GuestRam(RamBytes)), kind)
    {
    }

    /// <summary>On a connection that has agreed on nothing yet, and is the session's from here on. The device has answered once.</summary>
    public GuestSession(FrontEnd frontEnd, DeviceKind kind = DeviceKind.Fs)
    {
        _frontEnd = frontEnd;
        _isDisk = kind == DeviceKind.Blk;
        frontEnd.Agree(_isDisk ? BlkSlot.Features : default);
        Expect.Equal(0UL, frontEnd.SetMemoryTable());
        frontEnd.AddQueue(0, QueueSize);
        if (!_isDisk)
        {
            frontEnd.AddQueue(1, QueueSize); // that at 0 is for what must not wait
            frontEnd.Init();
        }
        _queue = new SlotQueue(frontEnd.Ram, frontEnd.Queues[^1], depth: 1, _isDisk ? DiskBytes : 0);
        Ask(0);
        FrontEnd.Poll(TryTake, "the first answer of the device");
    }

    /// <summary>When what it is waiting for was due.</summary>
    public long DueAt { get; private set; }

    public bool IsWaiting => _queue.InFlight > 0;

    public void Ask(long dueAt)
    {
        DueAt = dueAt;
        RequestSlot slot = _queue.Slots[0];
        if (_isDisk) { slot.BlkRead(0, DiskBytes); }
        else { slot.Fuse(FuseOpcode.GETATTR, FuseClient.Root, new FuseGetattrIn(0, 0, 0), Marshal.SizeOf<FuseAttrOut>()); }
        _queue.Submit(slot);
        _queue.Queue.KickOnce();
    }

    /// <summary>Whether the answer is there.</summary>
    public bool TryTake()
    {
        if (!_queue.TryTake(out RequestSlot slot)) { return false; }
        if (_isDisk) { Expect.True(slot.IsBlkDone(), "the disk has done it"); }
        else { Expect.Equal(Errno.None, slot.FuseError()); }
        // Nobody sleeps until the call comes, but the device makes it, as for a guest that does.
        if (_queue.Queue.HasEventIdx) { _queue.Queue.WantCallAt(_queue.Queue.LastUsed); }
        return true;
    }

    public void Dispose() => _frontEnd.Dispose();
}
