using VhostFs.Campaigns;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Simulation.Tests;

/// <summary>The simulation sees something: a mistake that is put in on purpose is found, and soon.</summary>
public sealed class SabotageTests(ITestOutputHelper output)
{
    private const ulong MaxSeeds = 300;

    [Theory]
    [InlineData(nameof(Sabotage.FlushDoesNothing))]
    [InlineData(nameof(Sabotage.WriteAcknowledgedEarly))]
    [InlineData(nameof(Sabotage.FsyncDoesNothing))]
    [InlineData(nameof(Sabotage.OldDataIsRead))]
    [InlineData(nameof(Sabotage.ReplyIsLost))]
    [InlineData(nameof(Sabotage.NameIsNotListed))]
    public void A_mistake_is_found(string name)
    {
        Sabotage sabotage = Enum.Parse<Sabotage>(name);
        for (ulong seed = 1; seed <= MaxSeeds; seed++)
        {
            try { SimulationCampaign.Explore(seed, sabotage); }
            catch (FindingException found)
            {
                output.WriteLine($"{name}: found by seed {seed}: {found.Message.Split('\n')[0]}");
                return;
            }
        }
        Assert.Fail($"{name} was not found by {MaxSeeds} seeds");
    }
}
