using System.Diagnostics;
using VhostFs.Crash.Tests.Campaigns;
using VhostFs.Crash.Tests.Explorer;

namespace VhostFs.Crash.Tests.Mutation;

/// <summary>A short exploration that runs against whichever engine its load context holds. Called by reflection, with simple types only.</summary>
public static class MutationProbe
{
    private const int StatesPerLife = 400;

    /// <summary>Null: nothing found within the bounds.</summary>
    public static string? Explore(int maxStates, int maxSeconds)
    {
        var clock = Stopwatch.StartNew();
        long states = 0;
        var campaign = new CrashExplorerCampaign();
        try
        {
            for (int seed = 1; states < maxStates && clock.Elapsed.TotalSeconds < maxSeconds; seed++)
            {
                PoolProfile profile = PoolProfile.All[seed % PoolProfile.All.Count];
                states += campaign.Run(profile, seed, StatesPerLife);
            }
            return null;
        }
        catch (Exception e)
        {
            return $"after {states} states, the workload itself: {e.GetType().Name}: {e.Message}";
        }
    }
}
