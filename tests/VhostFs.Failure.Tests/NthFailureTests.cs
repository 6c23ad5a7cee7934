using VhostFs.Campaigns;
using VhostFs.Linux;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Failure.Tests;

public sealed class NthFailureTests(ITestOutputHelper output)
{
    [Fact]
    public void Whatever_operation_of_the_bdev_fails_the_error_is_told_and_nothing_is_lost() => CampaignRun.ToFloor(new NthFailureCampaign(), output.WriteLine);

    [Theory]
    [InlineData("mknod", FaultEffect.Nothing)]
    [InlineData("write of blocks to an empty file", FaultEffect.Half)]
    [InlineData("overwrite across blocks, after unsynced changes", FaultEffect.Nothing)]
    [InlineData("unlink of a scattered file", FaultEffect.Nothing)]
    [InlineData("opening after a crash: recovery", FaultEffect.Nothing)]
    public void An_error_that_nobody_heeds_is_noticed(string name, FaultEffect effect)
    {
        // The bdev says that it succeeded: as if the engine had not looked at the answer.
        var run = new NthFailureRun(Scenarios.All.Single(scenario => scenario.Name == name));
        FindingException found = Assert.Throws<FindingException>(() => run.RunAll(nth => new FaultPlan(nth, Errno.None, effect), static _ => null));
        output.WriteLine(found.Message);
    }
}
