using VhostFs.Campaigns;
using VhostFs.Mount.Tests.Campaigns;
using Xunit.Abstractions;

namespace VhostFs.Mount.Tests;

public sealed class CampaignTests(ITestOutputHelper output)
{
    [MountFact]
    public void A_killed_mount_has_lost_nothing() => CampaignRun.ToFloor(new KillSoakCampaign(), output.WriteLine);
}
