using System.Numerics;
using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>What a front-end that migrates its guest sees of our writes to guest memory: every page that was written to, and no other.</summary>
public sealed class DirtyLogTests : IDisposable
{
    private const int LogBytes = 64 << 10; // guest addresses up to 2 GiB above 0
    private const ulong HighLogBytes = 132 << 10; // beyond GuestRam.GuestBase, 4 GiB
    private readonly SafeFd _fd = NewLog();

    public void Dispose() => _fd.Dispose();

    [Theory]
    [InlineData(0UL, (ulong)LogBytes)]
    [InlineData(4096UL, 4096UL)]
    [InlineData(3UL, 1021UL)] // front-ends need not align it
    [InlineData(4097UL, 1UL)]
    public unsafe void Pages_are_marked_from_the_first_byte_to_the_last_and_none_beyond_the_end(ulong offset, ulong size)
    {
        using var memory = new GuestMemory();
        Assert.Equal(Errno.None, DirtyLog.TryMap(memory, _fd, offset, size, out DirtyLog? log, out _));
        bool[] expected = new bool[LogBytes * 8 * 2];
        var random = new Random(5);
        for (int i = 0; i < 200; i++)
        {
            long page = random.NextInt64((long)size * 9), length = random.Next(4) == 0 ? random.Next(1 << 20) : random.Next(8200);
            ulong at = ((ulong)page << 12) + (ulong)random.Next(4096);
            log!.Mark(at, length);
            for (ulong marked = at >> 12; length > 0 && marked <= (at + (ulong)length - 1) >> 12; marked++)
            {
                if (marked < size * 8) { expected[(offset * 8) + marked] = true; }
            }
        }
        log!.Mark(ulong.MaxValue, 1);
        log.Mark(ulong.MaxValue - 10, 4096); // wraps
        log.Mark(0, 0);
        Assert.Equal(Pages(expected), Pages(_fd));
        log.Dispose();
    }

    [Fact]
    public void Bits_that_the_front_end_takes_at_the_same_time_are_not_set_again()
    {
        using var memory = new GuestMemory();
        Assert.Equal(Errno.None, DirtyLog.TryMap(memory, _fd, 0, 4, out DirtyLog? log, out _)); // one word
        Assert.Equal(Errno.None, MemoryCalls.Map(_fd, 0, LogBytes, MemoryCalls.PROT_READ | MemoryCalls.PROT_WRITE, MemoryCalls.MAP_SHARED, out nuint theirs));
        long taken = 0;
        bool isOver = false;
        var taker = new Thread(() =>
        {
            while (!Volatile.Read(ref isOver)) { taken += Take(); }
        });
        taker.Start();
        // Both pages lie in the same word; each is marked again only when the other side has taken it.
        for (int i = 0; i < 20_000; i++)
        {
            log!.Mark(0, 1);
            log.Mark(7 << 12, 1);
            while (Peek() != 0) { Thread.Yield(); }
        }
        Volatile.Write(ref isOver, true);
        taker.Join();
        Assert.InRange(taken, 20_000, 40_000);
        log!.Dispose();
        MemoryCalls.Unmap(theirs, LogBytes);

        unsafe int Take() => BitOperations.PopCount(Interlocked.Exchange(ref *(uint*)theirs, 0));
        unsafe uint Peek() => Volatile.Read(ref *(uint*)theirs);
    }

    [Theory]
    [InlineData(0UL, 0UL)]
    [InlineData(0UL, (ulong)LogBytes * 4 + 1)] // past the end of the file
    [InlineData(1UL, (ulong)LogBytes * 4)]
    [InlineData(ulong.MaxValue, 2UL)]
    [InlineData(0UL, ulong.MaxValue)]
    [InlineData((ulong)long.MaxValue, 4096UL)]
    [InlineData(0UL, (1UL << 32) + 1)]
    public void A_log_that_cannot_be_ends_the_connection(ulong offset, ulong size)
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0]);
        guest.FrontEnd.Send(MessageId.SetLogBase, Bytes(new LogDescription(size, offset)), needReply: true, _fd.Fd);
        Assert.Null(guest.FrontEnd.Receive(MessageId.SetLogBase)); // its answer says nothing of success: QEMU would go on
        using var next = new BlkGuest(disk.Paths[0]);
        Assert.Equal(0, next.Flush());
    }

    [Fact]
    public void Messages_of_the_log_have_their_payload_and_their_descriptor()
    {
        using var disk = new BlkDisk();
        using (var guest = new BlkGuest(disk.Paths[0]))
        {
            Assert.Equal(1UL, guest.FrontEnd.Set(MessageId.SetLogFd, [], _fd.Fd)); // no eventfd
            Assert.Equal(1UL, guest.FrontEnd.Set(MessageId.SetLogFd, []));
            Assert.Equal(1UL, guest.FrontEnd.Set(MessageId.SetVringAddr, new VringAddress(0, 2, guest.Queue.Descriptors, guest.Queue.Used, guest.Queue.Available, 0)));
            guest.FrontEnd.Send(MessageId.SetLogBase, new byte[8], needReply: true, _fd.Fd);
            Assert.Null(guest.FrontEnd.Receive(MessageId.SetLogBase));
        }
        using var without = new FrontEnd(disk.Paths[0]);
        without.Agree(BlkGuest.Device); // LOG_SHMFD is not among what it takes
        Assert.Equal(1UL, without.Set(MessageId.SetLogBase, new LogDescription(4096, 0), _fd.Fd));
    }

    [Theory]
    [InlineData(BlkGuest.All)]
    [InlineData(BlkGuest.All & ~(VirtioFeatures.EventIdx | VirtioFeatures.IndirectDesc))]
    [InlineData(BlkGuest.All | VirtioFeatures.RingPacked)]
    [InlineData((BlkGuest.All | VirtioFeatures.RingPacked) & ~(VirtioFeatures.EventIdx | VirtioFeatures.IndirectDesc))]
    public void What_a_device_writes_is_marked_and_its_ring_as_well(VirtioFeatures features)
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0], features, queues: 0);
        SetLog(guest);
        DriverQueue queue = DriverQueue.New(guest.FrontEnd.Ram, 0, 64, features);
        guest.FrontEnd.Queues.Add(queue);
        guest.FrontEnd.Start(queue, queue.Base);
        guest.FrontEnd.Ram.Allocate(4096, 4096); // the rest is not in a page of the ring
        Assert.Equal(0, guest.Flush());
        Assert.Empty(Pages(_fd)); // LOG_ALL is not yet agreed on

        Assert.Equal(0UL, guest.FrontEnd.Set(MessageId.SetFeatures, (ulong)(features | VirtioFeatures.LogAll)));
        Clear();
        int at = guest.FrontEnd.Ram.Mark;
        Assert.Equal(0, guest.Read(0, 10_000 / 512 * 512).Status);
        Assert.Equal(WritablePages(guest, at, 16, 9728, 1), Pages(_fd)); // without VHOST_VRING_F_LOG the ring is not marked

        Assert.Equal(0UL, guest.FrontEnd.Set(MessageId.SetVringAddr, new VringAddress(0, VringAddress.FlagLog, queue.Descriptors, queue.Used, queue.Available, UsedGpa(queue))));
        Clear();
        at = guest.FrontEnd.Ram.Mark;
        Assert.Equal(0, guest.Write(8, new byte[512]));
        ulong[] ring = RingPages(queue);
        FrontEnd.Poll(() => ring.All(Pages(_fd).Contains), "the ring is marked, a moment after the driver has seen it");
        Assert.Equal([.. WritablePages(guest, at, 16 + 512, 0, 1).Concat(ring).Distinct().Order()], Pages(_fd));

        Assert.Equal(0UL, guest.FrontEnd.Set(MessageId.SetFeatures, (ulong)features)); // the migration has ended, or is given up
        Clear();
        Assert.Equal(0, guest.Flush());
        Assert.Empty(Pages(_fd));
    }

    [Fact]
    public void Requests_that_were_taken_before_the_log_came_are_marked_and_a_stop_marks_all()
    {
        var held = new HoldingBdev(BlkDisk.NewMemory());
        using var disk = new BlkDisk(_ => held);
        using var guest = new BlkGuest(disk.Paths[0]);
        GuestRam ram = guest.FrontEnd.Ram;
        int request = ram.Allocate(16 + 512, 4096), status = ram.Allocate(1, 4096);
        MemoryMarshal.Write(ram.At(request, 16), new BlkRequestHeader(BlkRequestType.Out, 0, 0));
        BlkGuest.Submit(guest.Queue, guest.Queue.Chain(new Desc(GuestRam.Gpa(request), 16 + 512), new Desc(GuestRam.Gpa(status), 1, Desc.FlagWrite)));
        FrontEnd.Poll(() => held.Count == 1, "under way");
        SetLog(guest);
        Assert.Equal(0UL, guest.FrontEnd.Set(MessageId.SetFeatures, (ulong)(BlkGuest.All | VirtioFeatures.LogAll)));
        Assert.Equal(0UL, guest.FrontEnd.Set(MessageId.SetVringAddr, new VringAddress(0, VringAddress.FlagLog, guest.Queue.Descriptors, guest.Queue.Used, guest.Queue.Available, UsedGpa(guest.Queue))));
        disk.OnReactor(() => { held.LetGo(1); return true; });
        guest.GetBase(0);
        ulong[] expected = [.. RingPages(guest.Queue), GuestRam.Gpa(status) >> 12];
        Assert.Equal(expected, Pages(_fd)); // nothing comes after the answer: this is what the next machine starts with
    }

    [Fact]
    public void The_front_end_hears_of_marks_and_may_give_another_log()
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0]);
        Assert.Equal(Errno.None, EventFd.Create(out SafeFd told));
        using SafeFd other = NewLog();
        using (told)
        {
            Assert.Equal(0UL, guest.FrontEnd.Set(MessageId.SetLogFd, [], told.Fd));
            SetLog(guest);
            Assert.Equal(0UL, guest.FrontEnd.Set(MessageId.SetFeatures, (ulong)(BlkGuest.All | VirtioFeatures.LogAll)));
            Assert.Equal(0, guest.Flush());
            FrontEnd.Poll(() => EventFd.TryConsume(told, out _), "told");
            SetLog(guest, other);
                Clear();
            Assert.Equal(0, guest.Flush());
            Assert.Empty(Pages(_fd));
            Assert.NotEmpty(Pages(other));
        }
    }

    [Fact]
    public void A_log_that_is_taken_away_ends_the_session_and_nothing_else()
    {
        using var disk = new BlkDisk(sessions: 2);
        using var other = new BlkGuest(disk.Paths[0]);
        using var guest = new BlkGuest(disk.Paths[0]);
        SetLog(guest);
        Assert.Equal(0UL, guest.FrontEnd.Set(MessageId.SetFeatures, (ulong)(BlkGuest.All | VirtioFeatures.LogAll)));
        Assert.Equal(0, guest.Flush());
        Assert.Equal(Errno.None, FileCalls.Truncate(_fd, 0));
        BlkGuest.Submit(guest.Queue, guest.Make(new byte[16], 1, [], [], guest.Queue, out _));
        FrontEnd.Poll(() => guest.FrontEnd.HasEnded, "the session ends");
        Assert.Equal(0, other.Flush());
    }

    private static SafeFd NewLog()
    {
        Assert.Equal(Errno.None, MemoryCalls.CreateMemfd("log", sealable: true, out SafeFd fd));
        Assert.Equal(Errno.None, FileCalls.Truncate(fd, LogBytes * 4));
        return fd;
    }

    private static byte[] Bytes<T>(T value)
        where T : unmanaged => MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)).ToArray();

    private void SetLog(BlkGuest guest, SafeFd? log = null)
    {
        guest.FrontEnd.Send(MessageId.SetLogBase, Bytes(new LogDescription(HighLogBytes, 0)), needReply: false, (log ?? _fd).Fd);
        Assert.Equal(0UL, guest.FrontEnd.Receive(MessageId.SetLogBase)); // answered by itself
    }

    private static ulong UsedGpa(DriverQueue queue) => queue is PackedDriverQueue packed ? packed.DeviceEventsGpa : ((SplitDriverQueue)queue).UsedGpa;

    private static ulong[] RingPages(DriverQueue queue) => queue is PackedDriverQueue packed ? [packed.RingGpa >> 12, packed.DeviceEventsGpa >> 12] : [((SplitDriverQueue)queue).UsedGpa >> 12];

    // Where the driver has put a request of header and data, and the room for the answer: as DeviceGuest places them.
    private static ulong[] WritablePages(BlkGuest guest, int mark, int readable, int data, int status)
    {
        int at = mark;
        var pages = new List<ulong>();
        foreach (int length in data > 0 ? (int[])[data, status] : [status])
        {
            for (ulong page = GuestRam.Gpa(at) >> 12; page <= (GuestRam.Gpa(at + length - 1) >> 12); page++) { pages.Add(page); }
            at += length + 1;
        }
        Assert.True(at + readable <= guest.FrontEnd.Ram.LengthBytes);
        return [.. pages.Distinct().Order()];
    }

    private void Clear()
    {
        Assert.Equal(Errno.None, MemoryCalls.Map(_fd, 0, LogBytes * 4, MemoryCalls.PROT_READ | MemoryCalls.PROT_WRITE, MemoryCalls.MAP_SHARED, out nuint log));
        unsafe { new Span<byte>((void*)log, LogBytes * 4).Clear(); }
        MemoryCalls.Unmap(log, LogBytes * 4);
    }

    private static ulong[] Pages(bool[] bits) => [.. Enumerable.Range(0, bits.Length).Where(i => bits[i]).Select(i => (ulong)i)];

    private static unsafe ulong[] Pages(SafeFd fd)
    {
        Assert.Equal(Errno.None, MemoryCalls.Map(fd, 0, LogBytes * 4, MemoryCalls.PROT_READ, MemoryCalls.MAP_SHARED, out nuint log));
        byte[] bytes = new ReadOnlySpan<byte>((void*)log, LogBytes * 4).ToArray();
        MemoryCalls.Unmap(log, LogBytes * 4);
        return [.. Enumerable.Range(0, bytes.Length * 8).Where(i => (bytes[i / 8] & (1 << (i % 8))) != 0).Select(i => (ulong)i)];
    }
}
