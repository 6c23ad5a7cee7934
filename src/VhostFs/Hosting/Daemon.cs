using VhostFs.Blobstore;
using VhostFs.Config;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Hosting;

/// <summary>The running server: reactors, the pools on them, the exports of their volumes; from start to the last flush.</summary>
/// <remarks>Every pool and everything above it lives on one reactor; this class only sends them work and waits. What fails is logged and left out:
/// the rest is served.</remarks>
internal sealed class Daemon
{
    private const int RingEntries = 1024;
    private const long NodeCacheBytes = 256L << 20; // per reactor

    /// <summary>How long requests may take to finish at the end. A disk that hangs must not keep the process.</summary>
    private static readonly TimeSpan s_drainTime = TimeSpan.FromSeconds(20);

    private readonly ServeConfig _config;
    private readonly Log _log;
    private readonly List<Reactor.Reactor> _reactors = [];
    private readonly List<NodeCache> _nodeCaches = [];
    private readonly List<(PoolHost Host, Reactor.Reactor Reactor)> _pools = [];
    private readonly List<Export> _exports = [];

    private Daemon(ServeConfig config, Log log)
    {
        _config = config;
        _log = log;
    }

    /// <summary>Serves until a signal; returns the exit status.</summary>
    public static async Task<int> RunAsync(ServeConfig config, Log log, TextWriter output)
    {
        using var signals = new Signals(log);
        // Image files and sockets are for this user alone, unless --socket-group says otherwise.
        SocketAccess.SetUmask(Convert.ToInt32("077", 8));
        var daemon = new Daemon(config, log);
        bool serving = daemon.TryStartReactors() && await daemon.StartAsync();
        if (serving)
        {
            daemon.PrintOptions(output);
            ServiceNotify.Ready();
            string signal = await signals.Stop;
            log.Info("", $"{signal}: finishing requests, writing everything out");
            ServiceNotify.Stopping();
        }
        bool stopped = await daemon.StopAsync();
        return serving && stopped ? ExitCode.Ok : ExitCode.Failure;
    }

    private bool TryStartReactors()
    {
        for (int i = 0; i < Math.Min(_config.Reactors, _config.Pools.Count); i++)
        {
            string name = $"reactor {i}";
            Ring ring;
            try { ring = Ring.Create(RingEntries); }
            catch (Exception e) when (e is InvalidOperationException or IOException or PlatformNotSupportedException)
            {
                _log.Error("", $"io_uring cannot be used: {e.Message}; it needs Linux 6.1 or later, and a container's seccomp profile that allows io_uring_setup");
                return false;
            }
            var reactor = new Reactor.Reactor(ring, name);
            reactor.UnhandledException += e => _log.Error(name, $"a bug, please report it: {e}");
            reactor.Start();
            _reactors.Add(reactor);
            _nodeCaches.Add(new NodeCache(NodeCacheBytes));
        }
        return true;
    }

    /// <summary>Opens what can be opened. False when nothing is served.</summary>
    private async Task<bool> StartAsync()
    {
        for (int i = 0; i < _config.Pools.Count; i++)
        {
            PoolConfig pool = _config.Pools[i];
            Reactor.Reactor reactor = _reactors[i % _reactors.Count];
            var options = new PoolOptions { NodeCache = _nodeCaches[i % _reactors.Count], Report = line => _log.Warn($"pool {pool.Name}", line) };
            OpenResult<PoolHost> opened = await GuardAsync(() => reactor.InvokeAsync(() => PoolHost.OpenAsync(pool, _config.Bdevs, options, _log)), e => (OpenResult<PoolHost>)e);
            if (opened.Value is { } host) { _pools.Add((host, reactor)); }
            else { _log.Error($"pool {pool.Name}", $"{pool.Where}: {opened.Error}"); }
        }
        foreach (ExportConfig config in _config.Exports)
        {
            int index = _pools.FindIndex(p => p.Host.Name == config.Pool);
            if (index < 0)
            {
                _log.Error($"export {config.Name}", $"is not served: its pool '{config.Pool}' is not open");
                continue;
            }
            (PoolHost host, Reactor.Reactor reactor) = _pools[index];
            var export = new Export(config, _log);
            string? problem = await GuardAsync(() => reactor.InvokeAsync(() => export.StartAsync(host)), e => e);
            if (problem is null) { _exports.Add(export); }
            else { _log.Error($"export {config.Name}", problem); }
        }
        if (_exports.Count == 0) { _log.Error("", "nothing can be served"); }
        else if (_exports.Count < _config.Exports.Count) { _log.Warn("", $"{_exports.Count} of {_config.Exports.Count} exports are served"); }
        return _exports.Count > 0;
    }

    private void PrintOptions(TextWriter output)
    {
        try
        {
            foreach (Export export in _exports)
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
        bool[] clean = await Task.WhenAll(_pools.Select(p => StopPoolAsync(p.Host, p.Reactor)));
        bool all = clean.All(c => c);
        // A reactor on which something hangs is left to the end of the process.
        if (all)
        {
            foreach (Reactor.Reactor reactor in _reactors) { reactor.Dispose(); }
        }
        return all;
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
        Export[] exports = [.. _exports.Where(e => e.PoolName == host.Name)];
        try
        {
            await Task.WhenAll(exports.Select(e => reactor.InvokeAsync(e.StopAsync))).WaitAsync(s_drainTime);
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
