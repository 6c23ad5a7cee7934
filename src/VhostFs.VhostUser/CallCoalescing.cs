namespace VhostFs.VhostUser;

/// <summary>How calls (interrupts) of a device are held back while requests come densely; read whenever a call is considered. On the device's reactor.</summary>
public sealed class CallCoalescing
{
    /// <summary>The longest that a call is held back; 0: it never is.</summary>
    public long DelayBaseNs { get; set; }

    /// <summary>Requests of one ring per second up to which nothing is held back. Not 0.</summary>
    public long IopsThreshold { get; set; } = 60_000;
}
