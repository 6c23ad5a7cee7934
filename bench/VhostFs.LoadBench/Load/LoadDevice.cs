using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;

namespace VhostFs.LoadBench.Load;

/// <summary>A device that has been set up as a guest does it, and one queue of it for requests.</summary>
internal sealed class LoadDevice : IDisposable
{
    // What a guest of Linux 6 offers and any server knows; neither locks nor a cache of the guest's are measured here.
    private const FuseInitFlags GuestFlags = FuseInitFlags.ASYNC_READ | FuseInitFlags.ATOMIC_O_TRUNC | FuseInitFlags.BIG_WRITES | FuseInitFlags.DO_READDIRPLUS
        | FuseInitFlags.ASYNC_DIO | FuseInitFlags.PARALLEL_DIROPS | FuseInitFlags.MAX_PAGES;

    // Beside the slots: rings, and what FuseClient has in flight.
    private const int OtherRamBytes = 1 << 20;
    // virtio-blk disks say how many pieces they take: 126 is usual.
    private const int MaxBlkSegments = 64;

    private readonly GuestRam _ram;
    private readonly bool _isPolling;

    /// <param name="dataBytes">The most data of a request.</param>
    /// <param name="depth">The most requests at once.</param>
    public LoadDevice(LoadOptions options, int depth, int dataBytes)
    {
        Kind = options.Device;
        _isPolling = options.IsPolling;
        int segmentBytes = SegmentBytes(dataBytes);
        int ramBytes = checked(OtherRamBytes + (32 * options.QueueSize) + SlotQueue.RamBytes(depth, dataBytes, segmentBytes) + GuestRam.PageBytes - 1);
        _ram = new GuestRam(ramBytes & -GuestRam.PageBytes);
        FrontEnd = FrontEnd.Connect(options.Socket, _ram);
        FrontEnd.Agree(Kind == DeviceKind.Blk ? BlkSlot.Features : default);
        Expect.Equal(0UL, FrontEnd.SetMemoryTable());
        Queue = FrontEnd.AddQueue(0, options.QueueSize, isCallBlocking: true);
        if (Kind == DeviceKind.Blk)
        {
            CapacityBytes = (long)FrontEnd.BlkCapacity() * BlkSlot.SectorBytes;
            Client = null!;
        }
        else
        {
            Queue = FrontEnd.AddQueue(1, options.QueueSize, isCallBlocking: true); // that at 0 is for what must not wait
            FuseInitOut init = FrontEnd.Init((uint)GuestFlags);
            if (init.MaxWrite < dataBytes) { throw new DriverException($"the server takes at most {init.MaxWrite} bytes of data in a request"); }
            Client = new FuseClient(FrontEnd, Queue);
        }
        Slots = new SlotQueue(_ram, Queue, depth, dataBytes, segmentBytes, _isPolling, () => FrontEnd.HasEnded);
    }

    public DeviceKind Kind { get; }

    public FrontEnd FrontEnd { get; }

    public DriverQueue Queue { get; }

    public SlotQueue Slots { get; }

    /// <summary>For what has to be done before and after, one request at a time; of a file system only.</summary>
    public FuseClient Client { get; }

    /// <summary>Of a disk.</summary>
    public long CapacityBytes { get; }

    public void Dispose() => FrontEnd.Dispose();

    private int SegmentBytes(int dataBytes) => Kind == DeviceKind.Fs ? GuestRam.PageBytes : Math.Max(GuestRam.PageBytes, dataBytes / MaxBlkSegments);
}
