using Xunit;

namespace VhostFs.Reactor.Tests;

public sealed class BusyPollTests
{
    private readonly Clock _clock = new();
    private readonly BusyPoll _poll = new();
    private readonly Source _source = new();

    [Fact]
    public void Nothing_is_looked_at_before_work_has_come_soon_after_work()
    {
        Assert.False(_poll.TryAdd(_source, always: false));
        _poll.Waited(BusyPoll.MaxPollNs / 2);
        Assert.True(_poll.TryAdd(_source, always: false));
    }

    [Fact]
    public void Work_that_comes_while_looking_is_done_and_the_source_stays_listed()
    {
        Begin();
        _source.WorkAtLook = 3;
        Assert.True(_poll.Look(_clock, () => false, long.MaxValue, ReactorMode.Adaptive));
        Assert.Equal(1, _source.Runs);
        Assert.True(_poll.HasPollers);
        Assert.Equal(0, _source.Sleeps);
    }

    [Fact]
    public void A_look_ends_after_its_time_and_sends_the_sources_to_sleep()
    {
        Begin();
        long before = _clock.Now;
        Assert.False(_poll.Look(_clock, () => false, long.MaxValue, ReactorMode.Adaptive));
        Assert.InRange(_clock.Now - before, BusyPoll.MaxPollNs, BusyPoll.MaxPollNs + 2000);
        Assert.Equal(1, _source.Sleeps);
        Assert.False(_poll.HasPollers);
    }

    [Fact]
    public void A_look_ends_when_the_reactor_is_wanted_and_at_the_next_timer()
    {
        Begin();
        Assert.True(_poll.Look(_clock, () => true, long.MaxValue, ReactorMode.Adaptive));
        long before = _clock.Now;
        Assert.False(_poll.Look(_clock, () => false, before + 5000, ReactorMode.Adaptive));
        Assert.InRange(_clock.Now - before, 5000, 7000);
    }

    /// <summary>What the kernel has for the reactor may show only in a call: that is made now and then, however long nothing is seen.</summary>
    [Fact]
    public void Polling_does_not_have_to_pay_and_lets_the_reactor_have_a_turn_now_and_then_with_nobody_asleep()
    {
        Assert.True(_poll.TryAdd(_source, always: true));
        long before = _clock.Now;
        Assert.True(_poll.Look(_clock, () => false, long.MaxValue, ReactorMode.Poll));
        Assert.InRange(_clock.Now - before, BusyPoll.MaxPollNs, BusyPoll.MaxPollNs + 2000);
        before = _clock.Now;
        Assert.True(_poll.Look(_clock, () => false, before + 5000, ReactorMode.Poll)); // a timer
        Assert.InRange(_clock.Now - before, 5000, 7000);
        Assert.True(_poll.HasPollers);
        Assert.Equal(0, _source.Sleeps);
        before = _clock.Now;
        Assert.True(_poll.Look(_clock, () => true, long.MaxValue, ReactorMode.Poll));
        Assert.InRange(_clock.Now - before, 0, 2000);
    }

    [Fact]
    public void Who_has_ended_is_not_looked_at_any_more()
    {
        Assert.True(_poll.TryAdd(_source, always: true));
        _poll.Remove(_source);
        Assert.False(_poll.HasPollers);
    }

    [Theory]
    [InlineData(ReactorMode.Interrupt)]
    [InlineData(ReactorMode.Adaptive)]
    public void Who_was_polled_sleeps_after_one_look_when_the_mode_has_changed(ReactorMode mode)
    {
        Assert.True(_poll.TryAdd(_source, always: true));
        long before = _clock.Now;
        Assert.False(_poll.Look(_clock, () => false, long.MaxValue, mode));
        Assert.InRange(_clock.Now - before, 0, 2000);
        Assert.Equal(1, _source.Sleeps);
        Assert.False(_poll.HasPollers);
    }

    [Fact]
    public void Looks_in_vain_end_the_looking_for_a_while_and_longer_each_time()
    {
        Assert.InRange(RoundsUntilLookingAgain(), 1, 3);
        MissUntilOff();
        int first = RoundsUntilLookingAgain();
        MissUntilOff();
        int second = RoundsUntilLookingAgain();
        Assert.InRange(second, first + 1, 4 * first);
    }

    [Fact]
    public void An_idle_reactor_stops_looking_at_once()
    {
        Begin();
        _poll.Waited(10 * BusyPoll.MaxPollNs);
        Assert.False(_poll.TryAdd(new Source(), always: false));
    }

    private void Begin()
    {
        _poll.Waited(BusyPoll.MaxPollNs / 2);
        Assert.True(_poll.TryAdd(_source, always: false));
    }

    private int RoundsUntilLookingAgain()
    {
        for (int round = 1; round < 5000; round++)
        {
            _poll.Waited(BusyPoll.MaxPollNs);
            if (_poll.TryAdd(_source, always: false)) { return round; }
        }
        throw new InvalidOperationException("it never looks again");
    }

    private void MissUntilOff()
    {
        for (int miss = 0; _poll.TryAdd(_source, always: false); miss++)
        {
            Assert.True(miss < 10);
            _poll.Look(_clock, () => false, long.MaxValue, ReactorMode.Adaptive);
        }
    }

    private sealed class Source : IReactorPoller
    {
        private int _looks;

        public int WorkAtLook { get; set; } = int.MaxValue;

        public int Runs { get; private set; }

        public int Sleeps { get; private set; }

        public bool HasWork => ++_looks == WorkAtLook;

        public void Run() => Runs++;

        public void Sleep() => Sleeps++;
    }

    /// <summary>A microsecond passes with each look at the clock.</summary>
    private sealed class Clock : IReactorDriver
    {
        public long Now { get; private set; }

        public long NowNs => Now += 1000;

        public bool IsReady => false;

        public int Poll(long deadlineNs) => 0;

        public void Wake()
        {
        }

        public void Dispose()
        {
        }
    }
}
