using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Matrix;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Groups;

/// <summary>Memory of servers whose guests have mounted and do nothing: of vhostfs one process with a volume for each, of the peer a process for each.</summary>
internal static class IdleSessions
{
    private const long BytesPerVolume = 32 << 20;

    /// <summary>A pool with a volume for each session.</summary>
    public static VhostfsSetup Setup(Rig rig, string name, int sessions) =>
        rig.Setup(name) with { VolumesPerPool = sessions, PoolBytes = Math.Max(1L << 30, sessions * BytesPerVolume) };

    public static void Run(Rig rig)
    {
        foreach (int sessions in rig.Options.Sessions)
        {
            using VhostfsServer ours = rig.NewOurs(Setup(rig, "idle", sessions));
            rig.Results.OurMemory.Add(Measure(rig, ours));
            ours.Remove();
        }
        foreach (int sessions in rig.Options.PeerSessions)
        {
            if (rig.NewPeer(sessions) is { } peer) { rig.Results.PeerMemory.Add(Measure(rig, peer)); }
        }
    }

    private static SessionMemory Measure(Rig rig, Server server)
    {
        var meter = new Meter(server: null);
        server.Start();
        var guests = new List<GuestSession>();
        try
        {
            foreach (string socket in server.Sockets) { guests.Add(new GuestSession(socket)); }
            Thread.Sleep(rig.Options.Settles);
            ServerProcess running = server.Running;
            rig.Results.Add(meter.Stop(running));
            var memory = new SessionMemory(guests.Count, running.Memory.Own / 1024.0);
            rig.Results.Say($"{server.Name,-20} {memory.Sessions} idle sessions: {memory.Mib:0.0} MiB");
            return memory;
        }
        finally
        {
            guests.ForEach(guest => guest.Dispose());
            server.End();
        }
    }
}
