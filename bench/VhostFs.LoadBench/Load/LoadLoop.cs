using System.Diagnostics;
using VhostFs.GuestDriver;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Load;

/// <summary>Keeps every slot of a queue busy with operations of one workload.</summary>
internal static class LoadLoop
{
    /// <summary>Until the time is over, the operations are, or the workload has no more; then what is in flight comes home.</summary>
    /// <param name="maxOperations">0: no limit.</param>
    /// <param name="latencies">Takes how long each operation took, from when its slot was free.</param>
    /// <returns>Operations that were finished.</returns>
    public static long Run(SlotQueue queue, Workload workload, double seconds, long maxOperations, Histogram latencies)
    {
        long now = Stopwatch.GetTimestamp();
        long end = double.IsFinite(seconds) ? now + (long)(seconds * Stopwatch.Frequency) : long.MaxValue;
        long left = maxOperations == 0 ? long.MaxValue : maxOperations;
        long done = 0;
        foreach (RequestSlot slot in queue.Slots)
        {
            if (left == 0 || !workload.TryBegin(slot)) { break; }
            left--;
            slot.StartedAt = now;
            queue.Submit(slot);
        }
        while (queue.InFlight > 0)
        {
            if (!queue.TryTake(out RequestSlot slot))
            {
                queue.Wait();
                continue;
            }
            if (workload.TryGoOn(slot))
            {
                queue.Submit(slot);
                continue;
            }
            now = Stopwatch.GetTimestamp();
            latencies.Add(now - slot.StartedAt);
            done++;
            if (now >= end || left == 0 || !workload.TryBegin(slot)) { continue; }
            left--;
            slot.StartedAt = now;
            queue.Submit(slot);
        }
        return done;
    }
}
