using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

public sealed class ReactorTests : IDisposable
{
    private readonly SimulatedDriver _driver = new(startNs: 1000);
    private readonly Reactor _reactor;
    private readonly List<string> _log = [];

    public ReactorTests() => _reactor = new Reactor(_driver, "test");

    public void Dispose() => _reactor.Dispose();

    [Fact]
    public void Timers_complete_in_the_order_of_their_deadlines_and_then_of_their_creation()
    {
        foreach (int delay in (int[])[50, 10, 30, 10, 40, 0, 30]) { WaitAsync(delay, _log.Count + _started++).Detach(); }
        while (_log.Count < 7) { _reactor.RunOnce(wait: true); }
        Assert.Equal(["0/5", "10/1", "10/3", "30/2", "30/6", "40/4", "50/0"], _log);
        Assert.Equal(1050, _reactor.NowNs);
    }

    [Fact]
    public void Many_timers_keep_their_order()
    {
        var random = new Random(1);
        var due = new List<long>();
        for (int i = 0; i < 5000; i++) { ObserveAsync(random.Next(1, 1000), due).Detach(); }
        while (due.Count < 5000) { _reactor.RunOnce(wait: true); }
        Assert.Equal(due.Order(), due);
    }

    [Fact]
    public void A_stopped_reactor_cancels_its_timers()
    {
        IoTask<Errno> delay = _reactor.DelayAsync(1000);
        _reactor.Stop();
        _reactor.Run();
        Assert.Equal(Errno.ECANCELED, delay.GetAwaiter().GetResult());
    }

    [Fact]
    public void A_turn_runs_completions_then_posted_work_then_the_mailbox_then_turn_end_work()
    {
        _reactor.AtTurnEnd(new Step(() =>
        {
            _log.Add("turn end");
            _reactor.AtTurnEnd(new Step(() => _log.Add("turn end again")));
        }));
        _reactor.PostFromAnyThread(() => _log.Add("mailbox"));
        _reactor.Post(new Step(() =>
        {
            _log.Add("posted");
            _reactor.Post(new Step(() => _log.Add("next turn")));
        }));
        _driver.Schedule(0, () => _log.Add("completion"));
        Assert.True(_reactor.RunOnce(wait: true));
        Assert.Equal(["completion", "posted", "mailbox", "turn end", "turn end again"], _log);
        Assert.True(_reactor.RunOnce(wait: true));
        Assert.Equal("next turn", _log[^1]);
        Assert.False(_reactor.RunOnce(wait: false));
    }

    [Fact]
    public void Waiting_for_nothing_is_reported_as_a_deadlock()
    {
        var never = new IoCompletion<int>();
        Assert.Throws<InvalidOperationException>(() => _reactor.RunUntilComplete(never.Task));
    }

    [Fact]
    public void The_current_reactor_is_known_only_while_it_runs()
    {
        Assert.False(Reactor.IsOnReactor);
        Reactor? seen = null;
        _reactor.Post(new Step(() => seen = Reactor.Current));
        _reactor.RunOnce(wait: false);
        Assert.Same(_reactor, seen);
        Assert.Throws<InvalidOperationException>(() => Reactor.Current);
    }

    [Fact]
    public void A_full_mailbox_refuses_without_waiting_where_waiting_would_be_for_ever()
    {
        int ran = 0;
        for (int i = 0; i < 4096; i++) { Assert.True(_reactor.TryPostFromAnyThread(() => ran++)); }
        Assert.False(_reactor.TryPostFromAnyThread(() => ran++));
        while (_reactor.RunOnce(wait: false)) { }
        Assert.Equal(4096, ran);
    }

    [Fact]
    public void Timers_and_posts_allocate_nothing_in_steady_state()
    {
        var step = new Step(() => { });
        void Round()
        {
            IoTask<Errno> delay = _reactor.DelayAsync(5);
            _reactor.Post(step);
            _reactor.AtTurnEnd(step);
            while (!delay.IsCompleted) { _reactor.RunOnce(wait: true); }
            delay.GetAwaiter().GetResult();
        }
        for (int i = 0; i < 1000; i++) { Round(); }
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++) { Round(); }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public async Task Work_from_eight_threads_arrives_complete_and_in_order_per_thread()
    {
        const int PerThread = 20_000; // far beyond the mailbox: posters have to wait
        using var reactor = new Reactor(Ring.Create(16), "mailbox");
        reactor.Start();
        var last = new int[8];
        bool ordered = true;
        Task[] posters = Enumerable.Range(0, 8).Select(thread => Task.Factory.StartNew(() =>
        {
            for (int i = 1; i <= PerThread; i++)
            {
                int number = i;
                reactor.PostFromAnyThread(() =>
                {
                    ordered &= last[thread] == number - 1;
                    last[thread] = number;
                });
            }
        }, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)).ToArray();
        await Task.WhenAll(posters);
        Assert.Equal(7, await reactor.InvokeAsync(() => new IoTask<int>(7)));
        Assert.True(ordered);
        Assert.All(last, count => Assert.Equal(PerThread, count));
    }

    [Fact]
    public async Task An_invocation_returns_results_and_exceptions_and_is_cancelled_by_a_stop()
    {
        var reactor = new Reactor(Ring.Create(16), "invoke");
        reactor.Start();
        Assert.Equal(Errno.None, await reactor.InvokeAsync(() => reactor.DelayAsync(1000)));
        await Assert.ThrowsAsync<InvalidTimeZoneException>(() => reactor.InvokeAsync<int>(() => throw new InvalidTimeZoneException()));
        Task<int> never = reactor.InvokeAsync(() => new IoCompletion<int>().Task);
        Assert.Equal(0, await reactor.InvokeAsync(() => new IoTask<int>(0)));
        reactor.Dispose();
        await Assert.ThrowsAsync<TaskCanceledException>(() => never);
        await Assert.ThrowsAsync<InvalidOperationException>(() => reactor.InvokeAsync(() => new IoTask<int>(0)));
    }

    [Fact]
    public async Task An_exception_that_escapes_goes_to_the_handler_and_the_loop_goes_on()
    {
        using var reactor = new Reactor(Ring.Create(16), "escape");
        var seen = new TaskCompletionSource<Exception>();
        reactor.UnhandledException += e => seen.TrySetResult(e);
        reactor.Start();
        reactor.PostFromAnyThread(() => throw new InvalidTimeZoneException());
        Assert.IsType<InvalidTimeZoneException>(await seen.Task);
        Assert.Equal(1, await reactor.InvokeAsync(() => new IoTask<int>(1)));
    }

    private int _started;

    private async IoTask<bool> WaitAsync(int delay, int index)
    {
        await _reactor.DelayAsync(delay);
        _log.Add($"{delay}/{index}");
        return true;
    }

    private async IoTask<bool> ObserveAsync(int delay, List<long> due)
    {
        await _reactor.DelayAsync(delay);
        Assert.Equal(1000 + delay, _reactor.NowNs);
        due.Add(_reactor.NowNs);
        return true;
    }

    private sealed class Step(Action work) : IoContinuation
    {
        protected internal override void Continue() => work();
    }
}
