using VhostFs.Campaigns;
using VhostFs.Mount.Tests.Campaigns;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Mount.Tests;

public sealed class CampaignTests(ITestOutputHelper output)
{
    [MountFact]
    public void A_killed_mount_has_lost_nothing() => CampaignRun.ToFloor(new KillSoakCampaign(), output.WriteLine);

    [MountFact]
    public void Every_byte_of_a_mounted_file_is_what_was_put_there() => CampaignRun.ToFloor(new FsxCampaign(), output.WriteLine);

    [ApplicationFact(nameof(AppCrashCampaign.Sqlite))]
    public void Sqlite_survives_power_cuts() => CampaignRun.ToFloor(AppCrashCampaign.Sqlite, output.WriteLine);

    [ApplicationFact(nameof(AppCrashCampaign.Git))]
    public void Git_survives_power_cuts() => CampaignRun.ToFloor(AppCrashCampaign.Git, output.WriteLine);

    [ApplicationFact(nameof(AppCrashCampaign.RocksDb))]
    public void RocksDb_survives_power_cuts() => CampaignRun.ToFloor(AppCrashCampaign.RocksDb, output.WriteLine);

    [ApplicationFact(nameof(AppCrashCampaign.Postgres))]
    public void Postgres_survives_power_cuts() => CampaignRun.ToFloor(AppCrashCampaign.Postgres, output.WriteLine);

    /// <summary>Skipped, with the reason, where the application is not installed.</summary>
    private sealed class ApplicationFactAttribute : FactAttribute
    {
        public ApplicationFactAttribute(string application) => Skip = application switch
        {
            nameof(AppCrashCampaign.Sqlite) => AppCrashCampaign.Sqlite.Missing,
            nameof(AppCrashCampaign.Git) => AppCrashCampaign.Git.Missing,
            nameof(AppCrashCampaign.RocksDb) => AppCrashCampaign.RocksDb.Missing,
            _ => AppCrashCampaign.Postgres.Missing,
        };
    }

    /// <summary>The harness sees something: what a power cut may take is missing when the rule is that nothing may be missing.</summary>
    [MountFact]
    public void A_power_cut_takes_what_was_not_synced()
    {
        for (int attempt = 0; attempt < 5; attempt++)
        {
            using MountedVolume volume = new MountedVolume("256M", """{ "name": "top", "kind": "volatile", "base": "file", "early_percent": 0 }""").Start();
            using var mix = new Conversation(Path.Combine(Repository.GuestPrograms, "kill-mix"), "7", volume.MountPoint);
            mix.WaitFor("ready");
            mix.Send("run");
            mix.WaitFor("working");
            Thread.Sleep(300);
            volume.Kill();
            mix.WaitFor("stopped");
            volume.DetachDeadMount();
            volume.Start();
            mix.Send("process");
            if (mix.WaitFor("problems") != "problems 0") { return; }
        }
        Assert.Fail("five power cuts took nothing");
    }
}
