using VhostFs.Blobstore.Check;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Tries the crash states of a trace, and of the lives that follow from some of them.</summary>
public sealed class CrashExplorer(ContentReader readContent, CheckOptions checkOptions)
{
    private const int ThoroughOneIn = 8;

    /// <summary>How a recovered disk lives on: null, no second life.</summary>
    public Func<byte[], int, CrashTrace>? NextLife { get; init; }

    public int NextLifeOneIn { get; init; } = 400;

    public int RandomSubsets { get; init; } = 12;

    /// <summary>Shows at most so many states of one trace, spread over it.</summary>
    public int MaxStatesPerTrace { get; init; } = int.MaxValue;

    /// <summary>States tried so far.</summary>
    public long StateCount { get; private set; }

    /// <summary>Null, or the first thing that is wrong, with how to get there again.</summary>
    public string? Explore(CrashTrace trace, int seed, int depth = 0)
    {
        if (trace.FindOverlappingWrites() is { } overlap) { return overlap; }
        var image = new DiskImage(trace.Image);
        return Explore(trace, new CrashStates(trace, seed, RandomSubsets).PowerCuts(image), image, seed, depth)
            ?? ExploreDeaths(trace, seed, depth);
    }

    private string? ExploreDeaths(CrashTrace trace, int seed, int depth)
    {
        var image = new DiskImage(trace.Image);
        return Explore(trace, new CrashStates(trace, seed, RandomSubsets).ProcessDeaths(image), image, seed, depth);
    }

    private string? Explore(CrashTrace trace, IEnumerable<CrashState> states, DiskImage image, int seed, int depth)
    {
        var verifier = new StateVerifier(image, trace, readContent, checkOptions);
        var random = new Random(seed);
        int index = 0;
        double keep = 1;
        if (MaxStatesPerTrace != int.MaxValue) { keep = MaxStatesPerTrace / (2.0 * Math.Max(CountStates(trace, seed), 1)); }
        foreach (CrashState state in states)
        {
            index++;
            if (keep < 1 && random.NextDouble() > keep) { continue; }
            StateCount++;
            state.ApplyTo(image);
            byte[]? disk = NextLife is not null && depth == 0 && random.Next(NextLifeOneIn) == 0 ? image.ToArray() : null;
            string? problem = verifier.Verify(state, random.Next(ThoroughOneIn) == 0);
            image.Reset();
            if (problem is not null) { return $"state {index}, {state.Name}: {problem}"; }
            if (disk is null) { continue; }
            int nextSeed = random.Next();
            if (Explore(NextLife!(disk, nextSeed), nextSeed, depth + 1) is { } later) { return $"state {index}, {state.Name}; next life (seed {nextSeed}): {later}"; }
        }
        return null;
    }

    private int CountStates(CrashTrace trace, int seed) => new CrashStates(trace, seed, RandomSubsets).PowerCuts(new DiskImage(trace.Image)).Count();
}
