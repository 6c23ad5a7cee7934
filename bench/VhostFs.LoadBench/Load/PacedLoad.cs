using System.Diagnostics;
using VhostFs.GuestDriver;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Load;

/// <summary>Requests that are due at fixed times, of one session after the other, whether or not earlier ones have been answered.</summary>
/// <remarks>The calling thread looks at the clock and at all sessions that wait, and never sleeps.</remarks>
internal static class PacedLoad
{
    private const int TimeoutSeconds = 30;

    /// <param name="intervalNs">Between two requests, of whatever sessions.</param>
    /// <param name="latencies">Takes how long each answer took, from when its request was due.</param>
    public static void Run(IReadOnlyList<GuestSession> sessions, long intervalNs, long count, Histogram latencies)
    {
        var waiting = new List<GuestSession>(sessions.Count);
        long due = Stopwatch.GetTimestamp(), moved = due;
        for (long sent = 0; sent < count || waiting.Count > 0;)
        {
            long now = Stopwatch.GetTimestamp();
            GuestSession next = sessions[(int)(sent % sessions.Count)];
            if (sent < count && now >= due && !next.IsWaiting)
            {
                next.Ask(due);
                waiting.Add(next);
                due += intervalNs;
                sent++;
                moved = now;
            }
            for (int i = waiting.Count - 1; i >= 0; i--)
            {
                if (!waiting[i].TryTake()) { continue; }
                latencies.Add(Stopwatch.GetTimestamp() - waiting[i].DueAt);
                waiting.RemoveAt(i);
                moved = now;
            }
            Expect.True(waiting.Count == 0 || now - moved < TimeoutSeconds * Stopwatch.Frequency, $"one of {waiting.Count} sessions is answered within {TimeoutSeconds} s");
        }
    }
}
