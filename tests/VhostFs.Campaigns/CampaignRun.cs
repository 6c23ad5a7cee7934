using System.Diagnostics;

namespace VhostFs.Campaigns;

/// <summary>Runs a campaign's seeds, on as many threads as asked for, until there is enough or something was found.</summary>
public sealed class CampaignRun(Campaign campaign)
{
    private static readonly TimeSpan s_reportInterval = TimeSpan.FromSeconds(10);

    private readonly Lock _lock = new();
    private readonly List<Finding> _findings = [];
    private readonly Dictionary<ulong, long> _startedAt = [];
    private long _cases;
    private long _seedsDone;
    private ulong _nextSeed;
    private bool _stopping;

    public ulong FirstSeed { get; init; } = 1;

    /// <summary>Stop when so many cases were tried; 0: no such bound.</summary>
    public long Cases { get; init; }

    /// <summary>Stop after so many seeds; 0: no such bound.</summary>
    public long Seeds { get; init; }

    /// <summary>Start no seed later than this; null: no such bound.</summary>
    public TimeSpan? Duration { get; init; }

    public int Threads { get; init; } = Environment.ProcessorCount;

    /// <summary>Stop after so many findings.</summary>
    public int MaxFindings { get; init; } = 1;

    /// <summary>Called about every ten seconds with a line for people.</summary>
    public Action<string>? Report { get; init; }

    /// <summary>Called at each finding, before the run ends.</summary>
    public Action<Finding>? Found { get; init; }

    /// <summary>What every test of a campaign does: the floor is reached and nothing is found.</summary>
    /// <exception cref="FindingException">Something was found, or the floor was not reached.</exception>
    public static CampaignSummary ToFloor(Campaign campaign, Action<string> report)
    {
        CampaignSummary summary = new CampaignRun(campaign) { Cases = campaign.Floor, Report = report }.Execute(CancellationToken.None);
        report(summary.ToString());
        if (summary.Findings.Count > 0) { throw new FindingException(string.Join("\n\n", summary.Findings)); }
        return summary.Cases >= campaign.Floor ? summary : throw new FindingException($"{summary}, but the floor is {campaign.Floor:n0}");
    }

    public CampaignSummary Execute(CancellationToken cancelled)
    {
        var clock = Stopwatch.StartNew();
        _nextSeed = FirstSeed;
        var threads = new Thread[Math.Clamp(campaign.MaxThreads, 1, Math.Max(1, Threads))];
        for (int i = 0; i < threads.Length; i++)
        {
            // Background: one that hangs must not keep the process.
            threads[i] = new Thread(() => Work(clock)) { IsBackground = true, Name = $"{campaign.Name} {i}" };
            threads[i].Start();
        }
        TimeSpan nextReport = s_reportInterval;
        while (!threads.All(thread => thread.Join(20)))
        {
            if (cancelled.IsCancellationRequested) { Stop(); }
            if (FindHanging() is { } hanging)
            {
                Add(hanging);
                break;
            }
            if (clock.Elapsed < nextReport) { continue; }
            nextReport = clock.Elapsed + s_reportInterval;
            Report?.Invoke(Summarize(clock.Elapsed).ToString());
        }
        return Summarize(clock.Elapsed);
    }

    private void Work(Stopwatch clock)
    {
        while (TryTakeSeed(clock.Elapsed, out ulong seed))
        {
            long cases = 0;
#pragma warning disable CA1031 // whatever goes wrong in a run is what the campaign is for
            try
            {
                cases = campaign.Run(seed);
            }
            catch (Exception found)
            {
                Add(new Finding(campaign.Name, seed, found is FindingException ? found.Message : found.ToString()));
            }
#pragma warning restore CA1031
            lock (_lock)
            {
                _startedAt.Remove(seed);
                _cases += cases;
                _seedsDone++;
            }
        }
    }

    private bool TryTakeSeed(TimeSpan elapsed, out ulong seed)
    {
        lock (_lock)
        {
            seed = _nextSeed;
            bool enough = _stopping || _findings.Count >= MaxFindings || (Cases > 0 && _cases >= Cases)
                || (Seeds > 0 && seed - FirstSeed >= (ulong)Seeds) || elapsed >= Duration;
            if (enough) { return false; }
            _nextSeed++;
            _startedAt[seed] = Stopwatch.GetTimestamp();
            return true;
        }
    }

    private Finding? FindHanging()
    {
        lock (_lock)
        {
            foreach ((ulong seed, long startedAt) in _startedAt)
            {
                if (Stopwatch.GetElapsedTime(startedAt) > campaign.Patience)
                {
                    return new Finding(campaign.Name, seed, $"has been running for more than {campaign.Patience.TotalSeconds:n0} s");
                }
            }
            return null;
        }
    }

    private void Add(Finding finding)
    {
        lock (_lock) { _findings.Add(finding); }
        Found?.Invoke(finding);
    }

    private void Stop()
    {
        lock (_lock) { _stopping = true; }
    }

    private CampaignSummary Summarize(TimeSpan elapsed)
    {
        lock (_lock) { return new(campaign.Name, campaign.Unit, FirstSeed, _seedsDone, _cases, elapsed, [.. _findings]); }
    }
}
