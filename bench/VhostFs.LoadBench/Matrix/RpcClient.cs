using System.Net.Sockets;
using System.Text.Json;
using VhostFs.GuestDriver;

namespace VhostFs.LoadBench.Matrix;

/// <summary>Calls to a daemon's control socket (docs/rpc.md), one at a time.</summary>
internal sealed class RpcClient : IDisposable
{
    private const int MaxAttempts = 100;
    private readonly StreamReader _answers;
    private readonly NetworkStream _stream;

    public RpcClient(string path)
    {
        _stream = new NetworkStream(Connect(new UnixDomainSocketEndPoint(path)), ownsSocket: true);
        _answers = new StreamReader(_stream);
    }

    /// <exception cref="DriverException">The daemon says no.</exception>
    public JsonElement Call(string method, object parameters)
    {
        _stream.Write(JsonSerializer.SerializeToUtf8Bytes(new Dictionary<string, object> { ["jsonrpc"] = "2.0", ["id"] = 1, ["method"] = method, ["params"] = parameters }));
        string answer = _answers.ReadLine() ?? throw new DriverException($"the daemon has ended the connection instead of answering {method}");
        using JsonDocument document = JsonDocument.Parse(answer);
        if (document.RootElement.TryGetProperty("error", out JsonElement error)) { throw new DriverException($"{method}: {error.GetRawText()}"); }
        return document.RootElement.GetProperty("result").Clone();
    }

    public void Dispose() => _answers.Dispose(); // and the stream with it

    // A socket that is just being made is there a moment before it listens.
    private static Socket Connect(UnixDomainSocketEndPoint path)
    {
        for (int attempt = 1; ; attempt++)
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                socket.Connect(path);
                return socket;
            }
            catch (SocketException e)
            {
                socket.Dispose();
                if (e.SocketErrorCode != SocketError.ConnectionRefused || attempt == MaxAttempts) { throw new DriverException($"no daemon answers calls at {path}: {e.Message}", e); }
                Thread.Sleep(10);
            }
        }
    }
}
