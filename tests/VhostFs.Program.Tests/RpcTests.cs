using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using VhostFs.Linux;
using VhostFs.Rpc;

namespace VhostFs.ProgramTests;

/// <summary>The control socket against clients of every kind.</summary>
public sealed class RpcTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();
    private readonly StringWriter _log = new();
    private readonly RpcServer _server;

    public RpcTests()
    {
        var methods = new Dictionary<string, RpcMethod>(StringComparer.Ordinal)
        {
            ["echo"] = call => Task.FromResult<object?>(call.Parameters.Clone()),
            ["fail"] = _ => throw new RpcException(-17, "it is there already"),
            ["crash"] = _ => throw new InvalidOperationException("oh"),
            ["descriptors"] = call => Task.FromResult<object?>(CountDescriptors(call)),
        };
        Assert.Equal(Errno.None, RpcServer.Start(_directory["s"], methods, new Log(TextWriter.Synchronized(_log), LogLevel.Debug), out RpcServer? server));
        _server = server!;
    }

    public void Dispose()
    {
        _server.Dispose();
        _directory.Dispose();
    }

    [Theory]
    [InlineData("""{"jsonrpc":"2.0","id":1,"method":"echo","params":{"a":[1,"}"]}}""", """{"jsonrpc":"2.0","id":1,"result":{"a":[1,"}"]}}""")]
    [InlineData("""{"jsonrpc":"2.0","id":"x\"{","method":"echo","params":[]}""", """{"jsonrpc":"2.0","id":"x\"{","result":[]}""")]
    [InlineData("""{"jsonrpc":"2.0","id":null,"method":"echo","params":[7]}""", """{"jsonrpc":"2.0","id":null,"result":[7]}""")]
    [InlineData("""{"jsonrpc":"2.0","id":12345678901234567890123,"method":"echo","params":[7]}""", """{"jsonrpc":"2.0","id":12345678901234567890123,"result":[7]}""")]
    [InlineData("""{"jsonrpc":"2.0","id":2,"method":"rpc_get_methods"}""", """{"jsonrpc":"2.0","id":2,"result":["crash","descriptors","echo","fail","rpc_get_methods"]}""")]
    [InlineData("""{"id":2,"method":"echo","params":null}""", """{"jsonrpc":"2.0","id":2,"result":null}""")]
    [InlineData("""{"jsonrpc":"2.0","id":3,"method":"fail"}""", """{"jsonrpc":"2.0","id":3,"error":{"code":-17,"message":"it is there already"}}""")]
    [InlineData("""{"jsonrpc":"2.0","id":4,"method":"crash"}""", """{"jsonrpc":"2.0","id":4,"error":{"code":-32603,"message":"a bug; the daemon's log says more"}}""")]
    [InlineData("""{"jsonrpc":"2.0","id":5,"method":"nothing"}""", """{"jsonrpc":"2.0","id":5,"error":{"code":-32601,"message":"Method not found"}}""")]
    [InlineData("""{"jsonrpc":"2.0","id":6,"method":"echo","params":7}""", """{"jsonrpc":"2.0","id":6,"error":{"code":-32600,"message":"'params' must be an object or a list"}}""")]
    [InlineData("""{"jsonrpc":"1.0","id":7,"method":"echo"}""", """{"jsonrpc":"2.0","id":7,"error":{"code":-32600,"message":"'jsonrpc' must be \"2.0\""}}""")]
    [InlineData("""{"jsonrpc":"2.0","id":8}""", """{"jsonrpc":"2.0","id":8,"error":{"code":-32600,"message":"'method' must be a text"}}""")]
    [InlineData("""{"jsonrpc":"2.0","id":[9],"method":"echo"}""", """{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"'id' must be a text, a number or null"}}""")]
    [InlineData("[]", """{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"a batch without requests"}}""")]
    [InlineData("""[1,{"jsonrpc":"2.0","method":"echo"},{"jsonrpc":"2.0","id":1,"method":"echo","params":[]}]""",
        """[{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"a request is an object"}},{"jsonrpc":"2.0","id":1,"result":[]}]""")]
    public async Task Each_request_gets_the_answer_that_JSON_RPC_says(string request, string answer)
    {
        using Socket client = Connect();
        await SendAsync(client, request);
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(answer), JsonNode.Parse(await ReadValueAsync(client))));
    }

    [Fact]
    public async Task Values_need_no_framing_and_notifications_no_answer()
    {
        using Socket client = Connect();
        const string stream = """ {"jsonrpc":"2.0","method":"echo"}{"jsonrpc":"2.0","id":1,"method":"echo","params":[1]}  [{"jsonrpc":"2.0","method":"fail"}] {"jsonrpc":"2.0","id":2,"method":"echo","params":[2]}""";
        foreach (byte one in Encoding.UTF8.GetBytes(stream)) { await client.SendAsync(new[] { one }); }
        Assert.Equal("""{"jsonrpc":"2.0","id":1,"result":[1]}""", await ReadValueAsync(client));
        Assert.Equal("""{"jsonrpc":"2.0","id":2,"result":[2]}""", await ReadValueAsync(client));
    }

    [Theory]
    [InlineData("hello")]
    [InlineData("}{")]
    [InlineData("7")]
    public async Task What_is_no_JSON_value_ends_the_connection_with_a_parse_error(string text)
    {
        using Socket client = Connect();
        await SendAsync(client, text);
        Assert.Contains("-32700", await ReadValueAsync(client), StringComparison.Ordinal);
        Assert.Equal(0, await client.ReceiveAsync(new byte[1]));
    }

    [Fact]
    public async Task Brackets_around_nonsense_are_a_parse_error_and_the_next_value_is_served()
    {
        using Socket client = Connect();
        await SendAsync(client, """{what} {"jsonrpc":"2.0","id":2,"method":"echo","params":[2]}""");
        Assert.Contains("-32700", await ReadValueAsync(client), StringComparison.Ordinal);
        Assert.Equal("""{"jsonrpc":"2.0","id":2,"result":[2]}""", await ReadValueAsync(client));
    }

    [Fact]
    public async Task A_request_without_end_is_cut_off_at_the_bound()
    {
        using Socket client = Connect();
        await SendAsync(client, "{\"a\":\"" + new string('x', RpcStream.MaxRequestBytes - 6));
        Assert.Contains("a request has more than", await ReadValueAsync(client), StringComparison.Ordinal);
        Assert.Equal(0, await client.ReceiveAsync(new byte[1]));
    }

    [Fact]
    public async Task A_deeply_nested_request_is_an_error_and_no_more()
    {
        using Socket client = Connect();
        await SendAsync(client, new string('[', 10_000) + new string(']', 10_000));
        Assert.Contains("-32700", await ReadValueAsync(client), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Descriptors_come_with_their_request_and_too_many_end_the_connection()
    {
        using Socket client = Connect();
        int[] two = [0, 1];
        Assert.False(UnixSocket.Send(client.SafeHandle, """{"jsonrpc":"2.0","id":1,"method":"descriptors"}"""u8, two).IsError);
        Assert.Equal("""{"jsonrpc":"2.0","id":1,"result":2}""", await ReadValueAsync(client));
        Assert.False(UnixSocket.Send(client.SafeHandle, """{"jsonrpc":"2.0","method":"echo"}{"jsonrpc":"2.0","id":2,"method":"descriptors"}"""u8, two).IsError);
        Assert.Equal("""{"jsonrpc":"2.0","id":2,"result":0}""", await ReadValueAsync(client)); // those of a request that does not take them are closed
        Assert.False(UnixSocket.Send(client.SafeHandle, "{"u8, new int[RpcStream.MaxDescriptors + 1]).IsError);
        Assert.Contains("more than 16 descriptors", await ReadValueAsync(client), StringComparison.Ordinal);
        Assert.Equal(0, await client.ReceiveAsync(new byte[1]));
    }

    [Fact]
    public async Task Silent_clients_do_not_keep_others_out_but_there_is_a_bound()
    {
        Socket[] silent = [.. Enumerable.Range(0, RpcServer.MaxConnections).Select(_ => Connect())];
        foreach (Socket client in silent)
        {
            await SendAsync(client, """{"jsonrpc":"2.0","id":1,"method":"echo","params":[]}""");
            await ReadValueAsync(client); // it is taken
        }
        using (Socket oneTooMany = Connect()) { Assert.Equal(0, await oneTooMany.ReceiveAsync(new byte[1])); }
        foreach (Socket client in silent) { client.Dispose(); }
    }

    [Fact]
    public async Task Methods_that_are_not_allowed_are_not_there()
    {
        var methods = new Dictionary<string, RpcMethod>(StringComparer.Ordinal) { ["one"] = _ => Task.FromResult<object?>(1), ["two"] = _ => Task.FromResult<object?>(2) };
        Assert.Equal(Errno.None, RpcServer.Start(_directory["a"], methods, new Log(TextWriter.Null, LogLevel.Debug), out RpcServer? server, ["one", RpcServer.GetMethods]));
        using (server)
        {
            using RpcClient client = RpcClient.TryConnect(_directory["a"], Environment.ProcessId, out _)!;
            Assert.Equal("""["one","rpc_get_methods"]""", (await client.CallAsync(RpcServer.GetMethods, [], [], default)).GetRawText());
            Assert.Equal(1, (await client.CallAsync("one", [], [], default)).GetInt32());
            Assert.Equal(RpcErrorCode.MethodNotFound, (await Assert.ThrowsAsync<RpcException>(() => client.CallAsync("two", [], [], default))).Code);
        }
    }

    [Fact]
    public void The_socket_is_for_its_user_alone_and_goes_away()
    {
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(_directory["s"]));
        _server.Dispose();
        Assert.False(File.Exists(_directory["s"]));
    }

    [Fact]
    public async Task The_client_knows_whom_it_talks_to()
    {
        Assert.Null(RpcClient.TryConnect(_directory["s"], Environment.ProcessId + 1, out string error));
        Assert.Contains("is not the one looked for", error, StringComparison.Ordinal);
        using RpcClient client = RpcClient.TryConnect(_directory["s"], Environment.ProcessId, out _)!;
        Assert.Equal(Environment.ProcessId, client.ProcessId);
        Assert.Equal("{\"a\":1}", (await client.CallAsync("echo", new JsonObject { ["a"] = 1 }, [], default)).GetRawText());
        RpcException failure = await Assert.ThrowsAsync<RpcException>(() => client.CallAsync("fail", [], [], default));
        Assert.Equal((-17, "it is there already"), (failure.Code, failure.Message));
    }

    private static int CountDescriptors(RpcCall call)
    {
        int count = 0;
        for (; call.TakeDescriptor() is { } descriptor; count++) { descriptor.Dispose(); }
        return count;
    }

    private Socket Connect()
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { ReceiveTimeout = 60_000 };
        socket.Connect(new UnixDomainSocketEndPoint(_directory["s"]));
        return socket;
    }

    private static async Task SendAsync(Socket socket, string text)
    {
        ReadOnlyMemory<byte> bytes = Encoding.UTF8.GetBytes(text);
        while (bytes.Length > 0) { bytes = bytes[await socket.SendAsync(bytes)..]; }
    }

    private static async Task<string> ReadValueAsync(Socket socket)
    {
        var scanner = default(JsonValueScanner);
        var bytes = new List<byte>();
        byte[] one = new byte[1];
        while (scanner.Scan(bytes.ToArray()) != JsonScan.Complete)
        {
            Assert.Equal(1, await socket.ReceiveAsync(one));
            bytes.Add(one[0]);
        }
        Assert.Equal((1, (byte)'\n'), (await socket.ReceiveAsync(one), one[0]));
        return Encoding.UTF8.GetString([.. bytes]);
    }
}
