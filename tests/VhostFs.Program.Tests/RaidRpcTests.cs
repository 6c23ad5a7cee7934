using System.Text.Json.Nodes;
using VhostFs.GuestDriver;

namespace VhostFs.ProgramTests;

/// <summary>split and raid over the control socket, as SPDK answers.</summary>
public sealed class RaidRpcTests : BlockRpcFixture
{
    private const string NoUuid = "00000000-0000-0000-0000-000000000000";

    [Fact]
    public Task A_bdev_is_split_and_put_together_again() => PlayAsync(
        ("bdev_malloc_create", """{"num_blocks":16384,"block_size":512,"name":"M0"}""", "\"M0\""),
        ("bdev_split_create", """{"base_bdev":"M0","split_count":3,"split_size_mb":2}""", """["M0p0","M0p1","M0p2"]"""),
        ("bdev_split_create", """{"base_bdev":"M0","split_count":2}""", Error(-32602, "Failed to create 2 split bdevs from 'M0': File exists")),
        ("bdev_split_create", """{"base_bdev":"M0p1","split_count":2}""", """["M0p1p0","M0p1p1"]"""),
        ("bdev_passthru_create", """{"base_bdev_name":"M0","name":"P0"}""", Error(-1, "Operation not permitted")),
        ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"M0p0"}""", "true"),
        ("bdev_split_delete", """{"base_bdev":"M0"}""", "true"),
        ("bdev_split_delete", """{"base_bdev":"M0"}""", Error(-32602, "No such file or directory")),
        ("vhost_get_controllers", """{"name":"vhost0"}""", Controllers("vhost0", null)),
        ("bdev_split_create", """{"base_bdev":"M0","split_count":5,"split_size_mb":3}""", """["M0p0","M0p1"]"""), // what fits
        ("bdev_malloc_delete", """{"name":"M0"}""", "true"),
        ("bdev_get_bdevs", "{}", "[]"));

    [Fact]
    public async Task Splits_are_refused_with_SPDKs_words_and_show_where_they_lie()
    {
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":16384,"block_size":512,"name":"M0"}""", "\"M0\""),
            ("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"name":"M0p1"}""", "\"M0p1\""),
            ("bdev_split_create", """{"base_bdev":"M0","split_count":2}""", Error(-32602, "Failed to create 2 split bdevs from 'M0': File exists")),
            ("bdev_get_bdevs", """{"name":"M0p0"}""", Error(-19, "No such device")), // none of them
            ("bdev_malloc_delete", """{"name":"M0p1"}""", "true"),
            ("bdev_split_create", """{"base_bdev":"none","split_count":2}""", Error(-32602, "Failed to create 2 split bdevs from 'none': No such device")),
            ("bdev_split_create", """{"base_bdev":"M0","split_count":0}""", Error(-32602, "Failed to create 0 split bdevs from 'M0': Invalid argument")),
            ("bdev_split_create", """{"base_bdev":"M0","split_count":16385}""", Error(-32602, "Failed to create 16385 split bdevs from 'M0': Invalid argument")),
            ("bdev_split_create", """{"base_bdev":"M0","split_count":4294967295,"split_size_mb":9}""", Error(-32602, "Failed to create 4294967295 split bdevs from 'M0': Invalid argument")),
            ("bdev_split_create", """{"base_bdev":"M0","split_count":16384}""", Error(-32602, "Failed to create 16384 split bdevs from 'M0': Invalid argument")), // more than we make
            ("bdev_split_create", """{"base_bdev":"M0","split_count":1,"split_size_mb":18446744073709551615}""", Error(-32602, "Invalid parameters")),
            ("bdev_split_create", """{"base_bdev":"M0"}""", Error(-32602, "Invalid parameters")),
            ("bdev_split_create", """{"base_bdev":"M0","split_count":4294967296}""", Error(-32602, "Invalid parameters")),
            ("bdev_split_delete", """{"name":"M0"}""", Error(-32602, "Invalid parameters")),
            ("bdev_split_delete", """{"base_bdev":"none"}""", Error(-32602, "No such file or directory")),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"M0"}""", "true"),
            ("bdev_split_create", """{"base_bdev":"M0","split_count":2}""", Error(-32602, "Failed to create 2 split bdevs from 'M0': Operation not permitted")),
            ("vhost_delete_controller", """{"ctrlr":"vhost0"}""", "true"),
            ("bdev_split_create", """{"base_bdev":"M0","split_count":3}""", """["M0p0","M0p1","M0p2"]"""));
        JsonNode shown = (await CallAsync("bdev_get_bdevs", """{"name":"M0p2"}"""))["result"]![0]!;
        Assert.Equal("Split Disk", shown["product_name"]!.GetValue<string>());
        Assert.Equal(5461, shown["num_blocks"]!.GetValue<int>());
        Assert.Equal("""{"split":{"base_bdev":"M0","offset_blocks":10922}}""", shown["driver_specific"]!.ToJsonString());
    }

    [Theory]
    [InlineData("raid0", 4, "raid0", 2 * 256, 256, 256)]
    [InlineData("0", 4, "raid0", 2 * 256, 256, 256)]
    [InlineData("CONCAT", 1024, "concat", 256 + 512, 256, 512)]
    [InlineData("raid1", 0, "raid1", 256, 256, 256)]
    public async Task An_array_is_made_of_bdevs_of_two_reactors_shown_and_deleted(string level, int stripKb, string shownLevel, int blocks, int data0, int data1)
    {
        await MallocAsync("M0", 256, Uuid0);
        await MallocAsync("M1", 512, Uuid1);
        const string uuid = "00000000-0000-4000-8000-000000000002";
        string strip = stripKb == 0 ? "" : $"\"strip_size_kb\":{stripKb},";
        string info = $$"""
            "uuid":"{{uuid}}","strip_size_kb":{{stripKb}},"state":"online","raid_level":"{{shownLevel}}","superblock":false,"num_base_bdevs":2,"num_base_bdevs_discovered":2,"num_base_bdevs_operational":2,
            "base_bdevs_list":[{{Base("M0", Uuid0, data0)}},{{Base("M1", Uuid1, data1)}}]
            """;
        await PlayAsync(
            ("bdev_raid_create", $$"""{"name":"R0","raid_level":"{{level}}",{{strip}}"base_bdevs":["M0","M1"],"uuid":"{{uuid}}","superblock":false}""", "true"),
            ("bdev_get_bdevs", """{"name":"R0"}""", $"[{Shown("R0", "Raid Volume", 4096, blocks, uuid, $$"""{"raid":{ {{info}} } }""")}]"),
            ("bdev_get_bdevs", """{"name":"M1"}""", $"[{Shown("M1", "Malloc disk", 4096, 512, Uuid1, isClaimed: true)}]"),
            ("bdev_raid_get_bdevs", """{"category":"all"}""", $$"""[{"name":"R0",{{info}} }]"""),
            ("bdev_raid_get_bdevs", """{"category":"Online"}""", $$"""[{"name":"R0",{{info}} }]"""),
            ("bdev_raid_get_bdevs", """{"category":"configuring"}""", "[]"),
            ("bdev_raid_get_bdevs", """{"category":"offline"}""", "[]"),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"M0"}""", Error(-32602, "Operation not permitted")),
            ("bdev_raid_delete", """{"name":"R0"}""", "true"),
            ("bdev_raid_get_bdevs", """{"category":"all"}""", "[]"),
            ("bdev_get_bdevs", """{"name":"M0"}""", $"[{Shown("M0", "Malloc disk", 4096, 256, Uuid0)}]"),
            ("bdev_get_bdevs", """{"name":"M1"}""", $"[{Shown("M1", "Malloc disk", 4096, 512, Uuid1)}]"));
    }

    [Fact]
    public async Task Arrays_are_refused_with_SPDKs_words()
    {
        static string Failed(int code, string text, string name = "R0") => Error(code, $"Failed to create RAID bdev {name}: {text}");
        foreach (string name in (string[])["M0", "M1", "M2"]) { await MallocAsync(name, 256); }
        await File.WriteAllBytesAsync(Files["disk.img"], new byte[1 << 20]);
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":256,"block_size":512,"name":"Small"}""", "\"Small\""),
            ("bdev_aio_create", $$"""{"name":"Fixed","filename":"{{Files["disk.img"]}}","block_size":4096,"readonly":true}""", "\"Fixed\""),
            ("bdev_passthru_create", """{"base_bdev_name":"M2","name":"P2"}""", "\"P2\""),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["M0","none"]}""", Failed(-19, "No such device")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["M0","M0"]}""", Failed(-1, "Operation not permitted")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["M0","M2"]}""", Failed(-1, "Operation not permitted")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["M0"]}""", Failed(-22, "Invalid argument")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid0","strip_size_kb":4,"base_bdevs":[]}""", Failed(-22, "Invalid argument")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["M0","Small"]}""", Failed(-22, "Invalid argument")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["M0","Fixed"]}""", Failed(-22, "Invalid argument")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","strip_size_kb":4,"base_bdevs":["M0","M1"]}""", Failed(-22, "Invalid argument")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid0","base_bdevs":["M0","M1"]}""", Failed(-22, "Invalid argument")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid0","strip_size_kb":3,"base_bdevs":["M0","M1"]}""", Failed(-22, "Invalid argument")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid0","strip_size_kb":2,"base_bdevs":["M0","M1"]}""", Failed(-22, "Invalid argument")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid0","strip_size_kb":2147483648,"base_bdevs":["M0","M1"]}""", Failed(-22, "Invalid argument")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid5f","strip_size_kb":4,"base_bdevs":["M0","M1"]}""", Failed(-22, "Invalid argument")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid0","strip_size_kb":4,"base_bdevs":["M0","M1"],"superblock":true}""", Failed(-95, "Operation not supported")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["M0","M1"],"superblock":true}""", Failed(-22, "Invalid argument")), // no more than a superblock would fit
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["M0"],"superblock":true}""", Failed(-22, "Invalid argument")),
            ("bdev_raid_create", """{"name":"M2","raid_level":"raid1","base_bdevs":["M0","M1"]}""", Failed(-17, "File exists", "M2")),
            ("bdev_raid_create", $$"""{"name":"{{new string('x', 64)}}","raid_level":"raid1","base_bdevs":["M0","M1"]}""", Failed(-22, "Invalid argument", new string('x', 64))),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["M0",""]}""", Error(-22, "The base bdev name cannot be empty: Invalid argument")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid6","base_bdevs":["M0","M1"]}""", Error(-32700, "spdk_json_decode_object failed")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":"M0 M1"}""", Error(-32700, "spdk_json_decode_object failed")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["M0",1]}""", Error(-32700, "spdk_json_decode_object failed")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1"}""", Error(-32700, "spdk_json_decode_object failed")),
            ("bdev_raid_create", $$"""{"name":"R0","raid_level":"raid1","base_bdevs":[{{string.Join(',', Enumerable.Repeat("\"M0\"", 256))}}]}""", Error(-32700, "spdk_json_decode_object failed")),
            ("bdev_raid_get_bdevs", """{"category":"broken"}""", Error(-22, "Invalid argument")),
            ("bdev_raid_get_bdevs", "{}", Error(-32700, "spdk_json_decode_object failed")),
            ("bdev_raid_delete", """{"name":"M0"}""", Error(-19, "raid bdev M0 not found")),
            ("bdev_raid_delete", "{}", Error(-32700, "spdk_json_decode_object failed")),
            ("bdev_raid_add_base_bdev", """{"base_bdev":"M0","raid_bdev":"none"}""", Error(-19, "raid bdev none is not found in config")),
            ("bdev_raid_add_base_bdev", """{"base_bdev":"M0"}""", Error(-32603, "spdk_json_decode_object failed")),
            ("bdev_raid_remove_base_bdev", """{"name":"M0"}""", Error(-19, "Failed to remove base bdev from raid bdev")),
            ("bdev_raid_remove_base_bdev", """{"name":"none"}""", Error(-19, "Failed to remove base bdev from raid bdev")),
            ("bdev_raid_remove_base_bdev", "{}", Error(-32700, "spdk_json_decode_object failed")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"1","base_bdevs":["M0","M1"]}""", "true"));
        Assert.Contains("bdev_raid_create: the bdevs have blocks of different sizes", LogText, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_raid1_loses_a_base_and_is_rebuilt_on_another()
    {
        static string Failed(int code, string text, string below) => Error(code, $"Failed to add base bdev {below} to RAID bdev R0: {text}");
        foreach (string name in (string[])["M0", "M1", "M2", "M3"]) { await MallocAsync(name, 16384); }
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":16383,"block_size":4096,"name":"Small"}""", "\"Small\""),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["M0","M1"]}""", "true"),
            ("bdev_raid_add_base_bdev", """{"base_bdev":"M2","raid_bdev":"R0"}""", Failed(-22, "Invalid argument", "M2")), // no free slot
            ("bdev_raid_remove_base_bdev", """{"name":"M0"}""", "true"),
            ("bdev_raid_remove_base_bdev", """{"name":"M0"}""", Error(-19, "Failed to remove base bdev from raid bdev")));
        JsonNode degraded = await RaidAsync();
        Assert.Equal((2, 1, 1), (degraded["num_base_bdevs"]!.GetValue<int>(), degraded["num_base_bdevs_discovered"]!.GetValue<int>(), degraded["num_base_bdevs_operational"]!.GetValue<int>()));
        Assert.Equal($$"""{"name":null,"uuid":"{{NoUuid}}","is_configured":false,"data_offset":0,"data_size":16384}""", degraded["base_bdevs_list"]![0]!.ToJsonString());
        await PlayAsync(
            ("bdev_raid_add_base_bdev", """{"base_bdev":"none","raid_bdev":"R0"}""", Failed(-19, "No such device", "none")),
            ("bdev_raid_add_base_bdev", """{"base_bdev":"M1","raid_bdev":"R0"}""", Failed(-1, "Operation not permitted", "M1")),
            ("bdev_raid_add_base_bdev", """{"base_bdev":"R0","raid_bdev":"R0"}""", Failed(-22, "Invalid argument", "R0")),
            ("bdev_raid_add_base_bdev", """{"base_bdev":"Small","raid_bdev":"R0"}""", Failed(-22, "Invalid argument", "Small")),
            ("bdev_delay_create", """{"base_bdev_name":"M2","name":"D2","avg_read_latency":0,"p99_read_latency":0,"avg_write_latency":20000,"p99_write_latency":20000}""", "\"D2\""),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"R0"}""", "true"));
        using (var guest = new BlkGuest(Files["sockets/vhost0"]))
        {
            for (int i = 0; i < 64; i++) { Assert.Equal(0, guest.Write((ulong)i * 2048, [1, .. new byte[4095]])); } // something to copy in each piece
        }
        await PlayAsync(("bdev_raid_add_base_bdev", """{"base_bdev":"D2","raid_bdev":"R0"}""", "true"));
        JsonNode rebuilding = await RaidAsync();
        Assert.Equal(("rebuild", "D2"), (rebuilding["process"]!["type"]!.GetValue<string>(), rebuilding["process"]!["target"]!.GetValue<string>()));
        Assert.InRange(rebuilding["process"]!["progress"]!["blocks"]!.GetValue<long>(), 0, 16384);
        Assert.InRange(rebuilding["process"]!["progress"]!["percent"]!.GetValue<int>(), 0, 100);
        Assert.Equal(2, rebuilding["num_base_bdevs_operational"]!.GetValue<int>());
        await PlayAsync(("bdev_raid_remove_base_bdev", """{"name":"D2"}""", "true")); // in the middle
        Assert.Null((await RaidAsync())["process"]);
        await PlayAsync(("bdev_raid_add_base_bdev", """{"base_bdev":"M3","raid_bdev":"R0"}""", "true"));
        while ((await RaidAsync())["process"] is not null) { await Task.Delay(5); }
        await PlayAsync(("bdev_raid_remove_base_bdev", """{"name":"M1"}""", "true")); // M3 has it all
        using (var guest = new BlkGuest(Files["sockets/vhost0"])) { Assert.Equal(1, guest.Read(63 * 2048, 4096).Data[0]); }
        await PlayAsync(
            ("bdev_raid_remove_base_bdev", """{"name":"M3"}""", "true"), // the last: the array goes, too
            ("bdev_raid_get_bdevs", """{"category":"all"}""", "[]"),
            ("vhost_get_controllers", "null", Controllers("vhost0", null, cpumask: "0x1")),
            ("bdev_malloc_delete", """{"name":"M3"}""", "true"));
        Assert.Contains("raid R0] rebuilding on D2", LogText, StringComparison.Ordinal);
        Assert.Contains("raid R0] the rebuild has ended", LogText, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_second_rebuild_waits_for_the_first()
    {
        foreach (string name in (string[])["M0", "M1", "M2", "M3"]) { await MallocAsync(name, 16384); }
        await PlayAsync(
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["M0","M1","M2"]}""", "true"),
            ("bdev_malloc_delete", """{"name":"M1"}""", "true"),
            ("bdev_malloc_delete", """{"name":"M2"}""", "true"),
            ("bdev_malloc_create", """{"num_blocks":16384,"block_size":4096,"name":"M1"}""", "\"M1\""),
            ("bdev_error_create", """{"base_name":"M1"}""", "true"),
            ("bdev_delay_create", """{"base_bdev_name":"EE_M1","name":"D1","avg_read_latency":0,"p99_read_latency":0,"avg_write_latency":20000,"p99_write_latency":20000}""", "\"D1\""),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"R0"}""", "true"));
        using (var guest = new BlkGuest(Files["sockets/vhost0"]))
        {
            for (int i = 0; i < 64; i++) { Assert.Equal(0, guest.Write((ulong)i * 2048, [1, .. new byte[4095]])); }
        }
        await PlayAsync(
            ("bdev_raid_add_base_bdev", """{"base_bdev":"D1","raid_bdev":"R0"}""", "true"),
            ("bdev_raid_add_base_bdev", """{"base_bdev":"M3","raid_bdev":"R0"}""", Error(-1, "Failed to add base bdev M3 to RAID bdev R0: Operation not permitted")),
            ("bdev_error_inject_error", """{"name":"EE_M1","io_type":"write","error_type":"failure"}""", "true"));
        // The target fails, and is free again a little later.
        while ((await CallAsync("bdev_get_bdevs", """{"name":"D1"}"""))["result"]![0]!["claimed"]!.GetValue<bool>()) { await Task.Delay(5); }
        Assert.Contains("raid R0] error: D1 failed (EIO) and is out", LogText, StringComparison.Ordinal);
        await PlayAsync(("bdev_raid_add_base_bdev", """{"base_bdev":"M3","raid_bdev":"R0"}""", "true"));
        await PlayAsync(("bdev_raid_delete", """{"name":"R0"}""", "true")); // in the middle of a rebuild
    }

    [Fact]
    public async Task A_store_on_a_raid1_comes_back_on_the_array_and_not_on_a_base_of_it()
    {
        string[] files = [Files["0.img"], Files["1.img"]];
        foreach (string file in files) { await File.WriteAllBytesAsync(file, new byte[64 << 20]); }
        (string, string, string) Open(int i) => ("bdev_aio_create", $$"""{"name":"F{{i}}","filename":"{{files[i]}}","block_size":4096}""", $"\"F{i}\"");
        await PlayAsync(
            Open(0), Open(1),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["F0","F1"]}""", "true"),
            ("bdev_lvol_create_lvstore", """{"bdev_name":"R0","lvs_name":"s"}""", "*"),
            ("bdev_lvol_create", """{"lvs_name":"s","lvol_name":"v","size_in_mib":8}""", "*"),
            ("bdev_aio_delete", """{"name":"F0"}""", "true"),
            ("bdev_set_options", """{"bdev_auto_examine":false}""", "true"),
            Open(0), // it holds the store as it was, and is not asked
            ("bdev_set_options", """{"bdev_auto_examine":true,"bdev_io_pool_size":65535}""", "true"),
            ("bdev_set_options", """{"bdev_auto_examine":1}""", Error(-32602, "Invalid parameters")),
            ("bdev_raid_add_base_bdev", """{"base_bdev":"F0","raid_bdev":"R0"}""", "true"));
        while ((await RaidAsync())["process"] is not null) { await Task.Delay(5); }
        JsonArray saved = (await CallAsync("framework_get_config", """{"name":"bdev"}"""))["result"]!.AsArray();
        Assert.Equal(["bdev_set_options", "bdev_aio_create", "bdev_aio_create", "bdev_raid_create", "bdev_examine", "bdev_set_options", "bdev_wait_for_examine"], saved.Select(c => c!["method"]!.GetValue<string>()));
        await PlayAsync(
            ("bdev_raid_delete", """{"name":"R0"}""", "true"),
            ("bdev_aio_delete", """{"name":"F0"}""", "true"),
            ("bdev_aio_delete", """{"name":"F1"}""", "true"));
        Assert.Equal(await File.ReadAllBytesAsync(files[0]), await File.ReadAllBytesAsync(files[1]));
        foreach (JsonNode? call in saved) { await PlayAsync((call!["method"]!.GetValue<string>(), call["params"]!.ToJsonString(), "*")); }
        JsonNode store = (await CallAsync("bdev_lvol_get_lvstores", "{}"))["result"]![0]!;
        Assert.Equal(("s", "R0"), (store["name"]!.GetValue<string>(), store["base_bdev"]!.GetValue<string>()));
        Assert.Equal(2, (await RaidAsync())["num_base_bdevs_operational"]!.GetValue<int>());
        await PlayAsync(("bdev_get_bdevs", """{"name":"s/v"}""", "*"));
    }

    private async Task<JsonNode> RaidAsync() => (await CallAsync("bdev_raid_get_bdevs", """{"category":"all"}"""))["result"]![0]!;

    private Task MallocAsync(string name, int blocks, string? uuid = null) =>
        PlayAsync(("bdev_malloc_create", $$"""{"num_blocks":{{blocks}},"block_size":4096,"name":"{{name}}"{{(uuid is null ? "" : $",\"uuid\":\"{uuid}\"")}}}""", $"\"{name}\""));

    private static string Base(string name, string uuid, int blocks) => $$"""{"name":"{{name}}","uuid":"{{uuid}}","is_configured":true,"data_offset":0,"data_size":{{blocks}}}""";
}
