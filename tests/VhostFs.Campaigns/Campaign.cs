namespace VhostFs.Campaigns;

/// <summary>A way of looking for mistakes that can go on for ever: a seed is one run, a run tries many cases.</summary>
/// <remarks>
/// A test runs a campaign up to its <see cref="Floor"/>; <c>./soak</c> runs it for hours. Invariants: the same seed makes the same run; runs share
/// no state, so several may go on at once (up to <see cref="MaxThreads"/>).
/// </remarks>
/// <param name="name">As it is typed: lower case, hyphens.</param>
/// <param name="unit">What is counted, in the plural: "crash states".</param>
/// <param name="floor">Cases that a test run must reach: docs/testing.md.</param>
/// <param name="what">One line for people: what is tried, and what must hold.</param>
public abstract class Campaign(string name, string unit, long floor, string what)
{
    public string Name { get; } = name;
    public string Unit { get; } = unit;
    public long Floor { get; } = floor;
    public string What { get; } = what;

    /// <summary>1 for a campaign that needs something that there is only one of.</summary>
    public virtual int MaxThreads => int.MaxValue;

    /// <summary>A run that takes longer hangs, and that is a finding. Generous: the machine may be busy.</summary>
    public virtual TimeSpan Patience => TimeSpan.FromMinutes(3);

    /// <summary>One run; the number of cases that it tried.</summary>
    /// <exception cref="FindingException">Something is wrong; any other exception is a finding as well.</exception>
    public abstract long Run(ulong seed);
}
