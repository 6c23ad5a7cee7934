using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>A bounded workload: operations, each with what is made durable after it.</summary>
public sealed record AceSequence(IReadOnlyList<(AceOperation Operation, Persistence Persistence)> Steps)
{
    private const int ThoroughOneIn = 8;
    private const int RandomSubsets = 2;

    /// <summary>Both are called often: they answer at once and share one node cache.</summary>
    private static readonly Slowness s_quick = new(Writes: 1, Flushes: 1, Unmaps: 1);

    /// <summary>Sequences of this length.</summary>
    public static long Count(int length) => (long)Math.Pow(AceFiles.Operations.Count * Persistences, length);

    private static int Persistences => Enum.GetValues<Persistence>().Length;

    /// <summary>Each number below <see cref="Count"/> is one sequence.</summary>
    public static AceSequence Number(int length, long number)
    {
        var steps = new (AceOperation, Persistence)[length];
        for (int i = 0; i < length; i++)
        {
            number = Math.DivRem(number, Persistences, out long persistence);
            number = Math.DivRem(number, AceFiles.Operations.Count, out long operation);
            steps[i] = (AceFiles.Operations[(int)operation], (Persistence)persistence);
        }
        return new AceSequence(steps);
    }

    public override string ToString() => string.Join("; ", Steps.Select(step => $"{step.Operation}{(step.Persistence == Persistence.None ? "" : $", {step.Persistence}")}"));

    /// <summary>Runs it and tries the crash states that tell most; the number of states, 0 when one of its operations is not possible after those before.</summary>
    public int Explore(DiskImage disk, int seed, out string? problem)
    {
        var random = new Random(seed);
        var moments = new List<long>();
        bool isPossible = true;
        problem = null;
        (CrashTrace trace, _) = FileSystemRun.Run(disk, random, s_quick, PlayedLogMemory.ForLife(seed, []), new NodeCache(16 << 20), async (client, trace) =>
        {
            var files = new AceFiles(client, random);
            foreach ((AceOperation operation, Persistence persistence) in Steps)
            {
                ModelNode? touched = await operation.Run(files);
                isPossible = touched is not null;
                if (!isPossible) { return null; }
                moments.Add(trace.Now);
                if (persistence == Persistence.None) { continue; }
                Errno done = await client.PersistAsync(persistence, touched!);
                if (done != Errno.None) { return $"{persistence}: {done}"; }
                moments.Add(trace.Now);
            }
            return null;
        });
        if (!isPossible) { return 0; }
        DiskImage image = trace.Image.Fork();
        var verifier = new StateVerifier(image, trace, FileSystemReader.ReadPoolAsync, CheckOptions.Default);
        int count = 0;
        foreach (CrashState state in new CrashStates(trace, seed, RandomSubsets).At(image, moments))
        {
            count++;
            state.ApplyTo(image);
            problem = verifier.Verify(state, random.Next(ThoroughOneIn) == 0);
            image.Reset();
            if (problem is not null)
            {
                problem = $"{state}: {problem}";
                break;
            }
        }
        return count;
    }
}
