using System.Net.Sockets;
using System.Text.Json;
using VhostFs.Linux;

namespace VhostFs.Rpc;

/// <summary>One call on its way to a method.</summary>
/// <param name="stream">Null: it came from a file.</param>
internal sealed class RpcCall(string method, JsonElement parameters, RpcStream? stream)
{
    public string Method => method;

    /// <summary>An object, a list, null, or undefined when there were none.</summary>
    public JsonElement Parameters => parameters;

    /// <summary>A descriptor that came with the request; the method owns it. Null: there is none.</summary>
    public SafeFd? TakeDescriptor() => stream?.TakeDescriptor();

    /// <summary>Ends the connection that the call came by, at any time from then on.</summary>
    public void CloseConnection() => stream?.Dispose();
}

/// <summary>A method: returns what goes into <c>result</c>, or throws <see cref="RpcException"/>.</summary>
internal delegate Task<object?> RpcMethod(RpcCall call);

/// <summary>The control socket: JSON-RPC 2.0 over a unix stream socket, for root and the user of this process.</summary>
/// <remarks>Requests of one connection are served one after the other, those of several at the same time. Bounds: <see cref="MaxConnections"/>; whoever
/// comes then is sent away at once. A client that does not read its answers holds up only itself.</remarks>
internal sealed class RpcServer : IDisposable
{
    public const int MaxConnections = 64;
    public const string GetMethods = "rpc_get_methods";
    private const string Scope = "rpc";

    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.InvalidParams, "Invalid parameters");

    private readonly Dictionary<string, RpcMethod> _methods;
    private readonly Log _log;
    private readonly string _path;
    private readonly Socket _listener;
    private readonly HashSet<RpcStream> _connections = [];
    private bool _isStopping;

    private RpcServer(string path, SafeFd listener, IReadOnlyDictionary<string, RpcMethod> methods, IReadOnlyCollection<string>? allowed, Log log)
    {
        _path = path;
        _log = log;
        _methods = new Dictionary<string, RpcMethod>(methods, StringComparer.Ordinal) { [GetMethods] = GetMethodsAsync };
        foreach (string name in _methods.Keys.Where(name => allowed?.Contains(name) == false).ToArray()) { _methods.Remove(name); }
        _listener = AsSocket(listener);
    }

    /// <summary>Listens on a socket of mode 0600. EADDRINUSE: somebody else does.</summary>
    /// <param name="allowed">For clients other methods are not there. Null: all are.</param>
    public static Errno Start(string path, IReadOnlyDictionary<string, RpcMethod> methods, Log log, out RpcServer? server, IReadOnlyCollection<string>? allowed = null)
    {
        server = null;
        Errno listening = UnixSocket.Listen(path, out SafeFd listener);
        if (listening != Errno.None) { return listening; }
        server = new RpcServer(path, listener, methods, allowed, log);
        _ = server.AcceptAsync();
        return Errno.None;
    }

    /// <summary>Takes no more calls and ends all connections; calls under way go on and are not answered.</summary>
    public void Dispose()
    {
        RpcStream[] open;
        lock (_connections)
        {
            if (_isStopping) { return; }
            _isStopping = true;
            open = [.. _connections];
        }
        FileCalls.Unlink(_path);
        _listener.Dispose();
        foreach (RpcStream stream in open) { stream.Dispose(); }
    }

    /// <summary>The runtime's socket around a descriptor of ours, which it owns from now on.</summary>
    public static Socket AsSocket(SafeFd fd)
    {
        var handle = new SafeSocketHandle(fd.Fd, ownsHandle: true);
        fd.SetHandleAsInvalid();
        return new Socket(handle);
    }

    // All of them can be called now, and none has another name.
    private Task<object?> GetMethodsAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        parameters.Flag("current");
        parameters.Flag("include_aliases");
        parameters.End();
        return Task.FromResult<object?>(_methods.Keys.Order(StringComparer.Ordinal));
    }

    private async Task AcceptAsync()
    {
        while (true)
        {
            Socket socket;
            try { socket = await _listener.AcceptAsync(); }
            catch (SocketException e) when (!_isStopping)
            {
                // No descriptors left, for example: the next one may have more luck.
                _log.Warn(Scope, $"cannot accept: {e.Message}");
                await Task.Delay(TimeSpan.FromSeconds(1));
                continue;
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException) { return; }
            var stream = new RpcStream(socket, RpcStream.MaxRequestBytes);
            if (IsAllowed(socket) && TryAdd(stream)) { _ = ServeAsync(stream); }
            else { stream.Dispose(); }
        }
    }

    private bool IsAllowed(Socket socket)
    {
        Errno known = UnixSocket.PeerCredentials(socket.SafeHandle, out PeerCredentials peer);
        if (known == Errno.None && (peer.Uid == 0 || peer.Uid == MountCalls.EffectiveUserId)) { return true; }
        _log.Warn(Scope, $"user {peer.Uid} (process {peer.Pid}) is refused: only root and the user of this process may connect");
        return false;
    }

    private bool TryAdd(RpcStream stream)
    {
        lock (_connections)
        {
            if (_isStopping) { return false; }
            if (_connections.Count < MaxConnections) { return _connections.Add(stream); }
        }
        _log.Warn(Scope, $"a connection is refused: there are {MaxConnections} already");
        return false;
    }

    private async Task ServeAsync(RpcStream stream)
    {
        try
        {
            while (await ReadAsync(stream) is { IsEmpty: false } text)
            {
                byte[]? answer = await RpcRequest.AnswerAsync(text, _methods, stream, _log);
                stream.CloseDescriptors();
                if (answer is not null) { await stream.WriteAsync(answer); }
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException) { _log.Debug(Scope, $"a connection is broken: {e.Message}"); }
        finally
        {
            lock (_connections) { _connections.Remove(stream); }
            stream.Dispose();
        }
    }

    /// <summary>Empty when the stream is over; where it goes wrong, that is said, and then it is over.</summary>
    private static async Task<ReadOnlyMemory<byte>> ReadAsync(RpcStream stream)
    {
        try { return await stream.ReadAsync(); }
        catch (RpcException e)
        {
            await stream.WriteAsync(RpcRequest.Error(default, e.Code, e.Message));
            return default;
        }
    }
}
