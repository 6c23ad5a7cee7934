using VhostFs.Campaigns;

namespace VhostFs.Scale.Tests;

/// <summary>A mixed load that goes on and on: every answer is right, and the process does not grow.</summary>
public sealed class EnduranceCampaign() : Campaign("endurance", "requests", floor: 2_000_000, "100 volumes in one process, mixed file operations, guests that come and go: all bytes right, memory, descriptors and threads flat")
{
    private const int Volumes = 100;
    private const int StepsPerRound = 100;
    private const int WarmUpRounds = 4;
    private const int Rounds = 14;

    /// <summary>Caches fill and the collector breathes; what leaks by request or by session goes beyond it.</summary>
    private const long MaxGrowthKib = 48 << 10;

    /// <summary>The kernel's workers of the rings and the pool's threads come and go with the machine's speed; a thread left behind by each session would be 200 in all.</summary>
    private const int MaxThreadGrowth = 20;

    public override int MaxThreads => 1;

    public override TimeSpan Patience => TimeSpan.FromMinutes(30);

    public string Measured { get; private set; } = "";

    public override long Run(ulong seed)
    {
        using var daemon = new ManyVolumes(Volumes, "16G");
        VolumeWorker[] workers = [.. Enumerable.Range(0, Volumes).Select(i => new VolumeWorker(daemon.Socket(i), unchecked((int)seed) + i))];
        try
        {
            foreach (VolumeWorker worker in workers) { worker.Connect(); }
            Work(workers, WarmUpRounds, seed);
            (int descriptors, int threads, long memory) = (daemon.DescriptorCount, daemon.ThreadCount, daemon.PrivateKib);
            Work(workers, Rounds, seed);
            // A session that ended lets go of its descriptors a moment after its guest has gone.
            for (int tenths = 0; daemon.DescriptorCount != descriptors && tenths < 100; tenths++) { Thread.Sleep(100); }
            (int descriptorsAfter, int threadsAfter, long memoryAfter) = (daemon.DescriptorCount, daemon.ThreadCount, daemon.PrivateKib);
            Measured = $"descriptors {descriptors} -> {descriptorsAfter}, threads {threads} -> {threadsAfter}, private memory {memory >> 10} -> {memoryAfter >> 10} MiB";
            if (descriptorsAfter != descriptors || threadsAfter > threads + MaxThreadGrowth || memoryAfter > memory + MaxGrowthKib) { throw new FindingException($"the process grows: {Measured}"); }

            foreach (VolumeWorker worker in workers)
            {
                worker.CompareAll();
                worker.Disconnect();
            }
            daemon.Stop();
            return daemon.Check() is { } broken ? throw new FindingException(broken) : workers.Sum(worker => worker.Requests);
        }
        finally
        {
            foreach (VolumeWorker worker in workers) { worker.Dispose(); }
        }
    }

    private static void Work(VolumeWorker[] workers, int rounds, ulong seed)
    {
        for (int round = 0; round < rounds; round++)
        {
            int first = (int)((seed + (ulong)round) % 7);
            try
            {
                Parallel.For(0, workers.Length, new ParallelOptions { MaxDegreeOfParallelism = 2 }, i =>
                {
                    for (int step = 0; step < StepsPerRound; step++) { workers[i].Step(); }
                    // A seventh of the guests leave and come back each round, without a word to the file system.
                    if (i % 7 != first) { return; }
                    workers[i].Disconnect();
                    workers[i].Connect();
                });
            }
            catch (AggregateException several) when (several.InnerExceptions[0] is FindingException finding)
            {
                throw new FindingException($"round {round}: {finding.Message}");
            }
        }
    }
}
