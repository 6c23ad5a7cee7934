using System.Net.Sockets;
using System.Text.Json.Nodes;

namespace VhostFs.ProgramTests;

/// <summary>Pools, volumes and file system controllers that clients make.</summary>
public sealed class FsRpcTests : BlockRpcFixture
{
    [Fact]
    public async Task A_pool_its_volumes_and_a_controller_from_beginning_to_end()
    {
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":16384,"block_size":4096,"name":"M0"}""", "*"),
            ("fs_create_pool", """{"bdev_name":"M0","pool_name":"p"}""", "true"),
            ("fs_create_volume", """{"volume":"p/web","quota_mib":10,"quota_inodes":100}""", "*"),
            ("fs_create_volume", """{"volume":"p/db"}""", "*"),
            ("fs_set_quota", """{"volume":"p/db","quota_mib":5}""", "true"),
            ("vhost_create_fs_controller", """{"ctrlr":"vm1","volume":"p/web","tag":"www","options":{"sharing":"shared","readonly":true}}""", "true"));
        JsonNode pool = (await CallAsync("fs_get_pools", """{"pool_name":"p"}"""))["result"]![0]!;
        Assert.Equal(("p", "M0", 64L << 20), (pool["pool_name"]!.GetValue<string>(), pool["base_bdev"]!.GetValue<string>(), pool["size_bytes"]!.GetValue<long>()));
        Assert.Equal([("web", 10L << 20, 100L), ("db", 5L << 20, 0L)], pool["volumes"]!.AsArray().Select(v => (v!["name"]!.GetValue<string>(), v["quota_bytes"]!.GetValue<long>(), v["quota_inodes"]!.GetValue<long>())));
        JsonNode shown = (await CallAsync("vhost_get_controllers", """{"name":"vm1"}"""))["result"]![0]!["backend_specific"]!["fs"]!;
        Assert.Equal(("p/web", "www", "shared", true), (shown["volume"]!.GetValue<string>(), shown["tag"]!.GetValue<string>(), shown["options"]!["sharing"]!.GetValue<string>(), shown["options"]!["readonly"]!.GetValue<bool>()));
        await PlayAsync(
            ("fs_delete_volume", """{"volume":"p/web"}""", Error(-16, "Device or resource busy")),
            ("fs_close_pool", """{"pool_name":"p"}""", Error(-16, "Device or resource busy")),
            ("bdev_malloc_delete", """{"name":"M0"}""", Error(-16, "Device or resource busy")),
            ("vhost_delete_controller", """{"ctrlr":"vm1"}""", "true"),
            ("fs_delete_volume", """{"volume":"p/web"}""", "true"),
            ("fs_close_pool", """{"pool_name":"p"}""", "true"),
            ("fs_get_pools", "null", "[]"),
            ("fs_create_pool", """{"bdev_name":"M0","pool_name":"q"}""", Error(-22, "Invalid argument")), // it holds one already
            ("fs_open_pool", """{"bdev_name":"M0","pool_name":"q"}""", "true"));
        Assert.Equal(["db"], (await CallAsync("fs_get_pools", "null"))["result"]![0]!["volumes"]!.AsArray().Select(v => v!["name"]!.GetValue<string>()));
    }

    [Fact]
    public async Task Who_has_a_volume_to_himself_keeps_others_away()
    {
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":16384,"block_size":4096,"name":"M0"}""", "*"),
            ("fs_create_pool", """{"bdev_name":"M0","pool_name":"p"}""", "true"),
            ("fs_create_volume", """{"volume":"p/web"}""", "*"),
            ("vhost_create_fs_controller", """{"ctrlr":"vm1","volume":"p/web","options":{"sharing":"exclusive"}}""", "true"),
            ("vhost_create_fs_controller", """{"ctrlr":"vm2","volume":"p/web"}""", "true"));
        using (Socket first = Connect(Files["sockets/vm1"]))
        {
            while ((await CallAsync("fs_get_pools", "null"))["result"]![0]!["volumes"]![0]!["users"]!.AsArray().Count == 0) { await Task.Yield(); }
            Assert.Equal("controller vm1", (await CallAsync("fs_get_pools", "null"))["result"]![0]!["volumes"]![0]!["users"]![0]!.GetValue<string>());
            using Socket second = Connect(Files["sockets/vm2"]);
            Assert.Equal(0, await second.ReceiveAsync(new byte[1])); // it is sent away
            Assert.Contains("volume 'web' is in use by controller vm1, which has it to itself", LogText, StringComparison.Ordinal);
        }
        while ((await CallAsync("fs_get_pools", "null"))["result"]![0]!["volumes"]![0]!["users"]!.AsArray().Count > 0) { await Task.Yield(); }
    }

    [Fact]
    public async Task A_pool_grows_with_the_logical_volume_below_it_while_a_file_system_is_served()
    {
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":131072,"block_size":4096,"name":"M0"}""", "*"),
            ("bdev_lvol_create_lvstore", """{"bdev_name":"M0","lvs_name":"lvs0"}""", "*"),
            ("bdev_lvol_create", """{"lvol_name":"a","size_in_mib":64,"lvs_name":"lvs0"}""", "*"),
            ("fs_create_pool", """{"bdev_name":"lvs0/a","pool_name":"p"}""", "true"),
            ("fs_create_volume", """{"volume":"p/web"}""", "*"),
            ("vhost_create_fs_controller", """{"ctrlr":"vm1","volume":"p/web"}""", "true"),
            ("fs_grow_pool", """{"pool_name":"p"}""", "true"));
        long free = await ShownAsync("free_bytes");
        Assert.Equal(64L << 20, await ShownAsync("size_bytes"));
        await PlayAsync(
            ("bdev_lvol_resize", """{"name":"lvs0/a","size_in_mib":160}""", "true"),
            ("fs_grow_pool", """{"pool_name":"p"}""", "true"));
        Assert.Equal(160L << 20, await ShownAsync("size_bytes"));
        Assert.InRange(await ShownAsync("free_bytes"), free + (95L << 20), free + (96L << 20));
        await PlayAsync(
            ("bdev_lvol_resize", """{"name":"lvs0/a","size_in_mib":100}""", "true"),
            ("fs_grow_pool", """{"pool_name":"p"}""", Error(-22, "Invalid argument")),
            ("bdev_lvol_resize", """{"name":"lvs0/a","size_in_mib":160}""", "true"),
            ("fs_grow_pool", """{"pool_name":"q"}""", Error(-19, "No such device")),
            ("fs_grow_pool", "{}", Error(-32602, "Invalid argument")),
            ("vhost_delete_controller", """{"ctrlr":"vm1"}""", "true"),
            ("fs_close_pool", """{"pool_name":"p"}""", "true"));

        async Task<long> ShownAsync(string name) => (await CallAsync("fs_get_pools", "null"))["result"]![0]![name]!.GetValue<long>();
    }

    [Fact]
    public async Task Pools_and_controllers_are_saved()
    {
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":16384,"block_size":4096,"name":"M0"}""", "*"),
            ("fs_create_pool", """{"bdev_name":"M0","pool_name":"p"}""", "true"),
            ("fs_create_volume", """{"volume":"p/web"}""", "*"),
            ("vhost_create_fs_controller", """{"ctrlr":"vm1","volume":"p/web"}""", "true"));
        JsonArray saved = (await CallAsync("framework_get_config", """{"name":"vhost_fs"}"""))["result"]!.AsArray();
        Assert.Equal(["fs_open_pool", "vhost_create_fs_controller"], saved.Select(c => c!["method"]!.GetValue<string>()));
        await PlayAsync(("vhost_delete_controller", """{"ctrlr":"vm1"}""", "true"), ("fs_close_pool", """{"pool_name":"p"}""", "true"));
        foreach (JsonNode? call in saved) { await PlayAsync((call!["method"]!.GetValue<string>(), call["params"]!.ToJsonString(), "true")); }
        Assert.Equal(saved.ToJsonString(), (await CallAsync("framework_get_config", """{"name":"vhost_fs"}"""))["result"]!.ToJsonString());
    }

    [Fact]
    public Task What_cannot_be_is_refused() => PlayAsync(
        ("bdev_malloc_create", """{"num_blocks":16384,"block_size":4096,"name":"M0"}""", "*"),
        ("bdev_malloc_create", """{"num_blocks":16384,"block_size":4096,"name":"M1"}""", "*"),
        ("fs_open_pool", """{"bdev_name":"M0","pool_name":"p"}""", Error(-22, "Invalid argument")),
        ("fs_create_pool", """{"bdev_name":"none","pool_name":"p"}""", Error(-19, "No such device")),
        ("fs_create_pool", """{"bdev_name":"M0","pool_name":"a/b"}""", Error(-22, "Invalid argument")),
        ("fs_create_pool", """{"bdev_name":"M0"}""", Error(-32602, "Invalid argument")),
        ("fs_create_pool", """{"bdev_name":"M0","pool_name":"p"}""", "true"),
        ("fs_create_pool", """{"bdev_name":"M0","pool_name":"q"}""", Error(-1, "Operation not permitted")),
        ("fs_create_pool", """{"bdev_name":"M1","pool_name":"p"}""", Error(-17, "File exists")),
        ("fs_create_volume", """{"volume":"p/"}""", Error(-22, "Invalid argument")),
        ("fs_create_volume", """{"volume":"p"}""", Error(-22, "Invalid argument")),
        ("fs_create_volume", """{"volume":"q/web"}""", Error(-19, "No such device")),
        ("fs_create_volume", """{"volume":"p/web"}""", "*"),
        ("fs_create_volume", """{"volume":"p/web"}""", Error(-17, "File exists")),
        ("fs_delete_volume", """{"volume":"p/none"}""", Error(-2, "No such file or directory")),
        ("fs_set_quota", """{"volume":"p/none"}""", Error(-2, "No such file or directory")),
        ("fs_close_pool", """{"pool_name":"q"}""", Error(-19, "No such device")),
        ("fs_get_pools", """{"pool_name":"q"}""", Error(-19, "No such device")),
        ("vhost_create_fs_controller", """{"ctrlr":"vm1","volume":"p/none"}""", Error(-2, "No such file or directory")),
        ("vhost_create_fs_controller", """{"ctrlr":"vm1","volume":"p/web","tag":"a tag that is longer than thirty-six bytes"}""", Error(-22, "Invalid argument")),
        ("vhost_create_fs_controller", """{"ctrlr":"vm1","volume":"p/web","options":{"writeback":true,"sharing":"shared"}}""", Error(-22, "Invalid argument")),
        ("vhost_create_fs_controller", """{"ctrlr":"vm1","volume":"p/web","options":{"no_such":true}}""", Error(-22, "Invalid argument")),
        ("vhost_create_fs_controller", """{"ctrlr":"vm1","volume":"p/web","options":7}""", Error(-32602, "Invalid argument")),
        ("vhost_create_fs_controller", """{"ctrlr":"../vm1","volume":"p/web"}""", Error(-32602, "Invalid argument")),
        ("vhost_create_fs_controller", """{"ctrlr":"vm1","volume":"p/web"}""", "true"),
        ("vhost_create_fs_controller", """{"ctrlr":"vm1","volume":"p/web"}""", Error(-32602, "File exists")));
}
