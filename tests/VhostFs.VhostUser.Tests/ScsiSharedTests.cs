using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>Several front-ends on one SCSI socket at the same time: each an initiator with attentions, tasks and events of its own, on the same disks. Reservations between them: <see cref="ScsiReservationTests"/>.</summary>
public sealed class ScsiSharedTests
{
    private const int ModeChanged = 0x062A01, CapacityChanged = 0x062A09, UnitReset = 0x062903;

    [Fact]
    public void Each_session_sees_what_the_others_write()
    {
        using var host = new ScsiHost(sessions: 3);
        using var split = new ScsiGuest(host.SocketPath);
        using var packed = new ScsiGuest(host.SocketPath, ScsiGuest.All | VirtioFeatures.RingPacked, ram: new GuestRam(16 << 20));
        for (int i = 0; i < 50; i++)
        {
            Assert.True(split.Write((ulong)i, Pattern(i)).IsGood);
            Assert.Equal(Pattern(i), packed.Read((ulong)i, 1).Data);
            Assert.True(packed.Write((ulong)i, Pattern(i + 1)).IsGood);
            Assert.Equal(Pattern(i + 1), split.Read((ulong)i, 1).Data);
        }
        Assert.Equal([(0, 0L), (1, 1L)], host.Sessions.Select(s => (s.Slot, s.Number)));
        Assert.Equal(0UL, split.SetConfig(ScsiConfig.SenseSizeOffset, 18, 0, 0, 0)); // one driver's sizes
        Assert.Equal((18u, 96u), (split.Config.SenseSize, packed.Config.SenseSize));
    }

    [Fact]
    public void An_attention_is_told_to_each_session_once_and_not_to_who_has_caused_it()
    {
        using var host = new ScsiHost(_ => new VolatileBdev(ScsiHost.NewMemory(), seed: 1), sessions: 3);
        using var a = new ScsiGuest(host.SocketPath);
        using var b = new ScsiGuest(host.SocketPath, isReady: false);
        Assert.True(a.TestUnitReady().IsGood); // the power-on of another is not his
        Assert.Equal(ScsiGuest.PowerOn, b.TestUnitReady().Sense);
        Assert.True(b.TestUnitReady().IsGood);
        Assert.True(a.Out("151000001800", Convert.FromHexString("00000000" + "0812" + new string('0', 36))).IsGood); // no write cache from here on
        AssertTold(ModeChanged, b);
        Assert.Equal(ScsiResponse.Ok, b.Manage(ScsiTaskFunction.LogicalUnitReset));
        AssertTold(UnitReset, a);
        AssertTold(UnitReset, b);
        Assert.Equal(ScsiResponse.Ok, b.Manage(ScsiTaskFunction.NexusReset));
        AssertTold(0x062907, b);
        Assert.True(a.TestUnitReady().IsGood);
        using var late = new ScsiGuest(host.SocketPath, isReady: false); // has missed all of it
        AssertTold(ScsiGuest.PowerOn, late);
    }

    [Fact]
    public void Targets_that_come_and_go_and_new_sizes_are_told_to_all_who_listen()
    {
        using var host = new ScsiHost(sessions: 4);
        using var a = new ScsiGuest(host.SocketPath);
        using var deaf = new ScsiGuest(host.SocketPath, FrontEnd.AllFeatures); // has not negotiated events
        using var busy = new ScsiGuest(host.SocketPath); // has left no buffers
        using var b = new ScsiGuest(host.SocketPath, ScsiGuest.All | VirtioFeatures.RingPacked);
        List<int> eventsOfA = a.LeaveEventBuffers(3), eventsOfB = b.LeaveEventBuffers(3);
        host.WaitForEventQueues(sessions: 2);
        var disk = new NullBdev("more", 1 << 20, 512);
        host.Add(5, _ => disk);
        Assert.Equal(((1u, 5, 1u), (1u, 5, 1u)), (a.WaitForEvent(eventsOfA[0]), b.WaitForEvent(eventsOfB[0])));
        foreach (ScsiGuest guest in (ScsiGuest[])[a, b, deaf, busy]) { Assert.Equal(ScsiGuest.PowerOn, guest.TestUnitReady(5).Sense); }
        Assert.Equal(Errno.None, host.OnReactorAsync(() => disk.ResizeAsync(2 << 20)));
        Assert.Equal(((3u, 5, 0x092Au), (3u, 5, 0x092Au)), (a.WaitForEvent(eventsOfA[1]), b.WaitForEvent(eventsOfB[1])));
        foreach (ScsiGuest guest in (ScsiGuest[])[a, b, deaf, busy])
        {
            Assert.Equal(CapacityChanged, guest.TestUnitReady(5).Sense);
            Assert.Equal("00000FFF00000200", Convert.ToHexString(guest.In("25", 8, target: 5).Data));
        }
        Assert.True(host.Remove(5));
        Assert.Equal(((1u, 5, 2u), (1u, 5, 2u)), (a.WaitForEvent(eventsOfA[2]), b.WaitForEvent(eventsOfB[2])));
        foreach (ScsiGuest guest in (ScsiGuest[])[a, b, deaf, busy]) { Assert.Equal(ScsiResponse.BadTarget, guest.TestUnitReady(5).Response); }
        Assert.Equal((0x80000000u, 0, 0u), busy.WaitForEvent(busy.LeaveEventBuffers(1)[0])); // that it has missed something
    }

    [Fact]
    public void Tasks_are_the_sessions_and_resets_are_of_all()
    {
        var held = new HoldingBdev(ScsiHost.NewMemory());
        using var host = new ScsiHost(_ => held, sessions: 2);
        using var a = new ScsiGuest(host.SocketPath);
        using var b = new ScsiGuest(host.SocketPath);
        try
        {
            ushort write = a.BeginWrite(7);
            FrontEnd.Poll(() => host.OnReactor(() => held.Count) == 1, "its write is under way");
            Assert.Equal((ScsiResponse.FunctionSucceeded, ScsiResponse.Ok), (a.Manage(ScsiTaskFunction.QueryTask, id: 7), b.Manage(ScsiTaskFunction.QueryTask, id: 7)));
            Assert.Equal(ScsiResponse.Ok, b.Manage(ScsiTaskFunction.AbortTask, id: 7)); // a's has the same name, and is not waited for
            Assert.Equal(ScsiResponse.Ok, b.Manage(ScsiTaskFunction.AbortTaskSet));
            Assert.Equal(ScsiResponse.Ok, b.Manage(ScsiTaskFunction.NexusReset));
            ushort reset = b.Make(ScsiGuest.ManageRequest(ScsiTaskFunction.LogicalUnitReset), 1, [], [], b.ControlQueue, out List<(int At, int Length)> answer);
            DeviceGuest.Submit(b.ControlQueue, reset);
            Assert.Equal(ScsiResponse.Ok, b.Manage(ScsiTaskFunction.QueryTaskSet)); // taken after it: it waits
            Assert.Equal(DeviceGuest.Untouched, b.FrontEnd.Ram.At(answer[0].At, 1)[0]);
            host.OnReactor(() => { held.LetGo(1); return true; });
            a.FrontEnd.WaitUsed(a.Queue, write);
            Assert.Equal(1u, b.FrontEnd.WaitUsed(b.ControlQueue, reset));
            Assert.Equal((byte)ScsiResponse.Ok, b.FrontEnd.Ram.At(answer[0].At, 1)[0]);
        }
        finally { host.OnReactor(() => { held.LetGo(held.Count); return true; }); } // or its session never ends
    }

    [Fact]
    public async Task A_target_goes_when_the_commands_of_all_sessions_have_ended()
    {
        var held = new HoldingBdev(ScsiHost.NewMemory());
        using var host = new ScsiHost(_ => held, sessions: 2);
        using var a = new ScsiGuest(host.SocketPath);
        using var b = new ScsiGuest(host.SocketPath);
        try
        {
            ushort ofA = a.BeginWrite(1), ofB = b.BeginWrite(1);
            FrontEnd.Poll(() => host.OnReactor(() => held.Count) == 2, "both are under way");
            Task<bool> removed = host.StartOnReactor(() => host.Targets.RemoveAsync(0));
            host.OnReactor(() => { held.LetGo(1); return true; });
            for (int i = 0; i < 10; i++) { host.OnReactor(() => true); }
            Assert.False(removed.IsCompleted);
            host.OnReactor(() => { held.LetGo(1); return true; });
            a.FrontEnd.WaitUsed(a.Queue, ofA);
            b.FrontEnd.WaitUsed(b.Queue, ofB);
            Assert.Equal((ScsiResponse.BadTarget, ScsiResponse.BadTarget), (a.TestUnitReady().Response, b.TestUnitReady().Response));
            Assert.True(await removed);
        }
        finally { host.OnReactor(() => { held.LetGo(held.Count); return true; }); }
    }

    [Fact]
    public void One_that_dies_in_the_middle_takes_nothing_from_the_others()
    {
        using var host = new ScsiHost(sessions: 2);
        using var survivor = new ScsiGuest(host.SocketPath);
        for (int round = 0; round < 30; round++)
        {
            using (var victim = new ScsiGuest(host.SocketPath))
            {
                for (ulong i = 0; i < 20; i++) { victim.BeginWrite(i); }
                if (round % 3 == 1) { Assert.Equal(Errno.None, FileCalls.Truncate(victim.FrontEnd.Ram.Fd, 0)); }
                if (round % 3 == 2) { victim.FrontEnd.SendRaw(new byte[100]); }
            }
            Assert.True(survivor.Write(100, Pattern(round)).IsGood);
            Assert.Equal(Pattern(round), survivor.Read(100, 1).Data);
        }
    }

    // Once.
    private static void AssertTold(int sense, ScsiGuest guest)
    {
        Assert.Equal(sense, guest.TestUnitReady().Sense);
        Assert.True(guest.TestUnitReady().IsGood);
    }

    private static byte[] Pattern(int seed)
    {
        byte[] bytes = new byte[512];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }
}
