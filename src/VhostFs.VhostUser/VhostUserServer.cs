using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.VhostUser;

/// <summary>How one device listens.</summary>
public sealed record VhostUserServerOptions
{
    /// <summary>Named in log lines.</summary>
    public required string Name { get; init; }

    /// <summary>The socket to make; stale files are replaced, a socket that somebody serves is not. Null with <see cref="ListenFd"/>.</summary>
    public string? SocketPath { get; init; }

    /// <summary>A socket that listens already (--fd, socket activation); the server owns it.</summary>
    public SafeFd? ListenFd { get; init; }

    /// <summary>Permissions of the socket file; 0600, or 0660 for a socket group.</summary>
    public int SocketMode { get; init; } = UnixSocket.OwnerOnly;

    /// <summary>Serve one connection and end, as virtiofsd does.</summary>
    public bool IsOneShot { get; init; }
}

/// <summary>What can be said of a session at one moment.</summary>
/// <param name="Queues">That the driver has set up and kicked.</param>
/// <param name="InFlight">Requests under way.</param>
public readonly record struct VhostUserSessionState(int Queues, int InFlight);

/// <summary>One device: listens on a unix socket and serves one front-end after the other.</summary>
/// <remarks>A second front-end waits in the listen queue until the first has gone: a device has one session. Everything runs on the reactor that
/// <see cref="Start"/> was called on; any number of servers share a reactor.</remarks>
public sealed class VhostUserServer
{
    private const long AcceptRetryNs = 100_000_000;

    private readonly VhostUserServerOptions _options;
    private readonly Func<VhostUserDevice?> _newDevice;
    private readonly VhostLog _log;
    private SafeFd? _listener;
    private VhostUserSession? _session;
    private IoHandle _accepting;
    private bool _isStopping;
    private IoCompletion<bool>? _stopped;
    private bool _isRunning;
    private Reactor.Reactor? _reactor;

    /// <param name="newDevice">Makes the device of each connection, which is closed when the connection ends. Null: the front-end is refused.</param>
    public VhostUserServer(VhostUserServerOptions options, Func<VhostUserDevice?> newDevice, VhostLog log)
    {
        if (options.SocketPath is null == options.ListenFd is null) { throw new ArgumentException("either a socket path or a listening descriptor", nameof(options)); }
        _options = options;
        _newDevice = newDevice;
        _log = log;
    }

    /// <summary>A front-end is connected.</summary>
    public bool IsConnected => _session is not null;

    /// <summary>Of the front-end that is connected; null: none is. On the server's reactor.</summary>
    public VhostUserSessionState? SessionState => _session?.State;

    /// <summary>Connections taken so far.</summary>
    public long ConnectionCount { get; private set; }

    /// <summary>Connections that ended because the front-end took guest memory away.</summary>
    public long MemoryLostCount { get; private set; }

    /// <summary>A front-end that was not refused has gone, and everything of its session with it.</summary>
    public event Action? SessionEnded;

    /// <summary>A one-shot server's connection has ended (or <see cref="StopAsync"/> was called).</summary>
    public event Action? Ended;

    /// <summary>Binds and listens; then accepts for ever. On the reactor that is to serve.</summary>
    public Errno Start()
    {
        Invariant.That(!_isRunning);
        _reactor = Reactor.Reactor.Current;
        if (_options.ListenFd is { } inherited) { _listener = inherited; }
        else
        {
            Errno listening = UnixSocket.Listen(_options.SocketPath!, out SafeFd listener, mode: _options.SocketMode);
            if (listening != Errno.None) { return listening; }
            _listener = listener;
        }
        _isRunning = true;
        // Kata's runtime-rs waits for this very text on stderr.
        _log(VhostLogLevel.Info, $"{_options.Name}: Waiting for vhost-user socket connection...");
        AcceptLoopAsync().Detach();
        return Errno.None;
    }

    /// <summary>Ends the connection, stops listening, and removes the socket file it made. Completes when nothing is left.</summary>
    public async IoTask<bool> StopAsync()
    {
        if (!_isRunning) { return true; }
        _isStopping = true;
        _session?.Fail("the export is being stopped");
        if (_session is null) { _reactor!.Descriptors.CancelAsync(_accepting).Detach(); }
        _stopped ??= new IoCompletion<bool>();
        return await _stopped.Task;
    }

    private async IoTask<bool> AcceptLoopAsync()
    {
        while (!_isStopping)
        {
            IoResult accepted = await _reactor!.Descriptors.AcceptAsync(_listener!, out _accepting);
            if (accepted.IsError)
            {
                if (accepted.Errno is Errno.EINTR or Errno.ECONNABORTED or Errno.ECANCELED) { continue; }
                _log(VhostLogLevel.Error, $"{_options.Name}: cannot accept: {accepted.Errno}");
                if (await _reactor.DelayAsync(AcceptRetryNs) != Errno.None) { break; }
                continue;
            }
            var socket = new SafeFd(accepted.Value);
            if (_isStopping)
            {
                socket.Dispose();
                break;
            }
            try { await ServeAsync(socket); }
            catch (InvariantException bug)
            {
                // What this session left behind cannot be trusted: the export ends, by name; others never notice.
                _session = null;
                SessionEnded?.Invoke();
                _log(VhostLogLevel.Error, $"{_options.Name}: the export ends because of a bug, please report it: {bug}");
                break;
            }
            if (_options.IsOneShot) { break; }
        }
        Close();
        return true;
    }

    private async IoTask<bool> ServeAsync(SafeFd socket)
    {
        ConnectionCount++;
        if (_newDevice() is not { } device)
        {
            socket.Dispose();
            return false;
        }
        _log(VhostLogLevel.Info, $"{_options.Name}: front-end connected");
        _session = new VhostUserSession(_reactor!, socket, device, _options.Name, _log);
        await _session.RunAsync();
        if (_session.IsMemoryLost) { MemoryLostCount++; }
        _session = null;
        SessionEnded?.Invoke();
        _log(VhostLogLevel.Info, $"{_options.Name}: front-end gone");
        return true;
    }

    private void Close()
    {
        _isRunning = false;
        _listener!.Dispose();
        if (_options.SocketPath is { } path) { FileCalls.Unlink(path); }
        Ended?.Invoke();
        _stopped?.Complete(true);
    }
}
