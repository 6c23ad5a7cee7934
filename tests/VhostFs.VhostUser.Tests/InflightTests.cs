using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>What is in flight outlives the process that serves it: the record of it, and a front-end that goes on with the next process.</summary>
public sealed class InflightTests : IDisposable
{
    private const int Size = 8;
    private readonly NativeBuffer _region = new(4096, zeroed: true);

    public void Dispose() => _region.Dispose();

    [Fact]
    public void What_was_taken_and_not_given_back_is_found_oldest_first()
    {
        SplitInflight queue = Open(0);
        foreach (ushort head in (ushort[])[3, 1, 7, 0]) { queue.Take(head); }
        queue.Returning(1);
        queue.Returned(1, 1);
        Assert.Equal([3, 7, 0], Recover(1));
        Assert.Equal([3, 7, 0], Recover(1)); // and once more, when that process dies, too
    }

    [Fact]
    public void Death_before_the_used_index_moves_leaves_the_head_in_flight_and_after_it_does_not()
    {
        SplitInflight queue = Open(65535);
        queue.Take(3);
        queue.Take(1);
        queue.Returning(3);
        Assert.Equal([3, 1], Recover(65535));
        Assert.Equal([1], Recover(0)); // the index wraps
        Assert.Equal([1], Recover(0));
    }

    [Fact]
    public void What_the_next_process_takes_is_younger_than_what_it_found()
    {
        Open(0).Take(5);
        SplitInflight next = NewQueue(Size);
        Assert.Equal([5], next.Recover(0));
        next.Take(2);
        Assert.Equal([5, 2], Recover(0));
    }

    [Fact]
    public void A_queue_of_another_size_begins_anew()
    {
        Open(0).Take(5);
        Assert.Empty(NewQueue(Size * 2).Recover(7));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Nonsense_in_the_area_is_heads_of_the_queue_at_most(int seed)
    {
        var random = new Random(seed);
        for (int round = 0; round < 1000; round++)
        {
            random.NextBytes(_region.Span);
            _region.Span[8] = 1; // the version and the size, so that it is looked at
            _region.Span[9] = 0;
            _region.Span[10] = Size;
            _region.Span[11] = 0;
            for (int head = 0; head < Size; head++) { _region.Span[16 + (head * 16)] &= 1; }
            ushort[] heads = Recover((ushort)random.Next());
            Assert.True(heads.Length <= Size && heads.Distinct().Count() == heads.Length && heads.All(h => h < Size));
        }
    }

    [Theory]
    [InlineData(BlkGuest.All)]
    [InlineData(BlkGuest.All | VirtioFeatures.RingPacked)]
    public void The_next_process_does_what_this_one_has_left_without_a_kick(VirtioFeatures features)
    {
        var held = new HoldingBdev(BlkDisk.NewMemory());
        using var first = new BlkDisk(_ => held);
        var before = new BlkGuest(first.Paths[0], features, queueSize: 16); // its memory is the next one's
        (InflightDescription description, SafeFd area) = before.GetInflight(queues: 1, queueSize: 8); // QEMU 10 knows less of its queues than their driver
        DriverQueue queue = Restart(before, before.Queue, description, area, before.Queue.Base);
        try { GoOn(first, held, before, queue, description, area); }
        finally
        {
            area.Dispose();
            first.OnReactor(() => { held.LetGo(held.Count); return true; }); // or its session never ends
        }
    }

    [Theory]
    [InlineData(InflightDescription.Size)]
    [InlineData(InflightDescription.PaddedSize)]
    public void Front_ends_with_and_without_padding_get_an_area_that_cannot_be_shrunk(int payloadBytes)
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0], queues: 0);
        (InflightDescription description, SafeFd area) = guest.GetInflight(2, 128, payloadBytes);
        using (area)
        {
            Assert.Equal(new InflightDescription(2 * (16 + (1024 * 16) + 48), 0, 2, 128), description);
            Assert.NotEqual(Errno.None, FileCalls.Truncate(area, 0));
            Assert.Equal(0UL, guest.SetInflight(description, area, payloadBytes));
            Assert.Equal(0UL, guest.SetInflight(description, area, payloadBytes)); // the old one is let go
            Assert.Equal(1UL, guest.SetInflight(description with { QueueSize = 4096 }, area)); // more than it holds
            Assert.Equal(1UL, guest.SetInflight(description with { Offset = 1 }, area));
            Assert.Equal(1UL, guest.SetInflight(description with { Offset = ulong.MaxValue - 4095 }, area));
            Assert.Equal(1UL, guest.SetInflight(description with { SizeBytes = ulong.MaxValue }, area));
            Assert.Equal(1UL, guest.SetInflight(description with { QueueCount = 0 }, area));
            guest.FrontEnd.AddQueue(0);
            guest.Queue.Kick();
            Assert.Equal(0, guest.Flush());
            Assert.Equal(1UL, guest.SetInflight(description, area)); // a queue is running
            Assert.Equal(0, guest.Flush());
        }
    }

    [Fact]
    public void A_queue_that_was_stopped_begins_where_the_front_end_says_and_not_where_the_record_was()
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0], BlkGuest.All | VirtioFeatures.RingPacked, queueSize: 16);
        (InflightDescription description, SafeFd area) = guest.GetInflight(queues: 1, queueSize: 16);
        Assert.Equal((1024UL * 32) + 64, description.SizeBytes);
        using (area)
        {
            DriverQueue queue = Restart(guest, guest.Queue, description, area, guest.Queue.Base);
            for (int i = 0; i < 21; i++) { Assert.Equal(0, guest.Flush()); }
            Assert.Equal(queue.Base, guest.GetBase(0)); // 21 of 16: in the second lap
            Assert.Equal(0x0005_0005u, queue.Base);
            using DriverQueue rebooted = DriverQueue.New(guest.FrontEnd.Ram, 0, 16, guest.FrontEnd.Features);
            Restart(guest, rebooted, description, area, rebooted.Base);
            guest.FrontEnd.Queues[0] = rebooted;
            for (int i = 0; i < 21; i++) { Assert.Equal(0, guest.Flush()); }
            queue.Dispose();
        }
    }

    [Theory]
    [InlineData(0, 64)]
    [InlineData(257, 64)]
    [InlineData(1, 0)]
    [InlineData(1, 32769)]
    public void An_area_for_queues_that_cannot_be_ends_the_connection(int queues, int queueSize)
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0], queues: 0);
        byte[] payload = new byte[InflightDescription.Size];
        BitConverter.TryWriteBytes(payload.AsSpan(16), (ushort)queues);
        BitConverter.TryWriteBytes(payload.AsSpan(18), (ushort)queueSize);
        guest.FrontEnd.Send(MessageId.GetInflightFd, payload);
        Assert.Null(guest.FrontEnd.ReceivePayload(MessageId.GetInflightFd));
    }

    private static void GoOn(BlkDisk first, HoldingBdev held, BlkGuest before, DriverQueue queue, InflightDescription description, SafeFd area)
    {
        uint known = queue.Base; // of a packed ring the front-end knows only where it began
        int[] status = [.. Enumerable.Range(0, 4).Select(i => Submit(before, queue, (ulong)i, (byte)(i + 1)))];
        FrontEnd.Poll(() => held.Count == 4, "all under way");
        first.OnReactor(() => { held.LetGo(1); return true; });
        FrontEnd.Poll(() => queue.UsedIndex == 1, "one is done");
        before.FrontEnd.Socket.Dispose(); // the first process never answers the others

        using var second = new BlkDisk();
        using var after = new BlkGuest(second.Paths[0], before.FrontEnd.Features, queues: 0, ram: before.FrontEnd.Ram);
        Assert.Equal(0UL, after.SetInflight(description, area));
        after.FrontEnd.Start(queue, queue is PackedDriverQueue ? known : queue.UsedIndex, enable: false); // it knows what is left, and must not do it
        after.FrontEnd.Start(queue, after.GetBase(0));
        FrontEnd.Poll(() => queue.UsedIndex == 4, "the three others");
        Assert.All(status, at => Assert.Equal(0, after.FrontEnd.Ram.At(at, 1)[0]));
        Assert.Equal([0, 2, 3, 4], Enumerable.Range(0, 4).Select(i => (int)second.Read(i * 512, 512)[0])); // the first is on the first disk
        while (queue.TryTakeUsed(out _, out _)) { }
        after.FrontEnd.Queues.Add(queue);
        Assert.Equal(0, after.Flush()); // and what comes then
    }

    private static DriverQueue Restart(BlkGuest guest, DriverQueue queue, InflightDescription description, SafeFd area, uint start)
    {
        if (guest.FrontEnd.Queues.Count > 0)
        {
            byte[] state = [0, 0, 0, 0, 0, 0, 0, 0];
            guest.FrontEnd.Send(MessageId.GetVringBase, state);
            Assert.NotNull(guest.FrontEnd.Receive(MessageId.GetVringBase));
        }
        Assert.Equal(0UL, guest.SetInflight(description, area));
        guest.FrontEnd.Start(queue, start);
        return queue;
    }

    // A write of one sector of the value; returns where its status will be.
    private static int Submit(BlkGuest guest, DriverQueue queue, ulong sector, byte value)
    {
        GuestRam ram = guest.FrontEnd.Ram;
        int request = ram.Allocate(16 + 512), status = ram.Allocate(1);
        System.Runtime.InteropServices.MemoryMarshal.Write(ram.At(request, 16), new BlkRequestHeader(BlkRequestType.Out, 0, sector));
        ram.At(request + 16, 512).Fill(value);
        ram.At(status, 1)[0] = BlkGuest.NoStatus;
        BlkGuest.Submit(queue, queue.Chain(new Desc(GuestRam.Gpa(request), 528), new Desc(GuestRam.Gpa(status), 1, Desc.FlagWrite)));
        return status;
    }

    private SplitInflight Open(ushort ringUsed)
    {
        SplitInflight queue = NewQueue(Size);
        Assert.Empty(queue.Recover(ringUsed));
        return queue;
    }

    private ushort[] Recover(ushort ringUsed) => NewQueue(Size).Recover(ringUsed);

    private unsafe SplitInflight NewQueue(int size) => new((byte*)_region.Address, size);
}
