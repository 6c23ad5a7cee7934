using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Campaigns;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Crash.Tests;

public sealed class CrashExplorerTests(ITestOutputHelper output)
{
    [Fact]
    public void A_volume_survives_every_crash() => CampaignRun.ToFloor(new CrashExplorerCampaign(), output.WriteLine);
}
