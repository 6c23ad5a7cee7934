using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Campaigns;
using VhostFs.Crash.Tests.Explorer;

namespace VhostFs.Crash.Tests.Mutation;

/// <summary>A short exploration that runs against whichever engine its load context holds. Called by reflection, with simple types only.</summary>
public static class MutationProbe
{
    private const int StatesPerLife = 600;
    private const string Files = "files: ";

    /// <summary>Null: nothing found within the bound. What is to be looked at first gets half of the lives.</summary>
    public static string? Explore(string[] lookFirst, long maxStates)
    {
        var pools = new CrashExplorerCampaign();
        var files = new FileSystemCampaign { NextLifeOneIn = 40 };
        string[] all = [.. PoolProfile.All.Select(profile => profile.Name), "ace-1"];
        long states = 0;
        string where = "";
        try
        {
            for (int turn = 0; states < maxStates; turn++)
            {
                bool isFirst = lookFirst.Length > 0 && turn % 2 == 0;
                where = isFirst ? lookFirst[turn / 2 % lookFirst.Length] : all[(lookFirst.Length > 0 ? turn / 2 : turn) % all.Length];
                int seed = turn + 1;
                if (where.StartsWith("ace-", StringComparison.Ordinal))
                {
                    var ace = new AceCampaign(where[^1] - '0', floor: 0);
                    ace.Run((ulong)seed);
                    states += ace.StateCount;
                }
                else if (where.StartsWith(Files, StringComparison.Ordinal))
                {
                    FileSystemLifeProfile profile = FileSystemLifeProfile.All.Single(profile => profile.Name == where[Files.Length..]);
                    states += files.Run(profile, seed, StatesPerLife);
                }
                else { states += pools.Run(PoolProfile.Named(where), seed, StatesPerLife); }
            }
            return null;
        }
#pragma warning disable CA1031 // a mistake may show in any way
        catch (Exception e)
        {
            return $"{where}, after {states} states: {(e is FindingException ? "" : $"{e.GetType().Name}: ")}{e.Message}";
        }
#pragma warning restore CA1031
    }
}
