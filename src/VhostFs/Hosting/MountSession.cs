using VhostFs.Blobfs;
using VhostFs.Config;
using VhostFs.Fuse;
using VhostFs.FuseDev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Hosting;

/// <summary>A mounted /dev/fuse, served from a volume until the kernel ends it: what a mount of this process and one of another have in common.</summary>
/// <remarks>Lives on the volume's reactor; the tasks are for everybody.</remarks>
internal sealed class MountSession
{
    private readonly string _scope;
    private readonly FuseWishes _wishes;
    private readonly Log _log;
    private readonly TaskCompletionSource<FuseNegotiated> _negotiated = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ServedVolume? _volume;
    private VolumeClaim? _claim;
    private FuseServer? _fuse;
    private DeviceChannel? _channel;
    private KernelCache? _cache;

    public MountSession(string scope, FuseWishes wishes, Log log)
    {
        _scope = scope;
        _wishes = wishes;
        _log = log;
    }

    /// <summary>What the kernel and we have agreed on; canceled when it has ended before.</summary>
    public Task<FuseNegotiated> Negotiated => _negotiated.Task;

    /// <summary>Unmounted, or stopped.</summary>
    public Task Ended => _ended.Task;

    /// <summary>Begins to serve, on the volume's reactor. Null, or why not. The session owns the descriptors from now on.</summary>
    /// <param name="overUring">Requests may come through io_uring. A kernel that has begun so sends them no other way: not for a mount that is to survive this process.</param>
    /// <param name="notices">Leads to a process that tells the kernel what other sessions change; invalid: there is none.</param>
    /// <param name="resumed">What was negotiated when the kernel began; null for a new mount.</param>
    public string? Start(ServedVolume volume, Reactor.Reactor reactor, SafeFd device, bool overUring, SafeFd notices, FuseNegotiated? resumed = null)
    {
        FuseServerOptions options = _wishes.Settle() with { OverUring = overUring };
        var claim = new VolumeClaim(_scope, _wishes.Sharing, options);
        if (volume.Claims.TryTake(claim) is { } refusal)
        {
            device.Dispose();
            notices.Dispose();
            return refusal;
        }
        (_volume, _claim) = (volume, claim);
        BlobfsSession session = volume.FileSystem.OpenSession(options.ReadOnly, options.AccessTimes);
        _fuse = new FuseServer(session, options);
        if (!notices.IsInvalid) { _cache = new KernelCache(reactor.Ring, notices, line => _log.Warn(_scope, line)); }
        _fuse.Started += negotiated =>
        {
            if (resumed is not null) { session.Resume(); }
            if (_cache is { } cache) { session.KeepUpToDate(cache); }
            _negotiated.TrySetResult(negotiated);
        };
        _channel = new DeviceChannel(reactor, device, _fuse, line => _log.Warn(_scope, line));
        _channel.QueuesOpened += () => _log.Info(_scope, "requests come through io_uring");
        _channel.Ended += () =>
        {
            _log.Info(_scope, "unmounted");
            End();
        };
        if (resumed is { } negotiated) { _fuse.Resume(negotiated); }
        Errno started = _channel.Start();
        if (started == Errno.None)
        {
            if (resumed is not null) { Resend(_channel); }
            return null;
        }
        _channel.Dispose();
        End();
        return $"/dev/fuse cannot be used: {started}";
    }

    /// <summary>Only the end of the mount, or of its connection, makes the kernel let go.</summary>
    public bool IsOverUring => _channel is { IsOverUring: true };

    /// <summary>Finishes what is under way and refuses what comes later, before the connection is aborted.</summary>
    public IoTask<bool> DrainQueuesAsync() => _channel!.DrainQueuesAsync();

    /// <summary>Stops in such a way that another process can serve the mount: what programs have open and has no name any more stays in the volume.</summary>
    public IoTask<bool> LeaveAsync()
    {
        _volume?.FileSystem.LeaveOrphans();
        return StopAsync();
    }

    /// <summary>Takes nothing more, and finishes what is under way. Also after it has ended by itself.</summary>
    public async IoTask<bool> StopAsync()
    {
        if (_channel is { } channel) { await channel.StopAsync(); }
        End();
        return true;
    }

    // What the process before us had read and not answered; also what its ring read while it died.
    private void Resend(DeviceChannel channel)
    {
        Errno resent = channel.Resend();
        if (resent != Errno.None) { _log.Warn(_scope, $"the kernel does not send again what was not answered ({resent}; it can from Linux 6.9 on): programs that wait for that need to be killed"); }
    }

    private void End()
    {
        if (_fuse?.Fault is { } bug) { _log.Error(_scope, $"a bug ended this session, please report it: {bug}"); }
        _fuse = null;
        _cache?.Dispose();
        _cache = null;
        if (_claim is { } claim) { _volume!.Claims.Release(claim); }
        _claim = null;
        _negotiated.TrySetCanceled();
        _ended.TrySetResult();
    }
}
