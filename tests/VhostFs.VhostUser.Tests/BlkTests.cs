using System.Runtime.InteropServices;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>The block device as drivers use it, and as they should not.</summary>
public sealed class BlkTests
{
    private const ulong Sectors = BlkDisk.DiskBytes / 512;

    [Theory]
    [InlineData(BlkGuest.All)]
    [InlineData((VirtioFeatures)0x140000046)] // SeaBIOS
    [InlineData(FrontEnd.AllFeatures)]
    [InlineData(BlkGuest.All & ~VirtioFeatures.EventIdx)]
    [InlineData(BlkGuest.All & ~VirtioFeatures.IndirectDesc)]
    [InlineData(BlkGuest.All | VirtioFeatures.RingPacked)]
    [InlineData((BlkGuest.All | VirtioFeatures.RingPacked) & ~(VirtioFeatures.EventIdx | VirtioFeatures.IndirectDesc))]
    public void What_is_written_is_read_back_with_every_ring_style(VirtioFeatures features)
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0], features);
        for (int i = 0; i < 100; i++)
        {
            byte[] data = Pattern(i, 512 * (1 + (i % 16)));
            ulong sector = (ulong)(i * 37) % (Sectors - 16);
            Assert.Equal(0, guest.Write(sector, data));
            (byte status, byte[] read, uint used) = guest.Read(sector, data.Length);
            Assert.Equal((0, (uint)data.Length + 1), (status, used));
            Assert.Equal(data, read);
            Assert.Equal(data, disk.Read((long)sector * 512, data.Length));
        }
        Assert.Equal(0, guest.Flush());
        Assert.True(guest.Queue.TakeCalls() > 0);
    }

    [Theory]
    [InlineData(new int[0], new int[0])] // one descriptor each: header and data, data and status
    [InlineData(new[] { 16 }, new[] { 4096 })]
    [InlineData(new[] { 1, 2, 13 }, new[] { 1, 4095 })]
    [InlineData(new[] { 17, 4094 }, new[] { 511, 1, 513, 3070 })]
    [InlineData(new[] { 15, 2, 1000 }, new[] { 4095 })]
    [InlineData(new[] { 16, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 }, new[] { 1, 1, 1, 1, 1, 1, 1, 1, 1 })]
    public void Descriptors_may_begin_and_end_anywhere(int[] readable, int[] writable)
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0]);
        byte[] data = Pattern(5, 4096);
        Assert.Equal((0, 1u), Short(guest.Request(BlkRequestType.Out, 8, data, 0, readable)));
        Assert.Equal(data, disk.Read(4096, 4096));
        (byte status, byte[] read, uint used) = guest.Request(BlkRequestType.In, 8, [], 4096, readable, writable);
        Assert.Equal((0, 4097u), (status, used));
        Assert.Equal(data, read);
    }

    [Theory]
    [InlineData(Sectors - 1, 512, 0)]
    [InlineData(Sectors - 8, 4096, 0)]
    [InlineData(Sectors, 0, 0)]
    [InlineData(Sectors, 512, 1)]
    [InlineData(Sectors - 1, 1024, 1)]
    [InlineData(Sectors - 7, 4096, 1)]
    [InlineData(0UL, 100, 1)]
    [InlineData(1UL << 63, 512, 1)]
    [InlineData(1UL << 55, 512, 1)] // times 512 it is 0
    [InlineData(ulong.MaxValue, 512, 1)]
    [InlineData(ulong.MaxValue, 0, 1)]
    public void Nothing_is_done_outside_of_the_disk(ulong sector, int bytes, byte expected)
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0]);
        disk.Fill(0, BlkDisk.DiskBytes, 7);
        (byte status, byte[] data, uint used) = guest.Read(sector, bytes);
        Assert.Equal((expected, expected == 0 || bytes == 0 ? (uint)bytes + 1 : 0), (status, used));
        Assert.All(data, b => Assert.Equal(expected == 0 ? 7 : BlkGuest.NoStatus, b));
        Assert.Equal(expected, guest.Write(sector, new byte[bytes]));
        Assert.Equal(expected == 0 ? bytes : 0, disk.Read(0, BlkDisk.DiskBytes).Count(b => b == 0));
    }

    [Fact]
    public void Blocks_of_4096_bytes_are_said_so_and_less_is_refused()
    {
        using var disk = new BlkDisk(_ => BlkDisk.NewMemory(4096));
        using var guest = new BlkGuest(disk.Paths[0]);
        BlkConfig config = guest.Config;
        Assert.Equal((4096u, 0, 1, 8u), (config.BlkSize, config.PhysicalBlockExponent, config.MinIoBlocks, config.DiscardSectorAlignment));
        Assert.Equal(0, guest.Write(8, new byte[4096]));
        Assert.Equal(1, guest.Write(1, new byte[4096]));
        Assert.Equal(1, guest.Write(8, new byte[512]));
        disk.Fill(0, 16384, 9);
        Assert.Equal(0, guest.Change(BlkRequestType.Discard, new BlkRange(1, 22, 0))); // a hint: one whole block of it
        Assert.Equal(Enumerable.Repeat(9, 8192), disk.Read(0, 4096).Concat(disk.Read(12288, 4096)).Select(b => (int)b));
        Assert.All(disk.Read(4096, 4096), b => Assert.Equal(0, b));
        Assert.Equal(1, guest.Change(BlkRequestType.WriteZeroes, new BlkRange(1, 22, 0)));
    }

    [Fact]
    public void What_is_no_request_of_ours_gets_the_status_that_the_specification_says()
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0]);
        Assert.Equal((2, 0u), Short(guest.Request((BlkRequestType)777, 0, [], 512)));
        Assert.Equal(2, guest.Request((BlkRequestType)uint.MaxValue, 0, [], 0).Status);
        Assert.Equal(2, guest.Request((BlkRequestType)14, 0, new byte[16], 0).Status); // secure erase was not offered
        Assert.Equal((1, 0u), Short(guest.Raw(new byte[15], 513, [], [], guest.Queue)));
        Assert.Equal((1, 1u), Short(guest.Raw([], 1, [], [], guest.Queue)));
        Assert.Equal((BlkGuest.NoStatus, 0u), Short(guest.Raw(new byte[16], 0, [], [], guest.Queue))); // nowhere to put a status
        Assert.Equal(1, guest.Request(BlkRequestType.Out, 0, [], 512).Status); // payload in the wrong direction
        Assert.Equal(1, guest.Request(BlkRequestType.In, 0, new byte[512], 512).Status);
        Assert.Equal(0, guest.Flush());
    }

    [Theory]
    [InlineData(20, 21u)]
    [InlineData(3, 4u)]
    [InlineData(64, 20u)]
    [InlineData(0, 1u)]
    public void The_id_is_the_name_of_the_bdev(int room, uint expectedUsed)
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0]);
        (byte status, byte[] id, uint used) = guest.Request(BlkRequestType.GetId, 0, [], room);
        Assert.Equal((0, expectedUsed), (status, used));
        byte[] expected = [.. "memory"u8, .. new byte[14]];
        Assert.Equal(expected.Take(room), id.Take(20));
        Assert.All(id.Skip(20), b => Assert.Equal(BlkGuest.NoStatus, b));
    }

    [Theory]
    [InlineData(BlkRequestType.Discard, 0u)]
    [InlineData(BlkRequestType.WriteZeroes, 0u)]
    [InlineData(BlkRequestType.WriteZeroes, 1u)]
    public void Ranges_are_cleared_and_nothing_beside_them(object requestType, uint flags)
    {
        var type = (BlkRequestType)requestType;
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0]);
        disk.Fill(0, BlkDisk.DiskBytes, 7);
        Assert.Equal(0, guest.Change(type, new BlkRange(3, 1, flags), new BlkRange(100, 1000, flags), new BlkRange(Sectors - 1, 1, flags), new BlkRange(50, 0, flags)));
        byte[] after = disk.Read(0, BlkDisk.DiskBytes);
        for (int sector = 0; sector < (int)Sectors; sector++)
        {
            bool isCleared = sector is 3 or (>= 100 and < 1100) || sector == (int)Sectors - 1;
            Assert.Equal(isCleared ? 0 : 7, after[sector * 512]);
            Assert.Equal(isCleared ? 0 : 7, after[(sector * 512) + 511]);
        }
    }

    [Theory]
    [InlineData(BlkRequestType.Discard, 1, 1u, 2)] // the unmap flag is for write-zeroes
    [InlineData(BlkRequestType.Discard, 1, 2u, 2)]
    [InlineData(BlkRequestType.WriteZeroes, 1, 2u, 2)]
    [InlineData(BlkRequestType.WriteZeroes, 1, 0x80000001u, 2)]
    [InlineData(BlkRequestType.Discard, (int)Sectors, 0u, 1)]
    [InlineData(BlkRequestType.WriteZeroes, (int)Sectors, 1u, 1)]
    public void A_range_that_is_wrong_spoils_the_request_before_anything_is_done(object requestType, int count, uint flags, byte expected)
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0]);
        disk.Fill(0, BlkDisk.DiskBytes, 7);
        Assert.Equal(expected, guest.Change((BlkRequestType)requestType, new BlkRange(0, 1, 0), new BlkRange(8, (uint)count, flags)));
        Assert.All(disk.Read(0, BlkDisk.DiskBytes), b => Assert.Equal(7, b));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    [InlineData(17)]
    [InlineData(33 * 16)]
    public void A_list_of_ranges_of_the_wrong_size_is_an_error(int bytes)
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0]);
        Assert.Equal(1, guest.Request(BlkRequestType.Discard, 0, new byte[bytes], 0).Status);
        Assert.Equal(1, guest.Request(BlkRequestType.WriteZeroes, 0, new byte[bytes], 0).Status);
        Assert.Equal(1, guest.Change(BlkRequestType.Discard, new BlkRange(0, (1 << 21) + 1, 0))); // more than max_discard_sectors
        Assert.Equal(1, guest.Change(BlkRequestType.Discard, new BlkRange(ulong.MaxValue, 1, 0)));
    }

    [Fact]
    public void A_read_only_disk_offers_nothing_that_writes_and_writes_nothing()
    {
        using var disk = new BlkDisk(isReadOnly: true);
        disk.Fill(0, 4096, 7);
        using var guest = new BlkGuest(disk.Paths[0], FrontEnd.AllFeatures | BlkGuest.ReadOnlyDevice, BlkGuest.ReadOnlyDevice);
        Assert.Equal(1, guest.Write(0, new byte[512]));
        Assert.Equal(2, guest.Change(BlkRequestType.Discard, new BlkRange(0, 1, 0)));
        Assert.Equal(2, guest.Change(BlkRequestType.WriteZeroes, new BlkRange(0, 1, 0)));
        Assert.Equal(0, guest.Flush());
        Assert.Equal(Enumerable.Repeat((byte)7, 4096), guest.Read(0, 4096).Data);
        Assert.Equal((0u, 0u), (guest.Config.MaxDiscardSectors, guest.Config.MaxWriteZeroesSectors));
    }

    [Fact]
    public void The_configuration_space_is_the_specifications()
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0]);
        byte[] golden = Convert.FromHexString("0020000000000000" + "00000800" + "7e000000" + "00000000" + "00020000" + "03000800" + "00000000" + "0100" + "0001"
            + "00002000" + "20000000" + "01000000" + "00002000" + "20000000" + "01000000");
        Assert.Equal(golden, guest.GetConfig());
        Assert.Equal(golden[8..12], guest.GetConfig(8, 4));
        Assert.Equal(new byte[196], guest.GetConfig(60, 196)); // there is no more, and that is zero
        Assert.Empty(guest.GetConfig(0, 257, answerBytes: 0)!);
        Assert.Empty(guest.GetConfig(200, 57, answerBytes: 0)!);
        Assert.Empty(guest.GetConfig(uint.MaxValue, 4, answerBytes: 0)!);
        Assert.Empty(guest.GetConfig(0, 0, answerBytes: 0)!);
        Assert.Equal(60, Marshal.SizeOf<BlkConfig>());
        Assert.Equal(BlkConfig.WritebackOffset, (int)Marshal.OffsetOf<BlkConfig>("<Writeback>k__BackingField"));
        Assert.Equal((16, 16), (Marshal.SizeOf<BlkRequestHeader>(), Marshal.SizeOf<BlkRange>()));
    }

    [Fact]
    public void The_cache_mode_is_the_only_thing_a_driver_may_set()
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0]);
        Assert.Equal(0UL, guest.SetConfig(BlkConfig.WritebackOffset, 0));
        Assert.Equal(0, guest.Config.Writeback);
        Assert.Equal(1UL, guest.SetConfig(BlkConfig.WritebackOffset, 2));
        Assert.Equal(1UL, guest.SetConfig(0, 1, 2, 3, 4, 5, 6, 7, 8));
        Assert.Equal(1UL, guest.SetConfig(255, 0, 0));
        Assert.Equal(1UL, guest.SetConfig(BlkConfig.WritebackOffset));
        Assert.Equal(0, guest.Config.Writeback);
        Assert.Equal(0UL, guest.FrontEnd.Set(MessageId.ResetDevice, []));
        Assert.Equal(1, guest.Config.Writeback);
        using var other = new BlkDisk();
        using var unaware = new BlkGuest(other.Paths[0], BlkGuest.All & ~(VirtioFeatures)BlkFeatures.ConfigWce);
        Assert.Equal(1UL, unaware.SetConfig(BlkConfig.WritebackOffset, 0));
    }

    [Fact]
    public void Without_a_write_cache_each_write_is_durable_when_it_is_answered()
    {
        using var disk = new BlkDisk(_ => new VolatileBdev(BlkDisk.NewMemory(), seed: 1));
        long Flushes() => disk.OnReactor(() => disk.Bdev.Statistics.FlushOperations);
        using (var guest = new BlkGuest(disk.Paths[0]))
        {
            Assert.Equal(0, guest.Write(0, new byte[512]));
            Assert.Equal(0, Flushes());
            Assert.Equal(0UL, guest.SetConfig(BlkConfig.WritebackOffset, 0));
            Assert.Equal(0, guest.Write(0, new byte[512]));
            Assert.Equal(1, Flushes());
            Assert.Equal(0, guest.Change(BlkRequestType.WriteZeroes, new BlkRange(0, 1, 0)));
            Assert.Equal(0, guest.Change(BlkRequestType.Discard, new BlkRange(0, 1, 0)));
            Assert.Equal(3, Flushes());
        }
        using var unaware = new BlkGuest(disk.Paths[0], FrontEnd.AllFeatures); // cannot flush
        Assert.Equal(0, unaware.Write(0, new byte[512]));
        Assert.Equal(4, Flushes());
    }

    [Fact]
    public void A_new_size_is_announced_and_holds_at_once()
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0]);
        Assert.Equal(1, guest.Read(Sectors, 512).Status);
        Assert.Equal(Errno.None, UnixSocket.CreatePair(out SafeFd ours, out SafeFd theirs));
        using (theirs) { Assert.Equal(0UL, guest.FrontEnd.Set(MessageId.SetBackendReqFd, [], theirs.Fd)); }
        using (ours)
        {
            Assert.Equal(Errno.None, disk.OnReactorAsync(() => disk.Bdev.ResizeAsync(2 * BlkDisk.DiskBytes)));
            byte[] message = new byte[MessageHeader.Size + 1];
            Assert.Equal(MessageHeader.Size, UnixSocket.Receive(ours, message, [], out _).Value);
            Assert.Equal(new MessageHeader((MessageId)2, MessageFlags.Version1, 0), MemoryMarshal.Read<MessageHeader>(message));
            Assert.Equal(2 * Sectors, guest.Config.Capacity);
            Assert.Equal(0, guest.Read(Sectors, 512).Status);
            Assert.Equal(Errno.None, disk.OnReactorAsync(() => disk.Bdev.ResizeAsync(512)));
            Assert.Equal(1, guest.Read(1, 512).Status);
        }
        Assert.Equal(Errno.None, disk.OnReactorAsync(() => disk.Bdev.ResizeAsync(1024))); // nobody listens any more
        Assert.Equal(0, guest.Read(1, 512).Status);
    }

    [Fact]
    public void An_error_of_the_bdev_is_the_error_of_its_request_alone()
    {
        var error = new ErrorBdev(BlkDisk.NewMemory());
        using var disk = new BlkDisk(_ => error);
        using var guest = new BlkGuest(disk.Paths[0]);
        foreach ((BdevOperations operation, Func<byte> request) in new (BdevOperations, Func<byte>)[]
        {
            (BdevOperations.Read, () => guest.Read(0, 512).Status), (BdevOperations.Write, () => guest.Write(0, new byte[512])), (BdevOperations.Flush, guest.Flush),
            (BdevOperations.Unmap, () => guest.Change(BlkRequestType.Discard, new BlkRange(0, 1, 0))), (BdevOperations.WriteZeroes, () => guest.Change(BlkRequestType.WriteZeroes, new BlkRange(0, 1, 0))),
        })
        {
            disk.OnReactor(() => { error.Inject(new BdevFault(operation, Errno.ENODATA)); return true; });
            Assert.Equal(1, request());
            Assert.Equal(0, request());
        }
        disk.OnReactor(() => { error.Inject(new BdevFault(BdevOperations.Unmap, Errno.EOPNOTSUPP)); return true; });
        Assert.Equal(2, guest.Change(BlkRequestType.Discard, new BlkRange(0, 1, 0)));
    }

    [Fact]
    public void A_bug_below_is_an_error_for_the_guest_and_one_line_in_the_log()
    {
        using var disk = new BlkDisk(_ => new MistakenBdev(BlkDisk.NewMemory()));
        using var guest = new BlkGuest(disk.Paths[0]);
        for (int i = 0; i < 3; i++) { Assert.Equal(1, guest.Flush()); }
        Assert.Equal(0, guest.Write(0, new byte[512]));
        Assert.Single(disk.Log, line => line.Contains("because of a bug", StringComparison.Ordinal));
        var state = new VringState(0, 0);
        guest.FrontEnd.Send(MessageId.GetVringBase, MemoryMarshal.AsBytes(new ReadOnlySpan<VringState>(in state)));
        Assert.Equal(4UL << 32, guest.FrontEnd.Receive(MessageId.GetVringBase));
    }

    [Fact]
    public void Two_hundred_and_fifty_six_queues_are_served()
    {
        using var disk = new BlkDisk();
        using var guest = new BlkGuest(disk.Paths[0], queues: 256, queueSize: 8, ram: new GuestRam(32 << 20));
        for (int i = 0; i < 256; i++) { Assert.Equal(0, guest.Request(BlkRequestType.Out, (ulong)i, Pattern(i, 512), 0, queue: guest.FrontEnd.Queues[i]).Status); }
        for (int i = 0; i < 256; i++) { Assert.Equal(Pattern(i, 512), guest.Request(BlkRequestType.In, (ulong)i, [], 512, queue: guest.FrontEnd.Queues[255 - i]).Data); }
    }

    [Fact]
    public void Requests_beyond_the_bound_wait_and_a_stop_waits_for_those_under_way()
    {
        using var disk = new BlkDisk(reactor => new DelayBdev(BlkDisk.NewMemory(), reactor) { ReadDelayNs = 20_000_000 }, maxInFlight: 2);
        using var guest = new BlkGuest(disk.Paths[0]);
        GuestRam ram = guest.FrontEnd.Ram;
        int header = ram.Allocate(16), room = ram.Allocate(513);
        ram.At(header, 16).Clear();
        for (int i = 0; i < 8; i++)
        {
            BlkGuest.Submit(guest.Queue, guest.Queue.Chain(new Desc(GuestRam.Gpa(header), 16), new Desc(GuestRam.Gpa(room), 513, Desc.FlagWrite)));
        }
        FrontEnd.Poll(() => guest.Queue.UsedIndex >= 4, "two and two");
        var state = new VringState(0, 0);
        guest.FrontEnd.Send(MessageId.GetVringBase, MemoryMarshal.AsBytes(new ReadOnlySpan<VringState>(in state)));
        ulong next = guest.FrontEnd.Receive(MessageId.GetVringBase)!.Value >> 32;
        Assert.Equal(guest.Queue.UsedIndex, next);
        guest.FrontEnd.Start(guest.Queue, (ushort)next); // goes on where it stopped
        FrontEnd.Poll(() => guest.Queue.UsedIndex == 8, "the rest");
    }

    [Theory]
    [InlineData(512)]
    [InlineData(4096)]
    public void A_file_keeps_what_unaligned_segments_bring(int blockSize)
    {
        string path = Path.GetTempFileName(); // O_DIRECT where the file system can
        try
        {
            using var disk = new BlkDisk(reactor => UringBdev.Open(reactor.Ring, new UringBdevOptions("file", path) { BlockSize = blockSize, CreateSizeBytes = BlkDisk.DiskBytes, Cache = blockSize == 512 ? UringCacheMode.Buffered : UringCacheMode.Auto }));
            using var guest = new BlkGuest(disk.Paths[0], queueSize: 2048, ram: new GuestRam(32 << 20));
            byte[] data = Pattern(3, 1 << 20);
            Assert.Equal(0, guest.Request(BlkRequestType.Out, 8, data, 0, [16, 1, 4095, 100_001]).Status);
            Assert.Equal(0, guest.Flush());
            Assert.Equal(data, guest.Request(BlkRequestType.In, 8, [], data.Length, null, [7, 300_000, 4096]).Data);
            int[] pieces = [.. Enumerable.Repeat(512, 1030)]; // more than one system call takes
            byte[] many = Pattern(4, 1030 * 512 / 4096 * 4096);
            Assert.Equal(0, guest.Request(BlkRequestType.Out, 8, many, 0, [16, .. pieces]).Status);
            Assert.Equal(many, guest.Request(BlkRequestType.In, 8, [], many.Length, null, pieces).Data);
            Assert.Equal(0, guest.Change(BlkRequestType.Discard, new BlkRange(8, 8, 0)));
            Assert.Equal(0, guest.Change(BlkRequestType.WriteZeroes, new BlkRange(16, 8, 0)));
            Assert.Equal(new byte[8192], guest.Read(8, 8192).Data);
        }
        finally { File.Delete(path); }
    }

    [Fact]
    public void Two_guests_on_one_bdev_see_each_others_writes()
    {
        using var disk = new BlkDisk(sockets: 2);
        using var first = new BlkGuest(disk.Paths[0]);
        using var second = new BlkGuest(disk.Paths[1]);
        Assert.Equal(0, first.Write(10, Pattern(1, 512)));
        Assert.Equal(Pattern(1, 512), second.Read(10, 512).Data);
        first.Queue.MakeAvailable(0xffff); // breaks the queue
        first.Queue.Kick();
        FrontEnd.Poll(() => EventFd.TryConsume(first.Queue.ErrFd, out _), "err is signalled");
        Assert.Equal(0, second.Flush());
    }

    [Fact]
    public void Memory_that_is_shrunk_ends_its_session_and_nothing_else()
    {
        using var disk = new BlkDisk(sockets: 2);
        using var victim = new BlkGuest(disk.Paths[1]);
        using (var guest = new BlkGuest(disk.Paths[0]))
        {
            int offset = guest.FrontEnd.Ram.LengthBytes - 8192, header = guest.FrontEnd.Ram.Allocate(16);
            guest.FrontEnd.Ram.At(header, 16).Clear();
            Assert.Equal(Errno.None, FileCalls.Truncate(guest.FrontEnd.Ram.Fd, offset));
            BlkGuest.Submit(guest.Queue, guest.Queue.Chain(new Desc(GuestRam.Gpa(header), 16), new Desc(GuestRam.Gpa(offset), 513, Desc.FlagWrite)));
            Assert.Null(guest.FrontEnd.Receive(MessageId.GetFeatures));
            Assert.Equal(Errno.None, FileCalls.Truncate(guest.FrontEnd.Ram.Fd, guest.FrontEnd.Ram.LengthBytes));
        }
        Assert.Equal(0, victim.Flush());
        using var next = new BlkGuest(disk.Paths[0]);
        Assert.Equal(0, next.Flush());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_served_request_allocates_nothing_from_kick_to_call(bool inMemory)
    {
        string path = Path.GetTempFileName();
        try
        {
            using var disk = new BlkDisk(reactor => inMemory ? BlkDisk.NewMemory() : UringBdev.Open(reactor.Ring, new UringBdevOptions("file", path) { CreateSizeBytes = BlkDisk.DiskBytes, Cache = UringCacheMode.Buffered }));
            using var guest = new BlkGuest(disk.Paths[0]);
            byte[] data = new byte[4096];
            long Cost(int requests)
            {
                long before = disk.OnReactor(() => GC.GetAllocatedBytesForCurrentThread());
                for (int i = 0; i < requests; i++)
                {
                    Assert.Equal(0, guest.Write(8, data));
                    Assert.Equal(0, guest.Request(BlkRequestType.In, 8, [], 4096, [7], [1000]).Status);
                    Assert.Equal(0, guest.Flush());
                    Assert.Equal(0, guest.Change(BlkRequestType.WriteZeroes, new BlkRange(0, 8, 1)));
                }
                return disk.OnReactor(() => GC.GetAllocatedBytesForCurrentThread()) - before;
            }
            Cost(300);
            long cost = Cost(1000) - Cost(0); // the measuring itself allocates on the reactor
            Assert.True(cost < 4000, $"{cost} bytes for 4000 requests"); // less than a byte each: a queue of the reactor may still grow once
        }
        finally { File.Delete(path); }
    }

    private static (byte Status, uint Used) Short((byte Status, byte[] Data, uint Used) answer) => (answer.Status, answer.Used);

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
