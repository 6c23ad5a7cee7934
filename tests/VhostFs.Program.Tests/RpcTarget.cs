using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using VhostFs.Block;
using VhostFs.Hosting;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Rpc;

namespace VhostFs.ProgramTests;

/// <summary>A block target on two reactors, behind a real control socket.</summary>
internal sealed class RpcTarget : IDisposable
{
    private readonly TemporaryDirectory _directory;
    private readonly StringWriter _log = new();
    private readonly Reactor.Reactor[] _reactors = [new(Ring.Create(64), "0"), new(Ring.Create(64), "1")];
    private readonly BlockTarget _target;
    private readonly RpcServer _server;
    private int _id;

    public RpcTarget(TemporaryDirectory directory)
    {
        _directory = directory;
        foreach (Reactor.Reactor reactor in _reactors) { reactor.Start(); }
        Directory.CreateDirectory(directory["sockets"]);
        var log = new Log(TextWriter.Synchronized(_log), LogLevel.Debug);
        _target = new BlockTarget(_reactors, new NodeCaches(_reactors), directory["sockets"], log, signal => AskedToStop = signal);
        Methods = new Dictionary<string, RpcMethod>(_target.Methods, StringComparer.Ordinal);
        Assert.Equal(Errno.None, RpcServer.Start(directory["s"], Methods, log, out RpcServer? server));
        _server = server!;
    }

    public Dictionary<string, RpcMethod> Methods { get; }

    public string Log => _log.ToString();

    public string AskedToStop { get; private set; } = "";

    public void Dispose()
    {
        _server.Dispose();
        _target.StopAsync().GetAwaiter().GetResult();
        foreach (Reactor.Reactor reactor in _reactors) { reactor.Dispose(); }
        Assert.Empty(Directory.EnumerateFileSystemEntries(_directory["sockets"]));
        Assert.DoesNotContain("a bug", Log, StringComparison.Ordinal);
    }

    public static string Error(int code, string message) => $"#{code} {message}";

    /// <summary>Each call in turn; an expected answer is a result, "*" for any, or <see cref="Error"/>.</summary>
    public async Task PlayAsync(params (string Method, string Parameters, string Expected)[] script)
    {
        foreach ((string method, string parameters, string expected) in script)
        {
            JsonNode answer = await CallAsync(method, parameters);
            string got = answer["error"] is { } error ? Error(error["code"]!.GetValue<int>(), error["message"]!.GetValue<string>()) : answer["result"]!.ToJsonString();
            bool isSame = expected == "*" ? !got.StartsWith('#') : expected.StartsWith('#') || got.StartsWith('#') ? got == expected : JsonNode.DeepEquals(JsonNode.Parse(expected), answer["result"]);
            Assert.True(isSame, $"{method} {parameters}\nanswers  {got}\nand not  {expected}\n{Log}");
        }
    }

    /// <summary>The result of a call that must succeed.</summary>
    public async Task<JsonNode> ResultAsync(string method, string parameters = "{}")
    {
        JsonNode answer = await CallAsync(method, parameters);
        Assert.True(answer["error"] is null, $"{method} {parameters}\nanswers {answer["error"]?.ToJsonString()}\n{Log}");
        return answer["result"]!;
    }

    public async Task<JsonNode> CallAsync(string method, string parameters)
    {
        int id = Interlocked.Increment(ref _id); // several may call at once
        using var client = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await client.ConnectAsync(new UnixDomainSocketEndPoint(_directory["s"]));
        // As rpc.py writes: indented, and without a line end.
        var request = new JsonObject { ["jsonrpc"] = "2.0", ["method"] = method, ["id"] = id, ["params"] = JsonNode.Parse(parameters) };
        await client.SendAsync(Encoding.UTF8.GetBytes(request.ToJsonString(new JsonSerializerOptions { WriteIndented = true })));
        byte[] buffer = new byte[1 << 20];
        int length = 0;
        do { length += await client.ReceiveAsync(buffer.AsMemory(length)); }
        while (buffer[length - 1] != '\n');
        JsonNode answer = JsonNode.Parse(buffer.AsSpan(0, length))!;
        Assert.Equal(id, answer["id"]!.GetValue<int>());
        return answer;
    }
}
