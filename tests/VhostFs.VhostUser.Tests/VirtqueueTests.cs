using VhostFs.Linux;
using VhostFs.Virtio;
using static VhostFs.GuestDriver.Desc;

namespace VhostFs.VhostUser.Tests;

/// <summary>The device side of a split ring against a hand-driven driver side; names after reliability.md 4.2 where a row applies.</summary>
public sealed class VirtqueueTests : IDisposable
{
    private const int Ram = 4 << 20;
    private const VirtioFeatures All = VirtioFeatures.Version1 | VirtioFeatures.EventIdx | VirtioFeatures.IndirectDesc;
    private readonly GuestRam _ram = new(Ram);
    private readonly GuestMemory _memory = new();
    private readonly IoVecList _readable = new(), _writable = new();
    private readonly List<SplitDriverQueue> _drivers = [];

    public VirtqueueTests() =>
        Assert.Equal(Errno.None, _memory.Add(_ram.Fd, new GuestRegion(GuestRam.GuestBase, Ram, _ram.UserBase, 0), out _));

    public void Dispose()
    {
        _drivers.ForEach(d => d.Dispose());
        _memory.Dispose();
        _ram.Dispose();
        _readable.Dispose();
        _writable.Dispose();
    }

    private (SplitDriverQueue Driver, Virtqueue Device) Make(VirtioFeatures features = All, int size = 16, ushort start = 0)
    {
        var driver = new SplitDriverQueue(_ram, 0, size, features, start);
        _drivers.Add(driver);
        var device = new Virtqueue(_memory);
        Assert.Equal(Errno.None, device.Start(size, new RingAddresses(driver.Descriptors, driver.Used, driver.Available), start, features));
        return (driver, device);
    }

    private PopResult Pop(Virtqueue device, out ushort head)
    {
        _readable.Clear();
        _writable.Clear();
        return device.Pop(_readable, _writable, out head);
    }

    private void AssertReturnedEmpty(SplitDriverQueue driver, Virtqueue device, ushort head)
    {
        driver.MakeAvailable(head);
        Assert.Equal(PopResult.Returned, Pop(device, out _));
        Assert.True(driver.TryTakeUsed(out uint id, out uint length));
        Assert.Equal((head, 0u), ((ushort)id, length));
        Assert.Equal(1, device.MalformedChains);
        Assert.False(device.IsBroken);
        Assert.Equal(0, device.InFlight);
        int at = _ram.Allocate(64);
        driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8)));
        Assert.Equal(PopResult.Chain, Pop(device, out head));
        device.Push(head, 0);
    }

    [Theory]
    [InlineData(All, false)]
    [InlineData(All, true)]
    [InlineData(VirtioFeatures.Version1, false)]
    public void A_chain_is_translated_and_given_back(VirtioFeatures features, bool isIndirect)
    {
        (SplitDriverQueue driver, Virtqueue device) = Make(features);
        int a = _ram.Allocate(100, 4096), b = _ram.Allocate(200, 4096), c = _ram.Allocate(300, 4096);
        ReadOnlySpan<Desc> parts = [new(GuestRam.Gpa(a), 40), new(GuestRam.Gpa(b), 100), new(GuestRam.Gpa(c), 300, FlagWrite)];
        ushort head = isIndirect ? driver.IndirectChain(parts) : driver.Chain(parts);
        driver.MakeAvailable(head);
        _ram.At(b, 3).Fill(7);
        Assert.Equal(PopResult.Chain, Pop(device, out ushort popped));
        Assert.Equal(head, popped);
        Assert.Equal((2, 140L, 1, 300L), (_readable.Count, _readable.LengthBytes, _writable.Count, _writable.LengthBytes));
        Assert.Equal(7, _readable.View()[1].Span[2]);
        _writable.View()[0].Span[0] = 9;
        Assert.Equal(9, _ram.At(c, 1)[0]);
        device.Push(popped, 123);
        Assert.True(driver.TryTakeUsed(out uint id, out uint length));
        Assert.Equal((head, 123u), ((ushort)id, length));
        Assert.Equal(PopResult.Empty, Pop(device, out _));
    }

    [Fact]
    public void Neighbouring_segments_become_one()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        int at = _ram.Allocate(4096, 4096);
        driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 16), new Desc(GuestRam.Gpa(at + 16), 16), new Desc(GuestRam.Gpa(at + 32), 64, FlagWrite)));
        Assert.Equal(PopResult.Chain, Pop(device, out ushort head));
        Assert.Equal((1, 32L, 1), (_readable.Count, _readable.LengthBytes, _writable.Count));
        device.Push(head, 0);
    }

    [Fact]
    public void Indices_wrap_around_at_65536()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make(start: 65530);
        int at = _ram.Allocate(64);
        for (int i = 0; i < 200; i++)
        {
            ushort head = driver.Chain(new Desc(GuestRam.Gpa(at), 8), new Desc(GuestRam.Gpa(at + 16), 8, FlagWrite));
            driver.MakeAvailable(head);
            Assert.Equal(PopResult.Chain, Pop(device, out ushort popped));
            device.Push(popped, (uint)i);
            driver.WantCallAt(driver.LastUsed);
            Assert.True(device.TakeCall());
            Assert.True(driver.TryTakeUsed(out uint id, out uint length));
            Assert.Equal((head, (uint)i), ((ushort)id, length));
            Assert.Equal(PopResult.Empty, Pop(device, out _));
            Assert.False(device.EnableKicks());
            ushort old = driver.AvailIndex;
            Assert.Equal(old, driver.KickEvent);
        }
        Assert.Equal((uint)(65530 + 200) & 0xffff, device.Base);
    }

    [Fact]
    public void Event_idx_suppresses_calls_until_the_driver_wants_one()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        int at = _ram.Allocate(64);
        var heads = new ushort[4];
        for (int i = 0; i < 4; i++)
        {
            driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8)));
            Assert.Equal(PopResult.Chain, Pop(device, out heads[i]));
        }
        device.Push(heads[0], 0);
        driver.WantCallAt(2);
        Assert.True(device.TakeCall()); // the first one always, nothing is known of the driver yet
        device.Push(heads[1], 0);
        Assert.False(device.TakeCall());
        device.Push(heads[2], 0);
        Assert.True(device.TakeCall());
        device.Push(heads[3], 0);
        Assert.False(device.TakeCall());
        Assert.False(device.TakeCall());
    }

    [Fact]
    public void No_interrupt_flag_suppresses_calls_without_event_idx()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make(VirtioFeatures.Version1);
        int at = _ram.Allocate(64);
        driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8)));
        Pop(device, out ushort head);
        device.Push(head, 0);
        driver.SuppressCalls();
        Assert.False(device.TakeCall());
    }

    [Theory]
    [InlineData(All)]
    [InlineData(VirtioFeatures.Version1)]
    public void Work_added_before_kicks_are_enabled_is_not_lost(VirtioFeatures features)
    {
        (SplitDriverQueue driver, Virtqueue device) = Make(features);
        int at = _ram.Allocate(64);
        device.DisableKicks();
        Assert.Equal(PopResult.Empty, Pop(device, out _));
        ushort old = driver.AvailIndex;
        driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8)));
        if (features == VirtioFeatures.Version1) { Assert.False(driver.NeedsKick(old)); }
        Assert.True(device.EnableKicks()); // tells us to go on instead of waiting
        Assert.Equal(PopResult.Chain, Pop(device, out ushort head));
        device.Push(head, 0);
        Assert.False(device.EnableKicks());
        old = driver.AvailIndex;
        driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8)));
        Assert.True(driver.NeedsKick(old));
    }

    // CVE-2018-1059: a guest range that is not mapped as a whole.
    [Theory]
    [InlineData(GuestRam.GuestBase + Ram - 8, 16)]
    [InlineData(GuestRam.GuestBase + Ram, 1)]
    [InlineData(0x10, 16)]
    [InlineData(ulong.MaxValue - 7, 16)]
    [InlineData(GuestRam.GuestBase, uint.MaxValue)]
    public void CVE_2018_1059_a_range_not_mapped_as_a_whole_is_given_back(ulong address, uint length)
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        AssertReturnedEmpty(driver, device, driver.Chain(new Desc(address, length)));
    }

    [Fact]
    public void CVE_2018_1059_a_range_is_split_at_region_borders()
    {
        using var second = new GuestRam(Ram);
        Assert.Equal(Errno.None, _memory.Add(second.Fd, new GuestRegion(GuestRam.GuestBase + Ram, Ram, second.UserBase, 0), out _));
        (SplitDriverQueue driver, Virtqueue device) = Make();
        driver.MakeAvailable(driver.Chain(new Desc(GuestRam.GuestBase + Ram - 8, 24)));
        Assert.Equal(PopResult.Chain, Pop(device, out ushort head));
        Assert.Equal(24, _readable.LengthBytes);
        second.At(0, 16).Fill(5);
        Span<byte> copy = stackalloc byte[24];
        _readable.View().CopyTo(0, copy);
        Assert.Equal((0, 5), (copy[7], copy[8]));
        device.Push(head, 0);
    }

    [Fact]
    public void CVE_2020_10723_sizes_and_indices_are_compared_before_they_are_narrowed()
    {
        Assert.Throws<InvariantException>(() => new Virtqueue(_memory).Start(65536, default, 0, All));
    }

    [Theory]
    [InlineData(0x1000UL)]
    [InlineData(ulong.MaxValue - 15)]
    public void CVE_2020_10725_a_ring_outside_memory_does_not_start(ulong address)
    {
        var device = new Virtqueue(_memory);
        Assert.Equal(Errno.EFAULT, device.Start(16, new RingAddresses(address & ~15UL, address & ~15UL, address & ~15UL), 0, All));
        Assert.False(device.IsRunning);
    }

    [Fact]
    public void CVE_2020_10725_a_ring_across_the_end_of_memory_does_not_start()
    {
        ulong end = _ram.UserBase + Ram - 64;
        Assert.Equal(Errno.EFAULT, new Virtqueue(_memory).Start(1024, new RingAddresses(end, end, end), 0, All));
    }

    [Fact]
    public void CVE_2026_86846_a_head_not_below_the_queue_size_breaks_the_queue()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        driver.MakeAvailable(16);
        Assert.Equal(PopResult.Broken, Pop(device, out _));
        Assert.True(device.IsBroken);
    }

    [Fact]
    public void CVE_2016_5403_a_broken_queue_latches_and_writes_nothing()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        int at = _ram.Allocate(64);
        driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8)));
        Assert.Equal(PopResult.Chain, Pop(device, out ushort head));
        driver.MakeAvailable(0xffff);
        Assert.Equal(PopResult.Broken, Pop(device, out _));
        device.Push(head, 8);
        Assert.Equal(0, driver.UsedIndex);
        Assert.False(device.TakeCall());
        Assert.False(device.EnableKicks());
        Assert.False(device.HasAvailable());
        Assert.Equal(PopResult.Broken, Pop(device, out _));
        device.Stop();
        Assert.False(device.IsRunning);
    }

    [Theory]
    [InlineData(17)]
    [InlineData(0x8000)]
    [InlineData(0xffff)]
    public void CVE_2016_5403_an_available_index_that_jumps_breaks_the_queue(ushort index)
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        driver.PublishAvailable(index);
        Assert.Equal(PopResult.Broken, Pop(device, out _));
    }

    [Fact]
    public void CVE_2016_5403_more_requests_than_slots_break_the_queue()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make(size: 4);
        int at = _ram.Allocate(64);
        for (ushort i = 0; i < 4; i++)
        {
            driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8)));
            Assert.Equal(PopResult.Chain, Pop(device, out _));
        }
        driver.MakeAvailable(0);
        Assert.Equal(PopResult.Broken, Pop(device, out _));
    }

    [Fact]
    public void Openvmm_4045_the_same_head_twice_breaks_the_queue()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        int at = _ram.Allocate(64);
        ushort head = driver.Chain(new Desc(GuestRam.Gpa(at), 8));
        driver.MakeAvailable(head);
        driver.MakeAvailable(head);
        Assert.Equal(PopResult.Chain, Pop(device, out _));
        Assert.Equal(PopResult.Broken, Pop(device, out _));
    }

    [Fact]
    public void CVE_2026_86847_circular_chains_are_given_back()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        int at = _ram.Allocate(64);
        ushort head = driver.Chain(new Desc(GuestRam.Gpa(at), 8), new Desc(GuestRam.Gpa(at), 8));
        driver.WriteDescriptor(head + 1, new Desc(GuestRam.Gpa(at), 8, FlagNext, head));
        AssertReturnedEmpty(driver, device, head);
    }

    [Fact]
    public void CVE_2026_86847_a_next_beyond_the_table_is_given_back()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        ushort head = driver.Chain(new Desc(GuestRam.Gpa(0), 8));
        driver.WriteDescriptor(head, new Desc(GuestRam.Gpa(0), 8, FlagNext, 16));
        AssertReturnedEmpty(driver, device, head);
    }

    [Fact]
    public void CVE_2026_86847_zero_length_descriptors_are_legal_wherever_they_point()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        int at = _ram.Allocate(64);
        driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8), new Desc(1, 0), new Desc(ulong.MaxValue, 0, FlagWrite), new Desc(GuestRam.Gpa(at + 16), 8, FlagWrite)));
        Assert.Equal(PopResult.Chain, Pop(device, out ushort head));
        Assert.Equal((8L, 8L), (_readable.LengthBytes, _writable.LengthBytes));
        device.Push(head, 0);
    }

    [Fact]
    public void CVE_2026_86847_the_sum_of_lengths_is_bounded()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make(size: 64);
        var parts = new Desc[40];
        Array.Fill(parts, new Desc(GuestRam.GuestBase, Ram, FlagWrite));
        AssertReturnedEmpty(driver, device, driver.Chain(parts));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(8)]
    [InlineData(40)]
    [InlineData(uint.MaxValue - 15)]
    public void CVE_2017_17381_an_indirect_table_of_a_wrong_length_is_given_back(uint length)
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        AssertReturnedEmpty(driver, device, driver.Chain(new Desc(GuestRam.Gpa(_ram.Allocate(64)), length, FlagIndirect)));
    }

    [Fact]
    public void CVE_2017_17381_an_indirect_table_inside_an_indirect_table_is_given_back()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        AssertReturnedEmpty(driver, device, driver.IndirectChain(new Desc(GuestRam.Gpa(64), 16, FlagIndirect)));
    }

    [Fact]
    public void CVE_2017_17381_an_indirect_descriptor_with_next_is_given_back()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        int table = _ram.Allocate(64);
        AssertReturnedEmpty(driver, device, driver.Chain(new Desc(GuestRam.Gpa(table), 16, FlagIndirect), new Desc(GuestRam.Gpa(table), 16)));
    }

    [Fact]
    public void An_indirect_descriptor_without_the_feature_is_given_back()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make(VirtioFeatures.Version1);
        AssertReturnedEmpty(driver, device, driver.IndirectChain(new Desc(GuestRam.Gpa(64), 16)));
    }

    [Fact]
    public void Readable_after_writable_is_given_back()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        AssertReturnedEmpty(driver, device, driver.Chain(new Desc(GuestRam.Gpa(0), 8, FlagWrite), new Desc(GuestRam.Gpa(0), 8)));
    }

    [Fact]
    public void CVE_2026_86567_a_ring_whose_memory_went_away_breaks_instead_of_being_touched()
    {
        using var other = new GuestRam(Ram);
        var region = new GuestRegion(0x2_0000_0000, Ram, other.UserBase, 0);
        Assert.Equal(Errno.None, _memory.Add(other.Fd, region, out _));
        using var driver = new SplitDriverQueue(other, 0, 16, All);
        var device = new Virtqueue(_memory);
        Assert.Equal(Errno.None, device.Start(16, new RingAddresses(driver.Descriptors, driver.Used, driver.Available), 0, All));
        Assert.Equal(Errno.None, _memory.Remove(region));
        Assert.False(device.HasAvailable());
        Assert.Equal(PopResult.Broken, Pop(device, out _));
    }

    [Fact]
    public void Cloud_hypervisor_8401_malformed_chains_do_not_leak_slots()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make(size: 4);
        for (int i = 0; i < 1000; i++)
        {
            driver.MakeAvailable(driver.Chain(new Desc(1, 8)));
            Assert.Equal(PopResult.Returned, Pop(device, out _));
            Assert.True(driver.TryTakeUsed(out _, out _));
        }
        Assert.Equal((1000L, 0), (device.MalformedChains, device.InFlight));
    }

    [Fact]
    public void Serving_a_chain_allocates_nothing()
    {
        (SplitDriverQueue driver, Virtqueue device) = Make();
        int at = _ram.Allocate(256);
        void Round()
        {
            driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 40), new Desc(GuestRam.Gpa(at + 64), 100, FlagWrite)));
            Pop(device, out ushort head);
            device.Push(head, 10);
            device.TakeCall();
            device.EnableKicks();
            driver.TryTakeUsed(out _, out _);
        }
        for (int i = 0; i < 100; i++) { Round(); }
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++) { Round(); }
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }
}
