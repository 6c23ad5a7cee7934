using VhostFs.LoadBench.Groups;
using VhostFs.LoadBench.Load;

namespace VhostFs.LoadBench.Matrix;

/// <summary>A comparison: what is measured, against whom, where, how often.</summary>
internal sealed record MatrixOptions
{
    public DeviceKind Device { get; init; }

    /// <summary>What is measured.</summary>
    public required IReadOnlyList<Group> Groups { get; init; }

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

    /// <summary>In jobs and starts that are about files.</summary>
    public int Files { get; init; }

    /// <summary>Sessions, or controllers, of groups that are about many.</summary>
    public int Many { get; init; } = 1000;

    public int Rounds { get; init; }

    public double Seconds { get; init; }

    public double WarmUpSeconds { get; init; }

    /// <summary>That vhostfs works on each job before anything is measured.</summary>
    public double ServerWarmUpSeconds { get; init; } = 2;

    /// <summary>That nothing is done before memory is measured: what a start, or an end, leaves behind has been given back by then. And while an idle server is watched.</summary>
    public double SettleSeconds { get; init; } = 2;

    public TimeSpan Settles => TimeSpan.FromSeconds(SettleSeconds);

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
        Sockets = [socket],
        Device = Device,
        Depth = one.Depth,
        BlockBytes = one.BlockBytes,
        Seconds = Seconds,
        WarmUpSeconds = WarmUpSeconds,
        IsPolling = IsPolling,
        Cpus = [Cpu],
        ServerCpus = [ServerCpu],
        IsDirect = IsDirect,
        FileBytes = FileBytes,
        Files = Files,
    };
}
