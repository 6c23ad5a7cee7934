using VhostFs.Campaigns;
using VhostFs.Fuse;
using VhostFs.Fuzz.Tests.Fuse;
using VhostFs.Linux;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Fuzz.Tests;

public sealed class FuzzTests(ITestOutputHelper output)
{
    [Fact]
    public void Fuse_requests() => CampaignRun.ToFloor(new FuseFuzzCampaign(), output.WriteLine);

    [Theory, MemberData(nameof(FileSystemMistakes))]
    public void A_mistake_below_the_fuse_server_is_found(string mistake)
    {
        var campaign = new FuseFuzzCampaign { Wrap = fileSystem => MistakenFileSystem.Wrap(fileSystem, mistake) };
        FindingException found = Assert.Throws<FindingException>(() =>
        {
            for (ulong seed = 1; seed <= 8; seed++) { campaign.Run(seed); }
        });
        output.WriteLine(found.Message);
    }

    public static TheoryData<string> FileSystemMistakes => new(MistakenFileSystem.Mistakes);

    [Fact]
    public void The_fuse_fuzzer_sees_every_opcode_succeed_and_fail()
    {
        var campaign = new FuseFuzzCampaign { Coverage = new() };
        for (ulong seed = 1; seed <= 12; seed++) { campaign.Run(seed); }
        foreach (FuseOpcode opcode in Enum.GetValues<FuseOpcode>())
        {
            var seen = campaign.Coverage.Where(c => c.Key.Opcode == opcode).OrderBy(c => c.Key.Errno).ToArray();
            output.WriteLine($"{opcode}: {string.Join(" ", seen.Select(c => $"{(Errno)c.Key.Errno}:{c.Value}"))}");
            bool isServed = opcode is not (FuseOpcode.FORGET or FuseOpcode.BATCH_FORGET or FuseOpcode.INTERRUPT or FuseOpcode.NOTIFY_REPLY
                or FuseOpcode.GETLK or FuseOpcode.SETLK or FuseOpcode.SETLKW or FuseOpcode.ACCESS or FuseOpcode.BMAP or FuseOpcode.IOCTL or FuseOpcode.POLL
                or FuseOpcode.SETUPMAPPING or FuseOpcode.REMOVEMAPPING);
            if (isServed) { Assert.Contains(seen, c => c.Key.Errno == 0); }
            if (isServed && opcode != FuseOpcode.DESTROY) { Assert.Contains(seen, c => c.Key.Errno != 0); }
        }
    }
}
