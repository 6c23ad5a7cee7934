using System.Diagnostics;
using VhostFs.GuestDriver;
using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Matrix;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Groups;

/// <summary>How long guests wait for a server that has just been started.</summary>
internal static class StartTimes
{
    // What an end without warning leaves to be done again.
    private const int FilesBeforeKill = 2000;

    public static void Run(Rig rig)
    {
        using VhostfsServer empty = rig.NewOurs(rig.Setup("empty")), full = rig.NewOurs(rig.Setup("full"));
        empty.Start(); // which makes the pool
        empty.End();
        foreach (Server server in rig.Rounds<Server>(rig.NewPeer(1) is { } peer ? [empty, peer] : [empty])) { Measure(rig, server, "an empty file system"); }

        int files = rig.Options.Files;
        full.Start();
        rig.Results.Say($"{full.Name}: makes {files:N0} files");
        LastingFiles.Make(full.Socket, files, "lasting-");
        full.End();
        int killed = 0;
        foreach (bool isKilled in rig.Rounds([false, true]))
        {
            if (isKilled)
            {
                full.Start();
                LastingFiles.Make(full.Socket, FilesBeforeKill, $"killed-{killed++}-");
                full.Kill();
            }
            Measure(rig, full, $"{files:N0} files, {(isKilled ? $"kill -9 just after {FilesBeforeKill:N0} more were made" : "ended in order")}");
        }
        empty.Remove();
        full.Remove();
    }

    private static void Measure(Rig rig, Server server, string what)
    {
        var meter = new Meter(server: null);
        long start = Stopwatch.GetTimestamp();
        server.Start();
        FrontEnd frontEnd = FrontEnd.Connect(server.Socket, new GuestRam(GuestSession.RamBytes));
        frontEnd.AskFeatures();
        double featuresMs = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        using (new GuestSession(frontEnd))
        {
            double answeredMs = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
            rig.Results.Add(meter.Stop(server.Running));
            rig.Results.Add(server, $"{what}: start until GET_FEATURES is answered", " ms", featuresMs);
            rig.Results.Add(server, $"{what}: until INIT and a GETATTR are", " ms", answeredMs);
        }
        server.End();
    }
}
