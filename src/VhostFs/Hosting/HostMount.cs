using VhostFs.Blobstore;
using VhostFs.Config;
using VhostFs.FuseDev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Hosting;

/// <summary>One volume mounted on this host and served by this process. Requests are served on the reactor of its pool.</summary>
internal sealed class HostMount : IServing
{
    private readonly MountConfig _config;
    private readonly Log _log;
    private readonly MountSession _session;
    private HostMountPoint? _mountPoint;

    public HostMount(MountConfig config, Log log)
    {
        _config = config;
        _log = log;
        Scope = $"mount {config.Request.MountPoint}";
        _session = new MountSession(Scope, config.Wishes, log);
    }

    public string Scope { get; }

    public string PoolName => _config.Pool;

    public Task Ended => _session.Ended;

    public async Task<string?> StartAsync(PoolHost pool, Reactor.Reactor reactor)
    {
        OpenResult<ServedVolume> mounted = await reactor.InvokeAsync(() => pool.MountAsync(_config.Volume));
        if (mounted.Value is not { } volume) { return $"{_config.VolumeWhere}: {mounted.Error}"; }
        if (_config.Request.Transport == MountTransport.Uring && HostMountPoint.UringProblem is { } problem) { return problem; }
        // mount(2) does not wait for us: the kernel's first request comes when the device is read.
        _mountPoint = HostMountPoint.Mount(_config.Request, out SafeFd device, out string error);
        if (_mountPoint is null) { return error; }
        bool overUring = _config.Request.Transport != MountTransport.ReadWrite && reactor.Ring.HasCommands;
        string? refusal = await reactor.InvokeAsync(() => new IoTask<string?>(_session.Start(volume, reactor, device, overUring, SafeFd.Invalid)));
        if (refusal is not null)
        {
            _mountPoint.Unmount(lazy: true);
            return refusal;
        }
        _log.Info(Scope, $"mounted volume '{volume.FileSystem.Volume.Name}'");
        return null;
    }

    public async Task StopAsync(Reactor.Reactor reactor)
    {
        if (_mountPoint is not { } mountPoint) { return; }
        bool isOver = true;
        if (!Ended.IsCompleted)
        {
            await Unmounting.EndAsync(mountPoint, Scope, _log, async () =>
            {
                if (_session.IsOverUring) { isOver = await AbortAsync(mountPoint, reactor); }
            });
        }
        if (isOver) { await reactor.InvokeAsync(_session.StopAsync); }
    }

    // Over io_uring the kernel lets go of our entries only when the connection ends. False: only the end of this process ends it.
    private async Task<bool> AbortAsync(HostMountPoint mountPoint, Reactor.Reactor reactor)
    {
        await reactor.InvokeAsync(_session.DrainQueuesAsync);
        bool isOver = await Task.Run(mountPoint.Abort);
        if (!isOver) { _log.Warn(Scope, "its connection ends with this process: there is no /sys/fs/fuse/connections to end it before"); }
        return isOver;
    }
}
