using VhostFs.Bdev;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

/// <summary>Limits and latencies, on virtual time.</summary>
public sealed class MeteredBdevTests : IDisposable
{
    private const long Ms = 1_000_000, SecondNs = 1_000_000_000;
    private readonly SimulatedDriver _driver = new();
    private readonly Reactor _reactor;
    private readonly NativeBuffer _buffer = new(1 << 20, zeroed: true);
    private readonly IoVecList _block = new();
    private readonly IoVecList _large = new();
    private readonly MallocBdev _disk = new("disk", 16 << 20);
    private readonly MeteredBdev _bdev;

    public MeteredBdevTests()
    {
        _reactor = new Reactor(_driver, "test");
        _block.Add(_buffer.Slice(0, 4096));
        _large.Add(_buffer.Slice(0, 1 << 20));
        _bdev = new MeteredBdev(_disk, _reactor);
    }

    public void Dispose()
    {
        _reactor.Dispose();
        _block.Dispose();
        _large.Dispose();
        _buffer.Dispose();
        _disk.Dispose();
    }

    [Theory]
    [InlineData(100)]
    [InlineData(1000)]
    [InlineData(250_000)]
    public void So_many_operations_a_second_and_no_more(int perSecond)
    {
        _bdev.Limit(new RateLimits(OperationsPerSecond: perSecond));
        int count = perSecond / 10;
        long took = Time(count, i => i % 2 == 0 ? _bdev.ReadAsync(0, _block.View()) : _bdev.WriteAsync(0, _block.View()));
        Assert.InRange(took, SecondNs / 10 - 2 * Ms - SecondNs / perSecond, SecondNs / 10 + Ms);
    }

    [Fact]
    public void Bytes_are_limited_by_direction_and_together()
    {
        _bdev.Limit(new RateLimits(BytesPerSecond: 20 << 20, ReadBytesPerSecond: 10 << 20, WriteBytesPerSecond: 15 << 20));
        Assert.InRange(Time(10, _ => _bdev.ReadAsync(0, _large.View())), 9 * SecondNs / 10 - 2 * Ms, SecondNs);
        Wait(SecondNs);
        Assert.InRange(Time(15, _ => _bdev.WriteAsync(0, _large.View())), 14 * SecondNs / 15 - 2 * Ms, SecondNs);
        Wait(SecondNs);
        Assert.InRange(Time(20, i => i % 2 == 0 ? _bdev.ReadAsync(0, _large.View()) : _bdev.WriteAsync(0, _large.View())), 19 * SecondNs / 20 - 2 * Ms, SecondNs);
    }

    [Fact]
    public void Nobody_is_overtaken_and_what_is_too_large_goes_all_the_same()
    {
        _bdev.Limit(new RateLimits(BytesPerSecond: 1 << 20));
        var order = new List<int>();
        async IoTask<bool> One(int number, bool isLarge)
        {
            await _bdev.WriteAsync(0, isLarge ? _large.View() : _block.View());
            order.Add(number);
            return true;
        }
        Run(async () =>
        {
            IoTask<bool>[] all = [One(0, true), One(1, false), One(2, true), One(3, false)];
            foreach (IoTask<bool> one in all) { await one; }
            return true;
        });
        Assert.Equal([0, 1, 2, 3], order);
        Assert.InRange(_driver.NowNs, 2 * SecondNs, 2 * SecondNs + 20 * Ms);
    }

    [Fact]
    public void An_idle_second_is_not_saved_up()
    {
        _bdev.Limit(new RateLimits(OperationsPerSecond: 1000));
        Wait(10 * SecondNs);
        Assert.InRange(Time(100, _ => _bdev.ReadAsync(0, _block.View())), 97 * Ms, 100 * Ms);
    }

    [Fact]
    public void A_guest_hears_when_more_would_only_wait_and_when_the_limit_is_lifted_all_goes_at_once()
    {
        _bdev.Limit(new RateLimits(OperationsPerSecond: 1000));
        Run(() =>
        {
            for (int i = 0; i < 40; i++) { _bdev.ReadAsync(0, _block.View()).Detach(); }
            Assert.False(_bdev.IsBehind);
            for (int i = 0; i < 40; i++) { _bdev.ReadAsync(0, _block.View()).Detach(); }
            Assert.True(_bdev.IsBehind);
            _bdev.Limit(new RateLimits());
            Assert.False(_bdev.IsBehind);
            return new IoTask<bool>(true);
        });
        Assert.Equal(0, Time(1000, _ => _bdev.ReadAsync(0, _block.View())));
    }

    [Fact]
    public async Task What_takes_time_is_timed()
    {
        using var reactor = new Reactor(Ring.Create(16), "real");
        reactor.Start();
        using var slow = new DelayBdev(_disk, reactor) { OwnsInner = false, ReadDelayNs = 3 * Ms, WriteDelayNs = 1 * Ms, UnmapDelayNs = 2 * Ms };
        var bdev = new MeteredBdev(slow, reactor) { Histogram = new LatencyHistogram() };
        await reactor.InvokeAsync(async () =>
        {
            for (int i = 0; i < 3; i++)
            {
                await bdev.ReadAsync(0, _block.View());
                await bdev.WriteAsync(0, _block.View());
                await bdev.UnmapAsync(0, 4096);
            }
            return true;
        });
        Assert.True(bdev.Reads.MinNs >= 3 * Ms && bdev.Reads.MaxNs >= bdev.Reads.MinNs && bdev.Reads.TotalNs >= 3 * bdev.Reads.MinNs);
        Assert.True(bdev.Writes.MinNs >= 1 * Ms && bdev.Unmaps.MinNs >= 2 * Ms);
        Assert.Equal(9UL, Sum(bdev.Histogram));
        bdev.ResetLatencies();
        Assert.Equal((0, 0, 0), (bdev.Reads.TotalNs, bdev.Reads.MinNs, bdev.Reads.MaxNs));
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(127, 127)]
    [InlineData(128, 128)] // range 1, steps of 1
    [InlineData(255, 255)]
    [InlineData(256, 256)] // range 2, steps of 2
    [InlineData(257, 256)]
    [InlineData(511, 383)]
    [InlineData(long.MaxValue, 57 * 128 - 1)]
    public void A_bucket_is_where_SPDKs_scripts_look_for_it(long ns, int bucket)
    {
        var histogram = new LatencyHistogram();
        histogram.Add(ns);
        Assert.Equal(58 * 128 * 8, histogram.Bytes.Length);
        Assert.Equal(1, histogram.Bytes[bucket * 8]);
        Assert.Equal(1UL, Sum(histogram));
    }

    private static ulong Sum(LatencyHistogram histogram)
    {
        ulong sum = 0;
        foreach (ulong count in System.Runtime.InteropServices.MemoryMarshal.Cast<byte, ulong>(histogram.Bytes)) { sum += count; }
        return sum;
    }

    /// <summary>From the first to the last of operations that are all asked for at once.</summary>
    private long Time(int count, Func<int, IoTask<IoResult>> operation)
    {
        long begin = _driver.NowNs;
        Run(async () =>
        {
            IoTask<IoResult>[] all = [.. Enumerable.Range(0, count).Select(operation)];
            foreach (IoTask<IoResult> one in all) { Assert.False((await one).IsError); }
            return true;
        });
        return _driver.NowNs - begin;
    }

    private void Wait(long ns) => Run(() => _reactor.DelayAsync(ns));

    private T Run<T>(Func<IoTask<T>> work) => _reactor.RunUntilComplete(work);
}
