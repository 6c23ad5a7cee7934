using VhostFs.Bdev;
using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Campaigns;
using VhostFs.Crash.Tests.Explorer;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Crash.Tests;

public sealed class CrashExplorerTests(ITestOutputHelper output)
{
    [Fact]
    public void Volumes_survive_every_crash() => CampaignRun.ToFloor(new CrashExplorerCampaign(), output.WriteLine);

    [Fact]
    public void A_file_system_survives_every_crash() => CampaignRun.ToFloor(new FileSystemCampaign(), output.WriteLine);

    [Fact]
    public void The_same_seed_makes_the_same_trace()
    {
        foreach (PoolProfile profile in PoolProfile.All)
        {
            DiskImage disk = PoolWorkload.Format(profile);
            Assert.Equal(HashOf(PoolWorkload.Run(profile, disk, 7)), HashOf(PoolWorkload.Run(profile, disk, 7)));
        }
        FileSystemLifeProfile life = FileSystemLifeProfile.All[0];
        DiskImage files = FileSystemLife.Format(life);
        Assert.Equal(HashOf(FileSystemLife.Run(life, files, 7)), HashOf(FileSystemLife.Run(life, files, 7)));
    }

    [Fact]
    public void What_one_operation_and_a_sync_made_durable_is_there()
    {
        // All of them: so many seeds take each sequence once.
        var campaign = new AceCampaign(1, floor: 300);
        CampaignSummary all = new CampaignRun(campaign) { Seeds = campaign.SeedsForAll, Report = output.WriteLine }.Execute(CancellationToken.None);
        output.WriteLine($"{all}; {campaign.StateCount} crash states");
        Assert.Empty(all.Findings);
        Assert.True(all.Cases >= campaign.Floor, all.ToString());
    }

    [Fact]
    public void What_two_operations_and_syncs_made_durable_is_there()
    {
        var campaign = new AceCampaign(2, floor: 12_000);
        CampaignRun.ToFloor(campaign, output.WriteLine);
        output.WriteLine($"{campaign.StateCount} crash states");
    }

    private static ulong HashOf(CrashTrace trace)
    {
        ContentHash hash = default;
        foreach (BdevTraceEntry entry in trace.Entries)
        {
            hash.Add((ulong)entry.Operation);
            hash.Add((ulong)entry.OffsetBytes);
            hash.Add((ulong)entry.StartedAt);
            hash.Add((ulong)entry.CompletedAt);
            hash.Add(entry.Data);
        }
        return hash.Value;
    }
}
