using VhostFs.Bdev;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

/// <summary>split, concat and raid0: where blocks lie, and that what is written is read, whatever the pieces.</summary>
public sealed class SpreadBdevTests : IDisposable
{
    private readonly Reactor _reactor = new(new SimulatedDriver(), "test");
    private readonly NativeBuffer _buffer = new(1 << 20, zeroed: true);

    public void Dispose()
    {
        _reactor.Dispose();
        _buffer.Dispose();
    }

    [Fact]
    public void Raid0_deals_strips_in_turn_and_uses_as_much_as_the_smallest_base_has()
    {
        MallocBdev[] bases = [Disk(5 * 4096), Disk(7 * 4096), Disk(9 * 4096)];
        using var raid = new Raid0Bdev("raid", bases, 8192);
        Assert.Equal(3 * 2 * 8192, raid.SizeBytes);
        WriteNumbers(raid, 12);
        Assert.Equal([1, 2, 7, 8, 0], Numbers(bases[0]));
        Assert.Equal([3, 4, 9, 10, 0, 0, 0], Numbers(bases[1]));
        Assert.Equal([5, 6, 11, 12, 0, 0, 0, 0, 0], Numbers(bases[2]));
        Assert.Equal((1, 1, 1), (bases[0].Statistics.WriteOperations, bases[1].Statistics.WriteOperations, bases[2].Statistics.WriteOperations)); // one request each
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], Numbers(raid));
        Assert.Equal(Errno.None, Run(raid.UnmapAsync(4096, 6 * 4096)));
        Assert.Equal([1, 0, 0, 8, 0], Numbers(bases[0]));
        Assert.Equal([0, 0, 9, 10, 0, 0, 0], Numbers(bases[1]));
        Assert.Equal([0, 0, 11, 12, 0, 0, 0, 0, 0], Numbers(bases[2]));
    }

    [Fact]
    public void Concat_puts_one_behind_the_other_in_whole_strips()
    {
        MallocBdev[] bases = [Disk(3 * 4096), Disk(4096), Disk(4 * 4096)];
        using var concat = new ConcatBdev("concat", bases, 8192);
        Assert.Equal(6 * 4096, concat.SizeBytes);
        WriteNumbers(concat, 6);
        Assert.Equal([1, 2, 0], Numbers(bases[0]));
        Assert.Equal([0], Numbers(bases[1]));
        Assert.Equal([3, 4, 5, 6], Numbers(bases[2]));
        Assert.Equal([1, 2, 3, 4, 5, 6], Numbers(concat));
    }

    [Fact]
    public void A_split_sees_its_own_blocks_only()
    {
        using MallocBdev disk = Disk(6 * 4096);
        using var first = new SplitBdev(disk, "p0", 0, 2 * 4096);
        using var second = new SplitBdev(disk, "p1", 2 * 4096, 3 * 4096);
        WriteNumbers(second, 3);
        Assert.Equal([0, 0, 1, 2, 3, 0], Numbers(disk));
        Assert.Equal(Errno.ENOSPC, Run(second.UnmapAsync(2 * 4096, 2 * 4096)));
        Assert.Equal(Errno.EINVAL, Run(second.WriteZeroesAsync(-4096, 4096)));
        Assert.Equal([0, 0], Numbers(first));
        Assert.Equal(Errno.None, Run(second.WriteZeroesAsync(4096, 4096)));
        Assert.Equal([1, 0, 3], Numbers(second));
        Assert.True(first.TryClaim("a", out _) && second.TryClaim("b", out _)); // one does not take the other
    }

    [Theory]
    [InlineData("raid0", 3, 4096)]
    [InlineData("raid0", 3, 16384)]
    [InlineData("raid0", 1, 4096)]
    [InlineData("concat", 3, 65536)]
    [InlineData("split", 1, 4096)]
    public void Everything_that_is_written_is_read_by_many_at_once(string module, int count, int stripBytes)
    {
        for (int seed = 0; seed < 8; seed++)
        {
            var random = new Random(seed);
            IBdev[] bases = [.. Enumerable.Range(0, count).Select(_ => new DelayBdev(Disk((300 + random.Next(50)) * 4096L, 512), _reactor) { Jitter = _ => random.Next(2000) })];
            using IBdev bdev = module switch
            {
                "raid0" => new Raid0Bdev("b", bases, stripBytes),
                "concat" => new ConcatBdev("b", bases, stripBytes),
                _ => new SplitBdev(bases[0], "b", 40960, 200 * 4096),
            };
            using var model = new BdevModel(bdev, _reactor, seed, maxBlocks: 300);
            Run(model.RunAsync(8, 60));
            Assert.Equal(0, model.Errors);
            Run(model.CompareAllAsync());
            foreach (IBdev part in bases) { part.Dispose(); }
        }
    }

    [Fact]
    public void The_first_error_is_the_answer_when_all_parts_have_ended()
    {
        var error = new ErrorBdev(Disk(1 << 20));
        var slow = new DelayBdev(Disk(1 << 20), _reactor) { WriteDelayNs = 1000, FlushDelayNs = 1000 };
        using var raid = new Raid0Bdev("raid", [error, slow], 4096);
        error.Inject(new BdevFault(BdevOperations.Write | BdevOperations.Flush, Errno.EROFS, Count: 2));
        using var list = new IoVecList();
        list.Add(_buffer.Slice(0, 4 * 4096));
        IoTask<IoResult> write = raid.WriteAsync(0, list.View());
        Assert.False(write.IsCompleted); // the memory is still in use
        Assert.Equal(Errno.EROFS, Run(write).Errno);
        Assert.Equal(Errno.EROFS, Run(raid.FlushAsync()));
        Assert.Equal(Errno.None, Run(raid.FlushAsync()));
        Assert.Equal(2, raid.Statistics.IoErrors);
    }

    [Fact]
    public void What_the_bases_are_the_whole_is()
    {
        string path = TemporaryFile.NewPath();
        try
        {
            using var ringed = new Reactor(Ring.Create(8), "ring");
            using UringBdev file = UringBdev.Open(ringed.Ring, new UringBdevOptions("f", path) { CreateSizeBytes = 1 << 20 });
            using var raid = new Raid0Bdev("raid", [Disk(1 << 20), file], 4096);
            Assert.Equal((file.OptimalBufferAlignment, true, true, true, false), (raid.OptimalBufferAlignment, raid.HasWriteCache, raid.SupportsUnmap, raid.UnmapReadsZero, raid.IsReadOnly));
            using var nothing = new Raid0Bdev("raid", [Disk(1 << 20), new NullBdev("n", 1 << 20)], 4096);
            Assert.Equal((false, true, false), (nothing.HasWriteCache, nothing.SupportsUnmap, nothing.UnmapReadsZero));
        }
        finally { File.Delete(path); }
    }

    [Fact]
    public void A_request_over_all_bases_allocates_nothing_once_everything_is_warm()
    {
        using var raid = new Raid0Bdev("raid", [Disk(1 << 20), Disk(1 << 20)], 4096);
        using var list = new IoVecList();
        list.Add(_buffer.Slice(0, 64 * 1024));
        int done = 0;
        void Round()
        {
            if (Run(raid.WriteAsync(0, list.View())).Value == 64 * 1024 && Run(raid.ReadAsync(0, list.View())).Value == 64 * 1024 && Run(raid.FlushAsync()) == Errno.None) { done++; }
        }
        for (int i = 0; i < 100; i++) { Round(); }
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++) { Round(); }
        Assert.Equal((0, 200), (GC.GetAllocatedBytesForCurrentThread() - before, done));
    }

    private static MallocBdev Disk(long bytes, int blockSize = 4096) => new("disk", bytes, blockSize);

    // Block i begins with the byte i + 1.
    private void WriteNumbers(IBdev bdev, int count)
    {
        using var list = new IoVecList();
        for (int i = 0; i < count; i++)
        {
            _buffer.Slice(i * 4096, 4096).Span.Fill((byte)(i + 1));
            list.Add(_buffer.Slice(i * 4096, 1000)); // pieces that end anywhere
            list.Add(_buffer.Slice((i * 4096) + 1000, 3096));
        }
        Assert.Equal(count * 4096, Run(bdev.WriteAsync(0, list.View())).Value);
    }

    private int[] Numbers(IBdev bdev)
    {
        byte[] all = Run(BdevModel.ReadAllAsync(bdev));
        return [.. all.Chunk(4096).Select(block => { Assert.Equal(-1, block.AsSpan().IndexOfAnyExcept(block[0])); return (int)block[0]; })];
    }

    private T Run<T>(IoTask<T> task) => _reactor.RunUntilComplete(task);
}
