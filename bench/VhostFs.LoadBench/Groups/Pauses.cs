using System.Diagnostics;
using System.Text.Json;
using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Matrix;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Groups;

/// <summary>How often, and for how long, garbage collection stops all threads of the server while four guests read, write, sync and make files at the same time.</summary>
internal static class Pauses
{
    // Each look allocates in the server, which has minutes between two collections: asked five times a second, most of what it allocated was answers.
    private const int LookEveryMs = 10_000;

    private static readonly Case[] s_cases = [new("randread", 8), new("randwrite", 8), new("fsync-append", 1), new("meta", 4)];

    public static void Run(Rig rig)
    {
        using VhostfsServer server = rig.NewOurs(rig.Setup("pauses") with { VolumesPerPool = s_cases.Length });
        rig.Prepare(server, s_cases);
        foreach (VhostfsServer _ in rig.Rounds([server])) { Measure(rig, server); }
        server.Remove();
    }

    private static void Measure(Rig rig, VhostfsServer server)
    {
        using var rpc = new RpcClient(server.RpcSocket);
        Look before = Ask(rpc), last = before;
        long longestNs = 0;
        long start = Stopwatch.GetTimestamp();
        Task<List<RunResult>>[] guests = [.. s_cases.Select((one, i) => Task.Factory.StartNew(() => Work(rig.Options.Load(one, server.Sockets[i]), start), TaskCreationOptions.LongRunning))];
        for (bool isOver = false; !isOver;)
        {
            isOver = Task.WaitAll(guests, LookEveryMs);
            Look now = Ask(rpc);
            longestNs = Math.Max(longestNs, now.PausesNs - last.PausesNs); // of several in one interval the sum: no pause was longer
            last = now;
        }
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        foreach (RunResult result in guests.SelectMany(guest => guest.Result)) { rig.Results.Add(server, "with three others", result); }
        string what = $"{seconds:0} s of load";
        rig.Results.Add(server, $"{what}: collections", "", last.Collections - before.Collections);
        rig.Results.Add(server, $"{what}: the longest pause", " us", longestNs / 1e3);
        rig.Results.Add(server, $"{what}: all pauses together", " us", (last.PausesNs - before.PausesNs) / 1e3);
        rig.Results.Add(server, $"{what}: allocated", " KiB/s", (last.AllocatedBytes - before.AllocatedBytes) / 1024.0 / seconds);
    }

    // A job that ends when its files are made and gone begins again, with another session.
    private static List<RunResult> Work(LoadOptions load, long start)
    {
        var results = new List<RunResult>();
        // Its phases take so long each.
        LoadOptions once = Jobs.IsTransfer(load.Job) || load.Job == "fsync-append" ? load : load with { Seconds = Math.Min(load.Seconds, 1) };
        do { results.AddRange(LoadRun.Run(once)); }
        while (Stopwatch.GetElapsedTime(start).TotalSeconds < load.Seconds);
        return results;
    }

    private static Look Ask(RpcClient rpc)
    {
        JsonElement memory = rpc.Call("framework_get_memory", new { });
        return new Look(memory.GetProperty("collections").GetInt64(), memory.GetProperty("pauses_ns").GetInt64(), memory.GetProperty("allocated_bytes").GetInt64());
    }

    private readonly record struct Look(long Collections, long PausesNs, long AllocatedBytes);
}
