using System.Buffers.Binary;
using System.Runtime.InteropServices;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>The transport of SCSI commands: framing, configuration, task management, events, targets that come and go.</summary>
public sealed class ScsiDeviceTests
{
    private const int FixedOut = ScsiCommandHeader.Size + 32, FixedIn = ScsiCommandAnswer.Size + 96;

    [Theory]
    [InlineData(ScsiGuest.All)]
    [InlineData((VirtioFeatures)0x140000000)] // SeaBIOS
    [InlineData(FrontEnd.AllFeatures)]
    [InlineData(ScsiGuest.All & ~VirtioFeatures.EventIdx)]
    [InlineData(ScsiGuest.All & ~VirtioFeatures.IndirectDesc)]
    [InlineData(ScsiGuest.All | VirtioFeatures.RingPacked)]
    [InlineData((ScsiGuest.All | VirtioFeatures.RingPacked) & ~(VirtioFeatures.EventIdx | VirtioFeatures.IndirectDesc))]
    public void What_is_written_is_read_back_with_every_ring_style(VirtioFeatures features)
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath, features);
        for (int i = 0; i < 100; i++)
        {
            byte[] data = Pattern(i, 512 * (1 + (i % 16)));
            Assert.True(guest.Write((ulong)i * 37, data).IsGood);
            Assert.Equal(data, guest.Read((ulong)i * 37, data.Length / 512).Data);
        }
        Assert.True(guest.Queue.TakeCalls() > 0);
    }

    [Theory]
    [InlineData(new int[0], new int[0])] // one descriptor each
    [InlineData(new[] { FixedOut }, new[] { FixedIn })]
    [InlineData(new[] { 1, 18, 32 }, new[] { 12, 96, 1, 4095 })]
    [InlineData(new[] { FixedOut + 1, 4094 }, new[] { 11, 2, 94, 2, 511, 1 })]
    [InlineData(new[] { FixedOut - 1, 2, 1000 }, new[] { FixedIn - 1, 2 })]
    [InlineData(new[] { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 }, new[] { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 })]
    public void Descriptors_may_begin_and_end_anywhere(int[] readable, int[] writable)
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        byte[] data = Pattern(5, 4096);
        ScsiAnswer written = guest.Command(ScsiGuest.Cdb10(0x2A, 8, 8), data, 0, readable: readable, writable: writable);
        Assert.Equal((true, (uint)FixedIn), (written.IsGood, written.Used));
        Assert.Equal(data, host.Read(4096, 4096));
        ScsiAnswer read = guest.Command(ScsiGuest.Cdb10(0x28, 8, 8), [], 4096, readable: readable, writable: writable);
        Assert.Equal((true, FixedIn + 4096u), (read.IsGood, read.Used));
        Assert.Equal(data, read.Data);
        Assert.Equal(0x052000, guest.Command("FF", readable: readable, writable: writable).Sense);
    }

    [Fact]
    public void What_is_no_command_of_ours_comes_back_with_what_can_be_said()
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        byte[] request = guest.Request([0x12, 0, 0, 0, 96], []);
        Assert.Equal(ScsiResponse.Failure, guest.Raw(request[..^1], 96, [], [], guest.Queue).Response); // half a CDB
        Assert.Equal(ScsiResponse.Failure, guest.Raw([], 96, [], [], guest.Queue).Response);
        Assert.Equal(0u, guest.Exchange(request, FixedIn - 1, [], [], guest.Queue).Used); // nowhere to put an answer
        Assert.Equal(0u, guest.Exchange(request, 0, [], [], guest.Queue).Used);
        ScsiAnswer both = guest.Command("120000006000", new byte[8], 96);
        Assert.Equal((ScsiResponse.Failure, 104u), (both.Response, both.Residual));
        request[0] = 2; // no address that there is
        Assert.Equal(ScsiResponse.BadTarget, guest.Raw(request, 96, [], [], guest.Queue).Response);
        request[0] = 0xC1;
        Assert.Equal(ScsiResponse.BadTarget, guest.Raw(request, 96, [], [], guest.Queue).Response);
        request = guest.Request([0x12, 0, 0, 0, 96], []);
        request[7] = 1; // a LUN below the LUN
        Assert.Equal(0x7f, guest.Raw(request, 96, [], [], guest.Queue).Data[0]);
        Assert.True(guest.TestUnitReady().IsGood);
    }

    [Fact]
    public void The_configuration_space_is_the_specifications()
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        byte[] golden = Convert.FromHexString("FE000000" + "7E000000" + "00000100" + "80000000" + "10000000" + "60000000" + "20000000" + "0000" + "0700" + "FF3F0000");
        Assert.Equal(golden, guest.GetConfig(0, ScsiConfig.Size));
        Assert.Equal((36, ScsiConfig.SenseSizeOffset, ScsiConfig.CdbSizeOffset),
            (Marshal.SizeOf<ScsiConfig>(), (int)Marshal.OffsetOf<ScsiConfig>("<SenseSize>k__BackingField"), (int)Marshal.OffsetOf<ScsiConfig>("<CdbSize>k__BackingField")));
        Assert.Equal((19, 12, 24, 16), (Marshal.SizeOf<ScsiCommandHeader>(), Marshal.SizeOf<ScsiCommandAnswer>(), Marshal.SizeOf<ScsiTaskRequest>(), Marshal.SizeOf<ScsiNotifyRequest>()));
        Assert.Equal((5, 16), (Marshal.SizeOf<ScsiNotifyAnswer>(), Marshal.SizeOf<ScsiEvent>()));
    }

    [Fact]
    public void A_driver_may_set_the_sizes_of_sense_and_CDB()
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        Assert.Equal(0UL, guest.SetConfig(ScsiConfig.CdbSizeOffset, 16, 0, 0, 0));
        Assert.Equal(0UL, guest.SetConfig(ScsiConfig.SenseSizeOffset, 8, 0, 0, 0));
        (guest.SenseBytes, guest.CdbBytes) = (8, 16);
        Assert.Equal((8u, 16u), (guest.Config.SenseSize, guest.Config.CdbSize));
        ScsiAnswer answer = guest.Command("FF");
        Assert.Equal((ScsiStatus.CheckCondition, "700005000000000A"), (answer.Status, Convert.ToHexString(answer.SenseData)));
        Assert.Equal(0UL, guest.SetConfig(ScsiConfig.SenseSizeOffset, 252, 0, 0, 0, 255, 0, 0, 0));
        (guest.SenseBytes, guest.CdbBytes) = (252, 255);
        Assert.Equal(0x052000, guest.Command("FF").Sense);
        foreach (byte[] wrong in (byte[][])[[253, 0, 0, 0], [0, 0, 0, 0x80], [1], [0, 0, 0, 0, 0, 0, 0, 0, 0]]) { Assert.Equal(1UL, guest.SetConfig(ScsiConfig.SenseSizeOffset, wrong)); }
        foreach (byte[] wrong in (byte[][])[[15, 0, 0, 0], [0, 1, 0, 0], [255, 255, 255, 255]]) { Assert.Equal(1UL, guest.SetConfig(ScsiConfig.CdbSizeOffset, wrong)); }
        Assert.Equal(1UL, guest.SetConfig(0, 1, 0, 0, 0));
        Assert.Equal(0UL, guest.FrontEnd.Set(MessageId.ResetDevice, []));
        Assert.Equal((96u, 32u), (guest.Config.SenseSize, guest.Config.CdbSize));
    }

    [Fact]
    public void Task_management_waits_for_what_it_aborts()
    {
        var held = new HoldingBdev(ScsiHost.NewMemory());
        using var host = new ScsiHost(_ => held);
        using var guest = new ScsiGuest(host.SocketPath);
        try
        {
            ushort first = guest.BeginWrite(77), second = guest.BeginWrite(78);
            FrontEnd.Poll(() => held.Count == 2, "both under way");
            Assert.Equal(ScsiResponse.FunctionSucceeded, guest.Manage(ScsiTaskFunction.QueryTask, id: 77));
            Assert.Equal(ScsiResponse.Ok, guest.Manage(ScsiTaskFunction.QueryTask, id: 79));
            Assert.Equal(ScsiResponse.FunctionSucceeded, guest.Manage(ScsiTaskFunction.QueryTaskSet));
            Assert.Equal(ScsiResponse.Ok, guest.Manage(ScsiTaskFunction.AbortTask, id: 79)); // nothing to wait for
            ushort abort = guest.Make(ScsiGuest.ManageRequest(ScsiTaskFunction.AbortTask, id: 77), 1, [], [], guest.ControlQueue, out List<(int At, int Length)> aborted);
            DeviceGuest.Submit(guest.ControlQueue, abort);
            ushort reset = guest.Make(ScsiGuest.ManageRequest(ScsiTaskFunction.LogicalUnitReset), 1, [], [], guest.ControlQueue, out List<(int At, int Length)> wasReset);
            DeviceGuest.Submit(guest.ControlQueue, reset);
            Assert.Equal(ScsiResponse.FunctionSucceeded, guest.Manage(ScsiTaskFunction.QueryTask, id: 78)); // taken after them: they wait
            Assert.Equal(DeviceGuest.Untouched, guest.FrontEnd.Ram.At(aborted[0].At, 1)[0]);
            host.OnReactor(() => { held.LetGo(1); return true; });
            Assert.Equal((uint)FixedIn, guest.FrontEnd.WaitUsed(guest.Queue, first));
            Assert.Equal(1u, guest.FrontEnd.WaitUsed(guest.ControlQueue, abort));
            Assert.Equal((byte)ScsiResponse.Ok, guest.FrontEnd.Ram.At(aborted[0].At, 1)[0]);
            host.OnReactor(() => { held.LetGo(1); return true; });
            guest.FrontEnd.WaitUsed(guest.Queue, second);
            Assert.Equal(1u, guest.FrontEnd.WaitUsed(guest.ControlQueue, reset));
            Assert.Equal((byte)ScsiResponse.Ok, guest.FrontEnd.Ram.At(wasReset[0].At, 1)[0]);
            Assert.Equal(0x062903, guest.TestUnitReady().Sense);
        }
        finally { host.OnReactor(() => { held.LetGo(held.Count); return true; }); } // or its session never ends
    }

    [Fact]
    public void Control_requests_are_answered_as_the_specification_says()
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        foreach (ScsiTaskFunction function in (ScsiTaskFunction[])[ScsiTaskFunction.AbortTask, ScsiTaskFunction.AbortTaskSet, ScsiTaskFunction.ClearTaskSet, ScsiTaskFunction.QueryTask, ScsiTaskFunction.QueryTaskSet])
        {
            Assert.Equal(ScsiResponse.Ok, guest.Manage(function));
            Assert.Equal(ScsiResponse.BadTarget, guest.Manage(function, target: 1));
            Assert.Equal(ScsiResponse.IncorrectLun, guest.Manage(function, lun: 1));
        }
        Assert.Equal(ScsiResponse.Ok, guest.Manage(ScsiTaskFunction.NexusReset));
        Assert.Equal(0x062907, guest.TestUnitReady().Sense);
        Assert.Equal(ScsiResponse.FunctionRejected, guest.Manage((ScsiTaskFunction)8));
        byte[] notify = [2, 0, 0, 0, 1, 0, 0x40, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        Assert.Equal([0, 0, 0, 0, 0], guest.Exchange(notify, 5, [], [], guest.ControlQueue).Room);
        notify[0] = 1;
        Assert.Equal([0, 0, 0, 0, 0], guest.Exchange(notify, 5, [3, 5], [2, 2], guest.ControlQueue).Room);
        notify[5] = 9;
        Assert.Equal([0, 0, 0, 0, 3], guest.Exchange(notify, 5, [], [], guest.ControlQueue).Room);
        Assert.Equal([0, 0, 0, 0, 9], guest.Exchange(notify[..15], 5, [], [], guest.ControlQueue).Room);
        Assert.Equal(0u, guest.Exchange(notify, 4, [], [], guest.ControlQueue).Used);
        Assert.Equal(0u, guest.Exchange([3, 0, 0, 0], 8, [], [], guest.ControlQueue).Used); // of no kind
        Assert.Equal(0u, guest.Exchange([0, 0], 8, [], [], guest.ControlQueue).Used);
        Assert.Equal([9], guest.Exchange(ScsiGuest.ManageRequest(0)[..23], 1, [], [], guest.ControlQueue).Room);
        Assert.Equal(0u, guest.Exchange(ScsiGuest.ManageRequest(0), 0, [], [], guest.ControlQueue).Used);
    }

    [Theory]
    [InlineData(ScsiGuest.All)]
    [InlineData(ScsiGuest.All & ~VirtioFeatures.EventIdx)]
    public void A_target_that_comes_or_goes_is_told_in_a_buffer_that_waits(VirtioFeatures features)
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath, features);
        List<int> buffers = guest.LeaveEventBuffers(8);
        host.WaitForEventQueues();
        Assert.Equal(ScsiResponse.BadTarget, guest.TestUnitReady(5).Response);
        host.Add(5, _ => new NullBdev("more", 1 << 20, 512));
        Assert.Equal((1u, 5, 1u), guest.WaitForEvent(buffers[0])); // transport reset: rescan
        Assert.Equal(ScsiGuest.PowerOn, guest.TestUnitReady(5).Sense);
        Assert.True(guest.TestUnitReady(5).IsGood);
        Assert.True(host.Remove(5));
        Assert.Equal((1u, 5, 2u), guest.WaitForEvent(buffers[1])); // removed
        Assert.Equal(ScsiResponse.BadTarget, guest.TestUnitReady(5).Response);
        Assert.False(host.Remove(5));
        Assert.True(guest.TestUnitReady().IsGood);
        Assert.Equal(2, guest.EventQueue.UsedIndex);
    }

    [Fact]
    public void A_new_size_is_told_twice()
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        List<int> buffers = guest.LeaveEventBuffers(2);
        host.WaitForEventQueues();
        Assert.Equal(Errno.None, host.OnReactorAsync(() => host.Bdev.ResizeAsync(2 * ScsiHost.DiskBytes)));
        Assert.Equal((3u, 0, 0x092Au), guest.WaitForEvent(buffers[0]));
        Assert.Equal(0x062A09, guest.TestUnitReady().Sense);
        Assert.Equal(0x3FFFu, BinaryPrimitives.ReadUInt32BigEndian(guest.In("25", 8).Data));
        Assert.True(guest.Read(0x3FFF, 1).IsGood);
    }

    [Theory]
    [InlineData(ScsiGuest.All)]
    [InlineData(ScsiGuest.All & ~VirtioFeatures.EventIdx)]
    public void Events_that_find_no_buffer_are_lost_and_the_next_buffer_says_so(VirtioFeatures features)
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath, features);
        guest.EventQueue.Kick();
        host.Add(1, _ => new NullBdev("one", 1 << 20, 512));
        host.Add(2, _ => new NullBdev("two", 1 << 20, 512));
        List<int> late = guest.LeaveEventBuffers(2);
        Assert.Equal((0x80000000u, 0, 0u), guest.WaitForEvent(late[0]));
        host.Add(3, _ => new NullBdev("three", 1 << 20, 512));
        Assert.Equal((1u, 3, 1u), guest.WaitForEvent(late[1]));
        Assert.True(host.Remove(1));
        List<int> small = guest.LeaveEventBuffers(1, bytes: ScsiEvent.Size - 1), right = guest.LeaveEventBuffers(1);
        uint used = 99;
        FrontEnd.Poll(() => guest.EventQueue.TryTakeUsed(out _, out used), "the small one");
        Assert.Equal(0u, used);
        Assert.All(guest.FrontEnd.Ram.At(small[0], ScsiEvent.Size - 1).ToArray(), b => Assert.Equal(0, b));
        Assert.Equal((0x80000000u, 0, 0u), guest.WaitForEvent(right[0]));
    }

    [Fact]
    public void A_driver_that_knows_no_events_gets_none()
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath, FrontEnd.AllFeatures);
        guest.LeaveEventBuffers(4);
        host.Add(1, _ => new NullBdev("one", 1 << 20, 512));
        Assert.Equal(Errno.None, host.OnReactorAsync(() => host.Bdev.ResizeAsync(2 * ScsiHost.DiskBytes)));
        Assert.True(host.Remove(1));
        Assert.Equal(0x062A09, guest.TestUnitReady().Sense);
        Assert.Equal(0, guest.EventQueue.UsedIndex);
    }

    [Fact]
    public async Task A_target_goes_when_its_commands_have_ended_and_its_bdev_is_not_touched_again()
    {
        var held = new HoldingBdev(ScsiHost.NewMemory());
        using var host = new ScsiHost(_ => held);
        using var guest = new ScsiGuest(host.SocketPath);
        ushort head = guest.BeginWrite(1);
        FrontEnd.Poll(() => held.Count == 1, "under way");
        Task<bool> removed = host.StartOnReactor(() => host.Targets.RemoveAsync(0));
        FrontEnd.Poll(() => guest.TestUnitReady().Response == ScsiResponse.BadTarget, "it is gone for new commands");
        Assert.False(removed.IsCompleted);
        host.OnReactor(() => { held.LetGo(1); return true; });
        Assert.True(await removed);
        guest.FrontEnd.WaitUsed(guest.Queue, head);
        Assert.Equal(2UL, Stop(guest, 2) & 0xffffffff); // the ring can be stopped
    }

    [Fact]
    public void Commands_beyond_the_bound_wait_and_task_management_does_not()
    {
        var held = new HoldingBdev(ScsiHost.NewMemory());
        using var host = new ScsiHost(_ => held, maxInFlight: 2);
        using var guest = new ScsiGuest(host.SocketPath);
        for (int i = 0; i < 4; i++) { guest.BeginWrite((ulong)i); }
        FrontEnd.Poll(() => held.Count == 2, "two");
        Assert.Equal(ScsiResponse.FunctionSucceeded, guest.Manage(ScsiTaskFunction.QueryTask, id: 1));
        Assert.Equal(ScsiResponse.Ok, guest.Manage(ScsiTaskFunction.QueryTask, id: 2)); // still in the ring
        for (int i = 0; i < 4; i++)
        {
            FrontEnd.Poll(() => host.OnReactor(() => held.Count) > 0, "one more");
            host.OnReactor(() => { held.LetGo(1); return true; });
        }
        FrontEnd.Poll(() => guest.Queue.UsedIndex == 5, "all");
    }

    [Fact]
    public void A_bug_below_is_an_error_for_the_guest_and_one_line_in_the_log()
    {
        using var host = new ScsiHost(_ => new MistakenBdev(ScsiHost.NewMemory()));
        using var guest = new ScsiGuest(host.SocketPath);
        for (int i = 0; i < 3; i++) { Assert.Equal(0x044400, guest.Command(ScsiGuest.Cdb10(0x35, 0, 0)).Sense); }
        Assert.True(guest.Write(0, new byte[512]).IsGood);
        Assert.Single(host.Log, line => line.Contains("because of a bug", StringComparison.Ordinal));
        Assert.Equal(5UL, Stop(guest, 2) >> 32);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Whatever_bytes_come_each_chain_is_answered_once(int seed)
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        var random = new Random(seed);
        byte[] opcodes = [0, 3, 8, 0x0A, 0x12, 0x15, 0x1A, 0x1B, 0x25, 0x28, 0x2A, 0x2F, 0x35, 0x41, 0x42, 0x55, 0x5A, 0x5E, 0x5F, 0x88, 0x8A, 0x8F, 0x91, 0x93, 0x9E, 0xA0, 0xA3, 0xA8, 0xAA];
        for (int step = 0; step < 1500; step++)
        {
            byte[] cdb = new byte[32], data = new byte[random.Next(3) == 0 ? random.Next(2000) : 0];
            random.NextBytes(data);
            for (int i = 0; i < 16; i++) { cdb[i] = random.Next(2) == 0 ? (byte)0 : (byte)random.Next(random.Next(2) == 0 ? 8 : 256); }
            cdb[0] = random.Next(8) == 0 ? (byte)random.Next(256) : opcodes[random.Next(opcodes.Length)];
            byte[] request = guest.Request(cdb, data, random.Next(16) == 0 ? random.Next(256) : 0, random.Next(16) == 0 ? (ushort)random.Next(65536) : (ushort)0);
            if (random.Next(16) == 0) { request = request[..random.Next(request.Length)]; }
            int room = random.Next(16) == 0 ? random.Next(FixedIn) : FixedIn + (data.Length > 0 ? 0 : random.Next(3000));
            (byte[] answer, uint used) = guest.Exchange(request, room, [.. Enumerable.Range(0, random.Next(4)).Select(_ => 1 + random.Next(60))], [.. Enumerable.Range(0, random.Next(4)).Select(_ => 1 + random.Next(200))], guest.Queue);
            if (room < FixedIn)
            {
                Assert.Equal(0u, used);
                continue;
            }
            uint residual = BinaryPrimitives.ReadUInt32LittleEndian(answer.AsSpan(4));
            Assert.True(used >= FixedIn && used <= room && residual <= room - FixedIn + data.Length, $"seed {seed}, step {step}");
            Assert.All(answer.AsSpan((int)used).ToArray(), b => Assert.Equal(DeviceGuest.Untouched, b)); // what is not said to be written is not
            byte[] control = new byte[random.Next(30)];
            random.NextBytes(control);
            if (control.Length > 4) { control.AsSpan(0, 4).Clear(); control[0] = (byte)random.Next(4); }
            guest.Exchange(control, random.Next(8), [], [], guest.ControlQueue);
        }
        while (guest.TestUnitReady() is { IsGood: false } answer) { Assert.Equal(6, answer.Sense >> 16); }
        Assert.DoesNotContain(host.Log, line => line.Contains("bug", StringComparison.Ordinal));
    }

    [Fact]
    public void Two_hundred_and_fifty_six_queues_are_served()
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath, queues: 256, queueSize: 8, ram: new GuestRam(32 << 20));
        for (int i = 2; i < 256; i++) { Assert.True(guest.Command(ScsiGuest.Cdb10(0x2A, (uint)i, 1), Pattern(i, 512), queue: guest.FrontEnd.Queues[i]).IsGood); }
        for (int i = 2; i < 256; i++) { Assert.Equal(Pattern(i, 512), guest.Command(ScsiGuest.Cdb10(0x28, (uint)i, 1), [], 512, queue: guest.FrontEnd.Queues[257 - i]).Data); }
    }

    [Fact]
    public void The_next_process_does_what_this_one_has_left()
    {
        var held = new HoldingBdev(ScsiHost.NewMemory());
        using var first = new ScsiHost(_ => held);
        var before = new ScsiGuest(first.SocketPath, queues: 0, isReady: false); // its memory is the next one's
        (InflightDescription description, SafeFd area) = before.GetInflight(queues: 3, queueSize: 64);
        using (area)
        {
            Assert.Equal(0UL, before.SetInflight(description, area));
            for (int i = 0; i < 3; i++) { before.FrontEnd.AddQueue(i); }
            Assert.Equal(ScsiGuest.PowerOn, before.TestUnitReady().Sense);
            before.BeginWrite(1);
            FrontEnd.Poll(() => held.Count == 1, "under way");
            before.FrontEnd.Socket.Dispose();

            using var second = new ScsiHost();
            using var after = new ScsiGuest(second.SocketPath, queues: 0, ram: before.FrontEnd.Ram, isReady: false);
            Assert.Equal(0UL, after.SetInflight(description, area));
            DriverQueue queue = before.Queue;
            after.FrontEnd.Start(queue, queue.UsedIndex);
            FrontEnd.Poll(() => queue.UsedIndex == 2, "what was left"); // with the unit attention of a power-on: it is not silently done
            after.FrontEnd.Queues.AddRange(before.FrontEnd.Queues);
            while (queue.TryTakeUsed(out _, out _)) { }
            Assert.True(after.TestUnitReady().IsGood);
            first.OnReactor(() => { held.LetGo(1); return true; });
        }
    }

    [Fact]
    public void Memory_that_is_shrunk_ends_its_session_and_nothing_else()
    {
        using var host = new ScsiHost(sessions: 2);
        using var victim = new ScsiGuest(host.SocketPath);
        using (var guest = new ScsiGuest(host.SocketPath))
        {
            int offset = guest.FrontEnd.Ram.LengthBytes - 8192, header = guest.FrontEnd.Ram.Allocate(FixedOut);
            guest.Request(Convert.FromHexString(ScsiGuest.Cdb10(0x28, 0, 1)), []).CopyTo(guest.FrontEnd.Ram.At(header, FixedOut));
            Assert.Equal(Errno.None, FileCalls.Truncate(guest.FrontEnd.Ram.Fd, offset));
            DeviceGuest.Submit(guest.Queue, guest.Queue.Chain(new Desc(GuestRam.Gpa(header), FixedOut), new Desc(GuestRam.Gpa(offset), FixedIn + 512, Desc.FlagWrite)));
            Assert.Null(guest.FrontEnd.Receive(MessageId.GetFeatures));
            Assert.Equal(Errno.None, FileCalls.Truncate(guest.FrontEnd.Ram.Fd, guest.FrontEnd.Ram.LengthBytes));
        }
        Assert.True(victim.TestUnitReady().IsGood);
        using var next = new ScsiGuest(host.SocketPath);
        Assert.True(next.TestUnitReady().IsGood);
    }

    private static ulong Stop(ScsiGuest guest, uint index)
    {
        var state = new VringState(index, 0);
        guest.FrontEnd.Send(MessageId.GetVringBase, MemoryMarshal.AsBytes(new ReadOnlySpan<VringState>(in state)));
        return guest.FrontEnd.Receive(MessageId.GetVringBase)!.Value;
    }

    private static byte[] Pattern(int seed, int length)
    {
        byte[] bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    private sealed class MistakenBdev(IBdev inner) : BdevDecorator(inner, "mistaken")
    {
        protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target) => Inner.ReadAsync(offsetBytes, target);

        protected override IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source) => Inner.WriteAsync(offsetBytes, source);

        protected override IoTask<Errno> FlushCoreAsync() => throw new InvalidOperationException("oh");

        protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes) => Inner.UnmapAsync(offsetBytes, lengthBytes);

        protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes) => Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
    }
}
