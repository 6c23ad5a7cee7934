using VhostFs.Blobstore.Check;
using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Explorer;

namespace VhostFs.Crash.Tests.Campaigns;

/// <summary>Random lives of a volume on a recorded disk; every crash that could have happened, or a good sample; recovery; verdict.</summary>
public sealed class CrashExplorerCampaign()
    : Campaign("crash-explorer", "crash states", floor: 200_000, "four clients on the engine's interface, power cut or killed anywhere: it opens, checks clean, and holds what was promised")
{
    private static readonly CheckOptions s_raw = new() { VerifyBlobfs = false };

    // Formatted once: the same for all seeds, but for its uuid.
    private readonly Lazy<byte[]> _withChecksums = new(() => RawWorkload.Format(RawWorkload.DiskBytes, dataChecksums: true));
    private readonly Lazy<byte[]> _withoutChecksums = new(() => RawWorkload.Format(RawWorkload.DiskBytes, dataChecksums: false));

    public override long Run(ulong seed)
    {
        byte[] disk = (seed % 2 == 0 ? _withoutChecksums : _withChecksums).Value;
        int traceSeed = unchecked((int)seed);
        var explorer = new CrashExplorer(StateVerifier.ReadRawVolume, s_raw) { MaxStatesPerTrace = 1_500, NextLife = (image, next) => RawWorkload.Run(image, next, 1, 3) };
        string? problem = explorer.Explore(RawWorkload.Run(disk, traceSeed, phases: 2, operationsPerClient: 24), traceSeed);
        return problem is null ? explorer.StateCount : throw new FindingException(problem);
    }
}
