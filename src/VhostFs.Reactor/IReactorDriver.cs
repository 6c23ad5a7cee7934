namespace VhostFs.Reactor;

/// <summary>The seam under a reactor: io_uring in production (<see cref="Ring"/>), a virtual clock in simulation (<see cref="SimulatedDriver"/>).</summary>
public interface IReactorDriver : IDisposable
{
    /// <summary>Monotonic time in nanoseconds.</summary>
    long NowNs { get; }

    /// <summary>Submits what is queued, waits until an event or the deadline (<see cref="long.MaxValue"/>: none; not in the future: do not wait)
    /// and runs completions, a bounded number of them. Returns how many.</summary>
    int Poll(long deadlineNs);

    /// <summary>A <see cref="Poll"/> would find something without waiting. No system call; always true where looking for a while makes no sense.</summary>
    bool IsReady { get; }

    /// <summary>Ends a <see cref="Poll"/> in progress, or the next one. From any thread.</summary>
    void Wake();
}
