using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using VhostFs.Linux;

namespace VhostFs.Rpc;

/// <summary>A connection to the control socket of a running daemon.</summary>
internal sealed class RpcClient : IDisposable
{
    private readonly RpcStream _stream;
    private int _lastId;

    private RpcClient(RpcStream stream, int processId)
    {
        _stream = stream;
        ProcessId = processId;
    }

    /// <summary>Of the daemon, as the kernel says.</summary>
    public int ProcessId { get; }

    /// <param name="processId">Who must be listening; 0: anybody of this user or of root's.</param>
    /// <returns>Null when nobody, or somebody else, listens there.</returns>
    public static RpcClient? TryConnect(string path, int processId, out string error)
    {
        Errno connected = UnixSocket.Connect(path, out SafeFd fd);
        error = connected switch
        {
            Errno.None => "",
            Errno.ENOENT or Errno.ECONNREFUSED => $"nobody listens on {path}",
            _ => $"{path}: {connected}",
        };
        if (connected != Errno.None) { return null; }
        Socket socket = RpcServer.AsSocket(fd);
        // What we ask for comes with a descriptor: it must not go to whoever has put a socket there.
        bool isRight = UnixSocket.PeerCredentials(socket.SafeHandle, out PeerCredentials peer) == Errno.None
            && (processId != 0 ? peer.Pid == processId : peer.Uid == 0 || peer.Uid == MountCalls.EffectiveUserId);
        if (isRight) { return new RpcClient(new RpcStream(socket, RpcStream.MaxAnswerBytes), peer.Pid); }
        socket.Dispose();
        error = $"{path} is served by process {peer.Pid} of user {peer.Uid}, which is not the one looked for";
        return null;
    }

    /// <exception cref="RpcException">The daemon answers with an error, or not as it should.</exception>
    /// <exception cref="SocketException">The connection is broken.</exception>
    public async Task<JsonElement> CallAsync(string method, JsonObject parameters, SafeFd[] descriptors, CancellationToken cancel)
    {
        int id = ++_lastId;
        await _stream.WriteAsync(RpcRequest.Call(id, method, parameters), descriptors);
        ReadOnlyMemory<byte> text = await _stream.ReadAsync(cancel);
        if (text.IsEmpty) { throw new SocketException((int)SocketError.ConnectionReset); }
        try
        {
            using JsonDocument answer = JsonDocument.Parse(text);
            if (answer.RootElement.TryGetProperty("error", out JsonElement error)) { throw new RpcException(error.GetProperty("code").GetInt32(), error.GetProperty("message").GetString() ?? ""); }
            if (answer.RootElement.GetProperty("id").GetInt32() == id) { return answer.RootElement.GetProperty("result").Clone(); }
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException) { }
        throw new RpcException(RpcErrorCode.InternalError, "the daemon's answer makes no sense");
    }

    /// <summary>Completes when the daemon ends the connection, or dies.</summary>
    public async Task WaitForEndAsync()
    {
        try
        {
            while (!(await _stream.ReadAsync()).IsEmpty) { }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or RpcException) { }
    }

    public void Dispose() => _stream.Dispose();
}
