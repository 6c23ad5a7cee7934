namespace VhostFs.Reactor;

/// <summary>Decides how long a reactor keeps looking before it waits: adaptive polling.</summary>
/// <remarks>
/// Waking a sleeping thread costs more than a request. So after work the reactor looks on for at most <see cref="MaxPollNs"/>, but only while that pays:
/// it begins when work comes so soon after the last that looking would have caught it, and ends after a few looks in vain, for a time that doubles each
/// time, or at once when the reactor falls idle. An idle device costs nothing, and sparse requests cost no more than without this.
/// </remarks>
internal sealed class BusyPoll
{
    /// <summary>Longest look.</summary>
    public const long MaxPollNs = 50_000;

    /// <summary>A wait that ends within this would have been shorter by two wake-ups, ours and the other side's: worth a try.</summary>
    private const long SoonNs = 2 * MaxPollNs;

    private const int MaxMisses = 3;
    private const int MaxPause = 1024;
    private const int CatchesToForgive = 64;
    private readonly List<IReactorPoller> _pollers = [];
    private long _pollNs;
    private int _misses;
    private int _catches;
    private int _pause;
    private int _nextPause = 16;

    public bool HasPollers => _pollers.Count > 0;

    /// <summary>Lists a poller for the next look; false when looking does not pay at present.</summary>
    /// <param name="always">It need not pay.</param>
    public bool TryAdd(IReactorPoller poller, bool always)
    {
        if (_pollNs == 0 && !always) { return false; }
        if (!_pollers.Contains(poller)) { _pollers.Add(poller); }
        return true;
    }

    /// <summary>Of one that has ended nothing is looked at any more.</summary>
    public void Remove(IReactorPoller poller) => _pollers.Remove(poller);

    /// <summary>Looks until somebody has work (true: it has been done), something else wants the reactor (true), or the time is over (false: all pollers sleep). In mode Poll nobody sleeps, and
    /// the reactor has a turn when the time is over (true): only a call of the kernel finds what a flag that stood already cannot say.</summary>
    public bool Look(IReactorDriver driver, Func<bool> isWanted, long deadlineNs, ReactorMode mode)
    {
        bool isForEver = mode == ReactorMode.Poll;
        long limit = mode == ReactorMode.Interrupt ? 0 : Math.Min(driver.NowNs + (isForEver ? MaxPollNs : _pollNs), deadlineNs);
        do
        {
            for (int i = 0; i < _pollers.Count; i++)
            {
                if (!_pollers[i].HasWork) { continue; }
                Caught();
                _pollers[i].Run();
                return true;
            }
            if (isWanted()) { return true; }
            Thread.SpinWait(4);
        }
        while (driver.NowNs < limit);
        if (isForEver) { return true; }
        Missed();
        Sleep();
        return false;
    }

    /// <summary>The reactor was idle this long, looking included, before something came.</summary>
    public void Waited(long idleNs)
    {
        if (idleNs > SoonNs)
        {
            _pollNs = 0;
            return;
        }
        if (_pollNs > 0) { return; }
        if (_pause > 0) { _pause--; }
        else
        {
            _pollNs = MaxPollNs;
            _misses = 0;
        }
    }

    /// <summary>Everybody asks to be woken again.</summary>
    public void Sleep()
    {
        for (int i = _pollers.Count - 1; i >= 0; i--)
        {
            IReactorPoller poller = _pollers[i];
            _pollers.RemoveAt(i);
            poller.Sleep();
        }
    }

    private void Caught()
    {
        _misses = 0;
        if (++_catches < CatchesToForgive) { return; }
        _catches = 0;
        _nextPause = 16;
    }

    private void Missed()
    {
        _catches = 0;
        if (++_misses < MaxMisses) { return; }
        _pollNs = 0;
        _pause = _nextPause;
        _nextPause = Math.Min(2 * _nextPause, MaxPause);
    }
}
