using System.Globalization;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using VhostFs.Config;
using VhostFs.FuseDev;
using VhostFs.Linux;
using VhostFs.Rpc;

namespace VhostFs.Hosting;

/// <summary>A mount that the running daemon serves: this process makes it, hands the device over, and holds it until it is unmounted.</summary>
/// <remarks>The device stays open here. When the daemon goes, what programs ask waits in the kernel until a daemon serves the pool again and the device has been
/// handed over to that one.</remarks>
internal sealed class MountHolder
{
    private static readonly TimeSpan s_firstPause = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan s_longestPause = TimeSpan.FromSeconds(2);

    private readonly MountConfig _config;
    private readonly DaemonFinder _daemons;
    private readonly Log _log;
    private readonly string _scope;
    private SafeFd _device = SafeFd.Invalid;
    private string _volume = "";
    private JsonObject? _resume;

    private MountHolder(MountConfig config, DaemonFinder daemons, Log log)
    {
        _config = config;
        _daemons = daemons;
        _log = log;
        _scope = $"mount {config.Request.MountPoint}";
    }

    /// <summary>Holds the mount until it is unmounted, or a signal; returns the exit status.</summary>
    /// <param name="daemon">Serves the pool; owned from now on.</param>
    public static async Task<int> RunAsync(MountConfig config, DaemonFinder daemons, RpcClient daemon, Log log)
    {
        using var signals = new Signals(log);
        var holder = new MountHolder(config, daemons, log);
        if (config.Request.Transport == MountTransport.Uring) { log.Warn(holder._scope, "io_uring is for mounts of a process of their own: a connection over it would not survive a restart of the daemon"); }
        HostMountPoint? mountPoint = HostMountPoint.Mount(config.Request, out holder._device, out string error);
        if (mountPoint is null)
        {
            daemon.Dispose();
            log.Error(holder._scope, error);
            return ExitCode.Failure;
        }
        using (holder._device) { return await holder.HoldAsync(mountPoint, daemon, signals); }
    }

    private async Task<int> HoldAsync(HostMountPoint mountPoint, RpcClient first, Signals signals)
    {
        string? problem = await AttachAsync(first, CancellationToken.None);
        if (problem is not null)
        {
            first.Dispose();
            mountPoint.Unmount(lazy: true);
            _log.Error(_scope, problem);
            return ExitCode.Failure;
        }
        _log.Info(_scope, $"mounted volume '{_volume}', served by process {first.ProcessId}");
        ServiceNotify.Ready();
        RpcClient? daemon = first;
        while (daemon is not null)
        {
            using (daemon)
            {
                if (await Task.WhenAny(signals.Stop, daemon.WaitForEndAsync()) == signals.Stop) { return await UnmountAsync(mountPoint, await signals.Stop); }
            }
            if (IsUnmounted)
            {
                _log.Info(_scope, "unmounted");
                return ExitCode.Ok;
            }
            daemon = await WaitForDaemonAsync(signals);
        }
        if (IsUnmounted) { return ExitCode.Ok; }
        mountPoint.Unmount(lazy: true);
        _log.Error(_scope, "is taken away: nobody serves it any more");
        return ExitCode.Failure;
    }

    // The kernel says so on the device, to whoever holds it.
    private bool IsUnmounted => FileCalls.Poll(_device, 0, 0) is { IsError: false, Value: > 0 };

    private async Task<int> UnmountAsync(HostMountPoint mountPoint, string signal)
    {
        _log.Info(_scope, $"{signal}: unmounting");
        ServiceNotify.Stopping();
        await Unmounting.EndAsync(mountPoint, _scope, _log);
        return ExitCode.Ok;
    }

    /// <summary>A daemon that has taken the device over. Null: it was unmounted meanwhile, a signal came, or the time is up.</summary>
    private async Task<RpcClient?> WaitForDaemonAsync(Signals signals)
    {
        _log.Warn(_scope, $"the process that served it has gone; waiting up to {_config.ReconnectTime.TotalSeconds:0} s for another one, and so does who uses the mount");
        using var patience = new CancellationTokenSource(_config.ReconnectTime);
        string problem = "no process serves the pool";
        for (TimeSpan pause = s_firstPause; !patience.IsCancellationRequested && !signals.Stop.IsCompleted && !IsUnmounted; pause = pause * 2 < s_longestPause ? pause * 2 : s_longestPause)
        {
            if (_daemons.TryConnect(out string error) is { } daemon)
            {
                error = await AttachAsync(daemon, patience.Token) ?? "";
                if (error.Length == 0)
                {
                    _log.Info(_scope, $"served by process {daemon.ProcessId} from now on");
                    return daemon;
                }
                daemon.Dispose();
            }
            if (error.Length > 0) { problem = error; }
            await Task.WhenAny(signals.Stop, Task.Delay(pause));
        }
        if (!IsUnmounted) { _log.Error(_scope, problem); }
        return null;
    }

    /// <summary>Null, or why the daemon did not take the device.</summary>
    private async Task<string?> AttachAsync(RpcClient daemon, CancellationToken cancel)
    {
        var parameters = new JsonObject
        {
            ["pool_file"] = _daemons.PoolFile,
            ["mount_point"] = _config.Request.MountPoint,
            ["options"] = FuseSection.Write(_config.Wishes),
        };
        if (_config.Volume.Length > 0) { parameters["volume"] = _config.Volume; }
        if (_resume is not null) { parameters["resume"] = _resume.DeepClone(); }
        Errno relayed = NoticeRelay.Start(_device, _scope, _log, out SafeFd daemonEnd);
        if (relayed != Errno.None) { return $"no stream for the daemon's notices: {relayed}"; }
        using (daemonEnd) { return await AttachAsync(daemon, parameters, daemonEnd, cancel); }
    }

    private async Task<string?> AttachAsync(RpcClient daemon, JsonObject parameters, SafeFd notices, CancellationToken cancel)
    {
        try
        {
            JsonElement answer = await daemon.CallAsync(AttachedMounts.Method, parameters, [_device, notices], cancel);
            _volume = answer.GetProperty("volume").GetString() ?? "";
            _resume = new JsonObject { ["minor"] = answer.GetProperty("minor").GetUInt32(), ["flags"] = answer.GetProperty("flags").GetString() };
            return null;
        }
        catch (Exception e) when (e is RpcException or SocketException or OperationCanceledException or KeyNotFoundException or InvalidOperationException) { return e.Message; }
    }
}

/// <summary>Looks for the process that serves a pool and can be talked to.</summary>
/// <param name="PoolFile">Whose lock that process holds.</param>
/// <param name="Socket">Look there and nowhere else; empty: where a daemon puts its socket by itself.</param>
internal sealed record DaemonFinder(string PoolFile, string Socket)
{
    /// <summary>Null with an empty error: nobody holds the pool.</summary>
    public RpcClient? TryConnect(out string error)
    {
        if (Socket.Length > 0) { return RpcClient.TryConnect(Socket, 0, out error); }
        error = "";
        int owner = Owner();
        if (owner == 0) { return null; }
        if (RuntimeDirectory.Find(owner) is { } path) { return RpcClient.TryConnect(path, owner, out error); }
        error = string.Create(CultureInfo.InvariantCulture, $"{PoolFile} is in use by process {owner}, which has no control socket here; give --rpc-socket if it has one elsewhere");
        return null;
    }

    // Only looks: a lock of our own, if only for a moment, could be in the way of a daemon that starts.
    private int Owner()
    {
        Errno opened = FileCalls.Open(PoolFile, FileCalls.O_PATH, 0, out SafeFd file);
        using (file) { return opened == Errno.None ? FileLock.FindOwner(file) : 0; }
    }
}
