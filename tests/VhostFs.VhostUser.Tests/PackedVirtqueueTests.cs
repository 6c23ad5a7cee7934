using VhostFs.Linux;
using VhostFs.Virtio;
using static VhostFs.GuestDriver.Desc;

namespace VhostFs.VhostUser.Tests;

/// <summary>The device side of a packed ring against a hand-driven driver side.</summary>
public sealed class PackedVirtqueueTests : IDisposable
{
    private const int Ram = 4 << 20;
    private const VirtioFeatures Plain = VirtioFeatures.Version1 | VirtioFeatures.RingPacked;
    private const VirtioFeatures All = Plain | VirtioFeatures.EventIdx | VirtioFeatures.IndirectDesc;
    private const ushort Available = PackedDriverQueue.Available1, Used = PackedDriverQueue.Used1;
    private readonly GuestRam _ram = new(Ram);
    private readonly GuestMemory _memory = new();
    private readonly IoVecList _readable = new(), _writable = new();
    private readonly List<PackedDriverQueue> _drivers = [];

    public PackedVirtqueueTests() =>
        Assert.Equal(Errno.None, _memory.Add(_ram.Fd, new GuestRegion(GuestRam.GuestBase, Ram, _ram.UserBase, 0), out _));

    public void Dispose()
    {
        _drivers.ForEach(d => d.Dispose());
        _memory.Dispose();
        _ram.Dispose();
        _readable.Dispose();
        _writable.Dispose();
    }

    [Theory]
    [InlineData(All, false)]
    [InlineData(All, true)]
    [InlineData(Plain, false)]
    public void A_chain_is_translated_and_given_back(VirtioFeatures features, bool isIndirect)
    {
        (PackedDriverQueue driver, Virtqueue device) = Make(features);
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
        Assert.False(driver.HasUsed);
        device.Push(popped, 123);
        Assert.True(driver.TryTakeUsed(out uint id, out uint length));
        Assert.Equal((head, 123u), ((ushort)id, length));
        Assert.Equal(PopResult.Empty, Pop(device, out _));
    }

    // Sizes need not be powers of two; chains lie across the end of the ring; what is asked for lies in this lap or the next.
    [Theory]
    [InlineData(16, 0)]
    [InlineData(16, 31)]
    [InlineData(5, 0)]
    [InlineData(7, 6)]
    [InlineData(1, 0)]
    public void Laps_follow_each_other(int size, int start)
    {
        (PackedDriverQueue driver, Virtqueue device) = Make(size: size, start: start);
        int at = _ram.Allocate(64);
        for (int i = 0; i < 300; i++)
        {
            var parts = new Desc[1 + (i % Math.Min(size, 3))];
            Array.Fill(parts, new Desc(GuestRam.Gpa(at), 8, FlagWrite));
            ushort head = driver.Chain(parts);
            driver.MakeAvailable(head);
            Assert.Equal(PopResult.Chain, Pop(device, out ushort popped));
            Assert.Equal((head, 8L * parts.Length), (popped, _writable.LengthBytes));
            device.Push(popped, (uint)i);
            driver.WantCallAt(driver.LastUsed);
            Assert.True(device.TakeCall());
            Assert.True(driver.TryTakeUsed(out uint id, out uint length));
            Assert.Equal((head, (uint)i), ((ushort)id, length));
            Assert.Equal(PopResult.Empty, Pop(device, out _));
            Assert.False(device.EnableKicks());
            Assert.Equal(((ushort)driver.Base, 2), driver.DeviceEvents);
            Assert.Equal(driver.Base, device.Base);
        }
    }

    [Fact]
    public void Chains_end_in_any_order_though_the_used_ones_overwrite_those_of_others()
    {
        (PackedDriverQueue driver, Virtqueue device) = Make(size: 8);
        int at = _ram.Allocate(64);
        var random = new Random(3);
        var taken = new List<(ushort Head, int Bytes)>();
        int used = 0;
        for (int i = 0; i < 2000; i++)
        {
            for (int bytes = 1 + random.Next(16); random.Next(2) == 0 && driver.HasRoom(2); bytes = 1 + random.Next(16))
            {
                driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), (uint)bytes), new Desc(GuestRam.Gpa(at + 32), 1, FlagWrite)));
                Assert.Equal(PopResult.Chain, Pop(device, out ushort head));
                taken.Add((head, bytes));
            }
            if (taken.Count == 0) { continue; }
            int which = random.Next(taken.Count);
            (ushort ended, int length) = taken[which];
            taken.RemoveAt(which);
            device.Park(ended);
            device.Unpark(ended, Cleared(_readable), Cleared(_writable)); // read once more
            Assert.Equal((length, 1), (_readable.LengthBytes, _writable.LengthBytes));
            device.Push(ended, (uint)length);
            if (taken.Count > 0 && random.Next(3) == 0) { continue; } // the driver looks later
            while (driver.TryTakeUsed(out _, out _)) { used++; }
        }
        Assert.InRange(used, 500, 2000);
        Assert.Equal(taken.Count, device.InFlight);
    }

    [Fact]
    public void Event_idx_suppresses_calls_until_the_driver_wants_one()
    {
        (PackedDriverQueue driver, Virtqueue device) = Make(size: 6, start: 4); // comes round after the second
        ushort[] heads = TakeFour(driver, device);
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
    public void A_wish_for_a_position_inside_a_chain_is_heard()
    {
        (PackedDriverQueue driver, Virtqueue device) = Make();
        int at = _ram.Allocate(64);
        for (int i = 0; i < 3; i++) { driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8), new Desc(GuestRam.Gpa(at), 8), new Desc(GuestRam.Gpa(at), 8))); }
        for (int i = 0; i < 3; i++)
        {
            Pop(device, out ushort head);
            device.Push(head, 0);
            driver.WantCallAt(4); // the second descriptor of the second chain
            Assert.Equal(i < 2, device.TakeCall());
        }
    }

    [Fact]
    public void Flags_suppress_calls_with_and_without_event_idx()
    {
        foreach (VirtioFeatures features in (VirtioFeatures[])[All, Plain])
        {
            (PackedDriverQueue driver, Virtqueue device) = Make(features);
            ushort[] heads = TakeFour(driver, device);
            device.Push(heads[0], 0);
            Assert.True(device.TakeCall());
            driver.SuppressCalls();
            device.Push(heads[1], 0);
            Assert.False(device.TakeCall());
            _ram.Write16((int)(driver.Available - _ram.UserBase) + 2, 0); // every one, also with EVENT_IDX
            device.Push(heads[2], 0);
            Assert.True(device.TakeCall());
        }
    }

    [Fact]
    public void Calls_that_were_put_off_for_laps_are_made()
    {
        (PackedDriverQueue driver, Virtqueue device) = Make(size: 4);
        int at = _ram.Allocate(64);
        for (int i = 0; i < 9; i++)
        {
            driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8)));
            Pop(device, out ushort head);
            device.Push(head, 0);
            driver.TryTakeUsed(out _, out _);
            if (i == 0) { Assert.True(device.TakeCall()); }
        }
        driver.WantCallAt((ushort)(driver.LastUsed + 3));
        Assert.True(device.TakeCall()); // the position has gone by, in either lap
    }

    [Theory]
    [InlineData(All)]
    [InlineData(Plain)]
    public void Work_added_before_kicks_are_enabled_is_not_lost(VirtioFeatures features)
    {
        (PackedDriverQueue driver, Virtqueue device) = Make(features);
        int at = _ram.Allocate(64);
        device.EnableKicks();
        device.DisableKicks();
        Assert.Equal(PopResult.Empty, Pop(device, out _));
        driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8)));
        driver.KickOnce();
        Assert.Equal(features == All ? 1 : 0, driver.Kicks); // a position that is ahead of us is a wish
        Assert.True(device.EnableKicks()); // tells us to go on instead of waiting
        Assert.Equal(PopResult.Chain, Pop(device, out ushort head));
        device.Push(head, 0);
        driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8)));
        driver.KickOnce();
        Assert.Equal(features == All ? 1 : 1, driver.Kicks);
        Pop(device, out head);
        Assert.False(device.EnableKicks());
        driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8)));
        driver.KickOnce();
        Assert.Equal(2, driver.Kicks);
    }

    [Theory]
    [InlineData(16, 0x8005_8009u, 0x8005_8009u)]
    [InlineData(16, 0x800f_0003u, 0x800f_0003u)] // four of them are with somebody else
    [InlineData(16, 0x0003u, 0x0003_0003u)] // from a front-end that knows 16 bits
    [InlineData(16, 0x8000u, 0x8000_8000u)]
    public void The_base_is_both_positions_with_their_wrap_counters(int size, uint given, uint answered)
    {
        var driver = new PackedDriverQueue(_ram, 0, size, All);
        _drivers.Add(driver);
        var device = new Virtqueue(_memory);
        Assert.Equal(Errno.None, Start(device, driver, given));
        Assert.Equal(answered, device.Base);
    }

    [Theory]
    [InlineData(0x8010u)] // no index of this ring
    [InlineData(0x8010_8000u)]
    [InlineData(0x8009_8005u)] // used beyond available
    public void A_base_that_cannot_be_does_not_start(uint given)
    {
        var driver = new PackedDriverQueue(_ram, 0, 16, All);
        _drivers.Add(driver);
        var device = new Virtqueue(_memory);
        Assert.Equal(Errno.EINVAL, Start(device, driver, given));
        Assert.False(device.IsRunning);
    }

    [Theory]
    [InlineData(0x1000UL, 0, Errno.EFAULT)]
    [InlineData(ulong.MaxValue - 15, 0, Errno.EFAULT)]
    [InlineData(0UL, 2, Errno.EINVAL)] // event suppression is 4 bytes and aligned so
    public void A_ring_outside_memory_or_misaligned_does_not_start(ulong address, ulong off, Errno expected)
    {
        var driver = new PackedDriverQueue(_ram, 0, 16, All);
        _drivers.Add(driver);
        foreach (int part in (int[])[0, 1, 2])
        {
            ulong Part(int which, ulong right) => which != part ? right : address != 0 ? address & ~15UL : right + off;
            var addresses = new RingAddresses(Part(0, driver.Descriptors), Part(1, driver.Used), Part(2, driver.Available));
            Assert.Equal(expected, new Virtqueue(_memory).Start(16, addresses, 0x8000_8000, All));
        }
    }

    [Fact]
    public void A_ring_whose_memory_went_away_breaks_instead_of_being_touched()
    {
        using var other = new GuestRam(Ram);
        var region = new GuestRegion(0x2_0000_0000, Ram, other.UserBase, 0);
        Assert.Equal(Errno.None, _memory.Add(other.Fd, region, out _));
        using var driver = new PackedDriverQueue(other, 0, 16, All);
        var device = new Virtqueue(_memory);
        Assert.Equal(Errno.None, Start(device, driver, driver.Base));
        Assert.Equal(Errno.None, _memory.Remove(region));
        Assert.False(device.HasAvailable());
        Assert.Equal(PopResult.Broken, Pop(device, out _));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(Available | Used)]
    [InlineData(Used)] // available in the next lap
    public void What_is_not_available_in_this_lap_is_not_taken(ushort flags)
    {
        (PackedDriverQueue driver, Virtqueue device) = Make();
        driver.WriteDescriptor(0, new PackedDescriptor { Address = GuestRam.Gpa(64), Length = 8, Id = 0, Flags = flags });
        Assert.False(device.HasAvailable());
        Assert.Equal(PopResult.Empty, Pop(device, out _));
        Assert.False(device.EnableKicks());
    }

    [Theory]
    [InlineData(16)]
    [InlineData(0xffff)]
    public void An_id_not_below_the_queue_size_breaks_the_queue(ushort id)
    {
        (PackedDriverQueue driver, Virtqueue device) = Make();
        driver.WriteDescriptor(0, new PackedDescriptor { Address = GuestRam.Gpa(64), Length = 8, Id = id, Flags = Available });
        Assert.Equal(PopResult.Broken, Pop(device, out _));
        Assert.True(device.IsBroken);
    }

    [Fact]
    public void The_same_id_twice_breaks_the_queue_and_nothing_is_written_any_more()
    {
        (PackedDriverQueue driver, Virtqueue device) = Make();
        for (int i = 0; i < 2; i++) { driver.WriteDescriptor(i, new PackedDescriptor { Address = GuestRam.Gpa(64), Length = 8, Id = 3, Flags = Available }); }
        Assert.Equal(PopResult.Chain, Pop(device, out ushort head));
        Assert.Equal(PopResult.Broken, Pop(device, out _));
        device.Push(head, 8);
        Assert.Equal(Available, driver.ReadDescriptor(0).Flags);
        Assert.False(device.TakeCall());
        Assert.False(device.EnableKicks());
        device.Stop();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    public void A_chain_that_goes_around_the_ring_breaks_the_queue(int inFlight)
    {
        (PackedDriverQueue driver, Virtqueue device) = Make();
        for (int i = 0; i < inFlight; i++)
        {
            driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(64), 8)));
            Assert.Equal(PopResult.Chain, Pop(device, out _));
        }
        for (int i = inFlight; i < 16; i++) { driver.WriteDescriptor(i, new PackedDescriptor { Address = GuestRam.Gpa(64), Length = 8, Id = 9, Flags = Available | FlagNext }); }
        Assert.Equal(PopResult.Broken, Pop(device, out _));
    }

    [Fact]
    public void Descriptors_that_are_in_flight_already_break_the_queue()
    {
        (PackedDriverQueue driver, Virtqueue device) = Make(size: 4);
        for (int i = 0; i < 4; i++)
        {
            driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(64), 8)));
            Assert.Equal(PopResult.Chain, Pop(device, out _));
        }
        Assert.Equal(PopResult.Empty, Pop(device, out _));
        driver.WriteDescriptor(0, new PackedDescriptor { Address = GuestRam.Gpa(64), Length = 8, Id = 9, Flags = Used }); // in the next lap, before it has come back in this one
        Assert.Equal(PopResult.Broken, Pop(device, out _));
    }

    [Theory]
    [InlineData(GuestRam.GuestBase + Ram - 8, 16)]
    [InlineData(0x10, 16)]
    [InlineData(ulong.MaxValue - 7, 16)]
    [InlineData(GuestRam.GuestBase, uint.MaxValue)]
    public void A_range_not_mapped_as_a_whole_is_given_back(ulong address, uint length)
    {
        (PackedDriverQueue driver, Virtqueue device) = Make();
        AssertReturnedEmpty(driver, device, driver.Chain(new Desc(GuestRam.Gpa(64), 8), new Desc(address, length, FlagWrite)));
    }

    [Fact]
    public void Readable_after_writable_is_given_back()
    {
        (PackedDriverQueue driver, Virtqueue device) = Make();
        AssertReturnedEmpty(driver, device, driver.Chain(new Desc(GuestRam.Gpa(0), 8, FlagWrite), new Desc(GuestRam.Gpa(0), 8)));
    }

    [Fact]
    public void The_sum_of_lengths_is_bounded()
    {
        (PackedDriverQueue driver, Virtqueue device) = Make(size: 64);
        var parts = new Desc[40];
        Array.Fill(parts, new Desc(GuestRam.GuestBase, Ram, FlagWrite));
        AssertReturnedEmpty(driver, device, driver.Chain(parts));
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(8u)]
    [InlineData(40u)]
    [InlineData(1025u * 16)] // more than the bound of a chain
    [InlineData(uint.MaxValue - 15)]
    public void An_indirect_table_of_a_wrong_length_is_given_back(uint length)
    {
        (PackedDriverQueue driver, Virtqueue device) = Make();
        AssertReturnedEmpty(driver, device, driver.Chain(new Desc(GuestRam.Gpa(_ram.Allocate(64)), length, FlagIndirect)));
    }

    [Fact]
    public void Indirect_in_indirect_with_more_or_without_the_feature_is_given_back()
    {
        (PackedDriverQueue driver, Virtqueue device) = Make();
        AssertReturnedEmpty(driver, device, driver.IndirectChain(new Desc(GuestRam.Gpa(64), 16, FlagIndirect)));
        (driver, device) = Make();
        AssertReturnedEmpty(driver, device, driver.Chain(new Desc(GuestRam.Gpa(64), 16, FlagIndirect), new Desc(GuestRam.Gpa(64), 16)));
        (driver, device) = Make();
        AssertReturnedEmpty(driver, device, driver.Chain(new Desc(GuestRam.Gpa(64), 16), new Desc(GuestRam.Gpa(64), 16, FlagIndirect)));
        (driver, device) = Make(Plain);
        AssertReturnedEmpty(driver, device, driver.IndirectChain(new Desc(GuestRam.Gpa(64), 16)));
    }

    [Fact]
    public void Flags_that_mean_nothing_in_a_table_are_not_looked_at()
    {
        (PackedDriverQueue driver, Virtqueue device) = Make();
        driver.MakeAvailable(driver.IndirectChain(new Desc(GuestRam.Gpa(64), 16, Available | FlagNext), new Desc(GuestRam.Gpa(128), 16, Used | FlagWrite | FlagNext)));
        Assert.Equal(PopResult.Chain, Pop(device, out ushort head));
        Assert.Equal((16L, 16L), (_readable.LengthBytes, _writable.LengthBytes));
        device.Push(head, 0);
    }

    [Fact]
    public void Malformed_chains_do_not_leak_slots()
    {
        (PackedDriverQueue driver, Virtqueue device) = Make(size: 4);
        for (int i = 0; i < 1000; i++)
        {
            driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(64), 8), new Desc(1, 8)));
            Assert.Equal(PopResult.Returned, Pop(device, out _));
            Assert.True(driver.TryTakeUsed(out _, out _));
        }
        Assert.Equal((1000L, 0), (device.MalformedChains, device.InFlight));
    }

    [Fact]
    public void Serving_a_chain_allocates_nothing()
    {
        (PackedDriverQueue driver, Virtqueue device) = Make();
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

    private (PackedDriverQueue Driver, Virtqueue Device) Make(VirtioFeatures features = All, int size = 16, int start = 0)
    {
        var driver = new PackedDriverQueue(_ram, 0, size, features, start);
        _drivers.Add(driver);
        var device = new Virtqueue(_memory);
        Assert.Equal(Errno.None, Start(device, driver, driver.Base));
        return (driver, device);
    }

    private static Errno Start(Virtqueue device, PackedDriverQueue driver, uint @base) =>
        device.Start(driver.Size, new RingAddresses(driver.Descriptors, driver.Used, driver.Available), @base, driver.Features);

    private PopResult Pop(Virtqueue device, out ushort head) => device.Pop(Cleared(_readable), Cleared(_writable), out head);

    private static IoVecList Cleared(IoVecList list)
    {
        list.Clear();
        return list;
    }

    private ushort[] TakeFour(PackedDriverQueue driver, Virtqueue device)
    {
        int at = _ram.Allocate(64);
        var heads = new ushort[4];
        for (int i = 0; i < 4; i++)
        {
            driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(at), 8)));
            Assert.Equal(PopResult.Chain, Pop(device, out heads[i]));
        }
        return heads;
    }

    private void AssertReturnedEmpty(PackedDriverQueue driver, Virtqueue device, ushort head)
    {
        driver.MakeAvailable(head);
        Assert.Equal(PopResult.Returned, Pop(device, out _));
        Assert.True(driver.TryTakeUsed(out uint id, out uint length));
        Assert.Equal((head, 0u), ((ushort)id, length));
        Assert.Equal((1, false, 0), (device.MalformedChains, device.IsBroken, device.InFlight));
        driver.MakeAvailable(driver.Chain(new Desc(GuestRam.Gpa(_ram.Allocate(64)), 8)));
        Assert.Equal(PopResult.Chain, Pop(device, out head));
        device.Push(head, 0);
    }
}
