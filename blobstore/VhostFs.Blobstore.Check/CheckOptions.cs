namespace VhostFs.Blobstore.Check;

/// <summary>How much to look at.</summary>
public sealed record CheckOptions
{
    public static CheckOptions Default { get; } = new();

    /// <summary>Read file data and compare it with its checksums.</summary>
    public bool VerifyData { get; init; } = true;

    /// <summary>The volumes are file systems: names, link counts, sizes. Off for volumes that hold something else in the same tree.</summary>
    public bool VerifyBlobfs { get; init; } = true;

    /// <summary>Read the clusters that belong to nobody: they must be zero, or something of an old owner could be seen by the next.</summary>
    public bool VerifyFreeClusters { get; init; }

    /// <summary>Findings kept in the report; the rest is only counted.</summary>
    public int MaxFindings { get; init; } = 1000;
}
