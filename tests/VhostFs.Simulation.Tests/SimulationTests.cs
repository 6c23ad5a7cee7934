using VhostFs.Campaigns;
using Xunit;
using Xunit.Abstractions;

[assembly: CollectionBehavior(DisableTestParallelization = true)] // campaigns take all processors

namespace VhostFs.Simulation.Tests;

public sealed class SimulationTests(ITestOutputHelper output)
{
    [Fact]
    public void Whatever_goes_wrong_answers_are_right_and_promises_hold() => CampaignRun.ToFloor(new SimulationCampaign(), output.WriteLine);

    [Fact]
    public void The_same_seed_makes_the_same_trace()
    {
        for (ulong seed = 1000; seed < 1020; seed++)
        {
            Assert.Equal(SimulationCampaign.Explore(seed, Sabotage.None), SimulationCampaign.Explore(seed, Sabotage.None));
        }
    }
}
