using System.Globalization;
using VhostFs.Campaigns;
using VhostFs.Mount.Tests.Applications;

namespace VhostFs.Mount.Tests.Campaigns;

/// <summary>An application at work on a mount when the power is cut at the bdev; then its own checker, and everything that it had acknowledged.</summary>
/// <remarks>When the cut comes is a matter of time and so not of the seed alone: a seed replays the work and the bdev's choices.</remarks>
public sealed class AppCrashCampaign : Campaign
{
    private const int CutsPerSeed = 5;

    private readonly Func<ulong, Application> _newApplication;
    private readonly Func<string?> _missing;

    private AppCrashCampaign(string application, long floor, Func<ulong, Application> newApplication, Func<string?> missing)
        : base($"app-crash-{application}", "power cuts", floor, $"{application} on a mount, power cut while it works: its checker is content, and what it acknowledged is there")
    {
        _newApplication = newApplication;
        _missing = missing;
    }

    public static AppCrashCampaign Sqlite { get; } = new("sqlite", 20, seed => new SqliteApplication(writeAheadLog: seed % 2 == 0), () => Needs.Program("sqlite3", "sqlite3"));

    public static AppCrashCampaign Git { get; } = new("git", 10, _ => new GitApplication(), () => Needs.Program("git", "git"));

    public static AppCrashCampaign RocksDb { get; } = new("rocksdb", 10, _ => new RocksDbApplication(), () => Needs.Program("db_bench", "rocksdb-tools"));

    public static AppCrashCampaign Postgres { get; } = new("postgres", 10, _ => new PostgresApplication(), () => PostgresApplication.Missing);

    /// <summary>Null, or why it cannot run here.</summary>
    public string? Missing => _missing();

    public override int MaxThreads => 2;

    /// <summary>Processes come and go in each run: on a busy machine it takes minutes.</summary>
    public override TimeSpan Patience => TimeSpan.FromMinutes(10);

    public override long Run(ulong seed)
    {
        if (Missing is { } missing) { throw new FindingException($"cannot run: {missing}"); }
        int number = (int)(seed & 0x7fff_ffff);
        var random = new Random(number);
        string bdevs = string.Create(CultureInfo.InvariantCulture, $$"""{ "name": "top", "kind": "volatile", "base": "file", "seed": {{number}}, "early_percent": {{random.Next(0, 60)}} }""");
        using MountedVolume volume = new MountedVolume("512M", bdevs).Start();
        using Application application = _newApplication(seed);
        application.Prepare(volume);
        for (int cut = 0; cut < CutsPerSeed; cut++)
        {
            int after = random.Next(50, 1200);
            Task killer = Task.Run(() =>
            {
                Thread.Sleep(after);
                volume.Kill();
            });
            application.WorkUntilDead(volume);
            if (!killer.Wait(5000)) { throw new FindingException("the application stopped before the cut"); }
            volume.DetachDeadMount();
            string image = volume.KeepImage();
            try
            {
                volume.ExpectClean();
                volume.Start();
                application.Verify(volume);
            }
            catch (FindingException finding)
            {
                throw new FindingException($"power cut {cut}: {finding.Message}\nThe image as the cut left it: {image}\n{volume.Log}");
            }
            File.Delete(image);
        }
        volume.Stop();
        volume.ExpectClean();
        return CutsPerSeed;
    }
}
