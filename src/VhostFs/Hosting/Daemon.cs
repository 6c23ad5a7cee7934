using VhostFs.Block;
using VhostFs.Blobstore;
using VhostFs.Config;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Rpc;

namespace VhostFs.Hosting;

/// <summary>The running server: reactors, the pools on them, the exports of their volumes; from start to the last flush; and mounts on this host.</summary>
/// <remarks>Every pool and everything above it lives on one reactor; this class only sends them work and waits. What fails is logged and left out:
/// the rest is served.</remarks>
internal sealed class Daemon
{
    private const int RingEntries = 1024;

    /// <summary>Volumes of a pool that are opened at the same time: they share the flushes that each of them needs.</summary>
    private const int StartsAtOnce = 32;

    /// <summary>How long requests may take to finish at the end. A disk that hangs must not keep the process.</summary>
    private static readonly TimeSpan s_drainTime = TimeSpan.FromSeconds(20);

    private readonly ServeConfig _config;
    private readonly Log _log;
    private readonly List<Reactor.Reactor> _reactors = [];
    private readonly List<(PoolHost Host, Reactor.Reactor Reactor)> _pools = [];
    private readonly List<IServing> _serving = [];
    private readonly AttachedMounts _attached;
    private NodeCaches? _nodeCaches;
    private BlockTarget? _block;
    private RpcServer? _control;

    private Daemon(ServeConfig config, Log log)
    {
        _config = config;
        _log = log;
        _attached = new AttachedMounts(_pools, log);
    }

    /// <summary>Serves until a signal, or until everything has ended by itself; returns the exit status.</summary>
    public static async Task<int> RunAsync(ServeConfig config, Log log, TextWriter output)
    {
        using var signals = new Signals(log);
        // Image files and sockets are for this user alone, unless --socket-group says otherwise.
        SocketAccess.SetUmask(Convert.ToInt32("077", 8));
        var daemon = new Daemon(config, log);
        bool serving = daemon.TryStartReactors() && await daemon.StartAsync() && await daemon.TryStartControlAsync(signals.Ask);
        if (serving)
        {
            daemon.PrintOptions(output);
            ServiceNotify.Ready();
            // One that serves nothing yet waits for what clients will ask of it.
            Task ended = daemon._serving.Count > 0 ? Task.WhenAll(daemon._serving.Select(s => s.Ended)) : Task.Delay(Timeout.Infinite);
            if (await Task.WhenAny(signals.Stop, ended) != ended) { log.Info("", $"{await signals.Stop}: finishing requests, writing everything out"); }
            ServiceNotify.Stopping();
        }
        bool stopped = await daemon.StopAsync();
        return serving && stopped ? ExitCode.Ok : ExitCode.Failure;
    }

    private bool TryStartReactors()
    {
        for (int i = 0; i < (_config.IsBlockTarget ? _config.Reactors : Math.Min(_config.Reactors, _config.Pools.Count)); i++)
        {
            string name = $"reactor {i}";
            Ring ring;
            try { ring = Ring.Create(RingEntries); }
            catch (Exception e) when (e is InvalidOperationException or IOException or PlatformNotSupportedException)
            {
                _log.Error("", $"io_uring cannot be used: {e.Message}; it needs Linux 6.1 or later, and a container's seccomp profile that allows io_uring_setup");
                return false;
            }
            var reactor = new Reactor.Reactor(ring, name) { Mode = _config.ReactorMode };
            reactor.UnhandledException += e => _log.Error(name, $"a bug, please report it: {e}");
            reactor.Start();
            _reactors.Add(reactor);
        }
        _nodeCaches = new NodeCaches(_reactors);
        return true;
    }

    /// <summary>Opens what can be opened. False when nothing is served.</summary>
    private async Task<bool> StartAsync()
    {
        var opened = await Task.WhenAll(_config.Pools.Select((pool, i) => OpenPoolAsync(pool, _reactors[i % _reactors.Count])));
        _pools.AddRange(opened.OfType<(PoolHost, Reactor.Reactor)>());
        IServing[] wanted = [.. _config.Exports.Select(e => new Export(e, _log)), .. _config.Mounts.Select(m => new HostMount(m, _log))];
        var turns = _pools.ToDictionary(pool => pool.Host.Name, _ => new SemaphoreSlim(StartsAtOnce));
        bool[] started = await Task.WhenAll(wanted.Select(serving => TryStartAsync(serving, turns)));
        _serving.AddRange(wanted.Where((_, i) => started[i]));
        if (_serving.Count == 0 && wanted.Length > 0) { _log.Error("", "nothing can be served"); }
        else if (_serving.Count < wanted.Length) { _log.Warn("", $"{_serving.Count} of {wanted.Length} exports are served"); }
        return _serving.Count > 0 || wanted.Length == 0;
    }

    /// <summary>Null: it is left out.</summary>
    private async Task<(PoolHost, Reactor.Reactor)?> OpenPoolAsync(PoolConfig pool, Reactor.Reactor reactor)
    {
        var options = new PoolOptions { NodeCache = _nodeCaches![reactor], Report = line => _log.Warn($"pool {pool.Name}", line) };
        OpenResult<PoolHost> opened = await GuardAsync(() => reactor.InvokeAsync(() => PoolHost.OpenAsync(pool, _config.Bdevs, options, _log)), e => (OpenResult<PoolHost>)e);
        if (opened.Value is { } host) { return (host, reactor); }
        _log.Error($"pool {pool.Name}", $"{pool.Where}: {opened.Error}");
        return null;
    }

    private async Task<bool> TryStartAsync(IServing serving, Dictionary<string, SemaphoreSlim> turns)
    {
        if (!turns.TryGetValue(serving.PoolName, out SemaphoreSlim? turn))
        {
            _log.Error(serving.Scope, $"is not served: its pool '{serving.PoolName}' is not open");
            return false;
        }
        (PoolHost host, Reactor.Reactor reactor) = _pools.Find(pool => pool.Host.Name == serving.PoolName);
        await turn.WaitAsync();
        string? problem = await GuardAsync(() => serving.StartAsync(host, reactor), e => e);
        turn.Release();
        if (problem is not null) { _log.Error(serving.Scope, problem); }
        return problem is null;
    }

    /// <summary>False when a socket was asked for and cannot be had; where none was asked for, guests are served without.</summary>
    private async Task<bool> TryStartControlAsync(Action<string> stop)
    {
        if (_config.RpcSocket is null) { return true; }
        bool isAskedFor = _config.IsBlockTarget;
        string error = "";
        string? path = _config.RpcSocket.Length > 0 ? _config.RpcSocket : RuntimeDirectory.TryMakePath(out error);
        if (path is not null)
        {
            _block = new BlockTarget(_reactors, _nodeCaches!, _config.SocketDirectory, _log, stop);
            foreach ((PoolHost host, Reactor.Reactor reactor) in _pools) { _block.AddPool(host, reactor); }
            var methods = new Dictionary<string, RpcMethod>(_block.Methods, StringComparer.Ordinal) { [AttachedMounts.Method] = _attached.AttachAsync };
            if (_config.AllowedMethods?.FirstOrDefault(name => name != RpcServer.GetMethods && !methods.ContainsKey(name)) is { } unknown)
            {
                _log.Error("rpc", $"--rpcs-allowed: there is no method '{unknown}'{(Suggestion.Nearest(unknown, methods.Keys) is { } near ? $"; did you mean '{near}'?" : "")}");
                return false;
            }
            // Before anybody can ask: whoever connects finds everything there.
            if (_config.SavedConfig.Length > 0 && await SavedConfig.LoadAsync(_config.SavedConfig, methods, _log) is { } problem)
            {
                _log.Error("rpc", problem);
                return false;
            }
            Errno started = RpcServer.Start(path, methods, _log, out _control, _config.AllowedMethods);
            error = started == Errno.EADDRINUSE ? $"somebody listens on {path} already" : $"cannot listen on {path}: {started}";
        }
        if (_control is not null && isAskedFor) { _log.Info("rpc", $"listening on {path}"); }
        else if (_control is not null) { _log.Debug("rpc", $"listening on {path}"); }
        else if (isAskedFor) { _log.Error("rpc", error); }
        else { _log.Info("rpc", $"no control socket, so nothing can be mounted through this process: {error}"); }
        return _control is not null || !isAskedFor;
    }

    private void PrintOptions(TextWriter output)
    {
        try
        {
            foreach (Export export in _serving.OfType<Export>())
            {
                string socket = export.Socket.Length > 0 ? export.Socket : "SOCKET";
                output.WriteLine($"For {export.Name}, give QEMU:\n{QemuOptions.Format(socket, export.Tag)}and mount it in the guest:\n  {QemuOptions.MountCommand(export.Tag)}");
            }
            output.Flush();
        }
        catch (IOException) { _log.Debug("", "nobody reads the QEMU options: the output is closed"); }
    }

    /// <summary>Ends every pool with its exports, all at the same time. True when everything that was acknowledged is durable.</summary>
    private async Task<bool> StopAsync()
    {
        _control?.Dispose();
        // Controllers that clients have made show volumes of the pools: they go first.
        bool all = await StopBlockAsync();
        foreach (bool clean in await Task.WhenAll(_pools.Select(p => StopPoolAsync(p.Host, p.Reactor)))) { all &= clean; }
        // A reactor on which something hangs is left to the end of the process.
        if (all)
        {
            foreach (Reactor.Reactor reactor in _reactors) { reactor.Dispose(); }
        }
        return all;
    }

    // What was made over the control socket ends here: nobody writes it down.
    private async Task<bool> StopBlockAsync()
    {
        if (_block is not { } block) { return true; }
        string? problem = await GuardAsync(async () =>
        {
            try { await block.StopAsync().WaitAsync(s_drainTime); }
            catch (TimeoutException) { return $"requests did not finish within {s_drainTime.TotalSeconds:0} s"; }
            return null;
        }, e => e);
        if (problem is not null) { _log.Error("rpc", $"controllers did not end in order: {problem}"); }
        return problem is null;
    }

    // A pool whose requests do not finish is not closed under them: it ends as after a crash, and loses nothing that was acknowledged.
    private async Task<bool> StopPoolAsync(PoolHost host, Reactor.Reactor reactor)
    {
        string scope = $"pool {host.Name}";
        string? problem = await GuardAsync(() => StopPoolCoreAsync(host, reactor), e => e);
        if (problem is null) { _log.Info(scope, "closed"); }
        else { _log.Error(scope, $"not closed cleanly: {problem}. What was acknowledged is in the log and is replayed at the next start"); }
        return problem is null;
    }

    private async Task<string?> StopPoolCoreAsync(PoolHost host, Reactor.Reactor reactor)
    {
        IServing[] serving = [.. _serving.Where(s => s.PoolName == host.Name)];
        try
        {
            await Task.WhenAll([_attached.StopAsync(host.Name, reactor), .. serving.Select(s => s.StopAsync(reactor))]).WaitAsync(s_drainTime);
            Errno closed = await reactor.InvokeAsync(host.CloseAsync).WaitAsync(s_drainTime);
            return closed == Errno.None ? null : $"writing it out failed ({closed})";
        }
        catch (TimeoutException) { return $"its requests did not finish within {s_drainTime.TotalSeconds:0} s"; }
    }

    // One thing's bug ends that thing only: the others never hear of it.
    private static async Task<T> GuardAsync<T>(Func<Task<T>> work, Func<string, T> failed)
    {
#pragma warning disable CA1031 // whatever escapes is a bug of ours in that one pool or export
        try { return await work(); }
        catch (Exception bug) { return failed($"a bug, please report it: {bug}"); }
#pragma warning restore CA1031
    }
}
