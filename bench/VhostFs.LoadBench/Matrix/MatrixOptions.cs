using VhostFs.LoadBench.Load;

namespace VhostFs.LoadBench.Matrix;

/// <summary>A comparison: what is measured, against whom, where, how often.</summary>
internal sealed record MatrixOptions
{
    public DeviceKind Device { get; init; }

    /// <summary>Program to measure.</summary>
    public required string Vhostfs { get; init; }

    /// <summary>Command of the peer with {dir}, {socket} and {image} in it; null: nobody is compared with.</summary>
    public string? PeerCommand { get; init; }

    /// <summary>What the peer is called in tables and pictures.</summary>
    public string PeerName { get; init; } = "";

    /// <summary>On the file system to measure on. What is put there goes again.</summary>
    public required string Directory { get; init; }

    /// <summary>What the results are called: the medium, say.</summary>
    public required string Name { get; init; }

    /// <summary>Requests in flight of the curves over depth.</summary>
    public required int[] Depths { get; init; }

    /// <summary>Of the pool that vhostfs makes.</summary>
    public long PoolBytes { get; init; }

    public long FileBytes { get; init; }

    public int Files { get; init; }

    public int Rounds { get; init; }

    public double Seconds { get; init; }

    public double WarmUpSeconds { get; init; }

    /// <summary>That vhostfs works on each job before anything is measured.</summary>
    public double ServerWarmUpSeconds { get; init; } = 2;

    public int Cpu { get; init; }

    public int ServerCpu { get; init; }

    public bool IsDirect { get; init; }

    public bool IsPolling { get; init; }

    /// <summary>How many idle sessions memory is measured with; of the peer, which needs a process for each.</summary>
    public int[] Sessions { get; init; } = [];

    /// <inheritdoc cref="Sessions"/>
    public int[] PeerSessions { get; init; } = [];

    public LoadOptions Load(Case one, string socket) => new()
    {
        Job = one.Job,
        Socket = socket,
        Device = Device,
        Depth = one.Depth,
        BlockBytes = one.BlockBytes,
        Seconds = Seconds,
        WarmUpSeconds = WarmUpSeconds,
        IsPolling = IsPolling,
        Cpu = Cpu,
        ServerCpu = ServerCpu,
        IsDirect = IsDirect,
        FileBytes = FileBytes,
        Files = Files,
    };
}
