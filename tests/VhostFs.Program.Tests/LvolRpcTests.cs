using System.Text.Json.Nodes;
using VhostFs.Linux;

namespace VhostFs.ProgramTests;

/// <summary>Logical volumes over the control socket.</summary>
public sealed class LvolRpcTests : IDisposable
{
    private const string Wrong = "spdk_json_decode_object failed";
    private readonly TemporaryDirectory _directory = new();
    private RpcTarget _target;

    public LvolRpcTests() => _target = new RpcTarget(_directory);

    public void Dispose()
    {
        _target.Dispose();
        _directory.Dispose();
    }

    [Fact]
    public async Task A_store_and_its_volumes_from_beginning_to_end()
    {
        await _target.ResultAsync("bdev_malloc_create", """{"num_blocks":131072,"block_size":512,"name":"M0"}""");
        string store = (await _target.ResultAsync("bdev_lvol_create_lvstore", """{"bdev_name":"M0","lvs_name":"lvs0","cluster_sz":1048576,"clear_method":"none"}""")).GetValue<string>();
        JsonNode shown = (await _target.ResultAsync("bdev_lvol_get_lvstores"))[0]!;
        Assert.Equal((store, "lvs0", "M0", 512, 1048576), (Text(shown, "uuid"), Text(shown, "name"), Text(shown, "base_bdev"), shown["block_size"]!.GetValue<int>(), shown["cluster_size"]!.GetValue<int>()));
        int free = shown["free_clusters"]!.GetValue<int>();
        Assert.InRange(free, 40, shown["total_data_clusters"]!.GetValue<int>());
        string thin = (await _target.ResultAsync("bdev_lvol_create", """{"lvol_name":"thin","size_in_mib":1000,"lvs_name":"lvs0"}""")).GetValue<string>();
        string thick = (await _target.ResultAsync("bdev_lvol_create", $$"""{"lvol_name":"thick","size_in_mib":8,"uuid":"{{store}}","thin_provision":false,"clear_method":"unmap"}""")).GetValue<string>();
        await _target.PlayAsync(
            ("bdev_lvol_get_lvols", """{"lvs_name":"lvs0"}""", $"[{Lvol("thin", thin, store, isThin: true, clusters: 0)},{Lvol("thick", thick, store, isThin: false, clusters: 8)}]"),
            ("vhost_create_blk_controller", """{"ctrlr":"c0","dev_name":"lvs0/thin"}""", "true"),
            ("bdev_lvol_delete", """{"name":"lvs0/thin"}""", RpcTarget.Error(-16, "Device or resource busy")),
            ("bdev_lvol_delete_lvstore", """{"lvs_name":"lvs0"}""", RpcTarget.Error(-32602, "Device or resource busy")),
            ("bdev_lvol_resize", """{"name":"lvs0/thin","size_in_mib":2000}""", "true"),
            ("bdev_lvol_rename", """{"old_name":"lvs0/thin","new_name":"root"}""", "true"),
            ("bdev_lvol_rename_lvstore", """{"old_name":"lvs0","new_name":"store"}""", "true"),
            ("vhost_delete_controller", """{"ctrlr":"c0"}""", "true"));
        JsonNode bdev = (await _target.ResultAsync("bdev_get_bdevs", """{"name":"store/root"}"""))[0]!;
        Assert.Equal((thin, 4096000, "Logical Volume"), (Text(bdev, "name"), bdev["num_blocks"]!.GetValue<int>(), Text(bdev, "product_name")));
        Assert.Equal(["store/root"], bdev["aliases"]!.AsArray().Select(a => a!.GetValue<string>()));
        await _target.PlayAsync(
            ("bdev_lvol_set_read_only", """{"name":"store/root"}""", "true"),
            ("bdev_lvol_delete", $$"""{"name":"{{thick}}"}""", "true"),
            ("bdev_lvol_delete_lvstore", """{"lvs_name":"store"}""", "true"),
            ("bdev_lvol_get_lvstores", "null", "[]"),
            ("bdev_lvol_get_lvols", "null", "[]"),
            ("bdev_malloc_delete", """{"name":"M0"}""", "true"),
            ("bdev_get_bdevs", "null", "[]"));
    }

    [Fact]
    public async Task A_store_comes_back_with_its_bdev()
    {
        await MakeFileAsync();
        await _target.ResultAsync("bdev_lvol_create_lvstore", """{"bdev_name":"F0","lvs_name":"lvs0"}""");
        string uuid = (await _target.ResultAsync("bdev_lvol_create", """{"lvol_name":"a","size_in_mib":8,"lvs_name":"lvs0"}""")).GetValue<string>();
        _target.Dispose();
        _target = new RpcTarget(_directory);
        await OpenFileAsync();
        Assert.Equal(uuid, Text((await _target.ResultAsync("bdev_lvol_get_lvols"))[0]!, "uuid"));
        Assert.Contains("holds the logical volumes of 'lvs0': 'a'", _target.Log, StringComparison.Ordinal);
        await _target.PlayAsync(
            ("bdev_lvol_create_lvstore", """{"bdev_name":"F0","lvs_name":"lvs1"}""", RpcTarget.Error(-32602, "Operation not permitted")),
            ("vhost_create_blk_controller", """{"ctrlr":"c0","dev_name":"F0"}""", RpcTarget.Error(-32602, "Operation not permitted")),
            ("vhost_create_blk_controller", $$"""{"ctrlr":"c0","dev_name":"{{uuid}}"}""", "true"));
    }

    [Fact]
    public async Task A_store_grows_with_its_bdev_while_a_volume_is_used()
    {
        await MakeFileAsync();
        string store = (await _target.ResultAsync("bdev_lvol_create_lvstore", """{"bdev_name":"F0","lvs_name":"lvs0","cluster_sz":1048576}""")).GetValue<string>();
        await _target.PlayAsync(
            ("bdev_lvol_create", """{"lvol_name":"thick","size_in_mib":100,"lvs_name":"lvs0","thin_provision":false}""", RpcTarget.Error(-32602, "No space left on device")),
            ("bdev_lvol_create", """{"lvol_name":"thin","size_in_mib":8,"lvs_name":"lvs0"}""", "*"),
            ("vhost_create_blk_controller", """{"ctrlr":"c0","dev_name":"lvs0/thin"}""", "true"),
            ("bdev_lvol_grow_lvstore", """{"lvs_name":"lvs0"}""", "true")); // nothing has grown
        (int total, int free) = await ClustersAsync();
        SetFileSize(64 + 200);
        await _target.PlayAsync(
            ("bdev_aio_rescan", """{"name":"F0"}""", "true"),
            ("bdev_lvol_grow_lvstore", $$"""{"uuid":"{{store}}"}""", "true"));
        (int newTotal, int newFree) = await ClustersAsync();
        Assert.InRange(newTotal, total + 195, total + 200); // some are volume 0's, and kept for metadata
        Assert.InRange(newFree, free + 190, newTotal);
        await _target.PlayAsync(("bdev_lvol_create", """{"lvol_name":"thick","size_in_mib":100,"lvs_name":"lvs0","thin_provision":false}""", "*"));
        _target.Dispose();
        _target = new RpcTarget(_directory);
        await OpenFileAsync();
        Assert.Equal(newTotal, (await ClustersAsync()).Total);
        Assert.Equal(2, (await _target.ResultAsync("bdev_lvol_get_lvols")).AsArray().Count);
        SetFileSize(100);
        await _target.PlayAsync(
            ("bdev_aio_rescan", """{"name":"F0"}""", "true"),
            ("bdev_lvol_grow_lvstore", """{"lvs_name":"lvs0"}""", RpcTarget.Error(-32602, "Invalid argument")));
        Assert.Contains("[bdev F0] warning: the pool on F0 needs 276824064 bytes, the device has 104857600", _target.Log, StringComparison.Ordinal);
        SetFileSize(64 + 200);
        await _target.PlayAsync(("bdev_aio_rescan", """{"name":"F0"}""", "true"));

        async Task<(int Total, int Free)> ClustersAsync()
        {
            JsonNode shown = (await _target.ResultAsync("bdev_lvol_get_lvstores"))[0]!;
            return (shown["total_data_clusters"]!.GetValue<int>(), shown["free_clusters"]!.GetValue<int>());
        }
    }

    [Fact]
    public async Task A_copy_of_a_store_that_is_there_is_not_shown_twice()
    {
        await MakeFileAsync();
        await _target.ResultAsync("bdev_lvol_create_lvstore", """{"bdev_name":"F0","lvs_name":"lvs0"}""");
        await _target.ResultAsync("bdev_lvol_create", """{"lvol_name":"a","size_in_mib":8,"lvs_name":"lvs0"}""");
        _target.Dispose();
        File.Copy(_directory["disk.img"], _directory["copy.img"]);
        _target = new RpcTarget(_directory);
        await OpenFileAsync();
        await _target.ResultAsync("bdev_aio_create", $$"""{"name":"F1","filename":"{{_directory["copy.img"]}}","block_size":4096}""");
        Assert.Single((await _target.ResultAsync("bdev_lvol_get_lvols")).AsArray());
        Assert.Contains("[bdev F1] warning: the logical volumes on it are not shown: there is a store 'lvs0' already", _target.Log, StringComparison.Ordinal);
        await _target.ResultAsync("bdev_aio_delete", """{"name":"F1"}""");
    }

    [Fact]
    public async Task What_cannot_be_is_refused()
    {
        await _target.ResultAsync("bdev_malloc_create", """{"num_blocks":131072,"block_size":512,"name":"M0"}""");
        await _target.ResultAsync("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"name":"small"}""");
        await _target.ResultAsync("bdev_malloc_create", """{"num_blocks":131072,"block_size":512,"name":"M1"}""");
        await _target.ResultAsync("bdev_lvol_create_lvstore", """{"bdev_name":"M1","lvs_name":"lvs1"}""");
        string noStore = RpcTarget.Error(-19, "No such device"), invalid = RpcTarget.Error(-32602, "Invalid argument");
        await _target.PlayAsync(
            ("bdev_lvol_create_lvstore", """{"bdev_name":"none","lvs_name":"lvs0"}""", RpcTarget.Error(-32602, "No such device")),
            ("bdev_lvol_create_lvstore", """{"bdev_name":"M0"}""", RpcTarget.Error(-32603, Wrong)),
            ("bdev_lvol_create_lvstore", """{"bdev_name":"M0","lvs_name":"a/b"}""", invalid),
            ("bdev_lvol_create_lvstore", """{"bdev_name":"M0","lvs_name":"lvs1"}""", RpcTarget.Error(-32602, "File exists")),
            ("bdev_lvol_create_lvstore", """{"bdev_name":"M0","lvs_name":"lvs0","cluster_sz":1000}""", invalid),
            ("bdev_lvol_create_lvstore", """{"bdev_name":"small","lvs_name":"lvs0"}""", invalid),
            ("bdev_lvol_create_lvstore", """{"bdev_name":"M0","lvs_name":"lvs0","clear_method":"burn"}""", RpcTarget.Error(-32603, Wrong)),
            ("bdev_lvol_delete_lvstore", """{"lvs_name":"none"}""", noStore),
            ("bdev_lvol_delete_lvstore", "{}", RpcTarget.Error(-22, "Invalid argument")),
            ("bdev_lvol_rename_lvstore", """{"old_name":"none","new_name":"x"}""", noStore),
            ("bdev_lvol_rename_lvstore", """{"old_name":"lvs1","new_name":""}""", invalid),
            ("bdev_lvol_grow_lvstore", """{"lvs_name":"none"}""", noStore),
            ("bdev_lvol_grow_lvstore", "{}", RpcTarget.Error(-22, "Invalid argument")),
            ("bdev_lvol_grow_lvstore", """{"lvs_name":"lvs1","size":1}""", RpcTarget.Error(-32603, Wrong)),
            ("bdev_lvol_get_lvstores", """{"lvs_name":"none"}""", noStore),
            ("bdev_lvol_get_lvols", """{"lvs_uuid":"none"}""", noStore),
            ("bdev_lvol_create", """{"lvol_name":"a","size_in_mib":8}""", RpcTarget.Error(-22, "Invalid argument")),
            ("bdev_lvol_create", """{"lvol_name":"a","size_in_mib":8,"lvs_name":"none"}""", noStore),
            ("bdev_lvol_create", """{"lvol_name":".a","size_in_mib":8,"lvs_name":"lvs1"}""", invalid),
            ("bdev_lvol_create", """{"lvol_name":"a","size_in_mib":0,"lvs_name":"lvs1"}""", invalid),
            ("bdev_lvol_create", """{"lvol_name":"a","size_in_mib":8000,"lvs_name":"lvs1","thin_provision":false}""", RpcTarget.Error(-32602, "No space left on device")),
            ("bdev_lvol_create", """{"lvol_name":"a","size_in_mib":100000000,"lvs_name":"lvs1"}""", RpcTarget.Error(-32602, "File too large")),
            ("bdev_lvol_delete", """{"name":"lvs1/a"}""", noStore),
            ("bdev_lvol_delete", """{"name":"M1"}""", noStore),
            ("bdev_lvol_resize", """{"name":"lvs1/a","size_in_mib":8}""", noStore),
            ("bdev_lvol_rename", """{"old_name":"lvs1/a","new_name":"b"}""", noStore),
            ("bdev_lvol_set_read_only", """{"name":"lvs1/a"}""", noStore));
        await _target.ResultAsync("bdev_lvol_create", """{"lvol_name":"a","size_in_mib":8,"lvs_name":"lvs1"}""");
        await _target.ResultAsync("bdev_lvol_create", """{"lvol_name":"b","size_in_mib":8,"lvs_name":"lvs1"}""");
        await _target.PlayAsync(
            ("bdev_lvol_create", """{"lvol_name":"a","size_in_mib":8,"lvs_name":"lvs1"}""", RpcTarget.Error(-32602, "File exists")),
            ("bdev_lvol_rename", """{"old_name":"lvs1/a","new_name":"b"}""", RpcTarget.Error(-32602, "File exists")),
            ("bdev_lvol_rename", """{"old_name":"lvs1/a","new_name":"c/d"}""", invalid),
            ("bdev_lvol_resize", """{"name":"lvs1/a","size_in_mib":0}""", invalid));
    }

    private static string Lvol(string name, string uuid, string store, bool isThin, int clusters) =>
        $$$"""{"alias":"lvs0/{{{name}}}","uuid":"{{{uuid}}}","name":"{{{name}}}","is_thin_provisioned":{{{(isThin ? "true" : "false")}}},"is_snapshot":false,"is_clone":false,"is_esnap_clone":false,"is_degraded":false,"num_allocated_clusters":{{{clusters}}},"lvs":{"name":"lvs0","uuid":"{{{store}}}"} }""";

    private static string Text(JsonNode node, string name) => node[name]!.GetValue<string>();

    private async Task MakeFileAsync()
    {
        SetFileSize(64);
        await OpenFileAsync();
    }

    private void SetFileSize(int sizeMiB)
    {
        Assert.Equal(Errno.None, FileCalls.Open(_directory["disk.img"], FileCalls.O_RDWR | FileCalls.O_CREAT, 0x180, out SafeFd file));
        using (file) { Assert.Equal(Errno.None, FileCalls.Truncate(file, (long)sizeMiB << 20)); }
    }

    private Task<JsonNode> OpenFileAsync() => _target.ResultAsync("bdev_aio_create", $$"""{"name":"F0","filename":"{{_directory["disk.img"]}}","block_size":4096}""");
}
