namespace VhostFs.VhostUser;

/// <summary>When the driver of one ring may be called: at once, or up to a delay after the last call, for all that has ended until then.</summary>
/// <remarks>
/// As SPDK's vhost target reckons (vhost_controller_set_coalescing): the delay is the base times (rate - threshold) / threshold, the rate that of the last 10 ms; but never more than the base,
/// and none as soon as the rate is no longer above the threshold. Nothing here runs by itself: rates are reckoned when a call is considered, and a pause makes them low.
/// </remarks>
internal sealed class CallPacer
{
    /// <summary>SPDK_VHOST_STATS_CHECK_INTERVAL_MS.</summary>
    public const long WindowNs = 10_000_000;

    private const long NsPerSecond = 1_000_000_000;

    private long _windowStartNs;
    private long _completed;
    private long _delayNs;
    private long _nextCallNs;

    /// <summary>A request has ended.</summary>
    public void Completed() => _completed++;

    /// <summary>How long to wait with a call that is due; 0: call now.</summary>
    public long WaitNs(CallCoalescing coalescing, long nowNs)
    {
        if (coalescing.DelayBaseNs == 0)
        {
            _completed = _delayNs = 0;
            return 0;
        }
        long elapsedNs = nowNs - _windowStartNs;
        if (elapsedNs >= WindowNs)
        {
            _delayNs = DelayNs(coalescing, (double)_completed * NsPerSecond / elapsedNs);
            _completed = 0;
            _windowStartNs = nowNs;
        }
        return _delayNs == 0 ? 0 : Math.Max(_nextCallNs - nowNs, 0);
    }

    public void Called(long nowNs) => _nextCallNs = nowNs + _delayNs;

    private static long DelayNs(CallCoalescing coalescing, double rate)
    {
        double excess = (rate - coalescing.IopsThreshold) / coalescing.IopsThreshold;
        return (long)(coalescing.DelayBaseNs * Math.Clamp(excess, 0, 1));
    }
}
