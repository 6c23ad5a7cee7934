using VhostFs.Campaigns;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.Fuzz.Tests.Chains;

/// <summary>Descriptor chains and rings no driver makes, against the real queue and a second opinion on every chain; in one seed of eight another thread changes everything meanwhile.</summary>
/// <remarks>The racing seeds are not deterministic: which byte is seen when is the machine's choice. A finding of theirs says so.</remarks>
public sealed class ChainFuzzCampaign()
    : Campaign("fuzz-chains", "chains", floor: 2_000_000, "descriptor chains and rings, spoilt in every way and changing under our eyes: judged right, nothing written outside, the queue stays whole")
{
    private const int RoundsPerSeed = 4000, RacingRoundsPerSeed = 8000;
    private readonly Lazy<long> _corpus = new(() => Corpus.Run("chains", RunLines));
    private int _corpusCounted;

    /// <summary>A mistake put into the device's view of a chain, for the test that it is found.</summary>
    internal Action<IoVecList, IoVecList>? Mistake { get; init; }

    internal bool AllRace { get; init; }

    /// <summary>Null: the seed says.</summary>
    internal bool? IsPacked { get; init; }

    /// <summary>How often each verdict was given, for those who want to know what is reached.</summary>
    internal long[] Verdicts { get; } = new long[4];

    public override long Run(ulong seed)
    {
        long cases = _corpus.Value;
        if (Interlocked.Exchange(ref _corpusCounted, 1) != 0) { cases = 0; }
        bool races = AllRace || seed % 8 == 0;
        bool isPacked = IsPacked ?? ((seed ^ (seed >> 3)) & 1) != 0;
        var random = new FuzzRandom(seed);
        using ChainFuzzRun run = isPacked ? new PackedFuzzRun(random) { Mistake = Mistake } : new SplitFuzzRun(random) { Mistake = Mistake };
        try
        {
            cases += races ? run.Race(RacingRoundsPerSeed) : run.Judge(RoundsPerSeed);
        }
        catch (Exception found)
        {
            throw new FindingException($"{(races ? "(racing: may need many runs to show again) " : "")}{(isPacked ? "packed" : "split")}, round {run.Round}: {found.Message}\n{found.StackTrace}\n{run.Describe()}");
        }
        for (int i = 0; i < Verdicts.Length; i++) { Interlocked.Add(ref Verdicts[i], run.Verdicts[i]); }
        return cases;
    }

    /// <summary>A kept input: each line is one state of the first 4 KiB of memory (the rings of a split queue), without the zeros at its end, and the size in flight it is popped with.</summary>
    private static long RunLines(string[] lines)
    {
        foreach (string line in lines)
        {
            using var run = new SplitFuzzRun(new FuzzRandom(1));
            run.JudgeImage(Convert.FromHexString(line));
        }
        return lines.Length;
    }
}
