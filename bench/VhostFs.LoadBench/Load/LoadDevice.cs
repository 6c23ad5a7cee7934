using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;

namespace VhostFs.LoadBench.Load;

/// <summary>A device that has been set up as a guest does it, with its queues for requests.</summary>
internal sealed class LoadDevice : IDisposable
{
    // What a guest of Linux 6 offers and any server knows; neither locks nor a cache of the guest's are measured here.
    private const FuseInitFlags GuestFlags = FuseInitFlags.ASYNC_READ | FuseInitFlags.ATOMIC_O_TRUNC | FuseInitFlags.BIG_WRITES | FuseInitFlags.DO_READDIRPLUS
        | FuseInitFlags.ASYNC_DIO | FuseInitFlags.PARALLEL_DIROPS | FuseInitFlags.MAX_PAGES;

    // Beside the slots: rings, and what FuseClient has in flight.
    private const int OtherRamBytes = 1 << 20;
    // virtio-blk disks say how many pieces they take: 126 is usual.
    private const int MaxBlkSegments = 64;

    /// <param name="dataBytes">The most data of a request.</param>
    public LoadDevice(LoadOptions options, string socket, int dataBytes)
    {
        Kind = options.Device;
        int segmentBytes = SegmentBytes(dataBytes);
        int ramBytes = checked(OtherRamBytes + (options.Queues * ((32 * options.QueueSize) + SlotQueue.RamBytes(options.Depth, dataBytes, segmentBytes))) + GuestRam.PageBytes - 1);
        var ram = new GuestRam(ramBytes & -GuestRam.PageBytes);
        FrontEnd = FrontEnd.Connect(socket, ram);
        FrontEnd.Agree(Kind == DeviceKind.Blk ? BlkSlot.Features : default);
        Expect.Equal(0UL, FrontEnd.SetMemoryTable());
        int first = Kind == DeviceKind.Blk ? 0 : 1; // that of a file system at 0 is for what must not wait
        for (int i = 0; i < first + options.Queues; i++) { FrontEnd.AddQueue(i, options.QueueSize, isCallBlocking: true); }
        if (Kind == DeviceKind.Blk)
        {
            CapacityBytes = (long)FrontEnd.BlkCapacity() * BlkSlot.SectorBytes;
            Client = null!;
        }
        else
        {
            FuseInitOut init = FrontEnd.Init((uint)GuestFlags);
            if (init.MaxWrite < dataBytes) { throw new DriverException($"the server takes at most {init.MaxWrite} bytes of data in a request"); }
            Client = new FuseClient(FrontEnd, FrontEnd.Queues[first]);
        }
        Queues = [.. FrontEnd.Queues.Skip(first).Select(queue => new SlotQueue(ram, queue, options.Depth, dataBytes, segmentBytes, options.IsPolling, () => FrontEnd.HasEnded))];
    }

    public DeviceKind Kind { get; }

    public FrontEnd FrontEnd { get; }

    /// <summary>For requests; each is driven by a thread of its own.</summary>
    public IReadOnlyList<SlotQueue> Queues { get; }

    /// <summary>The first of them, which also takes what a job does before and after it is measured.</summary>
    public SlotQueue Slots => Queues[0];

    /// <summary>For what has to be done before and after, one request at a time; of a file system only.</summary>
    public FuseClient Client { get; }

    /// <summary>Of a disk.</summary>
    public long CapacityBytes { get; }

    /// <summary>Puts something to write into all slots.</summary>
    public void FillSlots()
    {
        foreach (RequestSlot slot in Queues.SelectMany(queue => queue.Slots)) { Content.Fill(slot); }
    }

    public void Dispose() => FrontEnd.Dispose();

    private int SegmentBytes(int dataBytes) => Kind == DeviceKind.Fs ? GuestRam.PageBytes : Math.Max(GuestRam.PageBytes, dataBytes / MaxBlkSegments);
}
