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

    /// <summary>Front-ends that may be connected at the same time; each has a device, memory and rings of its own.</summary>
    public int MaxSessions { get; init; } = 1;

    /// <summary>How calls are held back, of all sessions; may change at any time. Null: they are not.</summary>
    public CallCoalescing? Coalescing { get; init; }

    /// <summary>Serve one connection and end, as virtiofsd does.</summary>
    public bool IsOneShot { get; init; }
}

/// <summary>What can be said of a session at one moment.</summary>
/// <param name="Slot">The lowest number that no other session of the server had when this one began.</param>
/// <param name="Number">Sessions of the server before this one.</param>
/// <param name="Queues">That the driver has set up and kicked.</param>
/// <param name="InFlight">Requests under way.</param>
public readonly record struct VhostUserSessionState(int Slot, long Number, int Queues, int InFlight);

/// <summary>One device: listens on a unix socket and serves the front-ends that connect.</summary>
/// <remarks>
/// Invariants: at most <see cref="VhostUserServerOptions.MaxSessions"/> are connected, and who comes then waits in the listen queue. While a front-end that has gone still has requests
/// under way nobody new is served: who starts after a guest has ended must not meet its late writes. Everything runs on the reactor that <see cref="Start"/> was called on; any number of servers share a reactor.
/// </remarks>
public sealed class VhostUserServer
{
    private const long AcceptRetryNs = 100_000_000;

    private readonly VhostUserServerOptions _options;
    private readonly Func<int, VhostUserDevice?> _newDevice;
    private readonly VhostLog _log;
    private readonly List<Served> _sessions = [];
    private SafeFd? _listener;
    private IoHandle _accepting;
    private bool _isAccepting;
    private bool _isStopping;
    private IoCompletion<bool>? _oneEnded;
    private IoCompletion<bool>? _stopped;
    private bool _isRunning;
    private Reactor.Reactor? _reactor;

    /// <param name="newDevice">Makes the device of each connection from its slot (<see cref="VhostUserSessionState"/>); it is closed when the connection ends. Null: the front-end is refused.</param>
    public VhostUserServer(VhostUserServerOptions options, Func<int, VhostUserDevice?> newDevice, VhostLog log)
    {
        if (options.SocketPath is null == options.ListenFd is null) { throw new ArgumentException("either a socket path or a listening descriptor", nameof(options)); }
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxSessions, 1, nameof(options));
        _options = options;
        _newDevice = newDevice;
        _log = log;
    }

    /// <summary>A front-end is connected.</summary>
    public bool IsConnected => _sessions.Count > 0;

    /// <summary>Of the front-ends that are connected. On the server's reactor.</summary>
    public IReadOnlyList<VhostUserSessionState> SessionStates => [.. _sessions.Select(s => new VhostUserSessionState(s.Slot, s.Number, s.Session.RunningQueues, s.Session.InFlight))];

    /// <summary>Connections taken so far.</summary>
    public long ConnectionCount { get; private set; }

    /// <summary>Connections that ended because the front-end took guest memory away.</summary>
    public long MemoryLostCount { get; private set; }

    /// <summary>A front-end that was not refused has gone, and everything of its session with it.</summary>
    public event Action<VhostUserDevice>? SessionEnded;

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

    /// <summary>Ends all connections, stops listening, and removes the socket file it made. Completes when nothing is left.</summary>
    public async IoTask<bool> StopAsync()
    {
        if (!_isRunning) { return true; }
        StopAccepting("the export is being stopped");
        _stopped ??= new IoCompletion<bool>();
        return await _stopped.Task;
    }

    private void StopAccepting(string reason)
    {
        _isStopping = true;
        foreach (Served served in _sessions) { served.Session.Fail(reason); }
        if (_isAccepting) { _reactor!.Descriptors.CancelAsync(_accepting).Detach(); }
    }

    private async IoTask<bool> AcceptLoopAsync()
    {
        while (!_isStopping)
        {
            if (_sessions.Count >= _options.MaxSessions)
            {
                await OneEndsAsync();
                continue;
            }
            _isAccepting = true;
            IoResult accepted = await _reactor!.Descriptors.AcceptAsync(_listener!, out _accepting);
            _isAccepting = false;
            if (accepted.IsError)
            {
                if (accepted.Errno is Errno.EINTR or Errno.ECONNABORTED or Errno.ECANCELED) { continue; }
                _log(VhostLogLevel.Error, $"{_options.Name}: cannot accept: {accepted.Errno}");
                if (await _reactor.DelayAsync(AcceptRetryNs) != Errno.None) { break; }
                continue;
            }
            var socket = new SafeFd(accepted.Value);
            while (_sessions.Exists(s => s.Session.IsLeaving)) { await OneEndsAsync(); }
            if (_isStopping)
            {
                socket.Dispose();
                break;
            }
            ServeAsync(socket).Detach();
            if (_options.IsOneShot) { break; }
        }
        while (_sessions.Count > 0) { await OneEndsAsync(); }
        Close();
        return true;
    }

    private async IoTask<bool> OneEndsAsync()
    {
        _oneEnded = new IoCompletion<bool>();
        return await _oneEnded.Task;
    }

    private async IoTask<bool> ServeAsync(SafeFd socket)
    {
        long number = ConnectionCount++;
        int slot = 0;
        while (_sessions.Exists(s => s.Slot == slot)) { slot++; }
        if (_newDevice(slot) is not { } device)
        {
            socket.Dispose();
            return false;
        }
        string name = _options.MaxSessions == 1 ? _options.Name : $"{_options.Name}: session {slot}";
        _log(VhostLogLevel.Info, $"{name}: front-end connected");
        var served = new Served(new VhostUserSession(_reactor!, socket, device, name, _log, _options.Coalescing), slot, number);
        _sessions.Add(served);
        InvariantException? bug = null;
        try { await served.Session.RunAsync(); }
        catch (InvariantException e) { bug = e; }
        if (served.Session.IsMemoryLost) { MemoryLostCount++; }
        _sessions.Remove(served);
        SessionEnded?.Invoke(device);
        if (bug is null) { _log(VhostLogLevel.Info, $"{name}: front-end gone"); }
        else
        {
            // What this session left behind cannot be trusted: the export ends, by name; others never notice.
            _log(VhostLogLevel.Error, $"{_options.Name}: the export ends because of a bug, please report it: {bug}");
            StopAccepting("the export ends because of a bug");
        }
        if (_oneEnded is { } oneEnded)
        {
            _oneEnded = null;
            oneEnded.Complete(true);
        }
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

    private sealed record Served(VhostUserSession Session, int Slot, long Number);
}
