using System.Buffers.Binary;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.VhostUser.Tests;

/// <summary>Commands that read and change the medium.</summary>
public sealed class ScsiMediumTests
{
    private const uint Blocks = ScsiHost.DiskBytes / 512;

    [Theory]
    [InlineData(512)]
    [InlineData(4096)]
    public void Every_form_of_read_and_write_moves_the_same_bytes(int blockSize)
    {
        using var host = new ScsiHost(_ => ScsiHost.NewMemory(blockSize));
        using var guest = new ScsiGuest(host.SocketPath);
        string[] reads = ["080000070300", ScsiGuest.Cdb10(0x28, 7, 3), ScsiGuest.Cdb12(0xA8, 7, 3), ScsiGuest.Cdb16(0x88, 7, 3)];
        string[] writes = ["0A0000070300", ScsiGuest.Cdb10(0x2A, 7, 3), ScsiGuest.Cdb12(0xAA, 7, 3), ScsiGuest.Cdb16(0x8A, 7, 3)];
        foreach ((string write, int seed) in writes.Select((w, i) => (w, i)))
        {
            byte[] data = Pattern(seed, 3 * blockSize);
            ScsiAnswer written = guest.Out(write, data);
            Assert.True(written.IsGood);
            Assert.Equal((0u, 108u), (written.Residual, written.Used));
            Assert.Equal(data, host.Read(7L * blockSize, data.Length));
            foreach (string read in reads)
            {
                ScsiAnswer answer = guest.In(read, data.Length);
                Assert.True(answer.IsGood);
                Assert.Equal((0u, 108u + (uint)data.Length), (answer.Residual, answer.Used));
                Assert.Equal(data, answer.Data);
            }
        }
    }

    [Fact]
    public void Nothing_means_256_blocks_in_the_six_byte_form_and_nothing_elsewhere()
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        host.Fill(0, ScsiHost.DiskBytes, 7);
        Assert.Equal(256 * 512 + 108u, guest.In("080000010000", 256 * 512).Used);
        Assert.Equal(ScsiGuest.OutOfRange, guest.In("08FFFFFF0100", 512).Sense); // an address of 21 bits
        foreach (string cdb in (string[])[ScsiGuest.Cdb10(0x28, 7, 0), ScsiGuest.Cdb12(0xA8, 7, 0), ScsiGuest.Cdb16(0x88, 7, 0), ScsiGuest.Cdb10(0x2A, Blocks, 0), ScsiGuest.Cdb16(0x8A, 0, 0), ScsiGuest.Cdb10(0x2F, 0, 0)])
        {
            Assert.True(guest.Command(cdb).IsGood);
        }
    }

    [Theory]
    [InlineData(Blocks - 1, 2u)]
    [InlineData(Blocks, 1u)]
    [InlineData(Blocks + 1, 0u)]
    [InlineData(1UL << 55, 1u)] // times 512 it is 0
    [InlineData(ulong.MaxValue, 1u)]
    [InlineData(ulong.MaxValue, 0u)]
    [InlineData(0UL, uint.MaxValue)]
    public void Nothing_is_done_outside_of_the_disk(ulong block, uint count)
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        host.Fill(0, ScsiHost.DiskBytes, 7);
        byte[] data = new byte[1024];
        Assert.Equal(ScsiGuest.OutOfRange, guest.In(ScsiGuest.Cdb16(0x88, block, count), 1024).Sense);
        foreach (byte opcode in (byte[])[0x8A, 0x8F, 0x91]) { Assert.Equal(ScsiGuest.OutOfRange, guest.Out(ScsiGuest.Cdb16(opcode, block, count), data).Sense); }
        if (count > 0) { Assert.Equal(ScsiGuest.OutOfRange, guest.Out(ScsiGuest.Cdb16(0x93, block, count), data).Sense); }
        Assert.Equal(ScsiGuest.OutOfRange, guest.Out("42000000000000002800", Ranges((0, 1), (block, count))).Sense);
        Assert.All(host.Read(0, ScsiHost.DiskBytes), b => Assert.Equal(7, b));
    }

    [Theory]
    [InlineData(4, 3, 0u)] // less than asked for
    [InlineData(4, 5, 512u)] // more room than asked for
    public void Buffers_need_not_be_of_the_CDBs_length_and_must_hold_it(int blocks, int roomBlocks, uint residual)
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        host.Fill(0, 8192, 7);
        bool fits = roomBlocks >= blocks;
        ScsiAnswer read = guest.In(ScsiGuest.Cdb10(0x28, 0, (ushort)blocks), roomBlocks * 512);
        Assert.Equal((fits ? ScsiResponse.Ok : ScsiResponse.Overrun, fits ? residual : (uint)roomBlocks * 512), (read.Response, read.Residual));
        Assert.Equal(fits ? blocks * 512 : 0, read.Data.Count(b => b == 7));
        ScsiAnswer written = guest.Out(ScsiGuest.Cdb10(0x2A, 0, (ushort)blocks), new byte[roomBlocks * 512]);
        Assert.Equal((read.Response, read.Residual), (written.Response, written.Residual));
        Assert.Equal(fits ? blocks * 512 : 0, host.Read(0, 8192).Count(b => b == 0));
    }

    [Fact]
    public void Protection_information_is_refused()
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        byte[] data = new byte[512];
        foreach (byte opcode in (byte[])[0x88, 0x8A, 0x8F, 0x93]) { Assert.Equal(ScsiGuest.InvalidField, guest.Out(ScsiGuest.Cdb16(opcode, 0, 1, flags: 0x20), data).Sense); }
    }

    [Fact]
    public void More_than_the_block_limits_say_is_refused()
    {
        using var host = new ScsiHost(_ => new NullBdev("large", 4L << 30, 512));
        using var guest = new ScsiGuest(host.SocketPath);
        Assert.Equal(ScsiGuest.InvalidField, guest.In(ScsiGuest.Cdb16(0x88, 0, 65537), 512).Sense);
        Assert.Equal(ScsiGuest.InvalidField, guest.Out(ScsiGuest.Cdb16(0x8A, 0, 65537), new byte[512]).Sense);
        Assert.Equal(ScsiGuest.InvalidField, guest.Command(ScsiGuest.Cdb16(0x8F, 0, 65537)).Sense);
        Assert.Equal(ScsiGuest.InvalidField, guest.Out(ScsiGuest.Cdb16(0x93, 0, 1 << 21 | 1), new byte[512]).Sense);
        Assert.True(guest.Out(ScsiGuest.Cdb16(0x93, 0, 1 << 21), new byte[512]).IsGood);
        Assert.Equal(ScsiGuest.InvalidParameter, guest.Out("42000000000000002800", Ranges((0, 1 << 21), (1 << 21, 1))).Sense);
        Assert.True(guest.Out("42000000000000002800", Ranges((0, 1 << 20), (1 << 21, 1 << 20))).IsGood);
    }

    [Theory]
    [InlineData(0x2F)]
    [InlineData(0x8F)]
    public void Verify_reads_and_compares(byte opcode)
    {
        var error = new ErrorBdev(ScsiHost.NewMemory());
        using var host = new ScsiHost(_ => error);
        using var guest = new ScsiGuest(host.SocketPath, ram: new GuestRam(32 << 20));
        string Cdb(uint block, ushort count, byte flags = 0) => opcode == 0x2F ? ScsiGuest.Cdb10(opcode, block, count, flags) : ScsiGuest.Cdb16(opcode, block, count, flags);
        byte[] data = Pattern(1, 600 * 512); // more than one piece
        Assert.True(guest.Write(5, data).IsGood);
        Assert.True(guest.Command(Cdb(0, 2000)).IsGood);
        ScsiAnswer same = guest.Out(Cdb(5, 600, 2), data);
        Assert.True(same.IsGood);
        Assert.Equal(0u, same.Residual);
        data[400_000 % data.Length]++;
        ScsiAnswer other = guest.Out(Cdb(5, 600, 2), data);
        Assert.Equal((0x0E1D00, 400_000 % data.Length), (other.Sense, BinaryPrimitives.ReadInt32BigEndian(other.SenseData.AsSpan(3))));
        Assert.Equal(ScsiResponse.Overrun, guest.Out(Cdb(5, 600, 2), new byte[512]).Response);
        Assert.Equal(ScsiGuest.InvalidField, guest.Out(Cdb(5, 1, 4), new byte[512]).Sense);
        Assert.Equal(ScsiGuest.InvalidField, guest.Out(Cdb(5, 1, 6), new byte[512]).Sense);
        host.OnReactor(() => { error.Inject(new BdevFault(BdevOperations.Read) { FirstByte = 300 * 512, LimitByte = 301 * 512 }); return true; });
        Assert.Equal(ScsiGuest.ReadError, guest.Command(Cdb(0, 2000)).Sense);
    }

    [Theory]
    [InlineData(0x41, false)]
    [InlineData(0x93, false)]
    [InlineData(0x41, true)]
    [InlineData(0x93, true)]
    public void Write_same_repeats_a_block(byte opcode, bool unmaps)
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        byte flags = unmaps ? (byte)8 : (byte)0;
        string Cdb(uint block, ushort count, int more = 0) => opcode == 0x41 ? ScsiGuest.Cdb10(opcode, block, count, (byte)(flags | more)) : ScsiGuest.Cdb16(opcode, block, count, (byte)(flags | more));
        host.Fill(0, ScsiHost.DiskBytes, 7);
        byte[] block = Pattern(1, 512);
        ScsiAnswer answer = guest.Out(Cdb(3, 700), block);
        Assert.True(answer.IsGood);
        Assert.Equal(0u, answer.Residual);
        byte[] after = host.Read(0, ScsiHost.DiskBytes);
        Assert.All(Enumerable.Range(0, (int)Blocks), i => Assert.Equal(i is >= 3 and < 703 ? block : Enumerable.Repeat((byte)7, 512), after.AsSpan(i * 512, 512).ToArray()));
        long unmapped = host.OnReactor(() => host.Bdev.Statistics.UnmapOperations);
        Assert.True(guest.Out(Cdb(3, 700), new byte[512]).IsGood);
        Assert.Equal(unmaps ? 1 : 0, host.OnReactor(() => host.Bdev.Statistics.UnmapOperations) - unmapped);
        Assert.Equal(700 * 512, host.Read(0, ScsiHost.DiskBytes).Count(b => b == 0));
        Assert.Equal(ScsiGuest.InvalidField, guest.Out(Cdb(3, 0), block).Sense); // no length
        Assert.Equal(ScsiGuest.InvalidField, guest.Out(Cdb(3, 1, 0x10), block).Sense); // anchor
        Assert.Equal(ScsiGuest.InvalidField, guest.Out(Cdb(3, 1, 2), block).Sense);
        Assert.Equal(ScsiResponse.Overrun, guest.Out(Cdb(3, 1), new byte[511]).Response);
    }

    [Fact]
    public void Write_same_without_data_writes_zeroes_in_the_long_form_alone()
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        host.Fill(0, 4096, 7);
        Assert.True(guest.Command(ScsiGuest.Cdb16(0x93, 1, 2, flags: 1)).IsGood);
        Assert.Equal(1024, host.Read(0, 4096).Count(b => b == 0));
        Assert.Equal(ScsiGuest.InvalidField, guest.Out(ScsiGuest.Cdb10(0x41, 1, 2, flags: 1), new byte[512]).Sense);
    }

    [Fact]
    public void Unmap_clears_its_ranges_and_nothing_beside_them()
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        host.Fill(0, ScsiHost.DiskBytes, 7);
        ScsiAnswer answer = guest.Out("42000000000000004800", Ranges((3, 1), (100, 1000), (50, 0), (Blocks - 1, 1)));
        Assert.True(answer.IsGood);
        Assert.Equal(0u, answer.Residual);
        byte[] after = host.Read(0, ScsiHost.DiskBytes);
        Assert.All(Enumerable.Range(0, (int)Blocks), i => Assert.Equal(i is 3 or (>= 100 and < 1100) or (int)Blocks - 1 ? 0 : 7, after[i * 512] | after[(i * 512) + 511]));
    }

    [Theory]
    [InlineData("42000000000000000000", "", 0)]
    [InlineData("42000000000000000700", "00000000000000", ScsiGuest.ListLength)]
    [InlineData("42000000000000000800", "0006000000000000", 0)]
    [InlineData("42000000000000000800", "0016001000000000", ScsiGuest.InvalidParameter)] // a range that is not there
    [InlineData("42000000000000000900", "000700010000000000", ScsiGuest.InvalidParameter)]
    [InlineData("42010000000000000800", "0006000000000000", ScsiGuest.InvalidField)] // anchor
    [InlineData("4200000000000004FF00", "00", ScsiGuest.ListLength)] // longer than any
    public void Lists_of_ranges_are_checked(string cdb, string list, int expected)
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        Assert.Equal(expected, guest.Out(cdb, Convert.FromHexString(list)).Sense);
        Assert.Equal(ScsiResponse.Overrun, guest.Out("42000000000000001800", new byte[23]).Response);
        Assert.Equal(ScsiGuest.InvalidParameter, guest.Out("42000000000000021800", Ranges([.. Enumerable.Repeat((0UL, 1u), 33)])).Sense);
        Assert.True(guest.Out("42000000000000020800", Ranges([.. Enumerable.Repeat((0UL, 1u), 32)])).IsGood);
    }

    [Fact]
    public void A_read_only_disk_says_so_and_writes_nothing()
    {
        using var host = new ScsiHost(_ => new ReadOnlyBdev(ScsiHost.NewMemory()));
        using var guest = new ScsiGuest(host.SocketPath);
        byte[] block = new byte[512];
        foreach (string cdb in (string[])["0A0000000100", ScsiGuest.Cdb10(0x2A, 0, 1), ScsiGuest.Cdb12(0xAA, 0, 1), ScsiGuest.Cdb16(0x8A, 0, 1), ScsiGuest.Cdb10(0x41, 0, 1), ScsiGuest.Cdb16(0x93, 0, 1)])
        {
            Assert.Equal(ScsiGuest.WriteProtected, guest.Out(cdb, block).Sense);
        }
        Assert.Equal(ScsiGuest.WriteProtected, guest.Out("42000000000000001800", Ranges((0, 1))).Sense);
        Assert.True(guest.Read(0, 1).IsGood);
        Assert.True(guest.Command(ScsiGuest.Cdb10(0x35, 0, 0)).IsGood);
        Assert.Equal(0x90, guest.In("1A083F00FF00", 36).Data[2]); // WP
        Assert.Equal(0, guest.In("9E100000000000000000000000200000", 32).Data[14]); // LBPME
        Assert.Equal("00010000", Convert.ToHexString(guest.In("A30C01420000000000FF0000", 4).Data));
    }

    [Fact]
    public void What_is_synchronized_or_forced_is_durable_and_so_is_all_without_a_write_cache()
    {
        using var host = new ScsiHost(_ => new VolatileBdev(ScsiHost.NewMemory(), seed: 1));
        using var guest = new ScsiGuest(host.SocketPath);
        byte[] block = new byte[512];
        long before = 0;
        long Flushes()
        {
            long now = host.OnReactor(() => host.Bdev.Statistics.FlushOperations), since = now - before;
            before = now;
            return since;
        }
        Assert.Equal(4, guest.In("1A080800FF00", 24).Data[6]); // WCE
        Assert.Equal(4, guest.In("1A084800FF00", 24).Data[6]); // which can be changed
        Assert.True(guest.Write(0, block).IsGood);
        Assert.True(guest.Read(0, 1).IsGood);
        Assert.Equal(0, Flushes());
        foreach (string cdb in (string[])[ScsiGuest.Cdb10(0x35, 0, 0), ScsiGuest.Cdb16(0x91, 5, 7), "1B0000000000"])
        {
            Assert.True(guest.Command(cdb).IsGood);
            Assert.Equal(1, Flushes());
        }
        foreach (string cdb in (string[])[ScsiGuest.Cdb10(0x2A, 0, 1, 8), ScsiGuest.Cdb12(0xAA, 0, 1, 8), ScsiGuest.Cdb16(0x8A, 0, 1, 8)])
        {
            Assert.True(guest.Out(cdb, block).IsGood);
            Assert.Equal(1, Flushes());
        }
        Assert.True(guest.In(ScsiGuest.Cdb16(0x88, 0, 1, 8), 512).IsGood);
        Assert.Equal(1, Flushes());
        string caching = "00000000" + "0812" + "00" + "0000000000000000000000000000000000";
        Assert.True(guest.Out("151000001800", Convert.FromHexString(caching)).IsGood);
        Assert.Equal(1, Flushes()); // what was cached
        Assert.Equal(0, guest.In("1A080800FF00", 24).Data[6]);
        Assert.True(guest.Write(0, block).IsGood);
        Assert.True(guest.Out(ScsiGuest.Cdb16(0x93, 0, 1), block).IsGood);
        Assert.True(guest.Out("42000000000000001800", Ranges((0, 1))).IsGood);
        Assert.Equal(3, Flushes());
        Assert.Equal(ScsiResponse.Ok, guest.Manage(ScsiTaskFunction.LogicalUnitReset));
        Assert.Equal(0x062903, guest.TestUnitReady().Sense);
        Assert.Equal(4, guest.In("1A080800FF00", 24).Data[6]); // as it was by default
    }

    [Fact]
    public void An_error_of_the_bdev_is_the_error_of_its_command_alone()
    {
        var error = new ErrorBdev(ScsiHost.NewMemory());
        using var host = new ScsiHost(_ => error);
        using var guest = new ScsiGuest(host.SocketPath);
        byte[] block = Pattern(1, 512);
        foreach ((BdevOperations operation, Errno errno, int expected, Func<ScsiAnswer> command) in new (BdevOperations, Errno, int, Func<ScsiAnswer>)[]
        {
            (BdevOperations.Read, Errno.EIO, ScsiGuest.ReadError, () => guest.Read(5, 1)),
            (BdevOperations.Read, Errno.ENODATA, ScsiGuest.ReadError, () => guest.Read(5, 1)),
            (BdevOperations.Write, Errno.EIO, ScsiGuest.WriteError, () => guest.Write(5, block)),
            (BdevOperations.Write, Errno.ENOSPC, 0x072707, () => guest.Write(5, block)),
            (BdevOperations.Write, Errno.EROFS, ScsiGuest.WriteProtected, () => guest.Write(5, block)),
            (BdevOperations.Write, Errno.EIO, ScsiGuest.WriteError, () => guest.Out(ScsiGuest.Cdb16(0x93, 5, 9), block)),
            (BdevOperations.WriteZeroes, Errno.EIO, ScsiGuest.WriteError, () => guest.Out(ScsiGuest.Cdb16(0x93, 5, 9), new byte[512])),
            (BdevOperations.Unmap, Errno.EIO, ScsiGuest.WriteError, () => guest.Out("42000000000000001800", Ranges((5, 1)))),
            (BdevOperations.Flush, Errno.EIO, ScsiGuest.WriteError, () => guest.Command(ScsiGuest.Cdb10(0x35, 0, 0))),
        })
        {
            host.OnReactor(() => { error.Inject(new BdevFault(operation, errno)); return true; });
            ScsiAnswer failed = command();
            Assert.Equal(expected, failed.Sense);
            if (expected >> 16 == 3 && operation != BdevOperations.Flush) { Assert.Equal("F0000300000005", Convert.ToHexString(failed.SenseData)[..14]); }
            Assert.True(command().IsGood);
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Random_work_is_what_an_array_would_have_done(int seed)
    {
        using var host = new ScsiHost();
        using var guest = new ScsiGuest(host.SocketPath);
        var random = new Random(seed);
        byte[] model = new byte[ScsiHost.DiskBytes];
        for (int step = 0; step < 400; step++)
        {
            int count = 1 + random.Next(64), block = random.Next((int)Blocks - count);
            Span<byte> expected = model.AsSpan(block * 512, count * 512);
            switch (random.Next(6))
            {
                case 0 or 1:
                    byte[] data = Pattern(random.Next(), count * 512);
                    data.CopyTo(expected);
                    Assert.True(guest.Command(Form(random, 0x2A, 0xAA, 0x8A, block, count), data, readable: Sizes(random)).IsGood);
                    break;
                case 2:
                    byte[] pattern = Pattern(random.Next(), 512);
                    for (int i = 0; i < count; i++) { pattern.CopyTo(expected[(i * 512)..]); }
                    Assert.True(guest.Out(ScsiGuest.Cdb16(0x93, (ulong)block, (uint)count), pattern).IsGood);
                    break;
                case 3:
                    expected.Clear();
                    Assert.True(guest.Out("42000000000000001800", Ranges(((ulong)block, (uint)count))).IsGood);
                    break;
                default:
                    ScsiAnswer read = guest.Command(Form(random, 0x28, 0xA8, 0x88, block, count), [], count * 512, writable: Sizes(random));
                    Assert.True(read.IsGood);
                    Assert.True(expected.SequenceEqual(read.Data), $"seed {seed}, step {step}: blocks {block} + {count}");
                    break;
            }
        }
        Assert.Equal(model, host.Read(0, ScsiHost.DiskBytes));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_served_command_allocates_nothing_from_kick_to_call(bool inMemory)
    {
        string path = Path.GetTempFileName();
        try
        {
            using var host = new ScsiHost(reactor => inMemory ? ScsiHost.NewMemory() : UringBdev.Open(reactor.Ring, new UringBdevOptions("file", path) { BlockSize = 512, CreateSizeBytes = ScsiHost.DiskBytes, Cache = UringCacheMode.Buffered }));
            using var guest = new ScsiGuest(host.SocketPath);
            byte[] data = new byte[4096], range = Ranges((8, 8));
            long Cost(int requests)
            {
                long before = host.OnReactor(() => GC.GetAllocatedBytesForCurrentThread());
                for (int i = 0; i < requests; i++)
                {
                    Assert.True(guest.Out(ScsiGuest.Cdb10(0x2A, 8, 8), data).IsGood);
                    Assert.True(guest.Command(ScsiGuest.Cdb16(0x88, 8, 8), [], 4096, readable: [7], writable: [1000]).IsGood);
                    Assert.True(guest.Command(ScsiGuest.Cdb10(0x35, 0, 0)).IsGood);
                    Assert.True(guest.Out("42000000000000001800", range).IsGood);
                }
                return host.OnReactor(() => GC.GetAllocatedBytesForCurrentThread()) - before;
            }
            Cost(300);
            long cost = Cost(1000) - Cost(0); // the measuring itself allocates on the reactor
            Assert.True(cost < 4000, $"{cost} bytes for 4000 requests"); // less than a byte each: a queue of the reactor may still grow once
        }
        finally { File.Delete(path); }
    }

    /// <summary>UNMAP's parameter list.</summary>
    private static byte[] Ranges(params (ulong Block, uint Count)[] ranges)
    {
        byte[] list = new byte[8 + (16 * ranges.Length)];
        BinaryPrimitives.WriteUInt16BigEndian(list, (ushort)(list.Length - 2));
        BinaryPrimitives.WriteUInt16BigEndian(list.AsSpan(2), (ushort)(list.Length - 8));
        for (int i = 0; i < ranges.Length; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(list.AsSpan(8 + (16 * i)), ranges[i].Block);
            BinaryPrimitives.WriteUInt32BigEndian(list.AsSpan(16 + (16 * i)), ranges[i].Count);
        }
        return list;
    }

    private static string Form(Random random, byte ten, byte twelve, byte sixteen, int block, int count) => random.Next(3) switch
    {
        0 => ScsiGuest.Cdb10(ten, (uint)block, (ushort)count),
        1 => ScsiGuest.Cdb12(twelve, (uint)block, (uint)count),
        _ => ScsiGuest.Cdb16(sixteen, (ulong)block, (uint)count),
    };

    private static int[] Sizes(Random random) => [.. Enumerable.Range(0, random.Next(6)).Select(_ => 1 + random.Next(5000))];

    private static byte[] Pattern(int seed, int length)
    {
        byte[] bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    private sealed class ReadOnlyBdev(MallocBdev inner) : IBdev
    {
        public event Action<long>? Resized { add => inner.Resized += value; remove => inner.Resized -= value; }

        public string Name => inner.Name;
        public int BlockSize => inner.BlockSize;
        public long SizeBytes => inner.SizeBytes;
        public int BufferAlignment => 1;
        public bool HasWriteCache => false;
        public bool SupportsUnmap => true;
        public bool IsReadOnly => true;
        public bool UnmapReadsZero => true;
        public BdevStatistics Statistics => inner.Statistics;

        public IoTask<IoResult> ReadAsync(long offsetBytes, IoVecs target) => inner.ReadAsync(offsetBytes, target);
        public IoTask<IoResult> WriteAsync(long offsetBytes, IoVecs source) => throw new InvalidOperationException("a write reached it");
        public IoTask<Errno> FlushAsync() => inner.FlushAsync();
        public IoTask<Errno> UnmapAsync(long offsetBytes, long lengthBytes) => throw new InvalidOperationException("an unmap reached it");
        public IoTask<Errno> WriteZeroesAsync(long offsetBytes, long lengthBytes) => throw new InvalidOperationException("zeroes reached it");
        public bool TryGetMemory(long offsetBytes, int lengthBytes, out IoVec memory) => inner.TryGetMemory(offsetBytes, lengthBytes, out memory);
        public bool TryClaim(string claimant, out string owner) => inner.TryClaim(claimant, out owner);
        public void ReleaseClaim() => inner.ReleaseClaim();
        public void Dispose() => inner.Dispose();
    }
}
