using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Tries the crash states of a trace, and of the lives that follow from some of them.</summary>
public sealed class CrashExplorer(ContentReader readContent, CheckOptions checkOptions)
{
    private const int ThoroughOneIn = 8;

    /// <summary>How a recovered disk lives on: null, no second life.</summary>
    public Func<DiskImage, IReadOnlyList<StagedBatch>, int, CrashTrace>? NextLife { get; init; }

    public int NextLifeOneIn { get; init; } = 400;

    public int RandomSubsets { get; init; } = 12;

    /// <summary>Shows at most about so many states of one trace, spread over it.</summary>
    public int MaxStatesPerTrace { get; init; } = int.MaxValue;

    /// <inheritdoc cref="StateVerifier.InspectDisk"/>
    public Func<DiskImage, CrashTrace, IReadOnlyDictionary<string, ulong>, string?>? InspectDisk { get; init; }

    /// <summary>States tried so far.</summary>
    public long StateCount { get; private set; }

    /// <summary>Null, or the first thing that is wrong, with how to get there again.</summary>
    public string? Explore(CrashTrace trace, int seed, int depth = 0)
    {
        if (trace.FindOverlappingWrites() is { } overlap) { return overlap; }
        string? afterPowerCut = trace.IsFileInMemory ? null : Explore(trace, static (states, image) => states.PowerCuts(image), seed, depth);
        return afterPowerCut ?? Explore(trace, static (states, image) => states.ProcessDeaths(image), seed, depth);
    }

    private string? Explore(CrashTrace trace, Func<CrashStates, DiskImage, IEnumerable<CrashState>> show, int seed, int depth)
    {
        DiskImage image = trace.Image.Fork();
        IEnumerable<CrashState> Show(DiskImage on) => show(new CrashStates(trace, seed, RandomSubsets), on);
        var verifier = new StateVerifier(image, trace, readContent, checkOptions) { InspectDisk = InspectDisk };
        var random = new Random(seed);
        int index = 0;
        double keep = MaxStatesPerTrace == int.MaxValue ? 1 : MaxStatesPerTrace / (2.0 * Math.Max(Show(trace.Image.Fork()).Count(), 1));
        foreach (CrashState state in Show(image))
        {
            index++;
            if (keep < 1 && random.NextDouble() > keep) { continue; }
            StateCount++;
            state.ApplyTo(image);
            DiskImage? disk = NextLife is not null && depth == 0 && random.Next(NextLifeOneIn) == 0 ? Copy(image, state) : null;
            string? problem = verifier.Verify(state, random.Next(ThoroughOneIn) == 0);
            image.Reset();
            if (problem is not null) { return $"state {index}, {state}: {problem}"; }
            if (disk is null) { continue; }
            int nextSeed = random.Next();
            CrashTrace next = NextLife!(disk, state.Left, nextSeed);
            // A power cut in this life's recovery may still take what only log memory had, from its end on.
            for (int taken = state.Left.Count - 1; taken >= 0; taken--)
            {
                Dictionary<string, ulong> earlier = StateVerifier.Read(disk, [.. state.Left.Take(taken)], readContent);
                foreach (string name in earlier.Keys.Union(next.Histories.Keys).ToArray())
                {
                    ContentHistory history = next.Histories.GetValueOrDefault(name) ?? next.Begin(name, ContentHistory.Absent);
                    history.Precede(earlier.GetValueOrDefault(name));
                }
            }
            if (Explore(next, nextSeed, depth + 1) is { } later) { return $"state {index}, {state}; next life (seed {nextSeed}): {later}"; }
        }
        return null;
    }

    private static DiskImage Copy(DiskImage image, CrashState state)
    {
        image.Reset();
        DiskImage copy = image.Fork();
        state.ApplyTo(copy);
        state.ApplyTo(image);
        return copy;
    }
}
