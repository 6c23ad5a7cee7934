using VhostFs.Campaigns;

namespace VhostFs.Scale.Tests;

/// <summary>Many volumes with many files in one process; idle; one request a second; killed; back.</summary>
public sealed class ScaleCampaign() : Campaign("scale", "files", floor: 200_000, "200 volumes of 1,000 files behind 200 sockets in one process: idle costs nothing, kill -9 loses nothing")
{
    private const int Volumes = 200;
    private const int FilesPerVolume = 1000;
    private const int IdleSeconds = 3;
    private const int SlowRounds = 3;

    /// <summary>Far above what is measured (docs/testing.md): a leak per volume or per file goes beyond it.</summary>
    private const long MaxPrivateKib = 400 << 10;

    public override int MaxThreads => 1;

    public override TimeSpan Patience => TimeSpan.FromMinutes(15);

    /// <summary>What the last run measured, for people.</summary>
    public string Measured { get; private set; } = "";

    public override long Run(ulong seed)
    {
        using var daemon = new ManyVolumes(Volumes, "16G");
        VolumeWorker[] workers = [.. Enumerable.Range(0, Volumes).Select(i => new VolumeWorker(daemon.Socket(i), unchecked((int)seed) + i))];
        try
        {
            TimeSpan firstStart = daemon.StartTime;
            InParallel(workers, worker => worker.Connect());
            InParallel(workers, worker => worker.MakeFiles(FilesPerVolume));

            TimeSpan idle = IdleTime(daemon);
            if (idle > TimeSpan.FromSeconds(IdleSeconds) / 50) { throw new FindingException($"{Volumes} idle sessions used {idle.TotalMilliseconds} ms of processor time in {IdleSeconds} s"); }
            for (int round = 0; round < SlowRounds; round++)
            {
                Thread.Sleep(1000);
                InParallel(workers, worker => worker.GetRootAttributes());
            }
            long memory = daemon.PrivateKib;
            if (memory > MaxPrivateKib) { throw new FindingException($"{memory} KiB of private memory for {Volumes} volumes"); }

            // Everything was acknowledged: all of it survives the death of the process without any sync.
            daemon.Kill();
            foreach (VolumeWorker worker in workers) { worker.Disconnect(); }
            if (daemon.Check() is { } broken) { throw new FindingException(broken); }
            daemon.ServeAgain();
            Measured = $"started in {firstStart.TotalSeconds:f1} s, after kill -9 in {daemon.StartTime.TotalSeconds:f1} s; idle {idle.TotalMilliseconds} ms of CPU in {IdleSeconds} s; {memory >> 10} MiB private";
            InParallel(workers, worker => worker.Connect());
            InParallel(workers, worker => worker.CompareAll());
            foreach (VolumeWorker worker in workers) { worker.Disconnect(); }
            daemon.Stop();
            return daemon.Check() is { } afterwards ? throw new FindingException(afterwards) : Volumes * FilesPerVolume;
        }
        finally
        {
            foreach (VolumeWorker worker in workers) { worker.Dispose(); }
        }
    }

    private static TimeSpan IdleTime(ManyVolumes daemon)
    {
        // What a load leaves behind, unmaps and the end of polling, is over soon.
        Thread.Sleep(3000);
        TimeSpan before = daemon.ProcessorTime;
        Thread.Sleep(IdleSeconds * 1000);
        return daemon.ProcessorTime - before;
    }

    // Two guests at a time: the daemon wants a processor as well.
    private static void InParallel(VolumeWorker[] workers, Action<VolumeWorker> work)
    {
        try
        {
            Parallel.ForEach(workers, new ParallelOptions { MaxDegreeOfParallelism = 2 }, work);
        }
        catch (AggregateException several) when (several.InnerExceptions[0] is FindingException first)
        {
            throw new FindingException(first.Message);
        }
    }
}
