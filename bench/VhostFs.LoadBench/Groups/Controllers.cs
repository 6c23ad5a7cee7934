using System.Diagnostics;
using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Matrix;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Groups;

/// <summary>Many disks of one process, each with a guest that does nothing.</summary>
internal static class Controllers
{
    private const int Blocks = 2048, BlockBytes = 512; // 1 MiB

    public static void Run(Rig rig)
    {
        foreach (int many in rig.Rounds([rig.Options.Many])) { Measure(rig, many); }
    }

    private static void Measure(Rig rig, int many)
    {
        using VhostfsTarget server = rig.NewTarget();
        server.Start();
        ServerProcess running = server.Running;
        Add("no disks", " MiB", Mib());

        using (RpcClient rpc = server.Connect())
        {
            Add($"call that makes a bdev, of {many:N0}", " us", Each(i => rpc.Call("bdev_null_create", new { name = $"n{i}", num_blocks = Blocks, block_size = BlockBytes })));
            Add($"call that makes a controller, of {many:N0}", " us", Each(i => rpc.Call("vhost_create_blk_controller", new { ctrlr = $"c{i}", dev_name = $"n{i}" })));
            Add($"call that lists {many:N0} controllers", " ms", TimeOf(() => rpc.Call("vhost_get_controllers", new { })).TotalMilliseconds);
        }
        Add($"{many:N0} controllers", " MiB", Mib());

        var guests = new List<GuestSession>(many);
        try
        {
            Add($"{many:N0} guests until each has read a block", " ms", TimeOf(() => guests.AddRange(Enumerable.Range(0, many).Select(i => new GuestSession(server.SocketOf($"c{i}"), DeviceKind.Blk)))).TotalMilliseconds);
            Thread.Sleep(rig.Options.Settles);
            Add($"{many:N0} controllers with a guest each", " MiB", Mib());
            Dictionary<string, long> sleeps = running.Sleeps;
            var meter = new Meter(running);
            Thread.Sleep(rig.Options.Settles);
            Spent spent = meter.Stop();
            rig.Results.Add(spent);
            Add("they idle: CPU of a processor", " %", spent.ServerSeconds / spent.Seconds * 100);
            Add("they idle: wake-ups", "/s", running.SleepsSince(sleeps) / spent.Seconds);
        }
        finally { guests.ForEach(guest => guest.Dispose()); }

        void Add(string what, string unit, double value) => rig.Results.Add(server, what, unit, value);
        double Mib() => running.Memory.Own / 1024.0;
        double Each(Action<int> call) => TimeOf(() =>
        {
            for (int i = 0; i < many; i++) { call(i); }
        }).TotalMicroseconds / many;
    }

    private static TimeSpan TimeOf(Action work)
    {
        long start = Stopwatch.GetTimestamp();
        work();
        return Stopwatch.GetElapsedTime(start);
    }
}
