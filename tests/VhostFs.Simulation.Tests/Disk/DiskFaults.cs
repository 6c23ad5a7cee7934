using VhostFs.Bdev;

namespace VhostFs.Simulation.Tests.Disk;

/// <summary>What one disk does wrong while faults are on; 0: never.</summary>
internal sealed record DiskFaults
{
    public static DiskFaults None { get; } = new();

    /// <summary>Chances of an error, per operation.</summary>
    public double ReadError { get; init; }
    public double WriteError { get; init; }
    public double FlushError { get; init; }
    public double UnmapError { get; init; }

    /// <summary>An error stays: everything that touches the same MiB fails in the same way until the disk is replaced.</summary>
    public double StickyError { get; init; }

    /// <summary>Of failed flushes: what was not durable is gone at once.</summary>
    public double FlushDropsCache { get; init; }

    /// <summary>Chances of a lie, per write: acknowledged and never done; done at another place.</summary>
    public double LostWrite { get; init; }
    public double MisdirectedWrite { get; init; }

    /// <summary>Chance, per write, that some block at rest changes.</summary>
    public double BitRot { get; init; }

    public bool HasErrors => ReadError + WriteError + FlushError + UnmapError > 0;

    public bool HasLies => LostWrite + MisdirectedWrite + BitRot > 0;

    public double ErrorOf(BdevOperations operation) => operation switch
    {
        BdevOperations.Read => ReadError,
        BdevOperations.Flush => FlushError,
        BdevOperations.Unmap => UnmapError,
        _ => WriteError,
    };
}

/// <summary>How long a disk takes.</summary>
internal sealed record DiskSpeed
{
    public static DiskSpeed Instant { get; } = new() { BaseNs = 0 };

    /// <summary>0: everything is done at once.</summary>
    public long BaseNs { get; init; } = 50_000;

    /// <summary>One in so many takes <see cref="SlowFactor"/> times as long, so that others overtake it.</summary>
    public int SlowOneIn { get; init; } = 8;
    public int SlowFactor { get; init; } = 20;

    public int FlushFactor { get; init; } = 20;

    /// <summary>Now and then everything stands still for up to this long.</summary>
    public long StallNs { get; init; }
    public int StallOneIn { get; init; }
}

/// <summary>How much of what was not durable outlives a power cut.</summary>
internal enum Survival
{
    Nothing,
    Everything,
    Random,
    Prefix,
    AllButOne,
    Torn,
}
