using System.Text;
using VhostFs.Campaigns;

namespace VhostFs.Simulation.Tests;

/// <summary>The whole daemon, from the disk to the guest, on a virtual clock, with everything that can go wrong going wrong.</summary>
public sealed class SimulationCampaign()
    : Campaign("simulation", "seeds", floor: 2_000, "daemon, guests and disks on virtual time; crashes, errors, lies of the disk, rude guests: answers are right, promises hold")
{
    private const int LinesShown = 60;

    public override long Run(ulong seed)
    {
        Explore(seed, Sabotage.None);
        return 1;
    }

    /// <summary>Runs a seed and returns the hash of everything that happened.</summary>
    internal static ulong Explore(ulong seed, Sabotage sabotage)
    {
        using var simulation = new Simulation(seed, sabotage, keepsText: false);
        try { simulation.Run(); }
        catch (Exception found)
        {
            throw new FindingException(Tell(seed, sabotage, found));
        }
        return simulation.Trace.Hash;
    }

    /// <summary>Runs it once more, with the trace as text: the end of it is what one wants to read.</summary>
    private static string Tell(ulong seed, Sabotage sabotage, Exception found)
    {
        using var again = new Simulation(seed, sabotage, keepsText: true);
        string? second = null;
        try { again.Run(); }
        catch (Exception repeated)
        {
            second = Text(repeated);
        }
        var text = new StringBuilder(Text(found));
        if (second != Text(found)) { text.Append($"\nNot the same when run again: {second ?? "nothing is found"}"); }
        text.Append("\nThe end of the trace:");
        foreach (string line in again.Trace.Lines.TakeLast(LinesOf(again))) { text.Append('\n').Append(line); }
        return text.ToString();
    }

    // All that is kept, for whoever asks for it.
    private static int LinesOf(Simulation simulation) => Environment.GetEnvironmentVariable("VHOSTFS_SIMULATION_TRACE") is null ? LinesShown : simulation.Trace.Lines.Count;

    private static string Text(Exception found) => found is FindingException ? found.Message : found.ToString();
}
