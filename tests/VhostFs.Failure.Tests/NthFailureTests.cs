using VhostFs.Campaigns;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Failure.Tests;

public sealed class NthFailureTests(ITestOutputHelper output)
{
    [Fact]
    public void Whatever_operation_of_the_bdev_fails_the_error_is_told_and_nothing_is_lost() => CampaignRun.ToFloor(new NthFailureCampaign(), output.WriteLine);
}
