using VhostFs.GuestDriver;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Load;

/// <summary>One queue, the thread that drives it, and what it is given to do.</summary>
internal sealed record Lane(SlotQueue Queue, Workload Workload, int Cpu)
{
    private readonly Histogram _latencies = new();
    private Exception? _failed;
    private long _done;

    /// <summary>All lanes at once, until each has come to its end.</summary>
    /// <param name="maxOperations">Of all together; 0: no limit.</param>
    /// <param name="latencies">Takes those of all.</param>
    /// <returns>Operations that were finished.</returns>
    public static long RunAll(IReadOnlyList<Lane> lanes, double seconds, long maxOperations, Histogram latencies)
    {
        // The caller is where it belongs already.
        if (lanes.Count == 1) { return LoadLoop.Run(lanes[0].Queue, lanes[0].Workload, seconds, maxOperations, latencies); }
        long each = (maxOperations + lanes.Count - 1) / lanes.Count;
        Thread[] threads = [.. lanes.Select(lane => new Thread(() => lane.Run(seconds, each)))];
        foreach (Thread thread in threads) { thread.Start(); }
        foreach (Thread thread in threads) { thread.Join(); }
        foreach (Lane lane in lanes)
        {
            if (lane._failed is { } failed) { throw new DriverException(failed.Message, failed); }
            latencies.Add(lane._latencies);
        }
        return lanes.Sum(lane => lane._done);
    }

    private void Run(double seconds, long maxOperations)
    {
#pragma warning disable CA1031 // it is thrown on the thread that waits
        try
        {
            using var pinned = new Pinned(Cpu);
            _latencies.Clear();
            _done = LoadLoop.Run(Queue, Workload, seconds, maxOperations, _latencies);
        }
        catch (Exception e) { _failed = e; }
#pragma warning restore CA1031
    }
}
