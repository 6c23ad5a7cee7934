using System.Net.Sockets;
using System.Text;

namespace VhostFs.ProgramTests;

/// <summary>The program as a block target: with nothing but a control socket, and beside pools.</summary>
public sealed class BlockTargetTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Fact]
    public async Task It_starts_with_an_RPC_socket_alone_and_ends_in_order()
    {
        Directory.CreateDirectory(_directory["sockets"]);
        using var daemon = new RunningProgram("serve", "-r", _directory["rpc"], "-S", _directory["sockets"]);
        await daemon.WaitForErrorTextAsync($"[rpc] listening on {_directory["rpc"]}");
        Assert.Contains("\"Malloc0\"", await CallAsync("bdev_malloc_create", """{"num_blocks":131072,"block_size":512}"""), StringComparison.Ordinal);
        Assert.Contains("true", await CallAsync("vhost_create_blk_controller", """{"ctrlr":"vm1","dev_name":"Malloc0"}"""), StringComparison.Ordinal);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(_directory["sockets/vm1"]));
        using Socket frontEnd = Connect(_directory["sockets/vm1"]); // does not keep the daemon
        daemon.Signal(RunningProgram.SIGTERM);
        Assert.Equal(0, await daemon.WaitForEndAsync());
        Assert.False(File.Exists(_directory["sockets/vm1"]));
        Assert.False(File.Exists(_directory["rpc"]));
    }

    [Fact]
    public async Task The_bdevs_of_a_pool_are_seen_and_cannot_be_taken()
    {
        await File.WriteAllTextAsync(_directory["config.json"], """
            {
              "reactors": 2,
              "bdevs": [ { "name": "mem0", "kind": "malloc", "size": "64M" }, { "name": "slow", "kind": "delay", "base": "mem0" } ],
              "pools": [ { "name": "p", "bdev": "slow", "volumes": [ { "name": "v" } ] } ],
              "exports": [ { "name": "vm1", "volume": "p/v", "socket": "vm1.sock" } ]
            }
            """);
        using var daemon = new RunningProgram("serve", _directory["config.json"], "-r", _directory["rpc"], "-S", _directory["."]);
        await daemon.WaitForErrorTextAsync("[rpc] listening");
        string bdevs = await CallAsync("bdev_get_bdevs", "null");
        Assert.Matches("\"name\":\"mem0\".*\"claimed\":true.*\"name\":\"slow\".*\"claimed\":true", bdevs);
        Assert.Contains("""{"code":-32602,"message":"Operation not permitted"}""", await CallAsync("vhost_create_blk_controller", """{"ctrlr":"x","dev_name":"slow"}"""), StringComparison.Ordinal);
        Assert.Contains("""{"code":-16,"message":"Device or resource busy"}""", await CallAsync("bdev_malloc_delete", """{"name":"mem0"}"""), StringComparison.Ordinal);
        daemon.Signal(RunningProgram.SIGTERM);
        Assert.Equal(0, await daemon.WaitForEndAsync());
    }

    [Theory]
    [InlineData("-S", "no/such/directory", "no/such/directory does not exist; make it first")]
    [InlineData("--socket", "s", "say what to serve")]
    public async Task What_cannot_be_meant_is_refused(string option, string value, string message)
    {
        (int status, _, string error) = await RunningProgram.RunAsync("serve", "-r", _directory["rpc"], option, value);
        Assert.Equal(2, status);
        Assert.Contains(message, error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Without_the_socket_that_was_asked_for_it_does_not_run()
    {
        (int status, _, string error) = await RunningProgram.RunAsync("serve", "-r", _directory["no/such/directory/rpc"]);
        Assert.Equal(1, status);
        Assert.Contains("cannot listen on", error, StringComparison.Ordinal);
    }

    private async Task<string> CallAsync(string method, string parameters)
    {
        using Socket client = Connect(_directory["rpc"]);
        await client.SendAsync(Encoding.UTF8.GetBytes($$"""{"id":1,"method":"{{method}}","params":{{parameters}}}"""));
        byte[] answer = new byte[65536];
        return Encoding.UTF8.GetString(answer, 0, await client.ReceiveAsync(answer));
    }

    private static Socket Connect(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { ReceiveTimeout = 60_000 };
        socket.Connect(new UnixDomainSocketEndPoint(path));
        return socket;
    }
}
