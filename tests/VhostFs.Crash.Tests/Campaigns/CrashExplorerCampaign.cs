using System.Collections.Concurrent;
using VhostFs.Blobstore.Check;
using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Explorer;

namespace VhostFs.Crash.Tests.Campaigns;

/// <summary>Random lives of a pool on a recorded disk; every crash that could have happened, or a good sample; recovery; verdict.</summary>
public sealed class CrashExplorerCampaign()
    : Campaign("crash-explorer", "crash states", floor: 90_000, "clients on the engine's interface, power cut or killed anywhere: it opens, checks clean, and holds what was promised")
{
    private const int StatesPerLife = 500;
    private static readonly CheckOptions s_raw = new() { VerifyBlobfs = false };

    /// <summary>Formatted once: the same for all seeds.</summary>
    private readonly ConcurrentDictionary<string, Lazy<DiskImage>> _disks = [];

    public int NextLifeOneIn { get; init; } = 400;

    /// <summary>Seconds on an idle machine.</summary>
    public override TimeSpan Patience => TimeSpan.FromMinutes(15);

    public override long Run(ulong seed) => Run(PoolProfile.All[(int)(seed % (ulong)PoolProfile.All.Count)], unchecked((int)seed), StatesPerLife);

    /// <summary>One life in this profile.</summary>
    public long Run(PoolProfile profile, int seed, int maxStates)
    {
        DiskImage disk = _disks.GetOrAdd(profile.Name, _ => new Lazy<DiskImage>(() => PoolWorkload.Format(profile))).Value;
        var explorer = new CrashExplorer(VolumeContent.ReadPoolAsync, s_raw)
        {
            MaxStatesPerTrace = maxStates,
            NextLifeOneIn = NextLifeOneIn,
            InspectDisk = TenantData.FindForeign,
            NextLife = (image, left, next) => PoolWorkload.Run(profile with { Phases = 1, OperationsPerClient = 3 }, image, next, left),
        };
        string? problem;
        try { problem = explorer.Explore(PoolWorkload.Run(profile, disk, seed), seed); }
        catch (InvalidOperationException e) { problem = e.Message; }
        return problem is null ? explorer.StateCount : throw new FindingException($"profile '{profile}': {problem}");
    }
}
