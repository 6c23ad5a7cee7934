using System.Diagnostics;
using VhostFs.Blobstore.Check;
using VhostFs.Crash.Tests.Explorer;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Crash.Tests;

/// <summary>Random lives of a volume on a recorded disk; every crash that could have happened, or a good sample; recovery; verdict.</summary>
public sealed class CrashExplorerTests(ITestOutputHelper output)
{
    public const long DiskBytes = 12 << 20;

    private static readonly CheckOptions s_raw = new() { VerifyBlobfs = false };

    [Theory, InlineData(true, 1000), InlineData(false, 2000)]
    public void A_volume_survives_every_crash(bool dataChecksums, int firstSeed)
    {
        const int FloorOfStates = 25_000;
        byte[] disk = RawWorkload.Format(DiskBytes, dataChecksums);
        var explorer = new CrashExplorer(StateVerifier.ReadRawVolume, s_raw) { MaxStatesPerTrace = 1_500, NextLife = (image, seed) => RawWorkload.Run(image, seed, 1, 3) };
        var clock = Stopwatch.StartNew();
        int seed = firstSeed;
        for (; explorer.StateCount < FloorOfStates; seed++)
        {
            string? problem = explorer.Explore(RawWorkload.Run(disk, seed, phases: 2, operationsPerClient: 24), seed);
            Assert.True(problem is null, $"seed {seed}, checksums {dataChecksums}: {problem}");
        }
        output.WriteLine($"{explorer.StateCount} crash states of {seed - firstSeed} lives in {clock.Elapsed.TotalSeconds:f0} s");
    }
}
