using VhostFs.Campaigns;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Scale.Tests;

public sealed class ScaleTests(ITestOutputHelper output)
{
    [Fact]
    public void Two_hundred_volumes_idle_for_nothing_and_survive_kill_9()
    {
        var campaign = new ScaleCampaign();
        CampaignRun.ToFloor(campaign, output.WriteLine);
        output.WriteLine(campaign.Measured);
    }

    [Fact]
    public void A_hundred_volumes_under_load_do_not_grow()
    {
        var campaign = new EnduranceCampaign();
        CampaignRun.ToFloor(campaign, output.WriteLine);
        output.WriteLine(campaign.Measured);
    }
}
