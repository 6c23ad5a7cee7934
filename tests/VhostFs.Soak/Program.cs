using System.CommandLine;
using System.CommandLine.Parsing;
using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Campaigns;
using VhostFs.Mount.Tests.Campaigns;
using VhostFs.Fuzz.Tests.Chains;
using VhostFs.Fuzz.Tests.Disks;
using VhostFs.Fuzz.Tests.Fuse;
using VhostFs.Fuzz.Tests.VhostUser;
using VhostFs.Image.Tests.Mutation;
using VhostFs.Simulation.Tests;
using VhostFs.ProgramTests.Campaigns;
using VhostFs.Failure.Tests;
using VhostFs.Scale.Tests;
using VhostFs.Model.Tests;

namespace VhostFs.Soak;

/// <summary><c>./soak</c>: runs campaigns for as long as one wants, and keeps a file for each seed that found something.</summary>
internal static class Program
{
    private const int FoundSomething = 1;
    private const int Usage = 2;

    private static readonly Campaign[] s_campaigns =
    [
        new CrashExplorerCampaign(),
        new FileSystemCampaign(),
        new AceCampaign(1, floor: 300),
        new AceCampaign(2, floor: 20_000),
        new AceCampaign(3, floor: 20_000),
        new SimulationCampaign(),
        new EngineMutationCampaign(),
        new ConfigFuzzCampaign(),
        new ImageMutationCampaign(),
        new FuseFuzzCampaign(),
        new ChainFuzzCampaign(),
        new VhostUserFuzzCampaign(),
        new BlkFuzzCampaign(),
        new ScsiFuzzCampaign(),
        new NthFailureCampaign(),
        new ScaleCampaign(),
        new EnduranceCampaign(),
        new ModelCampaign(),
        new FsxCampaign(),
        new KillSoakCampaign(),
        AppCrashCampaign.Sqlite,
        AppCrashCampaign.Git,
        AppCrashCampaign.RocksDb,
        AppCrashCampaign.Postgres,
    ];

    private static int Main(string[] arguments)
    {
        var names = new Argument<string[]>("campaign") { Description = "Which: names, or 'all'. Without one, the list.", Arity = ArgumentArity.ZeroOrMore };
        var duration = new Option<string?>("--for") { Description = "How long each campaign starts new seeds: 90s, 10m, 2h." };
        var seed = new Option<ulong?>("--seed") { Description = "First seed; without it, one drawn from the clock." };
        var seeds = new Option<long>("--seeds") { Description = "How many seeds of each." };
        var threads = new Option<int>("--threads") { Description = "Runs at once.", DefaultValueFactory = _ => Environment.ProcessorCount };
        var failures = new Option<DirectoryInfo>("--failures") { Description = "Where the file of a finding goes.", DefaultValueFactory = _ => new DirectoryInfo("failures") };
        var root = new RootCommand("Looks for mistakes for hours: crash states, simulations, fuzzers, each from a seed that replays it.") { names, duration, seed, seeds, threads, failures };
        root.SetAction((parsed, cancelled) => Task.FromResult(Run(
            parsed.GetValue(names) ?? [], parsed.GetValue(duration), parsed.GetValue(seed), parsed.GetValue(seeds), parsed.GetValue(threads), parsed.GetValue(failures)!, cancelled)));
        return root.Parse(arguments).Invoke();
    }

    private static int Run(string[] names, string? duration, ulong? seed, long seeds, int threads, DirectoryInfo failures, CancellationToken cancelled)
    {
        if (names.Length == 0) { return List(); }
        if (names.FirstOrDefault(name => name != "all" && s_campaigns.All(c => c.Name != name)) is { } unknown)
        {
            Console.Error.WriteLine($"soak: there is no campaign '{unknown}'; './soak' lists them.");
            return Usage;
        }
        TimeSpan? length = null;
        if (duration is not null && (length = ParseDuration(duration)) is null)
        {
            Console.Error.WriteLine($"soak: --for takes a number and s, m or h, as in 90s or 2h; it was '{duration}'.");
            return Usage;
        }
        // Neither a time nor a number of seeds: as much as a test run does.
        bool toFloor = length is null && seeds == 0;
        var summaries = new List<CampaignSummary>();
        foreach (Campaign campaign in s_campaigns.Where(c => names.Contains("all") || names.Contains(c.Name)))
        {
            if (cancelled.IsCancellationRequested) { break; }
            var run = new CampaignRun(campaign)
            {
                FirstSeed = seed ?? (ulong)DateTimeOffset.UtcNow.ToUnixTimeSeconds() << 16,
                Cases = toFloor ? campaign.Floor : 0,
                Seeds = seeds,
                Duration = length,
                Threads = threads,
                MaxFindings = 10,
                Report = Console.WriteLine,
                Found = finding => Keep(finding, failures),
            };
            summaries.Add(run.Execute(cancelled));
        }
        Console.WriteLine();
        foreach (CampaignSummary summary in summaries) { Console.WriteLine(summary); }
        return summaries.Any(summary => summary.Findings.Count > 0) ? FoundSomething : 0;
    }

    private static int List()
    {
        foreach (Campaign campaign in s_campaigns) { Console.WriteLine($"{campaign.Name,-20} {campaign.What} ({campaign.Floor:n0} {campaign.Unit} in a test run)"); }
        return 0;
    }

    private static void Keep(Finding finding, DirectoryInfo failures)
    {
        failures.Create();
        string path = Path.Combine(failures.FullName, $"{finding.Campaign}-{finding.Seed}.txt");
        File.WriteAllText(path, $"{finding}\n");
        Console.Error.WriteLine($"{finding}\nKept in {path}");
    }

    private static TimeSpan? ParseDuration(string text)
    {
        if (text.Length < 2 || !double.TryParse(text[..^1], System.Globalization.CultureInfo.InvariantCulture, out double amount) || amount <= 0) { return null; }
        return text[^1] switch
        {
            's' => TimeSpan.FromSeconds(amount),
            'm' => TimeSpan.FromMinutes(amount),
            'h' => TimeSpan.FromHours(amount),
            _ => null,
        };
    }
}
