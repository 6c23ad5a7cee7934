using System.Diagnostics;
using VhostFs.Blobstore.Check;
using VhostFs.Crash.Tests.Explorer;

namespace VhostFs.Crash.Tests.Mutation;

/// <summary>A short exploration that runs against whichever engine its load context holds. Called by reflection, with simple types only.</summary>
public static class MutationProbe
{
    private const int StatesPerLife = 1200;

    /// <summary>Null: nothing found within the bounds.</summary>
    public static string? Explore(int maxStates, int maxSeconds)
    {
        var clock = Stopwatch.StartNew();
        long states = 0;
        try
        {
            byte[][] disks = [RawWorkload.Format(RawWorkload.DiskBytes, dataChecksums: true), RawWorkload.Format(RawWorkload.DiskBytes, dataChecksums: false)];
            for (int seed = 1; states < maxStates && clock.Elapsed.TotalSeconds < maxSeconds; seed++)
            {
                CrashTrace trace = RawWorkload.Run(disks[seed % 2], seed, phases: 1 + (seed % 2), operationsPerClient: 40);
                var explorer = new CrashExplorer(StateVerifier.ReadRawVolume, new CheckOptions { VerifyBlobfs = false })
                {
                    MaxStatesPerTrace = StatesPerLife,
                    NextLife = (image, next) => RawWorkload.Run(image, next, 1, 3),
                };
                string? problem = explorer.Explore(trace, seed);
                states += explorer.StateCount;
                if (problem is not null) { return $"seed {seed}, after {states} states: {problem}"; }
            }
            return null;
        }
        catch (Exception e)
        {
            return $"after {states} states, the workload itself: {e.GetType().Name}: {e.Message}";
        }
    }
}
