using VhostFs.Blobstore;
using VhostFs.Config;
using VhostFs.Fuse;
using VhostFs.FuseDev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Hosting;

/// <summary>One volume mounted on this host through /dev/fuse. Requests are served on the reactor of its pool.</summary>
internal sealed class HostMount : IServing
{
    private readonly MountConfig _config;
    private readonly Log _log;
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private HostMountPoint? _mountPoint;
    private DeviceChannel? _channel;
    private FuseServer? _fuse;

    public HostMount(MountConfig config, Log log)
    {
        _config = config;
        _log = log;
        Scope = $"mount {config.Request.MountPoint}";
    }

    public string Scope { get; }

    public string PoolName => _config.Pool;

    public Task Ended => _ended.Task;

    public async Task<string?> StartAsync(PoolHost pool, Reactor.Reactor reactor)
    {
        OpenResult<ServedVolume> mounted = await reactor.InvokeAsync(() => pool.MountAsync(_config.Volume));
        if (mounted.Value is not { } volume) { return $"{_config.VolumeWhere}: {mounted.Error}"; }
        if (_config.Request.Transport == MountTransport.Uring && HostMountPoint.UringProblem is { } problem) { return problem; }
        // mount(2) does not wait for us: the kernel's first request comes when the device is read.
        _mountPoint = HostMountPoint.Mount(_config.Request, out SafeFd device, out string error);
        if (_mountPoint is null) { return error; }
        Errno started = await reactor.InvokeAsync(() => new IoTask<Errno>(Serve(volume.FileSystem, reactor, device)));
        if (started != Errno.None)
        {
            _mountPoint.Unmount(lazy: true);
            return $"/dev/fuse cannot be used: {started}";
        }
        _log.Info(Scope, $"mounted volume '{volume.FileSystem.Volume.Name}'");
        return null;
    }

    public async Task StopAsync(Reactor.Reactor reactor)
    {
        if (_mountPoint is not { } mountPoint || _channel is not { } channel) { return; }
        bool isOver = _ended.Task.IsCompleted || await LeaveAsync(mountPoint, channel, reactor);
        if (isOver) { await reactor.InvokeAsync(channel.StopAsync); }
        ReportFault();
    }

    private Errno Serve(Blobfs.Blobfs fileSystem, Reactor.Reactor reactor, SafeFd device)
    {
        FuseServerOptions options = _config.Fuse with { OverUring = _config.Request.Transport != MountTransport.ReadWrite && reactor.Ring.HasCommands };
        _fuse = new FuseServer(fileSystem.OpenSession(options.ReadOnly, options.AccessTimes), options);
        _channel = new DeviceChannel(reactor, device, _fuse, line => _log.Warn(Scope, line));
        _channel.QueuesOpened += () => _log.Info(Scope, "requests come through io_uring");
        _channel.Ended += () =>
        {
            _log.Info(Scope, "unmounted");
            ReportFault();
            _ended.TrySetResult();
        };
        return _channel.Start();
    }

    /// <summary>Unmounts. Whoever has files open or stands in it loses it at our end, but nothing that was written. False: only the end of this process ends the connection.</summary>
    private async Task<bool> LeaveAsync(HostMountPoint mountPoint, DeviceChannel channel, Reactor.Reactor reactor)
    {
        Errno unmounted = await Task.Run(() => mountPoint.Unmount(lazy: false));
        if (unmounted == Errno.None) { return true; }
        if (unmounted != Errno.EBUSY) { _log.Warn(Scope, $"cannot be unmounted: {unmounted}"); }
        Errno written = unmounted == Errno.EBUSY ? await Task.Run(mountPoint.WriteOut) : Errno.None;
        if (written != Errno.None) { _log.Warn(Scope, $"what programs have written cannot all be written out: {written}"); }
        bool isOver = true;
        if (channel.IsOverUring)
        {
            await reactor.InvokeAsync(channel.DrainQueuesAsync);
            isOver = await Task.Run(mountPoint.Abort);
            if (!isOver) { _log.Warn(Scope, "its connection ends with this process: there is no /sys/fs/fuse/connections to end it before"); }
        }
        if (unmounted != Errno.EBUSY) { return isOver; }
        Errno detached = await Task.Run(() => mountPoint.Unmount(lazy: true));
        if (detached == Errno.None) { _log.Warn(Scope, "was in use and is taken away; programs that use it get errors from now on"); }
        else { _log.Warn(Scope, $"is in use and cannot be unmounted: {detached}"); }
        return isOver;
    }

    private void ReportFault()
    {
        if (_fuse?.Fault is { } bug) { _log.Error(Scope, $"a bug ended this session, please report it: {bug}"); }
        _fuse = null;
    }
}
