using VhostFs.Bdev;
using VhostFs.Fuse;
using VhostFs.FuseDev;
using VhostFs.Reactor;

namespace VhostFs.Config;

/// <summary>What <c>serve</c> or <c>mount</c> shall do, from a file or from the command line.</summary>
internal sealed record ServeConfig
{
    public LogLevel? LogLevel { get; init; }

    public int Reactors { get; init; } = 1;

    /// <summary>How they wait.</summary>
    public ReactorMode ReactorMode { get; init; }

    /// <summary>In an order in which each comes after its base.</summary>
    public IReadOnlyList<BdevConfig> Bdevs { get; init; } = [];

    public IReadOnlyList<PoolConfig> Pools { get; init; } = [];

    public IReadOnlyList<ExportConfig> Exports { get; init; } = [];

    public IReadOnlyList<MountConfig> Mounts { get; init; } = [];

    /// <summary>Where to listen for JSON-RPC; empty: where processes of this host look; null: nowhere.</summary>
    public string? RpcSocket { get; init; }

    /// <summary>The methods that clients may call; null: all.</summary>
    public IReadOnlyList<string>? AllowedMethods { get; init; }

    /// <summary>Where the sockets of controllers that clients make appear.</summary>
    public string SocketDirectory { get; init; } = "";

    /// <summary>A file of calls to make at the start, as SPDK's clients save it; empty: none.</summary>
    public string SavedConfig { get; init; } = "";

    /// <summary>Clients are expected: without a control socket there is no point in running.</summary>
    public bool IsBlockTarget { get; init; }
}

internal enum BdevKind
{
    Uring,
    Malloc,
    Null,
    Delay,
    Error,
    Volatile,
}

internal enum BdevCache
{
    Auto,
    Direct,
    Buffered,
}

internal sealed record BdevConfig
{
    public required ConfigLocation Where { get; init; }
    public required string Name { get; init; }
    public BdevKind Kind { get; init; }

    /// <summary>Of a uring bdev: a file or block device.</summary>
    public string FileName { get; init; } = "";
    public BdevCache Cache { get; init; }

    /// <summary>Of a memory bdev; of a uring bdev: the size of a file that is not there yet.</summary>
    public long SizeBytes { get; init; }

    /// <summary>Of a wrapper: the name of the bdev below.</summary>
    public string Base { get; init; } = "";
    public int ReadDelayUs { get; init; }
    public int WriteDelayUs { get; init; }
    public int FlushDelayUs { get; init; }

    /// <summary>Of an error bdev: these operations fail with EIO, after <see cref="ErrorSkip"/> that pass.</summary>
    public BdevOperations ErrorOperations { get; init; }
    public int ErrorSkip { get; init; }

    /// <summary>How many fail; 0: all from then on.</summary>
    public int ErrorCount { get; init; }

    /// <summary>Of a volatile bdev: what decides which writes go down early.</summary>
    public int Seed { get; init; }

    /// <summary>Of a volatile bdev: after so many of a hundred writes something goes down before it must.</summary>
    public int EarlyPercent { get; init; }
}

internal sealed record PoolConfig
{
    public required ConfigLocation Where { get; init; }
    public required string Name { get; init; }
    public required string BdevName { get; init; }

    /// <summary>Format the bdev when its file is not there yet (a memory bdev always is formatted).</summary>
    public bool Create { get; init; }

    /// <summary>Made when the pool does not have them.</summary>
    public IReadOnlyList<string> Volumes { get; init; } = [];

    /// <summary>Make <see cref="Volumes"/> only in a pool without any: a pool that has a volume under another name is served as it is.</summary>
    public bool OnlyInEmptyPool { get; init; }

    /// <summary>How long to wait for a file that another process has.</summary>
    public TimeSpan Patience { get; init; }
}

internal sealed record ExportConfig
{
    public required ConfigLocation Where { get; init; }

    /// <summary>Where the volume was named: what a "no such volume" points at.</summary>
    public required ConfigLocation VolumeWhere { get; init; }
    public required string Name { get; init; }
    public required string Pool { get; init; }

    /// <summary>Empty: the only volume of the pool.</summary>
    public string Volume { get; init; } = "";

    /// <summary>Empty when <see cref="ListenFd"/> is used.</summary>
    public string Socket { get; init; } = "";
    public string SocketGroup { get; init; } = "";

    /// <summary>A listening socket somebody else made, or -1.</summary>
    public int ListenFd { get; init; } = -1;

    /// <summary>Empty: the volume's name.</summary>
    public string Tag { get; init; } = "";
    public SharingMode Sharing { get; init; }
    public FuseServerOptions Fuse { get; init; } = new();
}

/// <summary>A mount of a volume on this host.</summary>
internal sealed record MountConfig
{
    /// <summary>Where the volume was named.</summary>
    public required ConfigLocation VolumeWhere { get; init; }
    public required string Pool { get; init; }

    /// <summary>Empty: the only volume of the pool.</summary>
    public string Volume { get; init; } = "";
    public required MountRequest Request { get; init; }
    public FuseWishes Wishes { get; init; } = new();

    /// <summary>How long a mount that a daemon serves waits for another one when that one has gone.</summary>
    public TimeSpan ReconnectTime { get; init; }
}
