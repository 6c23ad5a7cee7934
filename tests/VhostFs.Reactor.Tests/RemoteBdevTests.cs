using System.Diagnostics;
using VhostFs.Bdev;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

/// <summary>Messages between reactors, and a bdev that is used from another one.</summary>
public sealed class RemoteBdevTests : IDisposable
{
    private readonly Reactor _home = new(Ring.Create(64), "home");
    private readonly Reactor _away = new(Ring.Create(64), "away");
    private readonly NativeBuffer _buffer = new(1 << 20, zeroed: true);

    public RemoteBdevTests()
    {
        _home.Start();
        _away.Start();
    }

    public void Dispose()
    {
        _home.Dispose();
        _away.Dispose();
        _buffer.Dispose();
    }

    [Fact]
    public async Task Messages_of_many_threads_arrive_in_the_order_of_each()
    {
        var received = new List<(int Sender, int Number)>();
        const int perSender = 20_000, senders = 3;
        var done = new TaskCompletionSource();
        await Task.WhenAll(Enumerable.Range(0, senders).Select(sender => Task.Run(() =>
        {
            for (int i = 0; i < perSender; i++)
            {
                int number = i;
                _home.Send(new Message(() =>
                {
                    received.Add((sender, number));
                    if (received.Count == senders * perSender) { done.SetResult(); }
                }));
            }
        })));
        await done.Task.WaitAsync(TimeSpan.FromSeconds(60));
        foreach (IGrouping<int, (int Sender, int Number)> of in received.GroupBy(r => r.Sender)) { Assert.Equal(Enumerable.Range(0, perSender), of.Select(r => r.Number)); }
    }

    [Fact]
    public void A_message_that_fails_loses_no_other()
    {
        using var reactor = new Reactor(new SimulatedDriver(), "test");
        int received = 0;
        reactor.Send(new Message(() => received++));
        reactor.Send(new Message(() => throw new InvalidOperationException()));
        reactor.Send(new Message(() => reactor.Send(new Message(() => received += 100))));
        Assert.Throws<InvalidOperationException>(() => reactor.RunOnce(wait: true));
        Assert.Equal(1, received);
        while (reactor.RunOnce(wait: false)) { }
        Assert.Equal(101, received);
    }

    [Fact]
    public async Task A_sleeping_reactor_is_woken_each_time()
    {
        for (int i = 0; i < 300; i++)
        {
            if (i % 10 == 0) { await Task.Delay(1); }
            var received = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _away.Send(new Message(received.SetResult));
            await received.Task.WaitAsync(TimeSpan.FromSeconds(30));
        }
    }

    [Fact]
    public async Task Requests_run_over_there_and_end_here()
    {
        var threads = new HashSet<string>();
        using var disk = new MallocBdev("disk", 8 << 20, 512);
        using var watched = new DelayBdev(disk, _away) { Jitter = _ => { threads.Add(Thread.CurrentThread.Name!); return Random.Shared.Next(50_000); } };
        using var remote = new RemoteBdev(watched, _home, _away);
        Assert.Equal((disk.SizeBytes, 512, true, true, false), (remote.SizeBytes, remote.BlockSize, remote.SupportsUnmap, remote.UnmapReadsZero, remote.IsReadOnly));
        await _home.InvokeAsync(async () =>
        {
            using var model = new BdevModel(remote, _home, seed: 7);
            await model.RunAsync(16, 200);
            Assert.Equal(0, model.Errors);
            Assert.Equal("home", Thread.CurrentThread.Name);
            await model.CompareAllAsync();
            return true;
        });
        Assert.Equal(["away"], threads);
    }

    [Fact]
    public async Task Errors_come_home_and_so_does_a_bug()
    {
        using var error = new ErrorBdev(new MallocBdev("disk", 1 << 20));
        error.Inject(new BdevFault(BdevOperations.All, Errno.ENOSPC, Count: 5));
        using var remote = new RemoteBdev(error, _home, _away);
        using var broken = new RemoteBdev(new DelayBdev(new MallocBdev("disk", 1 << 20), _away) { Jitter = _ => throw new InvalidOperationException("a bug") }, _home, _away);
        await _home.InvokeAsync(async () =>
        {
            using var list = new IoVecList();
            list.Add(_buffer.Slice(0, 4096));
            Assert.Equal(Errno.ENOSPC, (await remote.ReadAsync(0, list.View())).Errno);
            Assert.Equal(Errno.ENOSPC, (await remote.WriteAsync(0, list.View())).Errno);
            Assert.Equal(Errno.ENOSPC, await remote.FlushAsync());
            Assert.Equal(Errno.ENOSPC, await remote.UnmapAsync(0, 4096));
            Assert.Equal(Errno.ENOSPC, await remote.WriteZeroesAsync(0, 4096));
            Assert.Equal(4096, (await remote.WriteAsync(0, list.View())).Value);
            bool isThrown = false;
            try { await broken.FlushAsync(); }
            catch (InvalidOperationException) { isThrown = true; }
            Assert.True(isThrown);
            return true;
        });
    }

    [Fact]
    public async Task A_request_there_and_back_allocates_nothing_once_everything_is_warm()
    {
        using var disk = new MallocBdev("disk", 1 << 20);
        using var remote = new RemoteBdev(disk, _home, _away);
        async IoTask<long> RoundsAsync(int count)
        {
            using var list = new IoVecList();
            list.Add(_buffer.Slice(0, 4096));
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < count; i++)
            {
                if ((await remote.WriteAsync(0, list.View())).Value != 4096 || await remote.FlushAsync() != Errno.None) { return -1; }
            }
            return GC.GetAllocatedBytesForCurrentThread() - before;
        }
        var clock = Stopwatch.StartNew();
        // How much is in flight at once, and so how much there must be to reuse, is a matter of chance: once is enough.
        (long home, long away) least = (long.MaxValue, long.MaxValue);
        for (int attempt = 0; attempt < 10 && (least.home > 1000 || least.away > 5000); attempt++)
        {
            long awayBefore = await AwayBytesAsync(), here = await _home.InvokeAsync(() => RoundsAsync(1000));
            Assert.NotEqual(-1, here);
            least = (Math.Min(least.home, here), Math.Min(least.away, await AwayBytesAsync() - awayBefore));
        }
        Assert.InRange(least.home, 0, 1000);
        Assert.InRange(least.away, 0, 5000);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(30));
    }

    private Task<long> AwayBytesAsync() => _away.InvokeAsync(() => new IoTask<long>(GC.GetAllocatedBytesForCurrentThread()));

    private sealed class Message(Action work) : ReactorMessage
    {
        protected internal override void Receive() => work();
    }
}
