using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Matrix;

namespace VhostFs.LoadBench.Groups;

/// <summary>Rows that are measured together, and can be asked for by name.</summary>
/// <param name="What">Which rows, for the help.</param>
/// <param name="Devices">That have them.</param>
/// <param name="IsUsual">Measured when no group is named.</param>
internal sealed record Group(string Name, string What, DeviceKind[] Devices, bool IsUsual, Action<Rig> Run)
{
    private static readonly DeviceKind[] s_both = [DeviceKind.Fs, DeviceKind.Blk], s_fs = [DeviceKind.Fs], s_blk = [DeviceKind.Blk];
    private static readonly Case[] s_appends = [new("fsync-append", 1), new("fsync-append", 16)];

    /// <summary>All that there are, in the order in which they are measured.</summary>
    public static readonly Group[] All =
    [
        new("transfers", "4 KiB at random at each of --depths, 128 KiB and 1 MiB one after the other at QD8", s_both, IsUsual: true, rig => Usual(rig, [.. Case.Random(rig.Options.Depths), .. Case.Sequential])),
        new("requests", "GETATTR and LOOKUP at QD1 and QD32", s_fs, IsUsual: true, rig => Usual(rig, [new("getattr", 1), new("getattr", 32), new("lookup", 1), new("lookup", 32)])),
        new("fsync", "fsync after each 4 KiB at the end of a file, by 1 and 16 writers", s_fs, IsUsual: true, rig => Usual(rig, s_appends)),
        new("meta", "create, stat, readdirplus, rename and unlink of --files at QD1 and QD32", s_fs, IsUsual: true, rig => Usual(rig, [new("meta", 1), new("meta", 32)])),
        new("sessions", "memory of idle sessions, in the numbers of --sessions and --peer-sessions", s_fs, IsUsual: true, IdleSessions.Run),
        new("slow-flush", "the rows of fsync on a pool whose flush takes 1 ms more; vhostfs alone", s_fs, IsUsual: false, rig => Special(rig, "flush + 1 ms", setup => setup with { FlushUs = 1000 }, s_appends, hasPeer: false)),
        new("malloc", "a pool in memory: random 4 KiB at QD32, and one after the other as in transfers", s_fs, IsUsual: false, rig => Special(rig, "malloc", setup => setup with { IsInMemory = true }, [.. Case.Random([32]), .. Case.Sequential], hasPeer: true)),
        new("modes", "reactors that interrupt, adapt and poll: 4 KiB at random, GETATTR and LOOKUP at QD1, and what they use when idle", s_fs, IsUsual: false, ReactorModes.Run),
        new("reactors", "two reactors against one: random reads by two queues of one volume, of two volumes, of two processes; vhostfs alone", s_fs, IsUsual: false, ReactorScaling.Run),
        new("many", "--many sessions: until they are served, 10 requests/s each, the first request after idling, memory after they have gone", s_fs, IsUsual: false, ManySessions.Run),
        new("pauses", "how often and how long garbage collection stops the server while four guests read, write, sync and make files; vhostfs alone", s_fs, IsUsual: false, Pauses.Run),
        new("start", "from the start of a process until it answers; with --files in the pool, after a clean end and after kill -9", s_fs, IsUsual: false, StartTimes.Run),
        new("controllers", "--many disks of one process, made over its control socket: time, memory, what they use when idle; vhostfs alone", s_blk, IsUsual: false, Controllers.Run),
    ];

    private static void Usual(Rig rig, Case[] cases) => rig.Turns(cases, "", rig.Ours, rig.Peer);

    // A pool of its own beside the usual one, which goes when it has been measured.
    private static void Special(Rig rig, string variant, Func<VhostfsSetup, VhostfsSetup> change, Case[] cases, bool hasPeer)
    {
        using VhostfsServer ours = rig.NewOurs(change(rig.Setup(variant.Split(' ')[0])));
        rig.Turns(cases, variant, ours, hasPeer ? rig.Peer : null);
        ours.Remove();
    }
}
