using VhostFs.Simulation.Tests.Disk;

namespace VhostFs.Simulation.Tests;

/// <summary>One disk over all lives, and what may be blamed on it.</summary>
internal sealed class PoolState(PoolPlan plan, SimDisk disk)
{
    public PoolPlan Plan => plan;

    public SimDisk Disk => disk;

    /// <summary>As the present process sees the disk.</summary>
    public SimBdev? Bdev { get; set; }

    /// <summary>Something was done to the disk, so that EIO is an honest answer.</summary>
    public bool MayFail => disk.LieCount > 0 || Bdev?.ErrorCount > 0;

    /// <summary>What the ends of the lives may have taken since the workers last looked.</summary>
    public LifeEnd End { get; private set; } = LifeEnd.Clean;

    public void Ended(LifeEnd how) => End = how < End ? how : End;

    /// <summary>The workers look: what was taken is their business now.</summary>
    public LifeEnd TakeEnd()
    {
        LifeEnd end = End;
        End = LifeEnd.Clean;
        return end;
    }

    /// <summary>It does not open any more, after lies: nothing is expected of it.</summary>
    public bool IsLost { get; set; }
}
