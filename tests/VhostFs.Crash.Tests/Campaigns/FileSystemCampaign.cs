using System.Collections.Concurrent;
using VhostFs.Blobstore.Check;
using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Explorer;

namespace VhostFs.Crash.Tests.Campaigns;

/// <summary>Long random lives of a file system on a recorded disk, crashed anywhere.</summary>
public sealed class FileSystemCampaign()
    : Campaign("crash-files", "crash states", floor: 30_000, "hundreds of file operations, power cut or killed anywhere: names, contents and attributes are what they were at or after the last sync")
{
    private const int StatesPerLife = 800;
    private const int NextLifeOperations = 12;

    private readonly ConcurrentDictionary<string, Lazy<DiskImage>> _disks = [];

    public int NextLifeOneIn { get; init; } = 400;

    /// <summary>Seconds on an idle machine.</summary>
    public override TimeSpan Patience => TimeSpan.FromMinutes(15);

    public override long Run(ulong seed) => Run(FileSystemLifeProfile.All[(int)(seed % (ulong)FileSystemLifeProfile.All.Count)], unchecked((int)seed), StatesPerLife);

    /// <summary>One life in this profile.</summary>
    public long Run(FileSystemLifeProfile profile, int seed, int maxStates)
    {
        DiskImage disk = _disks.GetOrAdd(profile.Name, _ => new Lazy<DiskImage>(() => FileSystemLife.Format(profile))).Value;
        var explorer = new CrashExplorer(FileSystemReader.ReadPoolAsync, CheckOptions.Default)
        {
            MaxStatesPerTrace = maxStates,
            NextLifeOneIn = NextLifeOneIn,
            NextLife = (image, left, next) => FileSystemLife.Run(profile with { Operations = NextLifeOperations }, image, next, left),
        };
        string? problem;
        try { problem = explorer.Explore(FileSystemLife.Run(profile, disk, seed), seed); }
        catch (InvalidOperationException e) { problem = e.Message; }
        return problem is null ? explorer.StateCount : throw new FindingException($"profile '{profile}': {problem}");
    }
}
