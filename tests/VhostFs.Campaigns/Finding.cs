namespace VhostFs.Campaigns;

/// <summary>What one seed of a campaign found.</summary>
public sealed record Finding(string Campaign, ulong Seed, string Message)
{
    public string ReplayCommand => $"./soak {Campaign} --seed {Seed} --seeds 1";

    public override string ToString() => $"{Campaign}, seed {Seed}: {Message}\nTo replay it: {ReplayCommand}";
}
