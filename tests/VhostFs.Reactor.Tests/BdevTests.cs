using VhostFs.Bdev;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

/// <summary>The contract of IBdev, on every module; what is special to one is in the other files.</summary>
public sealed class BdevTests : IDisposable
{
    private const long DiskBytes = 8 << 20;
    private readonly Reactor _reactor = new(Ring.Create(32), "test");
    private readonly string _path = TemporaryFile.NewPath();
    private readonly NativeBuffer _buffer = new(4 << 20, zeroed: true);

    public static TheoryData<string> Modules => [.. Resizable, "split", "concat", "raid0", "raid1"];

    public static TheoryData<string> Resizable => ["malloc", "direct", "buffered", "tmpfs", "error", "delay", "recording"];

    public void Dispose()
    {
        _reactor.Dispose();
        _buffer.Dispose();
        File.Delete(_path);
        File.Delete(ShmPath);
    }

    [Theory, MemberData(nameof(Modules))]
    public void What_was_written_is_read_back_through_any_segments(string module)
    {
        using IBdev bdev = Create(module);
        Random.Shared.NextBytes(_buffer.Slice(0, 1 << 20).Span);
        using var source = new IoVecList();
        using var target = new IoVecList();
        for (int at = 0; at < 1 << 20; at += 4096)
        {
            source.Add(_buffer.Slice(at, 4096));
            target.Add(_buffer.Slice((1 << 20) + at, 4096));
        }
        Assert.Equal(1 << 20, Run(bdev.WriteAsync(65536, source.View())).Value);
        Assert.Equal(Errno.None, Run(bdev.FlushAsync()));
        Assert.Equal(1 << 20, Run(bdev.ReadAsync(65536, target.View())).Value);
        Assert.True(_buffer.Slice(0, 1 << 20).Span.SequenceEqual(_buffer.Slice(1 << 20, 1 << 20).Span));
        Assert.Equal((1L, 1L << 20, 1L, 1L << 20, 1L), (bdev.Statistics.WriteOperations, bdev.Statistics.BytesWritten, bdev.Statistics.ReadOperations, bdev.Statistics.BytesRead, bdev.Statistics.FlushOperations));
    }

    [Theory, MemberData(nameof(Modules))]
    public void Unaligned_buffers_and_odd_segments_carry_the_same_bytes(string module)
    {
        using IBdev bdev = Create(module);
        Random.Shared.NextBytes(_buffer.Slice(0, 1 << 20).Span);
        using var source = new IoVecList();
        using var target = new IoVecList();
        source.Add(_buffer.Slice(1, 700_001));
        source.Add(_buffer.Slice(700_100, 3));
        source.Add(_buffer.Slice(701_000, 86_428)); // 786,432 bytes in all: more than a bounce buffer
        target.Add(_buffer.Slice((2 << 20) + 7, 786_432));
        Assert.Equal(786_432, Run(bdev.WriteAsync(4096, source.View())).Value);
        Assert.Equal(786_432, Run(bdev.ReadAsync(4096, target.View())).Value);
        byte[] expected = new byte[786_432];
        source.View().CopyTo(0, expected);
        Assert.True(target.View()[0].Span.SequenceEqual(expected));
    }

    [Theory, MemberData(nameof(Modules))]
    public void More_segments_than_one_system_call_takes_are_transferred(string module)
    {
        using IBdev bdev = Create(module);
        Random.Shared.NextBytes(_buffer.Slice(0, 2 << 20).Span);
        using var source = new IoVecList();
        using var target = new IoVecList();
        for (int i = 0; i < 3000; i++)
        {
            source.Add(_buffer.Slice(i * 512, 512));
            target.Add(_buffer.Slice((2 << 20) + i * 512, 512));
        }
        Assert.Equal(1_536_000, Run(bdev.WriteAsync(0, source.View())).Value);
        Assert.Equal(1_536_000, Run(bdev.ReadAsync(0, target.View())).Value);
        Assert.True(_buffer.Slice(0, 1_536_000).Span.SequenceEqual(_buffer.Slice(2 << 20, 1_536_000).Span));
    }

    [Theory, MemberData(nameof(Modules))]
    public void Requests_outside_the_contract_are_refused(string module)
    {
        using IBdev bdev = Create(module);
        using var block = new IoVecList();
        using var odd = new IoVecList();
        block.Add(_buffer.Slice(0, 4096));
        odd.Add(_buffer.Slice(0, 100));
        Assert.Equal(Errno.EINVAL, Run(bdev.ReadAsync(1, block.View())).Errno);
        Assert.Equal(Errno.EINVAL, Run(bdev.WriteAsync(-4096, block.View())).Errno);
        Assert.Equal(Errno.EINVAL, Run(bdev.WriteAsync(0, odd.View())).Errno);
        Assert.Equal(Errno.EIO, Run(bdev.ReadAsync(DiskBytes, block.View())).Errno);
        Assert.Equal(Errno.ENOSPC, Run(bdev.WriteAsync(DiskBytes, block.View())).Errno);
        Assert.Equal(Errno.ENOSPC, Run(bdev.WriteAsync(long.MaxValue & -4096, block.View())).Errno);
        Assert.Equal(Errno.ENOSPC, Run(bdev.UnmapAsync(DiskBytes - 4096, 8192)));
        Assert.Equal(Errno.EINVAL, Run(bdev.WriteZeroesAsync(0, 100)));
        Assert.Equal(8, bdev.Statistics.IoErrors);
        Assert.Equal(0, bdev.Statistics.BytesWritten);
    }

    [Theory, MemberData(nameof(Modules))]
    public void Unmapped_and_zeroed_ranges_read_as_zeroes_and_their_neighbours_do_not(string module)
    {
        using IBdev bdev = Create(module);
        using var all = new IoVecList();
        all.Add(_buffer.Slice(0, 1 << 20));
        _buffer.Span.Fill(7);
        Assert.Equal(1 << 20, Run(bdev.WriteAsync(0, all.View())).Value);
        Assert.True(bdev.SupportsUnmap && bdev.UnmapReadsZero);
        Assert.Equal(Errno.None, Run(bdev.UnmapAsync(4096, 400 * 1024)));
        Assert.Equal(Errno.None, Run(bdev.WriteZeroesAsync(600 * 1024, 300 * 1024)));
        Assert.Equal(1 << 20, Run(bdev.ReadAsync(0, all.View())).Value);
        for (int at = 0; at < 1 << 20; at++)
        {
            bool zero = at is >= 4096 and < 4096 + 400 * 1024 or >= 600 * 1024 and < 900 * 1024;
            if (_buffer.Span[at] != (zero ? 0 : 7)) { Assert.Fail($"byte {at} is {_buffer.Span[at]}"); }
        }
        Assert.Equal(400 * 1024, bdev.Statistics.BytesUnmapped);
    }

    [Theory, MemberData(nameof(Modules))]
    public void A_claim_excludes_others_until_it_is_released(string module)
    {
        using IBdev bdev = Create(module);
        Assert.True(bdev.TryClaim("pool a", out _));
        Assert.False(bdev.TryClaim("pool b", out string owner));
        Assert.Equal("pool a", owner);
        bdev.ReleaseClaim();
        Assert.True(bdev.TryClaim("pool b", out _));
    }

    [Theory, MemberData(nameof(Resizable))]
    public void A_resize_is_announced_and_new_space_is_zero(string module)
    {
        using IBdev bdev = Create(module);
        var sizes = new List<long>();
        bdev.Resized += sizes.Add;
        using var block = new IoVecList();
        block.Add(_buffer.Slice(0, 4096));
        _buffer.Span.Fill(9);
        Assert.Equal(4096, Run(bdev.WriteAsync(DiskBytes - 4096, block.View())).Value);
        Assert.Equal(Errno.EINVAL, Run(bdev.ResizeAsync(DiskBytes + 1)));
        Assert.Equal(Errno.None, Run(bdev.ResizeAsync(DiskBytes / 2)));
        Assert.Equal(Errno.ENOSPC, Run(bdev.WriteAsync(DiskBytes - 4096, block.View())).Errno);
        Assert.Equal(Errno.None, Run(bdev.ResizeAsync(DiskBytes * 2)));
        Assert.Equal([DiskBytes / 2, DiskBytes * 2], sizes);
        Assert.Equal(4096, Run(bdev.ReadAsync(DiskBytes - 4096, block.View())).Value);
        Assert.Equal(-1, _buffer.Slice(0, 4096).Span.IndexOfAnyExcept((byte)0));
        Assert.Equal(4096, Run(bdev.WriteAsync(DiskBytes * 2 - 4096, block.View())).Value);
    }

    [Fact]
    public void The_memory_of_a_malloc_bdev_is_the_disk_and_stays_in_place()
    {
        using var bdev = new MallocBdev("m", DiskBytes, 512);
        Assert.True(bdev.TryGetMemory(512, 512, out IoVec memory));
        Assert.Equal(Errno.None, Run(bdev.ResizeAsync(DiskBytes * 100)));
        memory.Span.Fill(5);
        using var block = new IoVecList();
        block.Add(_buffer.Slice(0, 512));
        Assert.Equal(512, Run(bdev.ReadAsync(512, block.View())).Value);
        Assert.Equal(-1, _buffer.Slice(0, 512).Span.IndexOfAnyExcept((byte)5));
        Assert.False(bdev.TryGetMemory(DiskBytes * 100 - 100, 200, out _));
    }

    [Fact]
    public void A_file_in_memory_can_be_looked_at_and_follows_its_size()
    {
        using IBdev bdev = Create("tmpfs");
        using var block = new IoVecList();
        block.Add(_buffer.Slice(0, 4096));
        _buffer.Slice(0, 4096).Span.Fill(7);
        Assert.Equal(4096, Run(bdev.WriteAsync(DiskBytes - 4096, block.View())).Value);
        Assert.True(bdev.TryView(DiskBytes - 4096, 4096, out IoVec view));
        Assert.Equal(-1, view.Span.IndexOfAnyExcept((byte)7));
        Assert.False(bdev.TryView(DiskBytes - 4095, 4096, out _));
        Assert.Equal(Errno.None, Run(bdev.ResizeAsync(2 * DiskBytes)));
        Assert.Equal(4096, Run(bdev.WriteAsync((2 * DiskBytes) - 4096, block.View())).Value);
        Assert.True(bdev.TryView((2 * DiskBytes) - 4096, 4096, out view));
        Assert.Equal(-1, view.Span.IndexOfAnyExcept((byte)7));
        using IBdev onDisk = Create("direct");
        Assert.False(onDisk.TryView(0, 4096, out _));
    }

    [Fact]
    public void A_file_in_memory_that_somebody_cuts_ends_neither_the_process_nor_the_reads_of_what_is_left()
    {
        using IBdev bdev = Create("tmpfs");
        using var block = new IoVecList();
        block.Add(_buffer.Slice(0, 4096));
        _buffer.Slice(0, 4096).Span.Fill(7);
        foreach (long at in new[] { 0, DiskBytes - 4096 }) { Assert.Equal(4096, Run(bdev.WriteAsync(at, block.View())).Value); }
        Assert.True(bdev.TryView(DiskBytes - 4096, 4096, out IoVec view));
        Assert.Equal(Errno.None, FileCalls.Open(ShmPath, FileCalls.O_RDWR, 0, out SafeFd file));
        using (file) { Assert.Equal(Errno.None, FileCalls.Truncate(file, DiskBytes / 2)); }
        Assert.Equal(0, view.Span[0]);
        Assert.False(bdev.TryView(0, 4096, out _));
        Assert.Equal(Errno.EIO, Run(bdev.ReadAsync(DiskBytes - 4096, block.View())).Errno);
        Assert.Equal(4096, Run(bdev.ReadAsync(0, block.View())).Value);
        Assert.Equal(-1, _buffer.Slice(0, 4096).Span.IndexOfAnyExcept((byte)7));
    }

    [Fact]
    public void A_write_can_be_put_into_the_pages_that_a_file_in_memory_has()
    {
        using IBdev bdev = Create("tmpfs");
        using var blocks = new IoVecList();
        blocks.Add(_buffer.Slice(0, 8192));
        Assert.False(bdev.TryGetPlace(4096, 4096, out _)); // a hole
        Assert.Equal(8192, Run(bdev.WriteAsync(4096, blocks.View())).Value);
        Assert.False(bdev.TryGetPlace(8192, 8192, out _)); // half of it
        Assert.True(bdev.TryGetPlace(8192, 4096, out IoVec place));
        place.Span.Fill(3);
        long written = bdev.Statistics.BytesWritten;
        Assert.Equal(Errno.None, bdev.EndInPlace(4096));
        Assert.Equal(written + 4096, bdev.Statistics.BytesWritten);
        Assert.Equal(-1, FileBytes().AsSpan(8192, 4096).IndexOfAnyExcept((byte)3));

        Assert.Equal(Errno.None, Run(bdev.UnmapAsync(8192, 4096)));
        Assert.False(bdev.TryGetPlace(8192, 4096, out _));
        Assert.True(bdev.TryGetPlace(4096, 4096, out place));
        Assert.Equal(Errno.None, FileCalls.Open(ShmPath, FileCalls.O_RDWR, 0, out SafeFd file));
        using (file) { Assert.Equal(Errno.None, FileCalls.Truncate(file, 0)); }
        place.Span.Fill(4); // nowhere
        Assert.Equal(Errno.EIO, bdev.EndInPlace(4096));
        Assert.False(bdev.TryGetPlace(4096, 4096, out _));
        using IBdev onDisk = Create("direct");
        Assert.False(onDisk.TryGetPlace(0, 4096, out _));
    }

    [Fact]
    public void Copies_and_calls_on_a_file_in_memory_come_to_the_same_content()
    {
        // Pages that were written once are copied to and from, others are not; holes make them others again.
        using IBdev bdev = Create("tmpfs");
        var random = new Random(1);
        var expected = new byte[DiskBytes];
        using var list = new IoVecList();
        for (int step = 0; step < 3000; step++)
        {
            int blocks = random.Next(4) == 0 ? random.Next(1, 200) : random.Next(1, 4), length = blocks * bdev.BlockSize;
            long offset = random.NextInt64((DiskBytes - length) / bdev.BlockSize + 1) * bdev.BlockSize;
            Span<byte> there = expected.AsSpan((int)offset, length);
            list.Clear();
            int cut = random.Next(1, length);
            list.Add(_buffer.Slice(0, cut));
            list.Add(_buffer.Slice(cut, length - cut));
            switch (random.Next(8))
            {
                case 0:
                    Assert.Equal(Errno.None, Run(bdev.UnmapAsync(offset, length)));
                    there.Clear();
                    break;
                case 1:
                    Assert.Equal(Errno.None, Run(bdev.WriteZeroesAsync(offset, length)));
                    there.Clear();
                    break;
                case < 5:
                    random.NextBytes(_buffer.Slice(0, length).Span);
                    Assert.Equal(length, Run(bdev.WriteAsync(offset, list.View())).Value);
                    _buffer.Slice(0, length).Span.CopyTo(there);
                    break;
                default:
                    Assert.Equal(length, Run(bdev.ReadAsync(offset, list.View())).Value);
                    Assert.True(_buffer.Slice(0, length).Span.SequenceEqual(there), $"step {step}: [{offset}, + {length})");
                    break;
            }
        }
        Assert.True(FileBytes().AsSpan().SequenceEqual(expected));
    }

    [Fact]
    public void A_read_of_a_hole_takes_no_memory()
    {
        using IBdev bdev = Create("tmpfs");
        using var list = new IoVecList();
        list.Add(_buffer.Slice(0, 1 << 20));
        for (long at = 0; at < DiskBytes; at += 1 << 20) { Assert.Equal(1 << 20, Run(bdev.ReadAsync(at, list.View())).Value); }
        Assert.Equal(Errno.None, FileCalls.Open(ShmPath, FileCalls.O_RDWR, 0, out SafeFd file));
        using (file)
        {
            Assert.Equal(Errno.None, FileCalls.Status(file, out FileStatus status));
            Assert.Equal(0, status.Blocks512);
        }
    }

    [Fact]
    public void What_is_written_after_a_file_in_memory_was_cut_is_in_the_file()
    {
        using IBdev bdev = Create("tmpfs");
        using var block = new IoVecList();
        block.Add(_buffer.Slice(0, 4096));
        for (byte round = 1; round <= 3; round++) // a call, then a copy that meets the cut, then calls
        {
            _buffer.Slice(0, 4096).Span.Fill(round);
            Assert.Equal(4096, Run(bdev.WriteAsync(DiskBytes / 2, block.View())).Value);
            Assert.Equal(round, FileBytes()[DiskBytes / 2]);
            Assert.Equal(Errno.None, FileCalls.Open(ShmPath, FileCalls.O_RDWR, 0, out SafeFd file));
            using (file) { Assert.Equal(Errno.None, FileCalls.Truncate(file, 4096)); }
        }
    }

    [Fact]
    public void A_null_bdev_counts_and_keeps_nothing()
    {
        using var bdev = new NullBdev("n", DiskBytes);
        using var block = new IoVecList();
        block.Add(_buffer.Slice(0, 4096));
        Assert.Equal(4096, Run(bdev.WriteAsync(0, block.View())).Value);
        Assert.Equal(4096, Run(bdev.ReadAsync(0, block.View())).Value);
        Assert.Equal(4096, bdev.Statistics.BytesWritten);
        Assert.Equal(Errno.ENOSPC, Run(bdev.WriteAsync(DiskBytes, block.View())).Errno);
    }

    [Fact]
    public void A_file_in_use_is_refused_with_the_owner()
    {
        using UringBdev first = Open(UringCacheMode.Auto);
        BdevException refused = Assert.Throws<BdevException>(() => Open(UringCacheMode.Auto));
        Assert.Equal(Errno.EBUSY, refused.Errno);
        Assert.Contains($"this process ({Environment.ProcessId})", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_in_use_by_another_process_is_refused_with_its_pid()
    {
        File.WriteAllBytes(_path, new byte[4096]);
        var start = new System.Diagnostics.ProcessStartInfo("flock") { RedirectStandardOutput = true, RedirectStandardInput = true };
        foreach (string word in (string[])["--no-fork", _path, "sh", "-c", "echo locked; read line"]) { start.ArgumentList.Add(word); }
        using var other = System.Diagnostics.Process.Start(start)!;
        Assert.Equal("locked", other.StandardOutput.ReadLine());
        BdevException refused = Assert.Throws<BdevException>(() => UringBdev.Open(_reactor.Ring, new UringBdevOptions("u", _path)));
        other.StandardInput.Close();
        other.WaitForExit();
        Assert.Contains($"process {other.Id}", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Direct_is_refused_with_a_reason_where_files_lie_in_memory()
    {
        BdevException refused = Assert.Throws<BdevException>(() => UringBdev.Open(_reactor.Ring, new UringBdevOptions("u", ShmPath) { CreateSizeBytes = DiskBytes, Cache = UringCacheMode.Direct }));
        Assert.Contains("cache=buffered", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_read_only_bdev_refuses_every_change()
    {
        File.WriteAllBytes(_path, new byte[8192]);
        using var bdev = UringBdev.Open(_reactor.Ring, new UringBdevOptions("u", _path) { ReadOnly = true });
        using var block = new IoVecList();
        block.Add(_buffer.Slice(0, 4096));
        Assert.Equal(Errno.EROFS, Run(bdev.WriteAsync(0, block.View())).Errno);
        Assert.Equal(Errno.EROFS, Run(bdev.WriteZeroesAsync(0, 4096)));
        Assert.Equal(Errno.EROFS, Run(bdev.UnmapAsync(0, 4096)));
        Assert.Equal(Errno.EROFS, Run(bdev.ResizeAsync(4096)));
        Assert.Equal(4096, Run(bdev.ReadAsync(0, block.View())).Value);
    }

    [Fact]
    public void A_size_changed_by_others_is_seen_by_a_rescan_and_a_lost_end_is_an_error()
    {
        using UringBdev bdev = Open(UringCacheMode.Buffered);
        using var block = new IoVecList();
        block.Add(_buffer.Slice(0, 4096));
        Assert.Equal(Errno.None, FileCalls.Open(_path, FileCalls.O_RDWR, 0, out SafeFd other));
        using (other) { Assert.Equal(Errno.None, FileCalls.Truncate(other, 4096)); }
        Assert.Equal(Errno.EIO, Run(bdev.ReadAsync(8192, block.View())).Errno);
        long announced = 0;
        bdev.Resized += size => announced = size;
        Assert.Equal(Errno.None, bdev.Rescan());
        Assert.Equal((4096L, 4096L), (announced, bdev.SizeBytes));
    }

    [Fact]
    public void A_missing_file_is_an_error_that_names_it()
    {
        BdevException refused = Assert.Throws<BdevException>(() => UringBdev.Open(_reactor.Ring, new UringBdevOptions("u", _path)));
        Assert.Equal(Errno.ENOENT, refused.Errno);
        Assert.Contains(_path, refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_uring_read_allocates_nothing_in_steady_state()
    {
        using UringBdev bdev = Open(UringCacheMode.Auto);
        using var list = new IoVecList();
        list.Add(_buffer.Slice(0, 4096));
        for (int i = 0; i < 500; i++) { Run(bdev.ReadAsync(0, list.View())); }
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 500; i++) { Run(bdev.ReadAsync(0, list.View())); }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private string ShmPath => Path.Combine("/dev/shm", Path.GetFileName(_path));

    /// <summary>The file itself, whoever has locked it.</summary>
    private byte[] FileBytes()
    {
        Assert.Equal(Errno.None, FileCalls.Open(ShmPath, FileCalls.O_RDONLY, 0, out SafeFd file));
        using (file)
        {
            Assert.Equal(Errno.None, FileCalls.Status(file, out FileStatus status));
            using var bytes = new NativeBuffer((int)status.SizeBytes);
            using var list = new IoVecList();
            list.Add(bytes.Vec);
            Assert.Equal(bytes.Length, FileCalls.ReadAt(file, 0, list.View()).Value);
            return bytes.Span.ToArray();
        }
    }

    private T Run<T>(IoTask<T> task) => _reactor.RunUntilComplete(task);

    private UringBdev Open(UringCacheMode cache, long sizeBytes = DiskBytes) => UringBdev.Open(_reactor.Ring, new UringBdevOptions("u", _path) { CreateSizeBytes = sizeBytes, Cache = cache });

    private IBdev Create(string module) => module switch
    {
        "malloc" => new MallocBdev(module, DiskBytes),
        "direct" => Open(UringCacheMode.Auto),
        "buffered" => Open(UringCacheMode.Buffered),
        "tmpfs" => UringBdev.Open(_reactor.Ring, new UringBdevOptions("u", ShmPath) { CreateSizeBytes = DiskBytes }),
        "error" => new ErrorBdev(new MallocBdev(module, DiskBytes)),
        "delay" => new DelayBdev(Open(UringCacheMode.Buffered), _reactor) { ReadDelayNs = 1000 },
        "recording" => new RecordingBdev(new MallocBdev(module, DiskBytes)),
        "split" => new SplitBdev(Open(UringCacheMode.Auto, 3 * DiskBytes), module, DiskBytes, DiskBytes),
        "concat" => new ConcatBdev(module, [new MallocBdev(module, 128 << 10), Open(UringCacheMode.Auto, DiskBytes - (128 << 10))], 65536),
        "raid0" => new Raid0Bdev(module, [Open(UringCacheMode.Auto, DiskBytes / 2), new MallocBdev(module, DiskBytes / 2)], 8192),
        "raid1" => new Raid1Bdev(module, [Open(UringCacheMode.Auto), new MallocBdev(module, DiskBytes)], _reactor),
        _ => throw new ArgumentException(module),
    };
}
