namespace VhostFs.Reactor;

/// <summary>A virtual clock and a list of events: time passes only when the reactor has nothing else to do.</summary>
/// <remarks>Events run in the order of their time, and of their scheduling where times are equal: the same program runs the same way.</remarks>
public sealed class SimulatedDriver : IReactorDriver
{
    private readonly PriorityQueue<IoContinuation, (long AtNs, long Sequence)> _events = new();
    private long _sequence;
    private volatile bool _woken;

    public SimulatedDriver(long startNs = 0) => NowNs = startNs;

    public long NowNs { get; private set; }

    /// <summary>Events that have not run yet.</summary>
    public int EventCount => _events.Count;

    /// <summary>Runs <paramref name="work"/> when the clock reaches now + <paramref name="delayNs"/>.</summary>
    public void Schedule(long delayNs, IoContinuation work)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(delayNs);
        _events.Enqueue(work, (NowNs + delayNs, _sequence++));
    }

    public void Schedule(long delayNs, Action work) => Schedule(delayNs, new ActionContinuation(work));

    /// <summary>Moves the clock without running anything.</summary>
    public void Advance(long byNs)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(byNs);
        NowNs += byNs;
    }

    /// <summary>Time does not pass by looking.</summary>
    public bool IsReady => true;

    public int Poll(long deadlineNs)
    {
        bool wait = deadlineNs > NowNs && !_woken;
        _woken = false;
        if (wait)
        {
            long next = deadlineNs;
            if (_events.TryPeek(out _, out (long AtNs, long Sequence) first)) { next = Math.Min(next, first.AtNs); }
            if (next == long.MaxValue) { throw new InvalidOperationException("deadlock: the reactor waits, and nothing is scheduled that could end the wait"); }
            NowNs = Math.Max(NowNs, next);
        }
        int count = 0;
        long limit = _sequence; // what an event schedules runs in a later turn
        while (_events.TryPeek(out IoContinuation? work, out (long AtNs, long Sequence) key) && key.AtNs <= NowNs && key.Sequence < limit)
        {
            _events.Dequeue();
            count++;
            work.Continue();
        }
        return count;
    }

    public void Wake() => _woken = true;

    public void Dispose()
    {
    }

    private sealed class ActionContinuation(Action work) : IoContinuation
    {
        protected internal override void Continue() => work();
    }
}
