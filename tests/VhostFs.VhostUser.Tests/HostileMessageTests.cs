using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>What a hostile front-end can send, after reliability.md 4.2.</summary>
[Collection(nameof(HostileMessageTests))]
[CollectionDefinition(nameof(HostileMessageTests), DisableParallelization = true)] // counts the descriptors of the process
public sealed class HostileMessageTests : IDisposable
{
    private readonly Export _export = new();

    public void Dispose() => _export.Dispose();

    private FrontEnd Negotiated()
    {
        var frontEnd = new FrontEnd(_export.Path0);
        frontEnd.Negotiate();
        return frontEnd;
    }

    private static int FdCount() => Directory.GetFiles("/proc/self/fd").Length;

    [Fact]
    public void A_message_may_come_byte_by_byte()
    {
        using FrontEnd frontEnd = Negotiated();
        byte[] message = new byte[20];
        MemoryMarshal.Write(message, new MessageHeader(MessageId.SetVringNum, MessageFlags.Version1 | MessageFlags.NeedReply, 8));
        message[16] = 64;
        for (int i = 0; i < message.Length; i++)
        {
            frontEnd.SendRaw(message.AsSpan(i, 1));
            Thread.Sleep(1);
        }
        Assert.Equal(0UL, frontEnd.Receive(MessageId.SetVringNum));
    }

    [Fact]
    public void Two_messages_may_come_in_one_write()
    {
        using FrontEnd frontEnd = Negotiated();
        byte[] message = new byte[24];
        MemoryMarshal.Write(message, new MessageHeader(MessageId.GetFeatures, MessageFlags.Version1, 0));
        MemoryMarshal.Write(message.AsSpan(12), new MessageHeader(MessageId.GetQueueNum, MessageFlags.Version1, 0));
        frontEnd.SendRaw(message);
        Assert.Equal((ulong)FrontEnd.Offered, frontEnd.Receive(MessageId.GetFeatures));
        Assert.Equal(256UL, frontEnd.Receive(MessageId.GetQueueNum));
    }

    [Theory]
    [InlineData(0u)]      // version 0
    [InlineData(3u)]      // version 3
    [InlineData(5u)]      // a reply
    public void A_wrong_version_or_a_reply_ends_the_connection(uint flags)
    {
        using FrontEnd frontEnd = Negotiated();
        byte[] message = new byte[12];
        MemoryMarshal.Write(message, new MessageHeader(MessageId.GetFeatures, (MessageFlags)flags, 0));
        frontEnd.SendRaw(message);
        Assert.Null(frontEnd.Receive(MessageId.GetFeatures));
    }

    [Theory]
    [InlineData(4097u)]
    [InlineData(1u << 30)]
    [InlineData(uint.MaxValue)]
    public void A_huge_payload_ends_the_connection(uint size)
    {
        using FrontEnd frontEnd = Negotiated();
        byte[] message = new byte[12];
        MemoryMarshal.Write(message, new MessageHeader(MessageId.SetFeatures, MessageFlags.Version1, size));
        frontEnd.SendRaw(message);
        Assert.Null(frontEnd.Receive(MessageId.SetFeatures));
    }

    [Fact]
    public void Refusals_are_acknowledged_if_asked_for_and_end_the_connection_otherwise()
    {
        using FrontEnd frontEnd = Negotiated();
        Assert.Equal(1UL, frontEnd.Set((MessageId)200, []));
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetFeatures, ulong.MaxValue));
        frontEnd.Send((MessageId)200, []);
        Assert.Null(frontEnd.Receive((MessageId)200));
        using FrontEnd next = Negotiated();
        Assert.Equal(0UL, next.AddMemory());
    }

    [Fact]
    public void CVE_2019_14818_descriptors_where_none_belong_are_refused_and_closed()
    {
        using FrontEnd frontEnd = Negotiated();
        int fd = frontEnd.Ram.Fd.Fd;
        int before = FdCount();
        for (int i = 0; i < 200; i++)
        {
            Assert.Equal(1UL, frontEnd.Set(MessageId.SetFeatures, (ulong)FrontEnd.AllFeatures, fd, fd, fd));
            Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringKick, 0UL, fd, fd));
            Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringKick, 0x100UL, fd));
            Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringCall, 0UL));
            Assert.Equal(1UL, frontEnd.Set(MessageId.AddMemReg, FrontEnd.WithPad(frontEnd.Region)));
        }
        Assert.Equal(before, FdCount());
    }

    [Fact]
    public void CVE_2019_14818_more_descriptors_than_any_message_has_end_the_connection()
    {
        int before = FdCount();
        using (FrontEnd frontEnd = Negotiated())
        {
            int[] fds = [.. Enumerable.Repeat(frontEnd.Ram.Fd.Fd, 200)];
            frontEnd.Send(MessageId.SetOwner, [], needReply: true, fds);
            Assert.Null(frontEnd.Receive(MessageId.SetOwner));
        }
        FrontEnd.Poll(() => FdCount() <= before, "nothing leaked");
    }

    [Fact]
    public void CVE_2020_10726_repeated_messages_free_what_they_replace()
    {
        using FrontEnd frontEnd = Negotiated();
        Assert.Equal(0UL, frontEnd.AddMemory());
        DriverQueue queue = frontEnd.AddQueue(1);
        Assert.Equal(0UL, frontEnd.Set(MessageId.SetBackendReqFd, [], frontEnd.Socket.Fd));
        int before = FdCount();
        byte[] table = new byte[40];
        table[0] = 1;
        MemoryMarshal.Write(table.AsSpan(8), frontEnd.Region);
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal(0UL, frontEnd.Set(MessageId.SetVringKick, 1UL, queue.KickFd.Fd));
            Assert.Equal(0UL, frontEnd.Set(MessageId.SetVringCall, 1UL, queue.CallFd.Fd));
            Assert.Equal(0UL, frontEnd.Set(MessageId.SetVringErr, 1UL, queue.ErrFd.Fd));
            Assert.Equal(0UL, frontEnd.Set(MessageId.SetBackendReqFd, [], frontEnd.Socket.Fd));
            Assert.Equal(0UL, frontEnd.Set(MessageId.SetMemTable, table, frontEnd.Ram.Fd.Fd));
        }
        FrontEnd.Poll(() => FdCount() <= before, "nothing leaked");
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(3u)]
    [InlineData(65536u)]
    [InlineData(uint.MaxValue)]
    public void CVE_2017_17381_a_queue_size_is_a_power_of_two_up_to_32768(uint size)
    {
        using FrontEnd frontEnd = Negotiated();
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringNum, new VringState(0, size)));
    }

    [Fact]
    public void CVE_2017_17381_a_running_queue_keeps_its_size_base_and_addresses()
    {
        using FrontEnd frontEnd = FrontEnd.Up(_export.Path0);
        DriverQueue queue = frontEnd.Queues[1];
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringNum, new VringState(1, 2)));
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringBase, new VringState(1, 7)));
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringAddr, new VringAddress(1, 0, queue.Descriptors + 4096, queue.Used, queue.Available, 0)));
        Assert.Equal(0UL, frontEnd.Set(MessageId.SetVringAddr, new VringAddress(1, 0, queue.Descriptors, queue.Used, queue.Available, 0)));
        Assert.Equal(0, frontEnd.GetAttributes(queue));
    }

    [Fact]
    public void CVE_2020_10723_indices_are_compared_before_they_are_narrowed()
    {
        using FrontEnd frontEnd = Negotiated();
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringNum, new VringState(256, 64)));
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringNum, new VringState(0x10000, 64)));
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringBase, new VringState(0, 0x10000)));
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringEnable, new VringState(uint.MaxValue, 1)));
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringEnable, new VringState(0, 2)));
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringErr, 0x1_0000_0000UL, frontEnd.Ram.Fd.Fd));
    }

    [Fact]
    public void CVE_2026_86561_a_bad_table_leaves_no_region_behind()
    {
        using FrontEnd frontEnd = Negotiated();
        byte[] table = new byte[8 + 64];
        table[0] = 2;
        MemoryMarshal.Write(table.AsSpan(8), frontEnd.Region);
        MemoryMarshal.Write(table.AsSpan(40), frontEnd.Region); // overlaps
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetMemTable, table, frontEnd.Ram.Fd.Fd, frontEnd.Ram.Fd.Fd));
        Assert.Equal(1UL, frontEnd.Set(MessageId.RemMemReg, FrontEnd.WithPad(frontEnd.Region)));
        table[0] = 1;
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetMemTable, table, frontEnd.Ram.Fd.Fd)); // count and payload differ
        table[0] = 0xff;
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetMemTable, table, frontEnd.Ram.Fd.Fd));
        Assert.Equal(0UL, frontEnd.AddMemory());
    }

    [Fact]
    public void CVE_2020_10722_dirty_logging_and_inflight_are_not_offered_for_a_file_system_and_refused()
    {
        using FrontEnd frontEnd = Negotiated();
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetLogBase, new byte[16], frontEnd.Ram.Fd.Fd));
        Assert.Equal(1UL, frontEnd.Set((MessageId)32, new byte[20], frontEnd.Ram.Fd.Fd));
        Assert.Equal(1UL, frontEnd.Set(MessageId.SetVringAddr, new VringAddress(0, 1, 0, 0, 0, ulong.MaxValue)));
    }

    [Theory]
    [InlineData((uint)MessageId.SetVringKick)]
    [InlineData((uint)MessageId.SetVringCall)]
    [InlineData((uint)MessageId.SetVringErr)]
    public void A_descriptor_that_is_no_eventfd_is_refused(uint id)
    {
        using FrontEnd frontEnd = Negotiated();
        Assert.Equal(1UL, frontEnd.Set((MessageId)id, 0UL, frontEnd.Ram.Fd.Fd));
        Assert.Equal(1UL, frontEnd.Set((MessageId)id, 0UL, frontEnd.Socket.Fd));
    }

    [Fact]
    public void A_full_call_eventfd_does_not_hold_up_the_queue()
    {
        using FrontEnd frontEnd = FrontEnd.Up(_export.Path0, VirtioFeatures.Version1 | VirtioFeatures.ProtocolFeatures);
        Assert.Equal(Errno.None, EventFd.Create(out SafeFd full, nonBlocking: false));
        ulong count = ulong.MaxValue - 1;
        FileCalls.Write(full, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in count)));
        Assert.Equal(0UL, frontEnd.Set(MessageId.SetVringCall, 1UL, full.Fd));
        FileCalls.SetFlags(full, 0); // and set back to blocking, behind our back
        for (int i = 0; i < 10; i++) { Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1])); }
        var state = new VringState(1, 0);
        frontEnd.Send(MessageId.GetVringBase, MemoryMarshal.AsBytes(new ReadOnlySpan<VringState>(in state)));
        Assert.NotNull(frontEnd.Receive(MessageId.GetVringBase)); // the write that hangs is cancelled
        full.Dispose();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Random_messages_leak_nothing_and_the_next_front_end_is_served(int seed)
    {
        var random = new Random(seed);
        using (FrontEnd.Up(_export.Path0)) { }
        FrontEnd.Poll(() => !_export.Server.IsConnected, "idle");
        int before = FdCount();
        for (int round = 0; round < 60; round++)
        {
            using FrontEnd frontEnd = round % 3 == 0 ? FrontEnd.Up(_export.Path0) : Negotiated();
            int[] candidates = [frontEnd.Ram.Fd.Fd, frontEnd.Socket.Fd];
            for (int i = 0; i < 20; i++)
            {
                byte[] payload = new byte[random.Next(4) switch { 0 => random.Next(300), 1 => 40, _ => 8 }];
                random.NextBytes(payload);
                if (payload.Length > 0 && random.Next(2) == 0) { Array.Fill(payload, (byte)random.Next(2), 0, Math.Min(payload.Length, 8)); }
                int[] fds = [.. Enumerable.Range(0, random.Next(4)).Select(_ => candidates[random.Next(2)])];
                byte[] message = new byte[12 + payload.Length];
                MemoryMarshal.Write(message, new MessageHeader((MessageId)random.Next(1, 46), MessageFlags.Version1 | MessageFlags.NeedReply, (uint)payload.Length));
                payload.CopyTo(message, 12);
                if (UnixSocket.Send(frontEnd.Socket, message, fds).IsError) { break; }
            }
        }
        using (FrontEnd next = FrontEnd.Up(_export.Path0)) { Assert.Equal(0, next.GetAttributes(next.Queues[1])); }
        FrontEnd.Poll(() => !_export.Server.IsConnected, $"idle, seed {seed}");
        FrontEnd.Poll(() => FdCount() <= before, $"descriptors leaked, seed {seed}");
    }
}
