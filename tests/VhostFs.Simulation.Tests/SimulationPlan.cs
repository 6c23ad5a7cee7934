using VhostFs.Simulation.Tests.Disk;
using VhostFs.Simulation.Tests.World;
using VhostFs.Virtio;

namespace VhostFs.Simulation.Tests;

internal sealed record VolumePlan(string Name, bool DataChecksums, int LogBytes);

internal sealed record PoolPlan(string Name, long DataBytes, DiskSpeed Speed, IReadOnlyList<VolumePlan> Volumes)
{
    /// <summary>Log and nodes of a volume, the catalogue's included.</summary>
    private const long FixedBytes = 13 << 18;

    public long DiskBytes => DataBytes + ((1 + Volumes.Count) * FixedBytes);
}

internal sealed record GuestPlan(string Name, int Pool, int Volume, int WorkerCount, int QueueCount, VirtioFeatures Features, int ChaosOneIn, bool IsRude);

/// <summary>What a seed decides before anything runs: how large everything is, and what may go wrong.</summary>
internal sealed record SimulationPlan
{
    public required IReadOnlyList<PoolPlan> Pools { get; init; }

    public required IReadOnlyList<GuestPlan> Guests { get; init; }

    public required int LifeCount { get; init; }

    /// <summary>Operations of all workers in one life.</summary>
    public required int OperationsPerLife { get; init; }

    /// <summary>What the first pool's disk does wrong; the others are healthy, and nobody on them may notice anything.</summary>
    public required DiskFaults Faults { get; init; }

    /// <summary>Errors also while a pool is being opened.</summary>
    public required bool FaultsAtStart { get; init; }

    public required long NodeCacheBytes { get; init; }

    public required long MaxThinkNs { get; init; }

    public required int LargestFileBytes { get; init; }

    public Sabotage Sabotage { get; init; }

    public static SimulationPlan Draw(SimRandom random, Sabotage sabotage)
    {
        int poolCount = random.OneIn(4) ? 2 : 1;
        bool lies = random.OneIn(4), errors = random.OneIn(3);
        DiskFaults faults = DrawFaults(random, errors, lies);
        var pools = new List<PoolPlan>();
        for (int p = 0; p < poolCount; p++)
        {
            var volumes = new List<VolumePlan>();
            int count = random.Below(6) switch { < 3 => 1, < 5 => 2, _ => 3 };
            // Without data checksums nobody can notice that data is lost.
            for (int v = 0; v < count; v++) { volumes.Add(new VolumePlan($"v{v}", faults.HasLies || faults.FlushDropsCache > 0 || random.OneIn(4) == false, random.Pick([156, 200, 256]) * 4096)); }
            pools.Add(new PoolPlan($"p{p}", random.Pick([2, 8, 24, 24]) << 20, DrawSpeed(random), volumes));
        }
        return new SimulationPlan
        {
            Pools = pools,
            Guests = DrawGuests(random, pools),
            LifeCount = random.Between(1, 3),
            OperationsPerLife = random.Between(10, 120),
            Faults = faults,
            FaultsAtStart = errors && random.OneIn(3),
            NodeCacheBytes = random.Pick([1L << 20, 2L << 20, 16L << 20]),
            MaxThinkNs = random.Pick([1L, 100_000L, 5_000_000L, 300_000_000L]),
            LargestFileBytes = random.Pick([5000, 40_000, 160_000]),
            Sabotage = sabotage,
        };
    }

    private static List<GuestPlan> DrawGuests(SimRandom random, List<PoolPlan> pools)
    {
        var guests = new List<GuestPlan>();
        int count = Math.Max(pools.Count, random.Between(1, 3));
        for (int g = 0; g < count; g++)
        {
            int pool = g < pools.Count ? g : random.Below(pools.Count);
            VirtioFeatures features = VirtioFeatures.Version1 | VirtioFeatures.ProtocolFeatures;
            if (random.OneIn(2)) { features |= VirtioFeatures.EventIdx; }
            if (random.OneIn(2)) { features |= VirtioFeatures.IndirectDesc; }
            int chaos = random.Below(3) switch { 0 => 0, 1 => 60, _ => 15 };
            guests.Add(new GuestPlan($"g{g}", pool, random.Below(pools[pool].Volumes.Count), random.Between(1, 3), random.Between(1, 2), features, chaos, random.OneIn(3)));
        }
        return guests;
    }

    private static DiskSpeed DrawSpeed(SimRandom random) => new()
    {
        BaseNs = random.Pick([2_000L, 50_000L, 1_000_000L]),
        SlowOneIn = random.Pick([4, 8, 100]),
        SlowFactor = random.Pick([5, 20, 100]),
        FlushFactor = random.Pick([1, 20, 100]),
        StallNs = random.OneIn(4) ? 5_000_000_000 : 0,
        StallOneIn = 300,
    };

    private static DiskFaults DrawFaults(SimRandom random, bool errors, bool lies)
    {
        double Rate(bool wanted, double most) => wanted && random.OneIn(2) ? most * random.Between(1, 100) / 100 : 0;
        return new DiskFaults
        {
            ReadError = Rate(errors, 0.02),
            WriteError = Rate(errors, 0.01),
            FlushError = Rate(errors, 0.05),
            UnmapError = Rate(errors, 0.3),
            StickyError = errors && random.OneIn(2) ? 0.3 : 0,
            FlushDropsCache = errors && random.OneIn(3) ? 0.5 : 0,
            LostWrite = Rate(lies, 0.03),
            MisdirectedWrite = Rate(lies, 0.02),
            BitRot = Rate(lies, 0.05),
        };
    }
}
