using VhostFs.Bdev;
using VhostFs.Linux;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Walks through a trace and shows each disk that a crash may leave. The image is ready for recovery whenever a state is shown.</summary>
public sealed class CrashStates(CrashTrace trace, int seed, int randomSubsets)
{
    private readonly Random _random = new(seed);

    /// <summary>The power goes: what was flushed is there, of the rest anything may be.</summary>
    /// <remarks>One crash point per flush, right before it completes, is enough: an earlier cut in the same window leaves a subset of the same writes.</remarks>
    public IEnumerable<CrashState> PowerCuts(DiskImage image)
    {
        var choices = new SurvivalChoices(_random, randomSubsets);
        long[] durableMoments = trace.DurableMoments();
        var applied = new bool[durableMoments.Length];
        IEnumerable<long> moments = trace.Entries.Where(entry => entry.IsFlush && entry.IsCompleted && entry.Result == Errno.None)
            .Select(flush => flush.CompletedAt).Append(trace.Now).Distinct().Order();
        foreach (long moment in moments)
        {
            List<BdevTraceEntry> open = ApplyDurable(image, applied, durableMoments, moment);
            foreach ((string name, IReadOnlyList<SurvivingWrite> writes) in choices.Of(open)) { yield return new CrashState(name, moment, IsPowerCut: true, writes); }
        }
    }

    /// <summary>The telling states at some moments: everything not flushed lost, everything kept (which is also what the death of the process leaves), a few random subsets, one torn.</summary>
    public IEnumerable<CrashState> At(DiskImage image, IReadOnlyList<long> moments)
    {
        var choices = new SurvivalChoices(_random, randomSubsets);
        long[] durableMoments = trace.DurableMoments();
        var applied = new bool[durableMoments.Length];
        foreach (long moment in moments)
        {
            List<BdevTraceEntry> open = ApplyDurable(image, applied, durableMoments, moment);
            bool isQuiet = open.TrueForAll(entry => entry.CompletedAt < moment);
            foreach ((string name, IReadOnlyList<SurvivingWrite> writes) in choices.Few(open))
            {
                bool isPowerCut = !isQuiet || writes.Count < open.Count || name != SurvivalChoices.All;
                yield return new CrashState(name, moment, isPowerCut, writes) { Left = isPowerCut ? [] : trace.StagedBefore(moment) };
            }
        }
    }

    /// <summary>The process dies: what completed is there, what is in flight may be there in part.</summary>
    public IEnumerable<CrashState> ProcessDeaths(DiskImage image)
    {
        var choices = new SurvivalChoices(_random, randomSubsets: 4);
        IEnumerable<(long Moment, BdevTraceEntry Entry)> events = trace.Entries.Where(entry => !entry.IsFlush)
            .SelectMany(entry => new[] { (entry.StartedAt, entry), (entry.CompletedAt, entry) }).Where(happened => happened.Item1 != long.MaxValue).OrderBy(happened => happened.Item1);
        var inFlight = new List<BdevTraceEntry>();
        foreach ((long moment, BdevTraceEntry entry) in events)
        {
            if (moment == entry.StartedAt) { inFlight.Add(entry); }
            else
            {
                // Right before this completion becomes known the states with it in flight have been shown; from here on it is certain.
                inFlight.Remove(entry);
                image.Apply(entry);
                image.Keep();
            }
            if (moment != entry.StartedAt)
            {
                yield return new CrashState($"nothing of {inFlight.Count} in flight", moment + 1, IsPowerCut: false, []) { Left = trace.StagedBefore(moment + 1) };
                continue;
            }
            foreach ((string name, IReadOnlyList<SurvivingWrite> writes) in choices.Of([.. inFlight.TakeLast(4)])) { yield return new CrashState(name, moment + 1, IsPowerCut: false, writes) { Left = trace.StagedBefore(moment + 1) }; }
        }
    }

    /// <summary>What is certain before the moment goes to the disk; the rest that has been started is returned.</summary>
    private List<BdevTraceEntry> ApplyDurable(DiskImage image, bool[] applied, long[] durableMoments, long moment)
    {
        var open = new List<BdevTraceEntry>();
        for (int i = 0; i < applied.Length && trace.Entries[i].StartedAt < moment; i++)
        {
            BdevTraceEntry entry = trace.Entries[i];
            if (entry.IsFlush || applied[i]) { continue; }
            if (durableMoments[i] < moment)
            {
                image.Apply(entry);
                applied[i] = true;
            }
            else { open.Add(entry); }
        }
        image.Keep();
        return open;
    }
}
