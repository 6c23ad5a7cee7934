using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>Several front-ends on one socket at the same time: each with memory, rings and features of its own, on one disk.</summary>
public sealed class SharedDiskTests
{
    [Fact]
    public void Each_guest_has_its_own_session_and_sees_what_the_others_write()
    {
        using var disk = new BlkDisk(sessions: 3);
        using var first = new BlkGuest(disk.Paths[0], queues: 2);
        using var second = new BlkGuest(disk.Paths[0], BlkGuest.All & ~(VirtioFeatures.EventIdx | VirtioFeatures.IndirectDesc), ram: new GuestRam(16 << 20));
        for (int i = 0; i < 50; i++)
        {
            Assert.Equal(0, first.Request(BlkRequestType.Out, (ulong)i, Pattern(i), 0, queue: first.FrontEnd.Queues[i % 2]).Status);
            Assert.Equal(Pattern(i), second.Read((ulong)i, 512).Data);
            Assert.Equal(0, second.Write((ulong)i, Pattern(i + 1)));
            Assert.Equal(Pattern(i + 1), first.Read((ulong)i, 512).Data);
        }
        Assert.Equal([(0, 0L, 2), (1, 1L, 1)], disk.Sessions.Select(s => (s.Slot, s.Number, s.Queues)));
        Assert.Equal(0UL, first.SetConfig((uint)BlkConfig.WritebackOffset, 0)); // one driver's cache mode
        Assert.Equal((0, 1), (first.Config.Writeback, second.Config.Writeback));
    }

    [Fact]
    public void One_that_dies_in_the_middle_takes_nothing_from_the_others()
    {
        using var disk = new BlkDisk(sessions: 2);
        using var survivor = new BlkGuest(disk.Paths[0]);
        for (int round = 0; round < 30; round++)
        {
            using (var victim = new BlkGuest(disk.Paths[0]))
            {
                for (int i = 0; i < 20; i++) { BlkGuest.Submit(victim.Queue, Request(victim, BlkRequestType.Out, 100, 4096)); }
                if (round % 3 == 1) { Assert.Equal(Errno.None, FileCalls.Truncate(victim.FrontEnd.Ram.Fd, 0)); }
                if (round % 3 == 2) { victim.FrontEnd.SendRaw(new byte[100]); }
            }
            Assert.Equal(0, survivor.Write(0, Pattern(round)));
            Assert.Equal(Pattern(round), survivor.Read(0, 512).Data);
        }
        FrontEnd.Poll(() => disk.Sessions.Count == 1, "the last victim has gone");
        Assert.Equal((0, 0L), (disk.Sessions[0].Slot, disk.Sessions[0].Number));
    }

    [Fact]
    public void Who_comes_after_one_that_has_gone_does_not_meet_its_late_writes()
    {
        HoldingBdev? holding = null;
        using var disk = new BlkDisk(_ => holding = new HoldingBdev(BlkDisk.NewMemory()), sessions: 3);
        using var other = new BlkGuest(disk.Paths[0]);
        using (var gone = new BlkGuest(disk.Paths[0]))
        {
            BlkGuest.Submit(gone.Queue, Request(gone, BlkRequestType.Out, 0, 512));
            FrontEnd.Poll(() => disk.OnReactor(() => holding!.Count) == 1, "its write is under way");
        }
        using var next = new FrontEnd(disk.Paths[0]);
        next.Send(MessageId.GetFeatures, []);
        Assert.Equal(0, other.Read(8, 512).Status); // who is there goes on
        AssertSilent(next, disk);
        disk.OnReactor(() => { holding!.LetGo(1); return true; });
        Assert.NotNull(next.Receive(MessageId.GetFeatures));
        Assert.Equal(0xab, disk.Read(0, 512)[0]);
    }

    [Fact]
    public void No_more_than_so_many_are_connected_and_the_next_waits()
    {
        using var disk = new BlkDisk(sessions: 2);
        using var silent = new FrontEnd(disk.Paths[0]); // takes a place as others do
        FrontEnd.Poll(() => disk.Sessions.Count == 1, "the silent one is connected");
        var guest = new BlkGuest(disk.Paths[0]);
        using var third = new FrontEnd(disk.Paths[0]);
        third.Send(MessageId.GetFeatures, []);
        Assert.Equal(0, guest.Flush());
        AssertSilent(third, disk);
        Assert.Equal([0, 1], disk.Sessions.Select(s => s.Slot));
        silent.Socket.Dispose();
        Assert.NotNull(third.Receive(MessageId.GetFeatures));
        Assert.Equal([(1, 1L), (0, 2L)], disk.Sessions.Select(s => (s.Slot, s.Number)));
        guest.Dispose();
        FrontEnd.Poll(() => disk.Sessions.Count == 1, "the guest has gone");
        using var next = new BlkGuest(disk.Paths[0]);
        Assert.Equal(0, next.Flush());
    }

    [Fact]
    public void Each_hears_of_a_new_size()
    {
        using var disk = new BlkDisk(_ => new NullBdev("null", BlkDisk.DiskBytes, 512), sessions: 2);
        using var first = new BlkGuest(disk.Paths[0]);
        using var second = new BlkGuest(disk.Paths[0]);
        SafeFd[] channels = [Channel(first), Channel(second)];
        Assert.Equal(Errno.None, disk.OnReactorAsync(() => disk.Bdev.ResizeAsync(2 * BlkDisk.DiskBytes)));
        foreach (SafeFd channel in channels)
        {
            byte[] message = new byte[MessageHeader.Size];
            FrontEnd.Poll(() => UnixSocket.Receive(channel, message, [], out _).Bytes == message.Length, "the change is announced");
            channel.Dispose();
        }
        Assert.Equal((2UL * BlkDisk.DiskBytes / 512, 2UL * BlkDisk.DiskBytes / 512), (first.Config.Capacity, second.Config.Capacity));

        static SafeFd Channel(BlkGuest guest)
        {
            Assert.Equal(Errno.None, UnixSocket.CreatePair(out SafeFd ours, out SafeFd theirs));
            using (theirs) { Assert.Equal(0UL, guest.FrontEnd.Set(MessageId.SetBackendReqFd, [], theirs.Fd)); }
            return ours;
        }
    }

    [Fact]
    public void Each_has_its_own_area_for_what_is_in_flight()
    {
        using var disk = new BlkDisk(sessions: 2);
        using var first = new BlkGuest(disk.Paths[0], queues: 0);
        using var second = new BlkGuest(disk.Paths[0], queues: 0);
        foreach (BlkGuest guest in (BlkGuest[])[first, second])
        {
            (InflightDescription description, SafeFd area) = guest.GetInflight();
            using (area) { Assert.Equal(0UL, guest.SetInflight(description, area)); }
            guest.FrontEnd.AddQueue(0);
            Assert.Equal(0, guest.Flush());
        }
        first.FrontEnd.Socket.Dispose();
        FrontEnd.Poll(() => disk.Sessions.Count == 1, "the first has gone, with its area");
        Assert.Equal(0, second.Write(0, Pattern(1)));
    }

    // Nothing has come, though the server has had its turn.
    private static void AssertSilent(FrontEnd frontEnd, BlkDisk disk)
    {
        for (int i = 0; i < 10; i++) { disk.OnReactor(() => true); }
        Assert.Equal(Errno.EAGAIN, UnixSocket.Receive(frontEnd.Socket, new byte[1], [], out _).Errno);
    }

    private static ushort Request(BlkGuest guest, BlkRequestType type, ulong sector, int bytes)
    {
        var header = new BlkRequestHeader(type, 0, sector);
        byte[] request = [.. System.Runtime.InteropServices.MemoryMarshal.AsBytes(new ReadOnlySpan<BlkRequestHeader>(in header)), .. Enumerable.Repeat((byte)0xab, bytes)];
        return guest.Make(request, 1, [BlkRequestHeader.Size], [], guest.Queue, out _);
    }

    private static byte[] Pattern(int seed)
    {
        byte[] bytes = new byte[512];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }
}
