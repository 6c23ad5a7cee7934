using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Matrix;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Groups;

/// <summary>The three ways in which a reactor waits, by turns on one server, each beside the peer.</summary>
internal static class ReactorModes
{
    private const string Usual = "adaptive";
    private static readonly string[] s_modes = ["interrupt", Usual, "poll"];
    private static readonly Case[] s_cases = [new("randread", 1), new("randwrite", 1), new("getattr", 1), new("lookup", 1)];

    public static void Run(Rig rig)
    {
        var server = (VhostfsServer)rig.Ours;
        rig.Prepare(server, s_cases);
        if (rig.Peer is { } filled) { rig.Prepare(filled, s_cases); }
        foreach (string mode in rig.Rounds(s_modes))
        {
            Switch(server, mode);
            foreach (Case one in s_cases)
            {
                rig.Run(server, one, mode);
                if (rig.Peer is { } peer) { rig.Run(peer, one, mode); }
            }
            Idle(rig, server, mode);
        }
        Switch(server, Usual);
    }

    private static void Switch(VhostfsServer server, string mode)
    {
        using var rpc = new RpcClient(server.RpcSocket);
        rpc.Call("reactor_set_mode", new { mode });
    }

    // Of a guest that has asked for something, and then for nothing.
    private static void Idle(Rig rig, Server server, string mode)
    {
        using var guest = new GuestSession(server.Socket);
        Thread.Sleep(rig.Options.Settles);
        ServerProcess running = server.Running;
        Dictionary<string, long> sleeps = running.Sleeps;
        var meter = new Meter(running);
        Thread.Sleep(rig.Options.Settles);
        Spent spent = meter.Stop();
        rig.Results.Add(server, $"{mode}, idle: CPU of a processor", " %", spent.ServerSeconds / spent.Seconds * 100);
        rig.Results.Add(server, $"{mode}, idle: wake-ups", "/s", running.SleepsSince(sleeps) / spent.Seconds);
    }
}
