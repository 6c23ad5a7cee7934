using VhostFs.Bdev;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

public sealed class FaultBdevTests : IDisposable
{
    private readonly SimulatedDriver _driver = new();
    private readonly Reactor _reactor;
    private readonly NativeBuffer _buffer = new(64 * 1024, zeroed: true);
    private readonly IoVecList _block = new();
    private readonly MallocBdev _disk = new("disk", 1 << 20);

    public FaultBdevTests()
    {
        _reactor = new Reactor(_driver, "test");
        _block.Add(_buffer.Slice(0, 4096));
    }

    public void Dispose()
    {
        _reactor.Dispose();
        _block.Dispose();
        _buffer.Dispose();
        _disk.Dispose();
    }

    [Fact]
    public void The_third_write_fails_once()
    {
        var bdev = new ErrorBdev(_disk);
        bdev.Inject(new BdevFault(BdevOperations.Write, Errno.ENOSPC, Skip: 2));
        var seen = new List<Errno>();
        for (int i = 0; i < 5; i++)
        {
            seen.Add(Run(bdev.WriteAsync(0, _block.View())).Errno);
            Assert.Equal(4096, Run(bdev.ReadAsync(0, _block.View())).Value);
        }
        Assert.Equal([Errno.None, Errno.None, Errno.ENOSPC, Errno.None, Errno.None], seen);
        Assert.Equal((1L, 1L, 4L), (bdev.InjectedErrors, bdev.Statistics.IoErrors, _disk.Statistics.WriteOperations));
    }

    [Theory, InlineData(BdevOperations.Read), InlineData(BdevOperations.Write), InlineData(BdevOperations.Flush), InlineData(BdevOperations.Unmap), InlineData(BdevOperations.WriteZeroes)]
    public void A_permanent_fault_fails_its_kind_only_until_cleared(BdevOperations kind)
    {
        var bdev = new ErrorBdev(_disk);
        bdev.Inject(new BdevFault(kind, Errno.EIO, Count: BdevFault.Always));
        for (int round = 0; round < 3; round++) { Assert.Equal(kind, Failing(bdev)); }
        bdev.Clear();
        Assert.Equal(BdevOperations.None, Failing(bdev));
    }

    [Fact]
    public void A_fault_of_a_range_spares_what_lies_outside()
    {
        var bdev = new ErrorBdev(_disk);
        bdev.Inject(new BdevFault(BdevOperations.Write, Count: BdevFault.Always) { FirstByte = 8192, LimitByte = 12288 });
        Assert.False(Run(bdev.WriteAsync(4096, _block.View())).IsError);
        Assert.True(Run(bdev.WriteAsync(8192, _block.View())).IsError);
        Assert.False(Run(bdev.WriteAsync(12288, _block.View())).IsError);
        using var three = new IoVecList();
        three.Add(_buffer.Slice(0, 12288));
        Assert.True(Run(bdev.WriteAsync(0, three.View())).IsError);
    }

    [Fact]
    public void Each_kind_of_operation_has_its_own_delay()
    {
        var bdev = new DelayBdev(_disk, _reactor) { ReadDelayNs = 10, WriteDelayNs = 200, FlushDelayNs = 3000, UnmapDelayNs = 40_000, WriteZeroesDelayNs = 500_000 };
        Assert.Equal(10, Time(() => bdev.ReadAsync(0, _block.View())));
        Assert.Equal(200, Time(() => bdev.WriteAsync(0, _block.View())));
        Assert.Equal(3000, Time(() => bdev.FlushAsync()));
        Assert.Equal(40_000, Time(() => bdev.UnmapAsync(0, 4096)));
        Assert.Equal(500_000, Time(() => bdev.WriteZeroesAsync(0, 4096)));
    }

    [Fact]
    public void Jitter_lets_completions_overtake_each_other()
    {
        long next = 100;
        var bdev = new DelayBdev(_disk, _reactor) { Jitter = _ => next -= 10 };
        IoTask<IoResult> first = bdev.WriteAsync(0, _block.View());
        IoTask<IoResult> second = bdev.WriteAsync(4096, _block.View());
        Run(second);
        Assert.False(first.IsCompleted);
        Run(first);
    }

    [Fact]
    public void A_recording_holds_changes_in_order_with_their_data_and_moments()
    {
        var bdev = new RecordingBdev(new DelayBdev(_disk, _reactor) { WriteDelayNs = 10, FlushDelayNs = 5 });
        _buffer.Span.Fill(1);
        IoTask<IoResult> first = bdev.WriteAsync(0, _block.View()); // started at 0
        _reactor.RunOnce(wait: true);                                // completed at 1
        _buffer.Span.Fill(2);
        IoTask<IoResult> second = bdev.WriteAsync(4096, _block.View()); // 2
        IoTask<Errno> flush = bdev.FlushAsync();                        // 3, completed at 4
        Run(flush);
        Run(second);                                                    // completed at 5
        Run(bdev.UnmapAsync(8192, 4096));                               // 6, 7
        Run(bdev.WriteZeroesAsync(12288, 4096));                        // 8, 9
        Run(first);
        Assert.Equal(
            [(BdevOperations.Write, 0L, 0L, 1L), (BdevOperations.Write, 4096L, 2L, 5L), (BdevOperations.Flush, 0L, 3L, 4L), (BdevOperations.Unmap, 8192L, 6L, 7L), (BdevOperations.WriteZeroes, 12288L, 8L, 9L)],
            bdev.Trace.Select(e => (e.Operation, e.OffsetBytes, e.StartedAt, e.CompletedAt)));
        Assert.All(bdev.Trace[0].Data, b => Assert.Equal(1, b));
        Assert.All(bdev.Trace[1].Data, b => Assert.Equal(2, b));
        Assert.True(bdev.MustBeDurable(bdev.Trace[0], bdev.Moment));
        Assert.False(bdev.MustBeDurable(bdev.Trace[0], 4)); // the flush had not completed yet
        Assert.False(bdev.MustBeDurable(bdev.Trace[1], bdev.Moment)); // it completed after the flush had started
    }

    [Fact]
    public void A_failed_flush_makes_nothing_durable_and_a_reset_forgets()
    {
        var faults = new ErrorBdev(_disk);
        var bdev = new RecordingBdev(faults);
        faults.Inject(new BdevFault(BdevOperations.Flush));
        Run(bdev.WriteAsync(0, _block.View()));
        Assert.Equal(Errno.EIO, Run(bdev.FlushAsync()));
        Assert.False(bdev.MustBeDurable(bdev.Trace[0], bdev.Moment));
        Assert.Equal(Errno.None, Run(bdev.FlushAsync()));
        Assert.True(bdev.MustBeDurable(bdev.Trace[0], bdev.Moment));
        bdev.Reset();
        Assert.Empty(bdev.Trace);
    }

    private BdevOperations Failing(ErrorBdev bdev)
    {
        BdevOperations failing = BdevOperations.None;
        if (Run(bdev.ReadAsync(0, _block.View())).IsError) { failing |= BdevOperations.Read; }
        if (Run(bdev.WriteAsync(0, _block.View())).IsError) { failing |= BdevOperations.Write; }
        if (Run(bdev.FlushAsync()) != Errno.None) { failing |= BdevOperations.Flush; }
        if (Run(bdev.UnmapAsync(0, 4096)) != Errno.None) { failing |= BdevOperations.Unmap; }
        if (Run(bdev.WriteZeroesAsync(0, 4096)) != Errno.None) { failing |= BdevOperations.WriteZeroes; }
        return failing;
    }

    private long Time<T>(Func<IoTask<T>> work)
    {
        long start = _driver.NowNs;
        _reactor.RunUntilComplete(work);
        return _driver.NowNs - start;
    }

    private T Run<T>(IoTask<T> task) => _reactor.RunUntilComplete(task);
}
