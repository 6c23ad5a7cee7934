using System.Text.Json.Nodes;

namespace VhostFs.ProgramTests;

/// <summary>Counts, limits and histograms of bdevs over the control socket, as SPDK's clients read and set them.</summary>
public sealed class StatisticsRpcTests : BlockRpcFixture
{
    private const string Wrong = "spdk_json_decode_object failed";

    [Fact]
    public async Task What_was_done_is_counted_until_it_is_reset()
    {
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":131072,"block_size":512,"name":"M0"}""", "*"),
            ("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"name":"M1"}""", "*"),
            ("bdev_lvol_create_lvstore", """{"bdev_name":"M0","lvs_name":"s"}""", "*")); // writes
        JsonNode first = (await CallAsync("bdev_get_iostat", """{"name":"M0"}"""))["result"]!;
        Assert.Equal(1_000_000_000, first["tick_rate"]!.GetValue<long>());
        JsonNode bdev = first["bdevs"]!.AsArray().Single()!;
        Assert.Equal(
            ["name", "bytes_read", "num_read_ops", "bytes_written", "num_write_ops", "bytes_unmapped", "num_unmap_ops", "bytes_copied", "num_copy_ops",
             "read_latency_ticks", "max_read_latency_ticks", "min_read_latency_ticks", "write_latency_ticks", "max_write_latency_ticks", "min_write_latency_ticks",
             "unmap_latency_ticks", "max_unmap_latency_ticks", "min_unmap_latency_ticks", "copy_latency_ticks", "max_copy_latency_ticks", "min_copy_latency_ticks", "io_error"],
            bdev.AsObject().Select(m => m.Key));
        Assert.True(bdev["bytes_written"]!.GetValue<long>() > 4096 && bdev["num_write_ops"]!.GetValue<long>() > 0 && bdev["num_read_ops"]!.GetValue<long>() > 0);
        JsonNode channel = (await CallAsync("bdev_get_iostat", """{"name":"M1","per_channel":true,"reset_mode":"none"}"""))["result"]!;
        Assert.Equal(("M1", 1), (channel["name"]!.GetValue<string>(), channel["channels"]!.AsArray().Count));
        await PlayAsync(("bdev_reset_iostat", """{"name":"M0","mode":"all"}""", "true"), ("bdev_reset_iostat", "{}", "true"));
        Assert.Equal(0, (await CallAsync("bdev_get_iostat", """{"name":"M0","reset_mode":"all"}"""))["result"]!["bdevs"]![0]!["num_read_ops"]!.GetValue<long>());
        await PlayAsync(
            ("bdev_get_iostat", """{"name":"none"}""", Error(-19, "No such device")),
            ("bdev_get_iostat", """{"per_channel":true}""", Error(-22, "Invalid argument")),
            ("bdev_get_iostat", """{"reset_mode":"some"}""", Error(-32603, Wrong)),
            ("bdev_reset_iostat", """{"name":"none"}""", Error(-19, "No such device")));
    }

    [Fact]
    public async Task Limits_are_set_shown_saved_and_lifted()
    {
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"name":"M0"}""", "*"),
            ("bdev_set_qos_limit", """{"name":"M0","rw_ios_per_sec":1000,"r_mbytes_per_sec":10}""", "true"),
            ("bdev_set_qos_limit", """{"name":"M0","w_mbytes_per_sec":5,"rw_mbytes_per_sec":12}""", "true"),
            ("bdev_set_qos_limit", """{"name":"M0"}""", Error(-22, "no rate limits specified")),
            ("bdev_set_qos_limit", """{"name":"none","rw_ios_per_sec":1000}""", Error(-19, "No such device")),
            ("bdev_set_qos_limit", """{"name":"M0","rw_ios_per_sec":-1}""", Error(-32603, Wrong)));
        const string limits = """{"rw_ios_per_sec":1000,"rw_mbytes_per_sec":12,"r_mbytes_per_sec":10,"w_mbytes_per_sec":5}""";
        JsonNode shown = (await CallAsync("bdev_get_bdevs", """{"name":"M0"}"""))["result"]![0]!["assigned_rate_limits"]!;
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(limits), shown), shown.ToJsonString());
        JsonNode saved = (await CallAsync("framework_get_config", """{"name":"bdev"}"""))["result"]!.AsArray().Single(c => c!["method"]!.GetValue<string>() == "bdev_set_qos_limit")!;
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(limits.Replace("{", "{\"name\":\"M0\",", StringComparison.Ordinal)), saved["params"]), saved.ToJsonString());
        await PlayAsync(
            ("bdev_set_qos_limit", """{"name":"M0","rw_ios_per_sec":0,"rw_mbytes_per_sec":0,"r_mbytes_per_sec":0,"w_mbytes_per_sec":0}""", "true"),
            ("framework_get_config", """{"name":"vhost_blk"}""", "[]"));
        Assert.DoesNotContain((await CallAsync("framework_get_config", """{"name":"bdev"}"""))["result"]!.AsArray(), c => c!["method"]!.GetValue<string>() == "bdev_set_qos_limit");
    }

    [Fact]
    public async Task A_histogram_is_counted_from_when_it_is_asked_for()
    {
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"name":"M0"}""", "*"),
            ("bdev_get_histogram", """{"name":"M0"}""", Error(-14, "Bad address")),
            ("bdev_enable_histogram", """{"name":"M0","enable":true}""", "true"));
        JsonNode histogram = (await CallAsync("bdev_get_histogram", """{"name":"M0"}"""))["result"]!;
        Assert.Equal((7, 1_000_000_000), (histogram["granularity"]!.GetValue<int>(), histogram["tsc_rate"]!.GetValue<long>()));
        Assert.Equal(58 * 128 * 8, Convert.FromBase64String(histogram["histogram"]!.GetValue<string>()).Length);
        await PlayAsync(
            ("bdev_enable_histogram", """{"name":"M0","enable":false}""", "true"),
            ("bdev_get_histogram", """{"name":"M0"}""", Error(-14, "Bad address")),
            ("bdev_enable_histogram", """{"name":"none","enable":true}""", Error(-19, "No such device")),
            ("bdev_get_histogram", """{"name":"none"}""", Error(-19, "No such device")));
    }
}
