using VhostFs.Bdev;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

public sealed class VolatileBdevTests : IDisposable
{
    private const int Blocks = 64;
    private const int BlockBytes = 4096;

    private readonly SimulatedDriver _driver = new();
    private readonly Reactor _reactor;
    private readonly NativeBuffer _buffer = new(4 * BlockBytes, zeroed: true);
    private readonly IoVecList _list = new();
    private readonly MallocBdev _disk = new("disk", Blocks * BlockBytes);

    public VolatileBdevTests() => _reactor = new Reactor(_driver, "test");

    public void Dispose()
    {
        _reactor.Dispose();
        _list.Dispose();
        _buffer.Dispose();
        _disk.Dispose();
    }

    [Fact]
    public void What_is_written_reads_back_and_is_not_below_before_a_flush()
    {
        var bdev = new VolatileBdev(_disk, seed: 1, earlyPercent: 0);
        Write(bdev, 3, 0xAA);
        Assert.Equal(0xAA, Read(bdev, 3));
        Assert.Equal(0, Read(_disk, 3));
        Assert.Equal(Errno.None, Run(bdev.FlushAsync()));
        Assert.Equal(0xAA, Read(_disk, 3));
        Assert.Equal(0, bdev.DirtyBlocks);
    }

    [Fact]
    public void Early_blocks_are_any_and_torn_ones_are_old_behind_a_sector()
    {
        int early = 0, torn = 0, kept = 0;
        for (int seed = 0; seed < 100; seed++)
        {
            using var disk = new MallocBdev("disk", Blocks * BlockBytes);
            var bdev = new VolatileBdev(disk, seed, earlyPercent: 30);
            for (int i = 0; i < 20; i++) { Write(bdev, i, 0xBB); }
            for (int i = 0; i < 20; i++)
            {
                Read(disk, i);
                ReadOnlySpan<byte> below = _buffer.Span[..BlockBytes];
                int newBytes = below.IndexOf((byte)0) is var zero && zero < 0 ? BlockBytes : zero;
                Assert.Equal(0, newBytes % 512);
                Assert.True(below[newBytes..].IndexOfAnyExcept((byte)0) < 0);
                early += newBytes == BlockBytes ? 1 : 0;
                torn += newBytes is > 0 and < BlockBytes ? 1 : 0;
                kept += newBytes == 0 ? 1 : 0;
                Assert.Equal(0xBB, Read(bdev, i));
            }
        }
        Assert.True(early > 50 && torn > 50 && kept > 50, $"{early} early, {torn} torn, {kept} kept");
    }

    [Fact]
    public void After_a_flush_the_disk_below_is_the_same_for_any_history()
    {
        for (int seed = 0; seed < 50; seed++)
        {
            using var disk = new MallocBdev("disk", Blocks * BlockBytes);
            var bdev = new VolatileBdev(disk, seed, cacheBytes: 10 * BlockBytes);
            var random = new Random(seed);
            var expected = new byte[Blocks];
            for (int i = 0; i < 300; i++)
            {
                int block = random.Next(Blocks);
                switch (random.Next(10))
                {
                    case 0:
                        Assert.Equal(Errno.None, Run(bdev.WriteZeroesAsync(block * BlockBytes, BlockBytes)));
                        expected[block] = 0;
                        break;
                    case 1:
                        Assert.Equal(Errno.None, Run(bdev.FlushAsync()));
                        for (int b = 0; b < Blocks; b++) { Assert.Equal(expected[b], Read(disk, b)); }
                        break;
                    default:
                        expected[block] = (byte)random.Next(256);
                        Write(bdev, block, expected[block]);
                        break;
                }
                Assert.True(bdev.DirtyBlocks <= 11);
                int looked = random.Next(Blocks);
                Assert.Equal(expected[looked], Read(bdev, looked));
            }
        }
    }

    [Fact]
    public void A_read_that_a_flush_overtakes_sees_what_was_written()
    {
        var slow = new DelayBdev(_disk, _reactor) { ReadDelayNs = 1000 };
        var bdev = new VolatileBdev(slow, seed: 1, earlyPercent: 0);
        Write(bdev, 5, 0xDD);
        _list.Clear();
        _list.Add(_buffer.Slice(BlockBytes, BlockBytes));
        IoTask<IoResult> read = bdev.ReadAsync(5 * BlockBytes, _list.View());
        Assert.Equal(Errno.None, Run(bdev.FlushAsync()));
        Assert.Equal(0, bdev.DirtyBlocks);
        Assert.Equal(BlockBytes, Run(read).Value);
        Assert.Equal(0xDD, _buffer.Span[BlockBytes]);
    }

    [Fact]
    public void A_flush_that_fails_below_fails_and_loses_nothing()
    {
        var error = new ErrorBdev(_disk);
        var bdev = new VolatileBdev(error, seed: 1, earlyPercent: 0);
        error.Inject(new BdevFault(BdevOperations.Write, Errno.EIO));
        Write(bdev, 5, 0xCC);
        Assert.Equal(Errno.EIO, Run(bdev.FlushAsync()));
        Assert.Equal(0xCC, Read(bdev, 5));
        Assert.Equal(Errno.None, Run(bdev.FlushAsync()));
        Assert.Equal(0xCC, Read(_disk, 5));
    }

    private void Write(VolatileBdev bdev, int block, byte value)
    {
        _list.Clear();
        _list.Add(_buffer.Slice(0, BlockBytes));
        _buffer.Span[..BlockBytes].Fill(value);
        Assert.Equal(BlockBytes, Run(bdev.WriteAsync((long)block * BlockBytes, _list.View())).Value);
    }

    private byte Read(IBdev bdev, int block)
    {
        _list.Clear();
        _list.Add(_buffer.Slice(0, BlockBytes));
        Assert.Equal(BlockBytes, Run(bdev.ReadAsync((long)block * BlockBytes, _list.View())).Value);
        return _buffer.Span[0];
    }

    private T Run<T>(IoTask<T> task) => _reactor.RunUntilComplete(task);
}
