using VhostFs.Campaigns;
using VhostFs.Mount.Tests.Campaigns;
using Xunit.Abstractions;

namespace VhostFs.Mount.Tests;

public sealed class CampaignTests(ITestOutputHelper output)
{
    [MountFact]
    public void A_killed_mount_has_lost_nothing() => CampaignRun.ToFloor(new KillSoakCampaign(), output.WriteLine);

    [MountFact]
    public void Every_byte_of_a_mounted_file_is_what_was_put_there() => CampaignRun.ToFloor(new FsxCampaign(), output.WriteLine);
}
