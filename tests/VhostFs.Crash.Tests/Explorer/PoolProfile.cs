namespace VhostFs.Crash.Tests.Explorer;

/// <summary>What a client of the pool workload may do next.</summary>
public enum PoolOperation
{
    Items,
    LargeItems,
    SmallWrite,
    BlockWrite,
    LargeWrite,
    Truncate,
    Drop,
    Allocate,
    Share,
    Read,
    Sync,
    Pause,

    /// <summary>Does nothing until the engine has begun to unmap, or long enough that it should have.</summary>
    RestUntilUnmap,
    ReopenVolume,

    /// <summary>Deletes the client's volume and makes it anew.</summary>
    ReplaceVolume,

    /// <summary>The pool takes the space that its disk has.</summary>
    Grow,
}

/// <summary>One way to live on a pool: each leads the engine somewhere that the others do not reach.</summary>
public sealed record PoolProfile(string Name, params (int Weight, PoolOperation Operation)[] Operations)
{
    public long DiskBytes { get; init; } = 12 << 20;

    /// <summary>The disk was so large when the pool was made; 0: as large as it is.</summary>
    public long FormattedBytes { get; init; }

    public bool DataChecksums { get; init; } = true;

    public int Clients { get; init; } = 4;

    /// <summary>Each client has a volume to itself; else they share one.</summary>
    public bool OwnVolumes { get; init; }

    public int Phases { get; init; } = 2;

    public int OperationsPerClient { get; init; } = 24;

    public long NodeCacheBytes { get; init; } = 64 << 20;

    public Slowness Slowness { get; init; } = new();

    public bool UnmapReadsZero { get; init; } = true;

    /// <summary>The disk is a file in memory (tmpfs): nothing of it is under way for long, it is written in place, and it ends with the host, so that only the process can die.</summary>
    public bool IsFileInMemory { get; init; }

    /// <summary>Keys that one client puts, and items that are there from the beginning.</summary>
    public int ItemKeys { get; init; } = 60;

    public int PrefilledItems { get; init; }

    public static IReadOnlyList<PoolProfile> All { get; } =
    [
        Mixed("mixed"),
        Mixed("mixed without checksums") with { DataChecksums = false, Slowness = new(Reads: 20) },

        // Much is logged while a flush is under way.
        Mixed("slow flushes", syncs: 3) with { Phases = 1, OperationsPerClient = 70, Slowness = new(Writes: 3, Flushes: 100, OneIn: 2) },

        // The log goes round, and runs full while a checkpoint is under way.
        new("full log", (20, PoolOperation.LargeItems), (70, PoolOperation.BlockWrite), (3, PoolOperation.Sync), (7, PoolOperation.Drop))
        { Phases = 1, OperationsPerClient = 70, Slowness = new(Writes: 4, Flushes: 1500) },

        // Nothing is free that was not freed a moment ago, and somebody may still be reading it.
        new("full disk",
            (8, PoolOperation.Items), (10, PoolOperation.SmallWrite), (25, PoolOperation.LargeWrite), (8, PoolOperation.BlockWrite), (5, PoolOperation.Truncate), (12, PoolOperation.Drop),
            (4, PoolOperation.Allocate), (18, PoolOperation.Read), (10, PoolOperation.Sync))
        { DiskBytes = 8 << 20, Phases = 1, OperationsPerClient = 40, Slowness = new(Writes: 3, Flushes: 3, Reads: 150, OneIn: 3), DataChecksums = false },

        // A checkpoint's writes are under way for long, while what they write to is freed and wanted again.
        new("slow writes", (45, PoolOperation.BlockWrite), (20, PoolOperation.LargeWrite), (18, PoolOperation.Drop), (17, PoolOperation.Sync))
        { DiskBytes = 8 << 20, Phases = 1, OperationsPerClient = 50, Slowness = new(Writes: 60, Flushes: 3, OneIn: 5) },

        // Space is given back to the device, and wanted at that very moment.
        new("unmaps", (30, PoolOperation.LargeWrite), (10, PoolOperation.BlockWrite), (20, PoolOperation.Drop), (10, PoolOperation.Truncate), (5, PoolOperation.Sync), (25, PoolOperation.RestUntilUnmap))
        { DiskBytes = 9 << 20, Phases = 1, OperationsPerClient = 24, Slowness = new(Unmaps: 60), UnmapReadsZero = false },

        // Nodes are evicted, loaded again, cloned, joined and split.
        new("small cache",
            (55, PoolOperation.LargeItems), (10, PoolOperation.Items), (10, PoolOperation.SmallWrite), (5, PoolOperation.Drop), (10, PoolOperation.Sync), (5, PoolOperation.Pause), (5, PoolOperation.ReopenVolume))
        { DiskBytes = 20 << 20, Clients = 3, Phases = 2, NodeCacheBytes = 256 << 10, ItemKeys = 160, PrefilledItems = 300, Slowness = new(Flushes: 300, OneIn: 4) },

        // Blocks with several owners are overwritten, cut and dropped by each of them, while checkpoints write images and reads are under way.
        new("shared blocks",
            (30, PoolOperation.Share), (8, PoolOperation.BlockWrite), (20, PoolOperation.SmallWrite), (6, PoolOperation.LargeWrite), (10, PoolOperation.Truncate), (8, PoolOperation.Drop),
            (6, PoolOperation.Read), (9, PoolOperation.Sync), (3, PoolOperation.Allocate))
        { DiskBytes = 8 << 20, OperationsPerClient = 40, Slowness = new(Writes: 10, Flushes: 20, Reads: 30, OneIn: 4) },

        // Images go in place as soon as the log has them, while checkpoints hold others, and blocks are freed and overwritten in the same turn.
        new("file in memory",
            (10, PoolOperation.Items), (35, PoolOperation.SmallWrite), (25, PoolOperation.BlockWrite), (8, PoolOperation.LargeWrite), (5, PoolOperation.Truncate), (5, PoolOperation.Drop),
            (3, PoolOperation.Allocate), (3, PoolOperation.Share), (3, PoolOperation.Sync), (3, PoolOperation.Pause))
        { IsFileInMemory = true, OperationsPerClient = 60 },

        // Volumes come and go beside others that work.
        new("volumes",
            (20, PoolOperation.Items), (20, PoolOperation.SmallWrite), (20, PoolOperation.LargeWrite), (8, PoolOperation.Drop), (8, PoolOperation.Sync), (4, PoolOperation.Pause),
            (8, PoolOperation.ReopenVolume), (12, PoolOperation.ReplaceVolume))
        { DiskBytes = 18 << 20, Clients = 3, OwnVolumes = true, OperationsPerClient = 20 },

        // A full pool on a disk that has grown takes the new space beside what is under way, and it is used at once.
        new("growth",
            (10, PoolOperation.Items), (15, PoolOperation.SmallWrite), (35, PoolOperation.LargeWrite), (8, PoolOperation.BlockWrite), (7, PoolOperation.Share), (7, PoolOperation.Drop),
            (10, PoolOperation.Sync), (8, PoolOperation.Grow))
        { FormattedBytes = 8 << 20, DiskBytes = 24 << 20, Slowness = new(Writes: 10, Flushes: 40, OneIn: 3) },
    ];

    public static PoolProfile Named(string name) => All.Single(profile => profile.Name == name);

    public override string ToString() => Name;

    private static PoolProfile Mixed(string name, int syncs = 10) => new(name,
        (25, PoolOperation.Items), (15, PoolOperation.SmallWrite), (20, PoolOperation.BlockWrite), (8, PoolOperation.LargeWrite), (7, PoolOperation.Truncate), (4, PoolOperation.Drop),
        (4, PoolOperation.Allocate), (6, PoolOperation.Share), (3, PoolOperation.Read), (syncs, PoolOperation.Sync), (4, PoolOperation.Pause));
}
