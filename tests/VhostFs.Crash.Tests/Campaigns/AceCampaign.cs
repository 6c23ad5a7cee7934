using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Explorer;

namespace VhostFs.Crash.Tests.Campaigns;

/// <summary>Bounded workloads, as CrashMonkey's ACE makes them: every sequence of so many operations, with every choice of what is made durable after each.</summary>
/// <remarks>Successive seeds take successive blocks of one fixed order that goes through all sequences: so many seeds, so many different sequences.</remarks>
public sealed class AceCampaign(int length, long floor)
    : Campaign($"ace-{length}", "workloads", floor, $"all sequences of {length} file operation{(length == 1 ? "" : "s")} with fsync, fdatasync, sync or none after each, and the telling crashes: what was made durable is there")
{
    private const int SequencesPerSeed = 100;

    /// <summary>Prime, and no factor of the number of sequences: the order jumps about, and meets each sequence once.</summary>
    private const long Stride = 1_000_003;

    private static readonly Lazy<DiskImage> s_disk = new(() => FileSystemRun.Format(10 << 20, AceFiles.PrepareAsync));

    /// <summary>Crash states tried, by all runs.</summary>
    public long StateCount => Interlocked.Read(ref _stateCount);

    private long _stateCount;

    /// <summary>Seeds that go through all sequences.</summary>
    public long SeedsForAll => (AceSequence.Count(length) + SequencesPerSeed - 1) / SequencesPerSeed;

    /// <summary>Seconds on an idle machine.</summary>
    public override TimeSpan Patience => TimeSpan.FromMinutes(15);

    public override long Run(ulong seed)
    {
        long total = AceSequence.Count(length), workloads = 0;
        for (int i = 0; i < SequencesPerSeed; i++)
        {
            long position = (long)((((seed - 1) * SequencesPerSeed) + (ulong)i) % (ulong)total);
            long number = (long)((UInt128)position * Stride % (UInt128)total);
            AceSequence sequence = AceSequence.Number(length, number);
            int states;
            string? problem;
            try { states = sequence.Explore(s_disk.Value, unchecked((int)number), out problem); }
            catch (InvalidOperationException e) { (states, problem) = (0, e.Message); }
            if (problem is not null) { throw new FindingException($"sequence {number} ({sequence}): {problem}"); }
            Interlocked.Add(ref _stateCount, states);
            if (states > 0) { workloads++; }
        }
        return workloads;
    }
}
