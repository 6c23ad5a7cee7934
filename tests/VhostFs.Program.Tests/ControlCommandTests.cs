using System.Text.Json.Nodes;
using VhostFs.Rpc;

namespace VhostFs.ProgramTests;

/// <summary>The commands that speak to a running daemon, against a real one.</summary>
public sealed class ControlCommandTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();
    private readonly RpcTarget _target;

    public ControlCommandTests() => _target = new RpcTarget(_directory);

    public void Dispose()
    {
        _target.Dispose();
        _directory.Dispose();
    }

    [Fact]
    public async Task Block_devices_and_controllers_are_made_listed_and_deleted()
    {
        string file = _directory["disk.img"];
        await File.WriteAllBytesAsync(file, new byte[1 << 20]);
        Assert.Equal("Malloc0\n", await SucceedsAsync("bdev", "create", "malloc", "Malloc0", "--size", "64M"));
        Assert.Equal("F0\n", await SucceedsAsync("bdev", "create", "uring", "F0", "--file", file, "--block-size", "4096"));
        await SucceedsAsync("rpc", "bdev_lvol_create_lvstore", """{"bdev_name":"Malloc0","lvs_name":"lvs0"}""");
        string uuid = (await SucceedsAsync("bdev", "create", "lvol", "lvs0/root", "--size", "8M")).Trim();
        Assert.Equal(_directory["sockets/c0"] + "\n", await SucceedsAsync("controller", "create", "c0", "lvs0/root", "--readonly"));
        string bdevs = await SucceedsAsync("bdev", "list");
        Assert.Matches($"(?m)^{uuid} +lvs0/root +lvol +8 MiB +4096 B +yes$", bdevs);
        Assert.Matches("(?m)^F0 +.* uring +1 MiB +4096 B +no$", bdevs);
        Assert.Equal(3, JsonNode.Parse(await SucceedsAsync("bdev", "list", "--json"))!.AsArray().Count);
        Assert.Matches($"(?m)^c0 +{uuid} +- +{_directory["sockets/c0"]}$", await SucceedsAsync("controller", "list"));
        Assert.True(JsonNode.Parse(await SucceedsAsync("controller", "list", "--json"))![0]!["backend_specific"]!["block"]!["readonly"]!.GetValue<bool>());
        await SucceedsAsync("controller", "delete", "c0");
        await SucceedsAsync("bdev", "delete", "lvs0/root");
        await SucceedsAsync("bdev", "delete", "F0");
        string events = await SucceedsAsync("events", "--past");
        Assert.StartsWith("bdev_register Malloc0\nbdev_register F0\n", events, StringComparison.Ordinal);
        Assert.EndsWith("vhost_controller_unregister c0\nbdev_unregister " + uuid + "\nbdev_unregister F0\n", events, StringComparison.Ordinal);
    }

    /// <summary>Requests have a bound that answers do not have.</summary>
    [Fact]
    public async Task A_list_may_be_long()
    {
        await SucceedsAsync("bdev", "create", "malloc", "M0", "--size", "1000M");
        await SucceedsAsync("rpc", "bdev_split_create", """{"base_bdev":"M0","split_count":1000}""");
        string bdevs = await SucceedsAsync("bdev", "list", "--json");
        Assert.InRange(bdevs.Length, RpcStream.MaxRequestBytes + 1, int.MaxValue);
        Assert.Equal(1001, JsonNode.Parse(bdevs)!.AsArray().Count);
    }

    [Fact]
    public async Task Events_come_as_they_happen()
    {
        Task<JsonNode> waiting = _target.CallAsync("notify_get_notifications", """{"timeout":60000}""");
        await Task.Delay(1);
        Assert.Equal("M0\n", await SucceedsAsync("bdev", "create", "malloc", "M0", "--size", "1M"));
        Assert.Equal("M0", (await waiting)["result"]![0]!["ctx"]!.GetValue<string>());
    }

    [Theory]
    [InlineData("bdev create malloc M0", "say how large it is to be")]
    [InlineData("bdev create uring U0", "say which file or device")]
    [InlineData("bdev create lvol root --size 1M", "write STORE/NAME")]
    [InlineData("bdev delete none", "bdev_get_bdevs: No such device")]
    [InlineData("controller create c0 none", "vhost_create_blk_controller: No such device")]
    [InlineData("controller delete none", "vhost_delete_controller: No such device")]
    [InlineData("rpc no_such_method", "does not know no_such_method")]
    [InlineData("rpc bdev_get_bdevs [1]", "the parameters must be a JSON object")]
    [InlineData("rpc bdev_get_bdevs {", "the parameters are not JSON")]
    [InlineData("attach none --qmp no/such/socket", "vhost_create_blk_controller: No such device")]
    public async Task What_is_wrong_is_said(string arguments, string expected)
    {
        (int status, string error) = await RunAsync(arguments.Split(' '));
        Assert.Equal(1, status);
        Assert.Contains(expected, error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_cannot_be_attached_leaves_nothing()
    {
        await SucceedsAsync("bdev", "create", "malloc", "M0", "--size", "1M");
        (int status, string error) = await RunAsync("attach", "M0", "--qmp", _directory["none"]);
        Assert.Equal(1, status);
        Assert.Contains($"cannot connect to {_directory["none"]}", error, StringComparison.Ordinal);
        Assert.Equal("NAME  SHOWS  VM  SOCKET\n", await SucceedsAsync("controller", "list"));
    }

    private async Task<string> SucceedsAsync(params string[] arguments)
    {
        (int status, string output) = await RunAsync(arguments);
        Assert.True(status == 0, output);
        return output;
    }

    /// <summary>Its output, or when it fails what it complains of.</summary>
    private async Task<(int Status, string Text)> RunAsync(params string[] arguments)
    {
        var output = new StringWriter { NewLine = "\n" };
        var error = new StringWriter();
        int status = await Program.RunAsync([.. arguments, "-r", _directory["s"]], output, error);
        return (status, status == 0 ? output.ToString() : error.ToString());
    }
}
