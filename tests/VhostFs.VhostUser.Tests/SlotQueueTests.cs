using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>The driver's queue for load, against the device side of a ring and against the devices themselves.</summary>
public sealed class SlotQueueTests : IDisposable
{
    private const int Ram = 4 << 20, PageBytes = GuestRam.PageBytes;
    private const VirtioFeatures All = VirtioFeatures.Version1 | VirtioFeatures.EventIdx | VirtioFeatures.IndirectDesc;
    private readonly GuestRam _ram = new(Ram);
    private readonly GuestMemory _memory = new();
    private readonly IoVecList _readable = new(), _writable = new();
    private readonly List<DriverQueue> _drivers = [];

    public SlotQueueTests() => Assert.Equal(Errno.None, _memory.Add(_ram.Fd, new GuestRegion(GuestRam.GuestBase, Ram, _ram.UserBase, 0), out _));

    public void Dispose()
    {
        _drivers.ForEach(d => d.Dispose());
        _memory.Dispose();
        _ram.Dispose();
        _readable.Dispose();
        _writable.Dispose();
    }

    private (SlotQueue Slots, SplitDriverQueue Driver, Virtqueue Device) Make(int depth = 4, int dataBytes = 0, VirtioFeatures features = All, bool isPolling = false)
    {
        var driver = new SplitDriverQueue(_ram, 0, 16, features);
        _drivers.Add(driver);
        var device = new Virtqueue(_memory);
        Assert.Equal(Errno.None, device.Start(16, new RingAddresses(driver.Descriptors, driver.Used, driver.Available), 0, features));
        return (new SlotQueue(_ram, driver, depth, dataBytes, isPolling: isPolling), driver, device);
    }

    private ushort Pop(Virtqueue device)
    {
        _readable.Clear();
        _writable.Clear();
        Assert.Equal(PopResult.Chain, device.Pop(_readable, _writable, out ushort head));
        return head;
    }

    private static void Submit(SlotQueue slots, int index)
    {
        slots.Slots[index].FuseName(FuseOpcode.LOOKUP, 1, "name\0"u8, replyBytes: 128);
        slots.Submit(slots.Slots[index]);
    }

    [Fact]
    public void A_write_is_header_arguments_and_pages_and_then_room_for_the_reply()
    {
        (SlotQueue slots, _, Virtqueue device) = Make(dataBytes: 4 * PageBytes);
        RequestSlot slot = slots.Slots[2];
        for (int i = 0; i < 3; i++) { slot.Segment(i).Fill((byte)(i + 1)); }
        slot.Fuse(FuseOpcode.WRITE, 7, new FuseWriteIn(8, 9, 3 * PageBytes), replyBytes: 8, dataOutBytes: 3 * PageBytes);
        slots.Submit(slot);
        Assert.Equal(2, Pop(device));
        Assert.Equal((40 + 40 + (3 * PageBytes), 16 + 8), (_readable.LengthBytes, _writable.LengthBytes));
        byte[] bytes = [.. Enumerable.Range(0, _readable.Count).SelectMany(i => _readable.View()[i].Span.ToArray())];
        FuseInHeader header = MemoryMarshal.Read<FuseInHeader>(bytes);
        Assert.Equal(((uint)bytes.Length, (uint)FuseOpcode.WRITE, 7UL), (header.Length, header.Opcode, header.NodeId));
        Assert.Equal(new FuseWriteIn(8, 9, 3 * PageBytes), MemoryMarshal.Read<FuseWriteIn>(bytes.AsSpan(40)));
        Assert.Equal([1, 2, 3], Enumerable.Range(0, 3).Select(i => bytes[80 + (i * PageBytes)]));
    }

    [Fact]
    public void A_shorter_request_has_nothing_of_the_one_before()
    {
        (SlotQueue slots, _, Virtqueue device) = Make(dataBytes: 4 * PageBytes);
        RequestSlot slot = slots.Slots[0];
        slot.Fuse(FuseOpcode.READ, 7, new FuseReadIn(8, 9, 4 * PageBytes), dataInBytes: 4 * PageBytes);
        slots.Submit(slot);
        device.Push(Pop(device), 0);
        Assert.True(slots.TryTake(out _));
        Submit(slots, 0);
        Pop(device);
        Assert.Equal((45L, 144L), (_readable.LengthBytes, _writable.LengthBytes));
    }

    [Theory]
    [InlineData(All)]
    [InlineData(All & ~VirtioFeatures.EventIdx)]
    public void One_kick_is_for_all_that_was_added(VirtioFeatures features)
    {
        (SlotQueue slots, SplitDriverQueue driver, Virtqueue device) = Make(features: features);
        for (int i = 0; i < 3; i++) { Submit(slots, i); }
        driver.KickOnce();
        driver.KickOnce(); // nothing new
        Assert.Equal((1L, 1UL), (driver.Kicks, EventFd.TryConsume(driver.KickFd, out ulong count) ? count : 0));
        for (int i = 0; i < 3; i++) { Pop(device); }
        if ((features & VirtioFeatures.EventIdx) != 0) { return; }
        device.DisableKicks();
        Submit(slots, 3);
        driver.KickOnce();
        Assert.Equal(1, driver.Kicks);
    }

    [Fact]
    public void A_device_at_work_is_not_kicked()
    {
        (SlotQueue slots, SplitDriverQueue driver, Virtqueue device) = Make();
        Submit(slots, 0);
        driver.KickOnce();
        Submit(slots, 1); // the device has not asked since
        driver.KickOnce();
        Assert.Equal(1, driver.Kicks);
        Pop(device);
        Pop(device);
        Assert.False(device.EnableKicks());
        Submit(slots, 2);
        driver.KickOnce();
        Assert.Equal(2, driver.Kicks);
    }

    [Fact]
    public void Requests_come_back_in_any_order()
    {
        (SlotQueue slots, _, Virtqueue device) = Make();
        for (int i = 0; i < 4; i++) { Submit(slots, i); }
        ushort[] heads = [Pop(device), Pop(device), Pop(device), Pop(device)];
        Assert.Equal([0, 1, 2, 3], heads);
        foreach (ushort head in heads.Reverse()) { device.Push(head, (uint)(head + 100)); }
        for (int i = 3; i >= 0; i--)
        {
            Assert.True(slots.TryTake(out RequestSlot slot));
            Assert.Equal((i, (uint)(i + 100), i), (slot.Index, slot.UsedBytes, slots.InFlight));
        }
        Assert.False(slots.TryTake(out _));
    }

    [Fact]
    public void What_was_not_in_flight_is_noticed_when_it_comes_back()
    {
        (SlotQueue slots, SplitDriverQueue driver, Virtqueue device) = Make();
        driver.MakeAvailable(9);
        driver.WriteDescriptor(9, new Desc(GuestRam.Gpa(_ram.Allocate(64)), 64));
        device.Push(Pop(device), 0);
        Assert.Throws<DriverException>(() => slots.TryTake(out _));
    }

    [Fact]
    public void A_slot_in_flight_cannot_be_submitted_again()
    {
        (SlotQueue slots, _, _) = Make();
        Submit(slots, 0);
        Assert.Throws<DriverException>(() => slots.Submit(slots.Slots[0]));
    }

    [Theory]
    [InlineData(All)]
    [InlineData(All & ~VirtioFeatures.EventIdx)]
    public void Who_polls_is_not_called(VirtioFeatures features)
    {
        (SlotQueue slots, SplitDriverQueue driver, Virtqueue device) = Make(features: features, isPolling: true);
        Submit(slots, 0);
        device.Push(Pop(device), 0);
        device.TakeCall(); // the first one always
        slots.Wait();
        Assert.True(slots.TryTake(out _));
        for (int i = 0; i < 70_000; i++) // once round all indices
        {
            Submit(slots, i % 4);
            device.Push(Pop(device), 0);
            Assert.False(device.TakeCall());
            slots.Wait();
            Assert.True(slots.TryTake(out _));
        }
        Assert.Equal(0UL, driver.TakeCalls());
    }

    /// <summary>The call that the device owes never comes; neither is the test's patience tried, nor its luck.</summary>
    [Fact]
    public void Who_sleeps_in_a_read_wakes_without_a_call_too()
    {
        using var driver = new SplitDriverQueue(_ram, 0, 16, All, isCallBlocking: true);
        driver.WaitForCall();
        Assert.False(driver.HasUsed);
    }

    [Fact]
    public void Pages_of_requests_lie_apart_and_scattered()
    {
        (SlotQueue slots, _, _) = Make(depth: 8, dataBytes: 8 * PageBytes);
        long[] places = [.. slots.Slots.SelectMany(s => Enumerable.Range(0, s.SegmentCount).Select(i => (long)AddressOf(s.Segment(i))))];
        Assert.Equal(64, places.Distinct().Count());
        Assert.Equal(63, places.Max() / PageBytes - (places.Min() / PageBytes));
        Assert.InRange(places.Zip(places.Skip(1)).Count(p => p.Second == p.First + PageBytes), 0, 8);
    }

    private static unsafe nint AddressOf(Span<byte> span)
    {
        fixed (byte* first = span) { return (nint)first; }
    }

    [Fact]
    public void A_request_allocates_nothing()
    {
        (SlotQueue slots, SplitDriverQueue driver, Virtqueue device) = Make(dataBytes: PageBytes);
        void Round()
        {
            RequestSlot slot = slots.Slots[1];
            slot.Fuse(FuseOpcode.READ, 7, new FuseReadIn(8, 9, PageBytes), dataInBytes: PageBytes);
            slots.Submit(slot);
            driver.KickOnce();
            _readable.Clear();
            _writable.Clear();
            device.Pop(_readable, _writable, out ushort head);
            device.Push(head, 16);
            MemoryMarshal.Write(slot.Reply, new FuseOutHeader(16, 0, 0));
            slots.Wait();
            Assert.True(slots.TryTake(out slot));
            if (slot.FuseError() != Errno.None) { Assert.Fail("an error"); }
        }
        for (int i = 0; i < 100; i++) { Round(); }
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++) { Round(); }
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    public void A_file_system_answers_a_queue_full_of_requests(bool isPolling, bool isCallBlocking)
    {
        using var export = new Export();
        using var frontEnd = new FrontEnd(export.Path0);
        frontEnd.Agree();
        Assert.Equal(0UL, frontEnd.SetMemoryTable());
        frontEnd.AddQueue(0);
        DriverQueue queue = frontEnd.AddQueue(1, isCallBlocking: isCallBlocking);
        Assert.Equal(7u, frontEnd.Init().Major);
        var slots = new SlotQueue(frontEnd.Ram, queue, depth: 16, dataBytes: 0, isPolling: isPolling, hasEnded: () => frontEnd.HasEnded);
        int done = 0;
        foreach (RequestSlot slot in slots.Slots)
        {
            slot.Fuse(FuseOpcode.GETATTR, (ulong)(slot.Index % 4), new FuseGetattrIn(0, 0, 0), Marshal.SizeOf<FuseAttrOut>());
            slots.Submit(slot);
        }
        while (slots.InFlight > 0)
        {
            if (!slots.TryTake(out RequestSlot slot))
            {
                slots.Wait();
                continue;
            }
            done++;
            if (slot.Index % 4 == 3) { Assert.Equal(Errno.ESTALE, slot.FuseError()); }
            else { Assert.Equal((Errno.None, (ulong)(slot.Index % 4)), (slot.FuseError(), slot.FuseReply<FuseAttrOut>().Attributes.Inode)); }
        }
        Assert.Equal(16, done);
    }

    [Fact]
    public void A_disk_keeps_what_a_queue_of_writes_brings()
    {
        using var disk = new BlkDisk();
        using var frontEnd = new FrontEnd(disk.Paths[0]);
        frontEnd.Agree();
        Assert.Equal(0UL, frontEnd.SetMemoryTable());
        var slots = new SlotQueue(frontEnd.Ram, frontEnd.AddQueue(0), depth: 8, dataBytes: 2 * PageBytes);
        Assert.Equal((ulong)BlkDisk.DiskBytes, frontEnd.BlkCapacity() * BlkSlot.SectorBytes);
        foreach (RequestSlot slot in slots.Slots)
        {
            for (int i = 0; i < 2; i++) { slot.Segment(i).Fill((byte)(1 + (2 * slot.Index) + i)); }
            slot.BlkWrite((ulong)(16 * slot.Index), 2 * PageBytes);
            slots.Submit(slot);
        }
        Drain(slots);
        byte[] there = disk.Read(0, 16 * PageBytes);
        Assert.Equal(Enumerable.Range(1, 16).Select(i => (byte)i), Enumerable.Range(0, 16).Select(i => there[i * PageBytes]));
        slots.Slots[3].BlkRead(16, 2 * PageBytes);
        slots.Submit(slots.Slots[3]);
        slots.Slots[4].BlkFlush();
        slots.Submit(slots.Slots[4]);
        Drain(slots);
        Assert.Equal((3, 4), (slots.Slots[3].Segment(0)[0], slots.Slots[3].Segment(1)[PageBytes - 1]));
        slots.Slots[0].BlkRead(BlkDisk.DiskBytes / BlkSlot.SectorBytes, PageBytes);
        slots.Submit(slots.Slots[0]);
        slots.Wait();
        Assert.True(slots.TryTake(out RequestSlot beyond));
        Assert.False(beyond.IsBlkDone());
    }

    private static void Drain(SlotQueue slots)
    {
        while (slots.InFlight > 0)
        {
            if (slots.TryTake(out RequestSlot slot)) { Assert.True(slot.IsBlkDone()); }
            else { slots.Wait(); }
        }
    }
}
