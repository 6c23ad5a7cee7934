using System.Globalization;
using System.Text.Json;

namespace VhostFs.LoadBench.Matrix;

/// <summary>What a vhostfs serves: pools with volumes, and a socket for each volume.</summary>
internal sealed record VhostfsSetup
{
    /// <summary>Files of pools and sockets begin with it.</summary>
    public required string Name { get; init; }

    /// <summary>Where the files of pools are.</summary>
    public required string Directory { get; init; }

    public long PoolBytes { get; init; }

    public int Pools { get; init; } = 1;

    public int VolumesPerPool { get; init; } = 1;

    /// <summary>A pool is memory of the process (malloc), and no file.</summary>
    public bool IsInMemory { get; init; }

    /// <summary>What a flush takes longer.</summary>
    public int FlushUs { get; init; }

    public int Reactors { get; init; } = 1;

    /// <summary>How they wait.</summary>
    public string Mode { get; init; } = "adaptive";

    public int Volumes => Pools * VolumesPerPool;

    public string[] Images => IsInMemory ? [] : [.. Enumerable.Range(0, Pools).Select(ImageOf)];

    /// <summary>As docs/operations.md describes it.</summary>
    /// <param name="sockets">Of the volumes.</param>
    public string Config(IReadOnlyList<string> sockets) => JsonSerializer.Serialize(new
    {
        log_level = "warn",
        reactors = Reactors,
        reactor_mode = Mode,
        bdevs = Enumerable.Range(0, Pools).SelectMany(BdevsOf),
        pools = Enumerable.Range(0, Pools).Select(i => new
        {
            name = $"pool{i}",
            bdev = FlushUs > 0 ? $"slow{i}" : $"disk{i}",
            create = true,
            volumes = Enumerable.Range(0, VolumesPerPool).Select(v => new { name = $"v{v}" }),
        }),
        exports = sockets.Select((socket, i) => new { name = $"v{i}", volume = $"pool{i / VolumesPerPool}/v{i % VolumesPerPool}", socket }),
    });

    private IEnumerable<object> BdevsOf(int pool)
    {
        string size = PoolBytes.ToString(CultureInfo.InvariantCulture);
        yield return IsInMemory ? new { name = $"disk{pool}", kind = "malloc", size } : new { name = $"disk{pool}", filename = ImageOf(pool), size };
        if (FlushUs > 0) { yield return new { name = $"slow{pool}", kind = "delay", @base = $"disk{pool}", flush_us = FlushUs }; }
    }

    private string ImageOf(int pool) => Path.Combine(Directory, $"{Name}{pool}.img");
}
