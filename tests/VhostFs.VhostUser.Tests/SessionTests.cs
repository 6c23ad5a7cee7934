using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>Rings and sessions as front-ends drive them.</summary>
public sealed class SessionTests
{
    [Theory]
    [InlineData(FrontEnd.AllFeatures)]
    [InlineData(VirtioFeatures.Version1 | VirtioFeatures.ProtocolFeatures)]
    [InlineData(VirtioFeatures.Version1 | VirtioFeatures.ProtocolFeatures | VirtioFeatures.EventIdx)]
    [InlineData(VirtioFeatures.Version1 | VirtioFeatures.ProtocolFeatures | VirtioFeatures.IndirectDesc)]
    [InlineData(FrontEnd.Offered)]
    [InlineData(VirtioFeatures.Version1 | VirtioFeatures.ProtocolFeatures | VirtioFeatures.RingPacked)]
    [InlineData(VirtioFeatures.Version1 | VirtioFeatures.ProtocolFeatures | VirtioFeatures.RingPacked | VirtioFeatures.EventIdx)]
    public void Requests_are_served_with_every_ring_style(VirtioFeatures features)
    {
        using var export = new Export();
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0, features);
        for (int i = 0; i < 200; i++) { Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1])); }
        Assert.Equal(-(int)Errno.ESTALE, frontEnd.GetAttributes(frontEnd.Queues[1], 1234));
        Assert.True(frontEnd.Queues[1].TakeCalls() > 0);
    }

    [Fact]
    public void A_table_of_memory_regions_works_as_single_regions_do()
    {
        using var export = new Export();
        using var frontEnd = new FrontEnd(export.Path0);
        frontEnd.Negotiate();
        Assert.Equal(0UL, frontEnd.SetMemoryTable());
        frontEnd.AddQueue(0);
        frontEnd.AddQueue(1);
        frontEnd.Init();
        Assert.Equal(0UL, frontEnd.SetMemoryTable()); // again, while running
        Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1]));
    }

    [Fact]
    public void Sixty_five_queues_are_served()
    {
        using var export = new Export();
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
        for (int i = 2; i < 65; i++) { frontEnd.AddQueue(i, size: 16); }
        foreach (DriverQueue queue in frontEnd.Queues.Skip(1)) { Assert.Equal(0, frontEnd.GetAttributes(queue)); }
    }

    [Fact]
    public void A_forget_on_hiprio_comes_back_without_a_reply_while_requests_wait()
    {
        using var export = new Export(maxInFlight: 2);
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
        for (int i = 0; i < 4; i++) { frontEnd.Start(frontEnd.Queues[1], 3, FakeFs.HeldNode, new byte[16], 104, out _); }
        FrontEnd.Poll(() => export.Fs.HeldCount == 2, "two requests under way, the bound");
        frontEnd.Start(frontEnd.Queues[0], 2, 1, new byte[8], 0, out ushort head);
        Assert.Equal(0u, frontEnd.WaitUsed(frontEnd.Queues[0], head));
        Assert.Equal(1, export.Fs.ForgetCount);
        export.LetGo();
        FrontEnd.Poll(() => export.Fs.HeldCount == 2, "the waiting two have their turn");
        export.LetGo();
        FrontEnd.Poll(() => frontEnd.Queues[1].UsedIndex == 5, "all came back");
    }

    [Fact]
    public void A_kick_that_is_pending_when_its_descriptor_arrives_starts_the_ring()
    {
        using var export = new Export();
        using var frontEnd = new FrontEnd(export.Path0);
        frontEnd.Negotiate();
        Assert.Equal(0UL, frontEnd.AddMemory());
        frontEnd.AddQueue(0);
        var queue = new SplitDriverQueue(frontEnd.Ram, 1, 64, frontEnd.Features);
        frontEnd.Queues.Add(queue);
        frontEnd.Start(queue, 26, 0, new byte[16], 64, out _); // INIT, kicked before anything is configured
        frontEnd.Start(queue, 0);
        FrontEnd.Poll(() => queue.UsedIndex == 1, "the request is answered");
    }

    [Fact]
    public void A_started_but_disabled_ring_is_held_until_it_is_enabled()
    {
        using var export = new Export();
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
        DriverQueue queue = frontEnd.AddQueue(2, enable: false);
        frontEnd.Start(queue, 3, 1, new byte[16], 104, out ushort head);
        Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1])); // the reactor has had its turns
        Assert.Equal(0, queue.UsedIndex);
        Assert.Equal(0UL, frontEnd.Set(MessageId.SetVringEnable, new VringState(2, 1)));
        Assert.Equal(120u, frontEnd.WaitUsed(queue, head));
    }

    [Fact]
    public void Features_without_protocol_features_enable_all_rings()
    {
        using var export = new Export();
        using var frontEnd = new FrontEnd(export.Path0);
        frontEnd.Negotiate(VirtioFeatures.Version1);
        Assert.Equal(0UL, frontEnd.AddMemory());
        frontEnd.AddQueue(0, enable: false);
        frontEnd.AddQueue(1, enable: false);
        frontEnd.Init();
        Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1]));
    }

    [Fact]
    public void Get_vring_base_waits_for_requests_in_flight_and_nothing_is_touched_after_it()
    {
        using var export = new Export();
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
        DriverQueue queue = frontEnd.Queues[1];
        frontEnd.Start(queue, 3, FakeFs.HeldNode, new byte[16], 104, out _);
        frontEnd.Start(queue, 3, FakeFs.HeldNode, new byte[16], 104, out _);
        FrontEnd.Poll(() => export.Fs.HeldCount == 2, "both under way");
        var state = new VringState(1, 0);
        frontEnd.Send(MessageId.GetVringBase, MemoryMarshal.AsBytes(new ReadOnlySpan<VringState>(in state)));
        frontEnd.Start(queue, 3, 1, new byte[16], 104, out _); // not taken any more
        queue.Kick();
        Thread.Sleep(20);
        Assert.Equal(1, queue.UsedIndex);
        export.LetGo();
        Assert.Equal(1UL | (3UL << 32), frontEnd.Receive(MessageId.GetVringBase));
        Assert.Equal(3, queue.UsedIndex);
        queue.TakeCalls();
        queue.Kick();
        Assert.Equal((ulong)FrontEnd.Offered, frontEnd.Get(MessageId.GetFeatures));
        Assert.Equal((3, 0UL), (queue.UsedIndex, queue.TakeCalls()));
        queue.LastUsed = queue.UsedIndex;
        frontEnd.Start(queue, 3); // goes on where it stopped
        FrontEnd.Poll(() => queue.UsedIndex == 4, "the request that waited in the ring");
    }

    [Fact]
    public void Guest_reboot_is_a_stop_and_a_new_init()
    {
        using var export = new Export();
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
        foreach (DriverQueue queue in frontEnd.Queues.ToArray())
        {
            Assert.Equal(0UL, frontEnd.Set(MessageId.SetVringEnable, new VringState((uint)queue.Index, 0)));
            var state = new VringState((uint)queue.Index, 0);
            frontEnd.Send(MessageId.GetVringBase, MemoryMarshal.AsBytes(new ReadOnlySpan<VringState>(in state)));
            Assert.NotNull(frontEnd.Receive(MessageId.GetVringBase));
            queue.Dispose();
        }
        frontEnd.Queues.Clear();
        frontEnd.AddQueue(0);
        frontEnd.AddQueue(1);
        frontEnd.Init();
        Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1]));
        Assert.True(export.Fs.SessionsEnded >= 1);
    }

    [Fact]
    public void Reset_device_wipes_session_and_rings_but_not_memory()
    {
        using var export = new Export();
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
        Assert.Equal(0UL, frontEnd.Set(MessageId.ResetDevice, []));
        Assert.Equal(1, export.Fs.SessionsEnded);
        frontEnd.Start(frontEnd.Queues[1], 3, 1, new byte[16], 104, out _);
        frontEnd.Queues[1].Kick();
        Assert.Equal(0UL, frontEnd.Set(MessageId.SetFeatures, (ulong)FrontEnd.AllFeatures));
        Assert.Equal(1, frontEnd.Queues[1].UsedIndex);
        frontEnd.Queues.ForEach(q => q.Dispose());
        frontEnd.Queues.Clear();
        frontEnd.AddQueue(0);
        frontEnd.AddQueue(1);
        frontEnd.Init();
        Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1]));
    }

    [Fact]
    public void Reset_device_before_any_features_is_legal()
    {
        using var export = new Export();
        using var frontEnd = new FrontEnd(export.Path0);
        frontEnd.Send(MessageId.ResetDevice, []);
        frontEnd.Negotiate();
    }

    [Fact]
    public void After_a_disconnect_with_requests_in_flight_the_next_front_end_is_served()
    {
        using var export = new Export();
        using (FrontEnd frontEnd = FrontEnd.Up(export.Path0))
        {
            frontEnd.Start(frontEnd.Queues[1], 3, FakeFs.HeldNode, new byte[16], 104, out _);
            FrontEnd.Poll(() => export.Fs.HeldCount == 1, "under way");
        }
        export.LetGo();
        using FrontEnd next = FrontEnd.Up(export.Path0);
        Assert.Equal(0, next.GetAttributes(next.Queues[1]));
        Assert.Equal(2, export.Server.ConnectionCount);
    }

    [Fact]
    public void A_session_may_end_in_the_very_turn_in_which_its_last_request_completes()
    {
        using var export = new Export();
        using (FrontEnd frontEnd = FrontEnd.Up(export.Path0))
        {
            frontEnd.Start(frontEnd.Queues[1], 3, FakeFs.HeldNode, new byte[16], 104, out _);
            FrontEnd.Poll(() => export.Fs.HeldCount == 1, "under way");
        }
        export.OnReactorAsync(async () =>
        {
            await export.Reactor.DelayAsync(20_000_000); // the end of the connection has been seen, and waits for the request
            export.Fs.LetGo(); // in the timer phase: the session ends before the turn's calls are considered
            return true;
        });
        using FrontEnd next = FrontEnd.Up(export.Path0);
        Assert.Equal(0, next.GetAttributes(next.Queues[1]));
        Assert.Empty(export.Unhandled);
    }

    [Fact]
    public void Two_exports_in_one_process_do_not_notice_each_other()
    {
        using var export = new Export(count: 2);
        using FrontEnd first = FrontEnd.Up(export.Paths[0]);
        using FrontEnd second = FrontEnd.Up(export.Paths[1]);
        first.Queues[1].MakeAvailable(0xffff); // breaks the queue
        first.Queues[1].Kick();
        Assert.Equal(0, second.GetAttributes(second.Queues[1]));
        FrontEnd.Poll(() => EventFd.TryConsume(first.Queues[1].ErrFd, out _), "err is signalled");
        Assert.Single(export.Log, line => line.Contains("is broken", StringComparison.Ordinal));
        Assert.Equal((ulong)FrontEnd.Offered, first.Get(MessageId.GetFeatures)); // still there for a clean teardown
    }

    [Fact]
    public void CVE_2026_86567_removing_memory_waits_for_the_requests_that_use_it()
    {
        using var export = new Export();
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
        using var extra = new GuestRam(1 << 20);
        var region = new MemoryRegion(0x8_0000_0000, 1 << 20, extra.UserBase, 0);
        Assert.Equal(0UL, frontEnd.Set(MessageId.AddMemReg, FrontEnd.WithPad(region), extra.Fd.Fd));
        frontEnd.Start(frontEnd.Queues[1], 3, FakeFs.HeldNode, new byte[16], 104, out ushort head);
        FrontEnd.Poll(() => export.Fs.HeldCount == 1, "under way");
        frontEnd.Send(MessageId.RemMemReg, FrontEnd.WithPad(region), needReply: true);
        Thread.Sleep(20);
        Assert.Equal(Errno.EAGAIN, UnixSocket.Receive(frontEnd.Socket, new byte[1], [], out _).Errno);
        export.LetGo();
        Assert.Equal(0UL, frontEnd.Receive(MessageId.RemMemReg));
        Assert.Equal(120u, frontEnd.WaitUsed(frontEnd.Queues[1], head));
        Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1]));
    }

    [Fact]
    public void Memory_that_is_shrunk_ends_its_session_and_nothing_else()
    {
        using var export = new Export(count: 2);
        using FrontEnd victim = FrontEnd.Up(export.Paths[1]);
        using (FrontEnd frontEnd = FrontEnd.Up(export.Path0))
        {
            DriverQueue queue = frontEnd.Queues[1];
            int offset = frontEnd.Ram.LengthBytes - 8192;
            Assert.Equal(Errno.None, FileCalls.Truncate(frontEnd.Ram.Fd, offset));
            queue.MakeAvailable(queue.Chain(new Desc(GuestRam.Gpa(offset), 56), new Desc(GuestRam.Gpa(offset + 4096), 120, Desc.FlagWrite)));
            queue.Kick();
            Assert.Null(frontEnd.Receive(MessageId.GetFeatures));
            Assert.Equal(Errno.None, FileCalls.Truncate(frontEnd.Ram.Fd, frontEnd.Ram.LengthBytes));
        }
        Assert.Equal(0, victim.GetAttributes(victim.Queues[1]));
        using FrontEnd next = FrontEnd.Up(export.Path0);
        Assert.Equal(0, next.GetAttributes(next.Queues[1]));
    }

    [Fact]
    public void The_socket_is_private_and_a_live_one_is_not_taken_over()
    {
        using var export = new Export();
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(export.Path0));
        var second = new VhostUserServer(new VhostUserServerOptions { Name = "second", SocketPath = export.Path0 }, _ => throw new InvalidOperationException(), (_, _) => { });
        Assert.Equal(Errno.EADDRINUSE, export.OnReactor(second.Start));
        Assert.Contains(export.Log, line => line.Contains("Waiting for vhost-user socket connection", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(FrontEnd.AllFeatures)]
    [InlineData(FrontEnd.Offered)]
    public void A_served_request_allocates_nothing_from_kick_to_call(VirtioFeatures features)
    {
        using var export = new Export();
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0, features);
        long Cost(int requests)
        {
            long before = export.OnReactor(() => GC.GetAllocatedBytesForCurrentThread());
            for (int i = 0; i < requests; i++) { Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1])); }
            return export.OnReactor(() => GC.GetAllocatedBytesForCurrentThread()) - before;
        }
        Cost(300);
        long cost = Cost(1000) - Cost(0); // the measuring itself allocates on the reactor
        Assert.True(cost < 1000, $"{cost} bytes for 1000 requests"); // less than a byte each: a queue of the reactor may still grow once
    }

    [Fact]
    public void While_requests_come_densely_they_are_served_without_kicks_and_after_a_pause_with_kicks()
    {
        using var export = new Export();
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
        DriverQueue queue = frontEnd.Queues[1];
        bool served = false;
        // It takes two processors at the same time; on a busy machine that moment may be long in coming.
        for (long limit = Environment.TickCount64 + 60_000; !served && Environment.TickCount64 < limit;)
        {
            int mark = frontEnd.Ram.Mark;
            Assert.Equal(0, frontEnd.GetAttributes(queue));
            ushort before = queue.UsedIndex;
            frontEnd.Start(queue, 3, 1, new byte[16], 104, out _, kick: false);
            for (int look = 0; look < 2000 && !served; look++) { served = queue.UsedIndex != before; }
            if (!served) { queue.Kick(); }
            FrontEnd.Poll(() => queue.UsedIndex != before, "the request");
            while (queue.TryTakeUsed(out _, out _)) { }
            frontEnd.Ram.Rewind(mark);
        }
        Assert.True(served, "no request was ever served without a kick");
        FrontEnd.Poll(() => export.OnReactor(() => true), "the reactor's sleep");
        Assert.Equal(0, frontEnd.GetAttributes(queue));
    }

    /// <summary>QEMU starts rings with a descriptor that nobody listens to, and gives the real one afterwards.</summary>
    [Fact]
    public void What_was_told_to_a_descriptor_is_told_to_the_one_that_replaces_it()
    {
        using var export = new Export();
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
        DriverQueue quiet = frontEnd.AddQueue(2), queue = frontEnd.Queues[1];
        Assert.Equal(0, frontEnd.GetAttributes(queue));
        queue.WantCallAt((ushort)(queue.LastUsed + 100)); // the driver need not have asked again
        Assert.True(Replaced(queue));
        Assert.True(Replaced(queue));
        Assert.False(Replaced(quiet)); // nothing was told

        bool Replaced(DriverQueue of)
        {
            Assert.Equal(Errno.None, EventFd.Create(out SafeFd call));
            using (call)
            {
                Assert.Equal(0UL, frontEnd.Set(MessageId.SetVringCall, (ulong)of.Index, call.Fd));
                // An answer to a later message: what the first has led to has gone out.
                for (int i = 0; i < 3; i++) { frontEnd.Get(MessageId.GetFeatures); }
                return EventFd.TryConsume(call, out _);
            }
        }
    }

    /// <summary>A process that died between publishing and calling told nobody.</summary>
    [Fact]
    public void A_ring_that_goes_on_begins_with_a_call()
    {
        using var export = new Export();
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
        DriverQueue queue = frontEnd.Queues[1];
        Assert.Equal(0, frontEnd.GetAttributes(queue));
        var state = new VringState(1, 0);
        frontEnd.Send(MessageId.GetVringBase, MemoryMarshal.AsBytes(new ReadOnlySpan<VringState>(in state)));
        ulong answer = frontEnd.Receive(MessageId.GetVringBase)!.Value;
        queue.TakeCalls();
        frontEnd.Start(queue, (ushort)(answer >> 32));
        queue.Kick();
        FrontEnd.Poll(() => queue.TakeCalls() > 0, "the call");
    }

    [Fact]
    public void However_a_reactor_waits_no_kick_is_lost_also_when_it_changes_between_requests()
    {
        using var export = new Export(mode: ReactorMode.Poll);
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
        DriverQueue queue = frontEnd.Queues[1];
        var random = new Random(1);
        for (int i = 0; i < 300; i++)
        {
            for (int k = random.Next(4); k >= 0; k--) { Assert.Equal(0, frontEnd.GetAttributes(queue)); }
            if (random.Next(4) == 0) { Thread.Sleep(1); } // an adaptive one is asleep by then
            var mode = (ReactorMode)random.Next(3);
            export.OnReactor(() => export.Reactor.Mode = mode);
        }
    }

    [Fact]
    public void A_polling_reactor_looks_at_a_ring_and_does_not_ask_for_kicks()
    {
        using var export = new Export(mode: ReactorMode.Poll);
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
        DriverQueue queue = frontEnd.Queues[1];
        Assert.Equal(0, frontEnd.GetAttributes(queue));
        Thread.Sleep(20); // much longer than an adaptive one looks
        frontEnd.Start(queue, 3, 1, new byte[16], 104, out _, kick: false);
        FrontEnd.Poll(() => queue.UsedIndex == (ushort)(queue.LastUsed + 1), "served without a kick");
    }

    /// <summary>The ring of an earlier session is still looked at; messages of the next one come through the kernel all the same.</summary>
    [Fact]
    public void A_polling_reactor_hears_of_one_front_end_after_the_other()
    {
        using var export = new Export(mode: ReactorMode.Poll);
        for (int i = 0; i < 50; i++)
        {
            using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
            Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1]));
        }
    }

    [Fact]
    public void A_batch_of_requests_needs_one_call_and_few_system_calls()
    {
        using var export = new Export(mode: ReactorMode.Interrupt);
        using FrontEnd frontEnd = FrontEnd.Up(export.Path0);
        DriverQueue queue = frontEnd.Queues[1];
        Assert.Equal(0, frontEnd.GetAttributes(queue));
        // The turn that answered is over, and has made its call: what comes from here on is of the batch.
        long before = export.OnReactor(() => export.Reactor.Ring.EnterCount);
        queue.TakeCalls();
        queue.WantCallAt(queue.LastUsed);
        for (int i = 0; i < 48; i++) { frontEnd.Start(queue, 3, 1, new byte[16], 104, out _, kick: false); }
        queue.Kick();
        FrontEnd.Poll(() => queue.UsedIndex == (ushort)(queue.LastUsed + 48), "all served");
        long enters = export.OnReactor(() => export.Reactor.Ring.EnterCount) - before;
        Assert.True(enters <= 8, $"{enters} io_uring_enter for 48 requests");
        ulong calls = 0;
        FrontEnd.Poll(() => (calls += queue.TakeCalls()) > 0, "a call");
        Assert.Equal(1UL, calls);
    }
}
