using System.Globalization;
using System.Text.Json;
using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Matrix;

/// <summary>Runs all cases on both servers by turns, so that what disturbs the machine disturbs both.</summary>
/// <param name="progress">A line per run.</param>
/// <param name="raw">A line of JSON per run; null: nobody wants them.</param>
/// <param name="stop">Ends it before the next run, with an exception.</param>
internal sealed class MatrixRun(MatrixOptions options, TextWriter progress, TextWriter? raw, CancellationToken stop = default)
{
    private readonly Dictionary<(string Server, Case Case), List<RunResult>> _results = [];
    private readonly List<Case> _order = [];

    public Comparison Run()
    {
        string sockets = Directory.CreateTempSubdirectory("loadbench-").FullName;
        string files = Directory.CreateDirectory(Path.Combine(options.Directory, $"loadbench-{Environment.ProcessId}")).FullName;
        try { return Run(sockets, files); }
        finally
        {
            Directory.Delete(sockets, recursive: true);
            Directory.Delete(files, recursive: true);
        }
    }

    private Comparison Run(string sockets, string files)
    {
        string machine = Machine.Describe();
        string loadBefore = MachineTime.LoadAverage;
        PeerServer? peer = NewPeer(sockets, files);
        Server ours = NewOurs(sockets, files);
        try
        {
            Server[] servers = peer is null ? [ours] : [ours, peer];
            Prepare(servers, ours);
            foreach (Case one in Case.Plan(options.Device, options.Depths))
            {
                for (int round = 0; round < options.Rounds; round++)
                {
                    // Who comes second finds other caches: that changes from round to round.
                    foreach (Server server in round % 2 == 0 ? servers : servers.Reverse()) { RunOnce(server, one); }
                }
            }
        }
        finally
        {
            ours.Dispose();
            peer?.Dispose();
        }
        List<SessionMemory> ourMemory = [.. options.Sessions.Select(n => Told(IdleSessions.OfVhostfs(n, options.Vhostfs, sockets, Path.Combine(files, "many.img")), ours))];
        List<SessionMemory> peerMemory = peer is null ? [] : [.. options.PeerSessions.Select(n => Told(IdleSessions.OfPeer(n, peer), peer))];
        return new Comparison(options.Name, ours.Name, options.PeerName, $"{machine}; load average {loadBefore} before, {MachineTime.LoadAverage} after; others used {Others()} of a processor", Method(), Summarize(ours, peer), ourMemory, peerMemory);
    }

    private PeerServer? NewPeer(string sockets, string files)
    {
        if (options.PeerCommand is null) { return null; }
        string image = Path.Combine(files, "peer.img");
        if (options.Device == DeviceKind.Blk) { MakeImage(image); }
        return new PeerServer(options.PeerName, sockets, options.PeerCommand, Directory.CreateDirectory(Path.Combine(files, "share")).FullName, image);
    }

    private Server NewOurs(string sockets, string files)
    {
        string image = Path.Combine(files, "vhostfs.img");
        if (options.Device == DeviceKind.Fs) { return new VhostfsFileServer(sockets, options.Vhostfs, image, options.PoolBytes); }
        MakeImage(image);
        return new VhostfsDiskServer(sockets, options.Vhostfs, image);
    }

    private void MakeImage(string path)
    {
        using FileStream file = File.Create(path);
        file.SetLength(options.FileBytes);
    }

    // Files and disks are written once from end to end, and what compiles its code at run time has done so.
    private void Prepare(Server[] servers, Server ours)
    {
        foreach (Server server in servers)
        {
            server.Start();
            Drain(LoadRun.Run(options.Load(Case.Fill, server.Socket) with { FillsDisk = true, Seconds = 0.1 }));
            server.Finish();
            progress.WriteLine($"{server.Name}: {Size.Text(options.FileBytes)} written");
        }
        ours.Start();
        foreach (Case one in Case.WarmUp(options.Device)) { Drain(LoadRun.Run(options.Load(one, ours.Socket) with { Seconds = options.ServerWarmUpSeconds })); }
        progress.WriteLine($"{ours.Name}: warm");
    }

    private static void Drain(IEnumerable<RunResult> results)
    {
        foreach (RunResult _ in results) { }
    }

    private void RunOnce(Server server, Case one)
    {
        stop.ThrowIfCancellationRequested();
        server.Start();
        foreach (RunResult result in LoadRun.Run(options.Load(one, server.Socket)))
        {
            var key = new Case(result.Job, result.Depth, result.BlockBytes);
            if (!_order.Contains(key)) { _order.Add(key); }
            if (!_results.TryGetValue((server.Name, key), out List<RunResult>? runs)) { _results[(server.Name, key)] = runs = []; }
            runs.Add(result);
            progress.WriteLine($"{server.Name,-20} {result}");
            raw?.WriteLine($"{{\"server\":{JsonSerializer.Serialize(server.Name)},\"result\":{result.ToJson()}}}");
        }
        server.Finish();
    }

    private SessionMemory Told(SessionMemory memory, Server server)
    {
        progress.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{server.Name,-20} {memory.Sessions} idle sessions: {memory.Mib:N1} MiB"));
        return memory;
    }

    private CaseResult[] Summarize(Server ours, PeerServer? peer) =>
        [.. _order.Select(key => new CaseResult(key.Job, key.Depth, key.BlockBytes, Side.Of(_results[(ours.Name, key)]), peer is null ? null : Side.Of(_results[(peer.Name, key)])))];

    private string Others()
    {
        List<RunResult> all = [.. _results.Values.SelectMany(r => r)];
        return string.Create(CultureInfo.InvariantCulture, $"{Side.Median(all, r => r.OthersCpuPercent):N0} % (median; at most {all.Max(r => r.OthersCpuPercent):N0} %)");
    }

    private string Method() => string.Create(CultureInfo.InvariantCulture,
        $"Medians of {options.Rounds} rounds of {options.Seconds} s, by turns; the front-end {(options.IsPolling ? "polls" : "sleeps until it is called")}, on processor {options.Cpu}, the server on {options.ServerCpu}; {(options.Device == DeviceKind.Blk ? "a disk" : "a file")} of {Size.Text(options.FileBytes)}{(options.IsDirect ? ", opened with O_DIRECT" : "")}");
}
