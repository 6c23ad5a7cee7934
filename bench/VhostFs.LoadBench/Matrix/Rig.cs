using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Matrix;

/// <summary>What the groups of a comparison measure with: the servers, whose turn it is, and where results go.</summary>
/// <param name="sockets">A folder for sockets and logs, with a short name.</param>
/// <param name="files">A folder on the medium that is measured.</param>
/// <param name="stop">Ends it before the next run, with an exception.</param>
internal sealed class Rig(MatrixOptions options, string sockets, string files, Results results, CancellationToken stop) : IDisposable
{
    private const int WarmUpFiles = 2000;
    private readonly HashSet<Server> _filled = [];
    private Server? _ours;
    private PeerServer? _peer;

    public MatrixOptions Options => options;

    public Results Results => results;

    /// <summary>vhostfs as most groups want it: one volume, or one disk, on the medium.</summary>
    public Server Ours => _ours ??= options.Device == DeviceKind.Fs ? NewOurs(Setup("vhostfs")) : NewDisk();

    /// <summary>Null: nobody is compared with.</summary>
    public PeerServer? Peer => _peer ??= NewPeer(processes: 1);

    public VhostfsSetup Setup(string name) => new() { Name = name, Directory = files, PoolBytes = options.PoolBytes };

    public VhostfsServer NewOurs(VhostfsSetup setup) => new(sockets, options.Vhostfs, setup);

    public VhostfsTarget NewTarget() => new(sockets, options.Vhostfs);

    /// <param name="processes">That serve a device each, all from the same directory.</param>
    public PeerServer? NewPeer(int processes)
    {
        if (options.PeerCommand is not { } command) { return null; }
        string image = Path.Combine(files, "peer.img");
        if (options.Device == DeviceKind.Blk) { MakeImage(image); }
        return new PeerServer(options.PeerName, sockets, command, Directory.CreateDirectory(Path.Combine(files, "share")).FullName, image, processes);
    }

    /// <summary>Runs cases on vhostfs and on the peer by turns, so that what disturbs the machine disturbs both.</summary>
    /// <param name="variant">How <paramref name="ours"/> differs from what is usual.</param>
    public void Turns(IReadOnlyList<Case> cases, string variant, Server ours, Server? peer)
    {
        Prepare(ours, cases);
        if (peer is not null) { Prepare(peer, cases); }
        foreach (Case one in cases)
        {
            foreach (Server server in Rounds<Server>(peer is null ? [ours] : [ours, peer])) { Run(server, one, variant); }
        }
    }

    /// <summary>As often as everything is measured, all of them; who comes second finds other caches, so that changes from round to round.</summary>
    public IEnumerable<T> Rounds<T>(IReadOnlyList<T> all)
    {
        for (int round = 0; round < options.Rounds; round++)
        {
            foreach (T one in round % 2 == 0 ? all : all.Reverse())
            {
                stop.ThrowIfCancellationRequested();
                yield return one;
            }
        }
    }

    /// <summary>Files and disks are written once from end to end, and what compiles its code at run time has done so.</summary>
    public void Prepare(Server server, IReadOnlyList<Case> cases)
    {
        if (cases.Any(c => c.IsTransfer) && _filled.Add(server))
        {
            server.Start();
            foreach (string socket in server.Sockets) { Drain(options.Load(Case.Fill, socket) with { FillsDisk = true, Seconds = 0.1 }); }
            server.Finish();
            results.Say($"{server.Name}: {Size.Text(options.FileBytes)} written");
        }
        if (server is PeerServer) { return; }
        server.Start();
        // Each kind of request once, as dense as it comes.
        foreach (Case one in cases.GroupBy(c => (c.Job, c.BlockBytes)).Select(same => same.MaxBy(c => c.Depth)))
        {
            Drain(options.Load(one, server.Socket) with { Seconds = options.ServerWarmUpSeconds, Files = Math.Min(options.Files, WarmUpFiles) });
        }
        results.Say($"{server.Name}: warm");
    }

    /// <summary>One measurement.</summary>
    /// <param name="change">What is different this time.</param>
    public void Run(Server server, Case one, string variant, Func<LoadOptions, LoadOptions>? change = null)
    {
        server.Start();
        LoadOptions load = options.Load(one, server.Socket);
        foreach (RunResult result in LoadRun.Run(change is null ? load : change(load))) { results.Add(server, variant, result); }
        server.Finish();
    }

    public void Dispose()
    {
        _ours?.Dispose();
        _peer?.Dispose();
    }

    private static void Drain(LoadOptions load)
    {
        foreach (RunResult _ in LoadRun.Run(load)) { }
    }

    private VhostfsDiskServer NewDisk()
    {
        string image = Path.Combine(files, "vhostfs.img");
        MakeImage(image);
        return new VhostfsDiskServer(sockets, options.Vhostfs, image);
    }

    private void MakeImage(string path)
    {
        using FileStream file = File.Create(path);
        file.SetLength(options.FileBytes);
    }
}
