using System.Diagnostics;
using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Matrix;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Groups;

/// <summary>Many guests that each do a little, with all that comes before and after: of vhostfs one process with a volume for each, of the peer a process for each.</summary>
internal static class ManySessions
{
    private const int RequestsPerSecond = 10;

    // One after the other, so that each finds everything asleep; a thousand in a measurement of a second.
    private const int FirstRequestsPerSecond = 1000;
    private const long FirstIntervalNs = 5_000_000;

    public static void Run(Rig rig)
    {
        int many = rig.Options.Many;
        using VhostfsServer ours = rig.NewOurs(IdleSessions.Setup(rig, "many", many)), single = rig.NewOurs(IdleSessions.Setup(rig, "single", 1));
        // Volumes are there before starts are measured.
        foreach (VhostfsServer server in (VhostfsServer[])[ours, single])
        {
            server.Start();
            server.End();
        }
        foreach (Server server in rig.Rounds(Pair(ours, rig.NewPeer(many)))) { Measure(rig, server, many); }
        foreach (Server server in rig.Rounds(Pair(single, rig.NewPeer(1)))) { MeasureSingle(rig, server); }
        ours.Remove();
        single.Remove();
    }

    private static Server[] Pair(Server ours, Server? peer) => peer is null ? [ours] : [ours, peer];

    private static void Measure(Rig rig, Server server, int many)
    {
        Results results = rig.Results;
        var guests = new List<GuestSession>(many);
        try
        {
            long start = Stopwatch.GetTimestamp();
            server.Start();
            double startMs = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
            ServerProcess running = server.Running;
            Thread.Sleep(rig.Options.Settles);
            double before = Mib(running);

            long connect = Stopwatch.GetTimestamp();
            foreach (string socket in server.Sockets) { guests.Add(new GuestSession(socket)); }
            double connectMs = Stopwatch.GetElapsedTime(connect).TotalMilliseconds;
            results.Add(server, $"start until {many:N0} sockets listen", " ms", startMs);
            results.Add(server, $"and until {many:N0} guests, one after the other, have mounted and got an answer", " ms", connectMs);
            Thread.Sleep(rig.Options.Settles);
            running.Pin([rig.Options.ServerCpu]);
            double connected = Mib(running);

            using (new Pinned(rig.Options.Cpu))
            {
                First(rig, server, guests, $"first request after idling, {many:N0} sessions");
                Active(rig, server, guests);
            }
            guests.ForEach(guest => guest.Dispose());
            guests.Clear();
            results.Add(server, $"memory before {many:N0} guests come", " MiB", before);
            results.Add(server, "with them", " MiB", connected);
            Thread.Sleep(rig.Options.Settles);
            // Of the peer nothing is left: most servers end with their client.
            if (server is not PeerServer) { results.Add(server, "after they have gone", " MiB", Mib(running)); }
        }
        finally
        {
            guests.ForEach(guest => guest.Dispose());
            server.End();
        }
    }

    private static void MeasureSingle(Rig rig, Server server)
    {
        server.Start();
        using (var guest = new GuestSession(server.Socket))
        {
            server.Running.Pin([rig.Options.ServerCpu]);
            using var pinned = new Pinned(rig.Options.Cpu);
            First(rig, server, [guest], "first request after idling, a single session");
        }
        server.End();
    }

    private static void First(Rig rig, Server server, List<GuestSession> guests, string what)
    {
        var latencies = new Histogram();
        var meter = new Meter(server.Running);
        PacedLoad.Run(guests, FirstIntervalNs, (long)Math.Ceiling(rig.Options.Seconds * FirstRequestsPerSecond), latencies);
        rig.Results.Add(meter.Stop());
        Latency latency = Latency.Of(latencies);
        rig.Results.Add(server, $"{what}: p50", " us", latency.P50);
        rig.Results.Add(server, $"{what}: p99", " us", latency.P99);
    }

    private static void Active(Rig rig, Server server, List<GuestSession> guests)
    {
        string what = $"{guests.Count:N0} sessions, {RequestsPerSecond} GETATTR/s each";
        long rate = (long)guests.Count * RequestsPerSecond;
        var latencies = new Histogram();
        PacedLoad.Run(guests, Stopwatch.Frequency / rate, (long)(rate * rig.Options.WarmUpSeconds), latencies);
        latencies.Clear();
        var meter = new Meter(server.Running);
        PacedLoad.Run(guests, Stopwatch.Frequency / rate, (long)Math.Ceiling(rate * rig.Options.Seconds), latencies);
        Spent spent = meter.Stop();
        rig.Results.Add(spent);
        Latency latency = Latency.Of(latencies);
        rig.Results.Add(server, $"{what}: p50", " us", latency.P50);
        rig.Results.Add(server, $"{what}: p99", " us", latency.P99);
        rig.Results.Add(server, $"{what}: CPU per request", " us", spent.ServerSeconds * 1e6 / Math.Max(1, latencies.Count));
        rig.Results.Add(server, $"{what}: CPU of a processor", " %", spent.ServerSeconds / spent.Seconds * 100);
    }

    private static double Mib(ServerProcess server) => server.Memory.Own / 1024.0;
}
