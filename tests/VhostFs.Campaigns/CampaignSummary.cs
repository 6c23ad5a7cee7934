namespace VhostFs.Campaigns;

/// <summary>What ran, how much, and what it found.</summary>
public sealed record CampaignSummary(string Name, string Unit, ulong FirstSeed, long Seeds, long Cases, TimeSpan Elapsed, IReadOnlyList<Finding> Findings)
{
    public override string ToString() =>
        string.Create(System.Globalization.CultureInfo.InvariantCulture,
            $"{Name}: {Cases:n0} {Unit} of {Seeds:n0} seeds from {FirstSeed} in {Elapsed.TotalSeconds:n0} s, {Findings.Count} findings");
}
