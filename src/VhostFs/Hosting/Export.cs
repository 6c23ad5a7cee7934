using VhostFs.Blobstore;
using VhostFs.Config;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.VhostUser;

namespace VhostFs.Hosting;

/// <summary>One volume behind one socket. Lives on the reactor of its pool; its failure is nobody else's.</summary>
internal sealed class Export : IServing
{
    private const string WaitingText = "Waiting for vhost-user socket connection";

    private readonly ExportConfig _config;
    private readonly Log _log;
    private readonly TaskCompletionSource _never = new();
    private VhostUserServer? _server;
    private ExportedVolume? _volume;

    public Export(ExportConfig config, Log log)
    {
        _config = config;
        _log = log;
        Scope = $"export {config.Name}";
    }

    public string Scope { get; }

    public string Name => _config.Name;

    public string PoolName => _config.Pool;

    /// <summary>The tag for QEMU; known once started.</summary>
    public string Tag { get; private set; } = "";

    public string Socket => _config.Socket;

    public Task Ended => _never.Task;

    public Task<string?> StartAsync(PoolHost pool, Reactor.Reactor reactor) => reactor.InvokeAsync(() => StartAsync(pool));

    public Task StopAsync(Reactor.Reactor reactor) => reactor.InvokeAsync(StopAsync);

    /// <summary>Mounts the volume and listens. Null, or why not and what to do.</summary>
    private async IoTask<string?> StartAsync(PoolHost pool)
    {
        OpenResult<ServedVolume> mounted = await pool.MountAsync(_config.Volume);
        if (mounted.Value is not { } volume) { return $"{_config.VolumeWhere}: {mounted.Error}"; }
        _volume = new ExportedVolume(volume, _config.Sharing, _config.Fuse, Scope, _log);
        Tag = _config.Tag.Length > 0 ? _config.Tag : volume.FileSystem.Volume.Name;
        if (!QemuOptions.TryCheckTag(Tag, out string error)) { return $"{_config.Where}: {error}"; }
        uint gid = 0;
        if (_config.SocketGroup.Length > 0 && !SocketAccess.TryFindGroup(_config.SocketGroup, out gid)) { return $"{_config.Where}: no such group '{_config.SocketGroup}'"; }
        SafeFd? inherited = null;
        if (_config.ListenFd >= 0 && !TryInherit(_config.ListenFd, out inherited)) { return $"{_config.Where}: descriptor {_config.ListenFd} is not a listening socket; whoever starts this must bind, listen and pass it on"; }

        var options = new VhostUserServerOptions { Name = Name, SocketPath = inherited is null ? _config.Socket : null, ListenFd = inherited };
        _server = new VhostUserServer(options, _ => _volume.Begin(), WriteLog);
        _server.SessionEnded += _ => _volume.End();
        Errno started = _server.Start();
        if (started != Errno.None)
        {
            _server = null;
            return $"{_config.Where}: {ListenError(started)}";
        }
        if (_config.SocketGroup.Length > 0)
        {
            // The group first: until it is right, only the owner may connect.
            Errno changed = SocketAccess.ChangeGroup(_config.Socket, gid);
            if (changed != Errno.None)
            {
                await StopAsync();
                return $"{_config.Where}: the socket cannot be given to group '{_config.SocketGroup}' ({changed}); run as a member of that group";
            }
            File.SetUnixFileMode(_config.Socket, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite);
        }
        return null;
    }

    /// <summary>Requests under way finish; then the connection ends and the socket file goes away.</summary>
    private async IoTask<bool> StopAsync()
    {
        if (_server is not { } server) { return true; }
        _server = null;
        await server.StopAsync();
        _volume?.ReportFault();
        return true;
    }

    private static bool TryInherit(int number, out SafeFd? inherited)
    {
        var socket = new SafeFd(number);
        IoResult flags = SocketAccess.IsListening(socket) ? FileCalls.GetFlags(socket) : Errno.EINVAL;
        bool usable = !flags.IsError && FileCalls.SetFlags(socket, flags.Value | FileCalls.O_NONBLOCK) == Errno.None;
        if (!usable) { socket.SetHandleAsInvalid(); } // not ours to close
        inherited = usable ? socket : null;
        return usable;
    }

    private string ListenError(Errno errno) => errno switch
    {
        Errno.EADDRINUSE => $"somebody listens on {_config.Socket} already, or it is not a socket; stop that process or choose another path",
        Errno.ENOENT => $"the directory of {_config.Socket} does not exist; make it first",
        Errno.EACCES or Errno.EROFS or Errno.EPERM => $"{_config.Socket} cannot be made here ({errno}); choose a directory this user may write to",
        Errno.ENAMETOOLONG => $"{_config.Socket} is longer than the 107 bytes of a socket path; choose a shorter one",
        _ => $"cannot listen on {_config.Socket}: {errno}",
    };

    private void WriteLog(VhostLogLevel level, string message)
    {
        if (message.StartsWith($"{Name}: {WaitingText}", StringComparison.Ordinal))
        {
            // Kata's runtime waits for this text, whatever the log level is.
            _log.Always(Scope, Socket.Length > 0 ? $"{WaitingText} on {Socket}" : WaitingText);
            return;
        }
        VhostLogLines.Write(_log, Scope, Name, level, message);
        if (_server?.IsConnected != true) { _volume?.ReportFault(); }
    }
}
