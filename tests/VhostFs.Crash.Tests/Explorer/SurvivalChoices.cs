using System.Numerics;
using VhostFs.Bdev;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Which of the writes that were not durable survive: all subsets of few, and of many the ones that find mistakes.</summary>
public sealed class SurvivalChoices(Random random, int randomSubsets)
{
    private const int MaxExhaustive = 8;
    private const int MaxSingles = 40;
    private const int MaxTorn = 12;
    private const int SectorsPerBlock = DiskImage.BlockBytes / DiskImage.SectorBytes;

    public const string All = "all";

    /// <summary>A handful: none, all, random subsets, the last one torn.</summary>
    public IEnumerable<(string Name, IReadOnlyList<SurvivingWrite> Writes)> Few(IReadOnlyList<BdevTraceEntry> open)
    {
        yield return (All, Subset(open, _ => true));
        if (open.Count == 0) { yield break; }
        yield return ("none", []);
        for (int n = 0; n < randomSubsets && open.Count > 1; n++)
        {
            uint mask = (uint)random.Next();
            yield return ($"random subset {n}", Subset(open, i => (mask & (1u << (i % 31))) != 0));
        }
        ulong kept = (ulong)random.NextInt64();
        yield return ("the last one torn", TornAt(open, open.Count - 1, sector => (BitOperations.RotateRight(kept, sector) & 1) != 0));
    }

    public IEnumerable<(string Name, IReadOnlyList<SurvivingWrite> Writes)> Of(IReadOnlyList<BdevTraceEntry> open)
    {
        if (open.Count <= MaxExhaustive)
        {
            for (uint mask = 0; mask < 1u << open.Count; mask++) { yield return ($"subset {mask:b} of {open.Count}", Subset(open, i => (mask & (1u << i)) != 0)); }
        }
        else
        {
            yield return ("none", []);
            yield return (All, Subset(open, _ => true));
            foreach (int i in Sample(open.Count, MaxSingles))
            {
                yield return ($"all but {i}", Subset(open, other => other != i));
                yield return ($"only {i}", Subset(open, other => other == i));
                yield return ($"the first {i}", Subset(open, other => other < i));
            }
            for (int n = 0; n < randomSubsets; n++)
            {
                int percent = random.Next(5, 96);
                yield return ($"random subset {n}", Subset(open, _ => random.Next(100) < percent));
            }
        }
        foreach ((string, IReadOnlyList<SurvivingWrite>) torn in Torn(open)) { yield return torn; }
        for (int n = 0; n < 2 && open.Count > 1; n++) { yield return ($"all torn at random, {n}", AllTorn(open)); }
    }

    // Writes before the torn one are there: it was the one under way when the power went.
    private IEnumerable<(string Name, IReadOnlyList<SurvivingWrite> Writes)> Torn(IReadOnlyList<BdevTraceEntry> open)
    {
        foreach (int i in Sample(open.Count, MaxTorn))
        {
            BdevTraceEntry entry = open[i];
            int blocks = (int)(entry.LengthBytes / DiskImage.BlockBytes);
            if (blocks > 1)
            {
                foreach (int block in Sample(blocks, MaxTorn))
                {
                    yield return ($"{i} without its block {block}", TornAt(open, i, sector => sector / SectorsPerBlock != block));
                    yield return ($"{i} with only its block {block}", TornAt(open, i, sector => sector / SectorsPerBlock == block));
                }
                ulong kept = (ulong)random.NextInt64();
                yield return ($"{i} with random blocks", TornAt(open, i, sector => (BitOperations.RotateRight(kept, sector / SectorsPerBlock) & 1) != 0));
            }
            int sectors = blocks * SectorsPerBlock;
            int limit = random.Next(1, Math.Max(sectors, 2));
            yield return ($"the first {limit} sectors of {i}", TornAt(open, i, sector => sector < limit));
            yield return ($"all but the first {limit} sectors of {i}", TornAt(open, i, sector => sector >= limit));
        }
    }

    private static List<SurvivingWrite> Subset(IReadOnlyList<BdevTraceEntry> open, Func<int, bool> isKept)
    {
        var kept = new List<SurvivingWrite>();
        for (int i = 0; i < open.Count; i++)
        {
            if (isKept(i)) { kept.Add(new SurvivingWrite(open[i], null)); }
        }
        return kept;
    }

    private List<SurvivingWrite> AllTorn(IReadOnlyList<BdevTraceEntry> open)
    {
        ulong[] kept = [.. open.Select(_ => (ulong)random.NextInt64())];
        return [.. open.Select((entry, i) => new SurvivingWrite(entry, sector => (BitOperations.RotateRight(kept[i], sector) & 1) != 0))];
    }

    private static List<SurvivingWrite> TornAt(IReadOnlyList<BdevTraceEntry> open, int torn, Func<int, bool> keptSectors)
    {
        List<SurvivingWrite> kept = Subset(open, i => i < torn);
        kept.Add(new SurvivingWrite(open[torn], keptSectors));
        return kept;
    }

    private IEnumerable<int> Sample(int count, int limit)
    {
        if (count <= limit) { return Enumerable.Range(0, count); }
        // The last ones are the newest: always among them.
        return Enumerable.Range(0, limit).Select(n => n < 4 ? count - 1 - n : random.Next(count)).Distinct();
    }
}
