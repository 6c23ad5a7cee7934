namespace VhostFs.Reactor;

/// <summary>What a reactor does when there is nothing to do.</summary>
public enum ReactorMode
{
    /// <summary>Looks on for up to 50 us while requests come so densely that it pays, else sleeps (<see cref="BusyPoll"/>).</summary>
    Adaptive,

    /// <summary>Sleeps at once: the least CPU time, and a wake-up of each side for every request that comes alone.</summary>
    Interrupt,

    /// <summary>Looks on for ever at every ring that has had a request: the least latency, for a whole core. Without such a ring it sleeps.</summary>
    Poll,
}
