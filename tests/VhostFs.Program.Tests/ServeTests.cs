using System.Net.Sockets;
using VhostFs.Rpc;

namespace VhostFs.ProgramTests;

public sealed class ServeTests : IDisposable
{
    private const string Waiting = "Waiting for vhost-user socket connection";
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private readonly TemporaryDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Fact]
    public async Task A_new_volume_is_made_served_and_closed_at_SIGTERM()
    {
        using var daemon = new RunningProgram("serve", "--volume", _directory["disk.img"], "--size", "64M", "--socket", _directory["s"], "--log-level", "error");
        await daemon.WaitForErrorTextAsync($"vhostfs: [export disk] {Waiting} on {_directory["s"]}\n"); // at any log level
        Assert.Equal(OwnerOnly, File.GetUnixFileMode(_directory["s"]));
        Assert.Equal(OwnerOnly, File.GetUnixFileMode(_directory["disk.img"]));
        Assert.Equal(64 << 20, new FileInfo(_directory["disk.img"]).Length);

        daemon.Signal(RunningProgram.SIGTERM);
        Assert.Equal(0, await daemon.WaitForEndAsync());
        Assert.False(File.Exists(_directory["s"]));
        Assert.Contains($"-chardev socket,id=fs0,path={_directory["s"]}", daemon.Output, StringComparison.Ordinal);
        Assert.Contains("tag=disk,queue-size=1024", daemon.Output, StringComparison.Ordinal);
        Assert.Contains("mount -t virtiofs disk /mnt", daemon.Output, StringComparison.Ordinal);
        (int status, _, _) = await RunningProgram.RunAsync("check", _directory["disk.img"]);
        Assert.Equal(0, status);
    }

    [Fact]
    public async Task A_volume_in_use_is_refused_and_its_owner_named()
    {
        using var daemon = new RunningProgram("serve", "--volume", _directory["disk.img"], "--size", "64M", "--socket", _directory["s"]);
        await daemon.WaitForErrorTextAsync(Waiting);
        (int serve, _, string serveError) = await RunningProgram.RunAsync("serve", "--volume", _directory["disk.img"], "--socket", _directory["other"]);
        Assert.Equal(1, serve);
        Assert.Contains($"is in use by process {daemon.ProcessId}", serveError, StringComparison.Ordinal);
        (int check, _, string checkError) = await RunningProgram.RunAsync("check", _directory["disk.img"]);
        Assert.Equal(2, check);
        Assert.Contains($"is in use by process {daemon.ProcessId}; stop that process first", checkError, StringComparison.Ordinal);
        (int list, _, string listError) = await RunningProgram.RunAsync("volume", "list", _directory["disk.img"]);
        Assert.Equal(1, list);
        Assert.Contains($"process {daemon.ProcessId}", listError, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_volume_is_served_again_after_kill_9()
    {
        using (var daemon = new RunningProgram("serve", "--volume", _directory["disk.img"], "--size", "64M", "--socket", _directory["s"])) { await daemon.WaitForErrorTextAsync(Waiting); }
        Assert.True(File.Exists(_directory["s"])); // stale now
        using var second = new RunningProgram("serve", "--volume", _directory["disk.img"], "--socket", _directory["s"]);
        await second.WaitForErrorTextAsync(Waiting);
        second.Signal(RunningProgram.SIGINT);
        Assert.Equal(0, await second.WaitForEndAsync());
    }

    [Fact]
    public async Task A_connected_front_end_does_not_keep_the_daemon()
    {
        using var daemon = new RunningProgram("serve", "--volume", _directory["disk.img"], "--size", "64M", "--socket", _directory["s"]);
        await daemon.WaitForErrorTextAsync(Waiting);
        using var frontEnd = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await frontEnd.ConnectAsync(new UnixDomainSocketEndPoint(_directory["s"]));
        await daemon.WaitForErrorTextAsync("front-end connected");
        daemon.Signal(RunningProgram.SIGTERM);
        Assert.Equal(0, await daemon.WaitForEndAsync());
        Assert.Contains("[pool disk] closed", daemon.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_socket_somebody_serves_is_left_to_him()
    {
        using var daemon = new RunningProgram("serve", "--volume", _directory["a.img"], "--size", "64M", "--socket", _directory["s"]);
        await daemon.WaitForErrorTextAsync(Waiting);
        (int status, _, string error) = await RunningProgram.RunAsync("serve", "--volume", _directory["b.img"], "--size", "64M", "--socket", _directory["s"]);
        Assert.Equal(1, status);
        Assert.Contains($"somebody listens on {_directory["s"]} already", error, StringComparison.Ordinal);
        Assert.True(File.Exists(_directory["s"]));
    }

    [Fact]
    public async Task A_socket_group_may_connect()
    {
        using var daemon = new RunningProgram("serve", "--volume", _directory["disk.img"], "--size", "64M", "--socket", _directory["s"], "--socket-group", OwnGroup());
        await daemon.WaitForErrorTextAsync(Waiting);
        await daemon.WaitForOutputAsync(); // the group is set before the options are printed
        Assert.Equal(OwnerOnly | UnixFileMode.GroupRead | UnixFileMode.GroupWrite, File.GetUnixFileMode(_directory["s"]));
        daemon.Signal(RunningProgram.SIGTERM);
        Assert.Equal(0, await daemon.WaitForEndAsync());

        (int status, _, string error) = await RunningProgram.RunAsync("serve", "--volume", _directory["disk.img"], "--socket", _directory["s"], "--socket-group", "no such group");
        Assert.Equal(1, status);
        Assert.Contains("no such group 'no such group'", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Clients_may_call_what_is_allowed_and_a_mistyped_method_is_said()
    {
        using var daemon = new RunningProgram("serve", "--rpc-socket", _directory["rpc"], "--rpcs-allowed", "bdev_get_bdevs,spdk_get_version");
        await daemon.WaitForErrorTextAsync("listening on");
        using (RpcClient client = RpcClient.TryConnect(_directory["rpc"], 0, out string problem) ?? throw new InvalidOperationException(problem))
        {
            Assert.Equal("[]", (await client.CallAsync("bdev_get_bdevs", [], [], default)).GetRawText());
            Assert.Equal("Method not found", (await Assert.ThrowsAsync<RpcException>(() => client.CallAsync("bdev_malloc_create", [], [], default))).Message);
        }
        daemon.Signal(RunningProgram.SIGTERM);
        Assert.Equal(0, await daemon.WaitForEndAsync());

        (int status, _, string error) = await RunningProgram.RunAsync("serve", "--rpc-socket", _directory["rpc"], "--rpc-allow", "bdev_get_bdev");
        Assert.Equal(1, status);
        Assert.Contains("there is no method 'bdev_get_bdev'; did you mean 'bdev_get_bdevs'?", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("0", "descriptor 0 is not a listening socket")]
    [InlineData("999", "descriptor 999 is not a listening socket")]
    public async Task A_descriptor_that_does_not_listen_is_refused(string fd, string message)
    {
        (int status, _, string error) = await RunningProgram.RunAsync("serve", "--volume", _directory["disk.img"], "--size", "64M", "--fd", fd);
        Assert.Equal(1, status);
        Assert.Contains(message, error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_file_that_is_no_pool_is_refused_and_left_alone()
    {
        await File.WriteAllBytesAsync(_directory["photo.jpg"], Enumerable.Repeat((byte)'x', 1 << 20).ToArray());
        (int status, _, string error) = await RunningProgram.RunAsync("serve", "--volume", _directory["photo.jpg"], "--size", "64M", "--socket", _directory["s"]);
        Assert.Equal(1, status);
        Assert.Contains("holds no pool", error, StringComparison.Ordinal);
        Assert.Equal(1 << 20, new FileInfo(_directory["photo.jpg"]).Length);
    }

    [Fact]
    public async Task A_volume_too_small_for_a_pool_leaves_no_file_behind()
    {
        (int status, _, string error) = await RunningProgram.RunAsync("serve", "--volume", _directory["disk.img"], "--size", "1M", "--socket", _directory["s"]);
        Assert.Equal(1, status);
        Assert.Contains("a pool needs at least 8 MiB", error, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFileSystemEntries(Path.GetDirectoryName(_directory["x"])!));
    }

    [Fact]
    public async Task A_configuration_serves_two_pools_and_three_exports()
    {
        await File.WriteAllTextAsync(_directory["config.json"], """
            {
              "reactors": 2,
              "bdevs": [
                { "name": "disk0", "filename": "disk0.img", "size": "64M" },
                { "name": "mem0", "kind": "malloc", "size": "64M" },
                { "name": "slow", "kind": "delay", "base": "mem0", "flush_us": 100 }
              ],
              "pools": [
                { "name": "pool0", "bdev": "disk0", "create": true, "volumes": [ { "name": "web" }, { "name": "db" } ] },
                { "name": "pool1", "bdev": "slow", "volumes": [ { "name": "scratch" } ] }
              ],
              "exports": [
                { "name": "vm1", "volume": "pool0/web", "socket": "vm1.sock" },
                { "name": "vm2", "volume": "pool0/db", "socket": "vm2.sock", "tag": "database", "cache": "always", "writeback": true },
                { "name": "vm3", "volume": "pool1/scratch", "socket": "vm3.sock" }
              ]
            }
            """);
        using var daemon = new RunningProgram("serve", _directory["config.json"]);
        await daemon.WaitForErrorTextAsync(Waiting, times: 3);
        Assert.All(["vm1.sock", "vm2.sock", "vm3.sock"], socket => Assert.True(File.Exists(_directory[socket])));
        daemon.Signal(RunningProgram.SIGTERM);
        Assert.Equal(0, await daemon.WaitForEndAsync());
        Assert.Contains("tag=database,", daemon.Output, StringComparison.Ordinal);
        (int status, string output, _) = await RunningProgram.RunAsync("volume", "list", _directory["disk0.img"]);
        Assert.Equal(0, status);
        Assert.Matches("(?m)^web .*\n^db ", output);
    }

    [Fact]
    public async Task One_export_that_fails_leaves_the_others_alone()
    {
        await File.WriteAllTextAsync(_directory["config.json"], """
            {
              "bdevs": [ { "name": "mem0", "kind": "malloc", "size": "64M" }, { "name": "gone", "filename": "gone.img" } ],
              "pools": [ { "name": "p", "bdev": "mem0", "volumes": [ { "name": "v" } ] }, { "name": "q", "bdev": "gone" } ],
              "exports": [
                { "name": "good", "volume": "p/v", "socket": "good.sock" },
                { "name": "typo", "volume": "p/x", "socket": "typo.sock" },
                { "name": "lost", "volume": "q/v", "socket": "lost.sock" },
                { "name": "far", "volume": "p/v", "socket": "no/such/dir.sock" }
              ]
            }
            """);
        string config = _directory["config.json"];
        using var daemon = new RunningProgram("serve", config);
        await daemon.WaitForErrorTextAsync("1 of 4 exports are served");
        Assert.Contains($"[pool q] error: {config}:3: pools[1]: {_directory["gone.img"]} does not exist; to make it, say \"create\": true", daemon.Error, StringComparison.Ordinal);
        Assert.Contains($"[export typo] error: {config}:6: exports[1].volume: no such volume 'x'; the pool has 'v'", daemon.Error, StringComparison.Ordinal);
        Assert.Contains("[export lost] error: is not served: its pool 'q' is not open", daemon.Error, StringComparison.Ordinal);
        Assert.Contains($"[export far] error: {config}:8: exports[3]: the directory of {_directory["no/such/dir.sock"]} does not exist", daemon.Error, StringComparison.Ordinal);
        daemon.Signal(RunningProgram.SIGTERM);
        Assert.Equal(0, await daemon.WaitForEndAsync());
    }

    private static string OwnGroup() => File.ReadLines("/proc/self/status").First(l => l.StartsWith("Gid:", StringComparison.Ordinal)).Split('\t')[1];
}
