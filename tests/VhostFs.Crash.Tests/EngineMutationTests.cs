using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Campaigns;
using VhostFs.Crash.Tests.Mutation;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Crash.Tests;

/// <summary>Does the explorer see anything? Each mistake that is put into a copy of the engine must be noticed.</summary>
public sealed class EngineMutationTests(ITestOutputHelper output)
{
    private const int Floor = 60, FloorInFiles = 10;

    [Fact]
    public void There_are_enough_mistakes_to_find()
    {
        Assert.True(EngineMutations.All.Count >= Floor);
        Assert.True(EngineMutations.All.Count(mutation => mutation.Assembly == "VhostFs.Blobfs") >= FloorInFiles);
        Assert.Equal(EngineMutations.All.Count, EngineMutations.All.Select(mutation => mutation.Name).Distinct().Count());
    }

    [Fact]
    public void Every_mistake_has_its_place_in_the_engine() => Assert.All(EngineMutations.All, MutatedEngine.Check);

    [Fact]
    public void The_engine_as_it_is_passes_the_same_way()
    {
        using MutatedEngine engine = MutatedEngine.Compile(null);
        Assert.Null(engine.Explore(["ace-1", "files: roomy"], maxStates: 8_000));
    }

    [Fact]
    public void Every_mistake_in_the_engine_is_noticed()
    {
        var campaign = new EngineMutationCampaign(output.WriteLine);
        CampaignSummary all = new CampaignRun(campaign) { Seeds = campaign.Floor, MaxFindings = int.MaxValue, Report = output.WriteLine }.Execute(CancellationToken.None);
        output.WriteLine(all.ToString());
        Assert.Empty(all.Findings);
        Assert.Equal(campaign.Floor, all.Cases);
    }
}
