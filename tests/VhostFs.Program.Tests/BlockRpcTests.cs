using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using VhostFs.Block;
using VhostFs.GuestDriver;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Rpc;
using VhostFs.Virtio;

namespace VhostFs.ProgramTests;

/// <summary>Bdevs and controllers over the control socket, as SPDK's clients speak: scripts of requests and the answers that they know.</summary>
public sealed class BlockRpcTests : BlockRpcFixture
{
    [Fact]
    public Task A_malloc_bdev_and_its_controller_from_beginning_to_end() => PlayAsync(
        ("bdev_malloc_create", """{"num_blocks":131072,"block_size":512,"name":"Malloc0","uuid":"00000000-0000-4000-8000-000000000000"}""", "\"Malloc0\""),
        ("bdev_get_bdevs", """{"name":"Malloc0"}""", $"[{Shown("Malloc0", "Malloc disk", 512, 131072, Uuid0)}]"),
        ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"Malloc0","cpumask":"0x1"}""", "true"),
        ("vhost_get_controllers", "null", Controllers("vhost0", "Malloc0")),
        ("vhost_get_controllers", """{"name":"vhost0"}""", Controllers("vhost0", "Malloc0")),
        ("bdev_get_bdevs", $$"""{"name":"{{Uuid0}}"}""", $"[{Shown("Malloc0", "Malloc disk", 512, 131072, Uuid0, isClaimed: true)}]"),
        ("vhost_delete_controller", """{"ctrlr":"vhost0"}""", "true"),
        ("vhost_get_controllers", "{}", "[]"),
        ("bdev_malloc_delete", """{"name":"Malloc0"}""", "true"),
        ("bdev_get_bdevs", "{}", "[]"));

    [Fact]
    public Task Malloc_bdevs_are_refused_with_SPDKs_codes() => PlayAsync(
        ("bdev_malloc_create", """{"num_blocks":8,"block_size":512}""", "\"Malloc0\""),
        ("bdev_malloc_create", """{"num_blocks":8,"block_size":4096,"name":"Malloc1","optimal_io_boundary":8,"physical_block_size":4096,"numa_id":-1,"md_size":0,"dif_type":0}""", "\"Malloc1\""),
        ("bdev_malloc_create", """{"num_blocks":8,"block_size":512}""", "\"Malloc2\""),
        ("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"name":"Malloc0"}""", Error(-17, "File exists")),
        ("bdev_malloc_create", $$"""{"num_blocks":8,"block_size":512,"uuid":"{{Uuid0}}"}""", "\"Malloc3\""),
        ("bdev_malloc_create", $$"""{"num_blocks":8,"block_size":512,"uuid":"{{Uuid0}}"}""", Error(-17, "File exists")),
        ("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"uuid":"nonsense"}""", Error(-32603, "spdk_json_decode_object failed")),
        ("bdev_malloc_create", """{"num_blocks":0,"block_size":512}""", Error(-22, "Invalid argument")),
        ("bdev_malloc_create", """{"num_blocks":8,"block_size":1000}""", Error(-22, "Invalid argument")),
        ("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"md_size":8}""", Error(-22, "Invalid argument")),
        ("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"name":""}""", Error(-22, "Invalid argument")),
        ("bdev_malloc_create", """{"num_blocks":18446744073709551615,"block_size":512}""", Error(-12, "Cannot allocate memory")),
        ("bdev_malloc_create", """{"num_blocks":8}""", Error(-32603, "spdk_json_decode_object failed")),
        ("bdev_malloc_create", """{"num_blocks":-8,"block_size":512}""", Error(-32603, "spdk_json_decode_object failed")),
        ("bdev_malloc_create", """{"num_blocks":"8","block_size":512}""", Error(-32603, "spdk_json_decode_object failed")),
        ("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"nam":"x"}""", Error(-32603, "spdk_json_decode_object failed")),
        ("bdev_malloc_create", "[8,512]", Error(-32603, "spdk_json_decode_object failed")),
        ("bdev_malloc_create", "null", Error(-32603, "spdk_json_decode_object failed")),
        ("bdev_malloc_delete", """{"name":"nothing"}""", Error(-19, "No such device")),
        ("bdev_null_delete", """{"name":"Malloc0"}""", Error(-19, "No such device")),
        ("bdev_get_bdevs", """{"name":"nothing"}""", Error(-19, "No such device")),
        ("bdev_get_bdevs", """{"nam":"nothing"}""", Error(-32603, "spdk_json_decode_object failed")));

    [Fact]
    public Task Null_bdevs_change_their_size() => PlayAsync(
        ("bdev_null_create", $$"""{"name":"N0","num_blocks":2048,"block_size":512,"uuid":"{{Uuid0}}","preferred_write_alignment":8}""", "\"N0\""),
        ("bdev_get_bdevs", """{"name":"N0"}""", $"[{Shown("N0", "Null disk", 512, 2048, Uuid0)}]"),
        ("bdev_null_resize", """{"name":"N0","new_size":2}""", "true"),
        ("bdev_get_bdevs", """{"name":"N0"}""", $"[{Shown("N0", "Null disk", 512, 4096, Uuid0)}]"),
        ("bdev_null_resize", """{"name":"none","new_size":2}""", Error(-19, "No such device")),
        ("bdev_null_create", """{"num_blocks":2048,"block_size":512}""", Error(-32603, "spdk_json_decode_object failed")),
        ("bdev_null_create", """{"name":"N0","num_blocks":2048,"block_size":512}""", Error(-17, "File exists")),
        ("bdev_null_delete", """{"name":"N0"}""", "true"));

    [Theory]
    [InlineData("aio")]
    [InlineData("uring")]
    public async Task A_file_is_a_bdev_of_either_name(string module)
    {
        string file = Files["disk.img"];
        await File.WriteAllBytesAsync(file, new byte[1 << 20]);
        string details = module == "aio" ? $$"""{"aio":{"filename":"{{file}}","block_size_override":true,"readonly":false,"fallocate":false} }""" : $$"""{"uring":{"filename":"{{file}}"} }""";
        string product = module == "aio" ? "AIO disk" : "URING bdev";
        string create = $$"""{"name":"F0","filename":"{{file}}","block_size":4096,"uuid":"{{Uuid0}}"}""";
        string missing = $$"""{"name":"F1","filename":"{{file}}.gone","block_size":4096}""";
        string unable = Error(-32603, "Unable to create URING bdev.");
        await PlayAsync(
            ($"bdev_{module}_create", create, "\"F0\""),
            ("bdev_get_bdevs", """{"name":"F0"}""", $"[{Shown("F0", product, 4096, 256, Uuid0, details)}]"),
            ($"bdev_{module}_create", create, module == "aio" ? Error(-17, "File exists") : unable),
            ($"bdev_{module}_create", missing, module == "aio" ? Error(-2, "No such file or directory") : unable),
            ($"bdev_{module}_create", create.Replace("\"F0\"", "\"F1\"", StringComparison.Ordinal).Replace(Uuid0, Uuid1, StringComparison.Ordinal), module == "aio" ? Error(-16, "Device or resource busy") : unable),
            ($"bdev_{module}_create", """{"name":"F1","filename":""}""", module == "aio" ? Error(-2, "No such file or directory") : unable),
            ($"bdev_{module}_create", """{"name":"F1"}""", Error(-32603, "spdk_json_decode_object failed")));
        // Not with a FileStream, which asks for a lock of its own.
        Assert.Equal(Errno.None, FileCalls.Open(file, FileCalls.O_RDWR, 0, out SafeFd longer));
        using (longer) { Assert.Equal(Errno.None, FileCalls.Truncate(longer, 2 << 20)); }
        await PlayAsync(
            ($"bdev_{module}_rescan", """{"name":"F0"}""", "true"),
            ("bdev_get_bdevs", """{"name":"F0"}""", $"[{Shown("F0", product, 4096, 512, Uuid0, details)}]"),
            ($"bdev_{module}_rescan", """{"name":"gone"}""", Error(-19, "No such device")),
            ($"bdev_{module}_delete", """{"name":"F0"}""", "true"),
            ($"bdev_{module}_delete", """{"name":"F0"}""", Error(-19, "No such device")));
    }

    [Fact]
    public async Task A_file_may_be_opened_for_reading_only()
    {
        await File.WriteAllBytesAsync(Files["disk.img"], new byte[1 << 20]);
        await PlayAsync(("bdev_aio_create", $$"""{"name":"F0","filename":"{{Files["disk.img"]}}","block_size":4096,"readonly":true,"fallocate":true,"nowait":true}""", "\"F0\""));
        JsonNode shown = (await CallAsync("bdev_get_bdevs", """{"name":"F0"}"""))["result"]![0]!;
        Assert.False(shown["supported_io_types"]!["write"]!.GetValue<bool>());
        Assert.True(shown["driver_specific"]!["aio"]!["readonly"]!.GetValue<bool>());
    }

    [Fact]
    public Task Bdevs_stack_and_whoever_is_used_cannot_be_used_again() => PlayAsync(
        ("bdev_malloc_create", $$"""{"num_blocks":256,"block_size":4096,"name":"M0","uuid":"{{Uuid0}}"}""", "\"M0\""),
        ("bdev_delay_create", $$"""{"base_bdev_name":"M0","name":"D0","avg_read_latency":1,"p99_read_latency":2,"avg_write_latency":3,"p99_write_latency":4,"uuid":"{{Uuid1}}"}""", "\"D0\""),
        ("bdev_get_bdevs", """{"name":"D0"}""", $"[{Shown("D0", "delay", 4096, 256, Uuid1, """{"delay":{"name":"D0","base_bdev_name":"M0","avg_read_latency":1,"p99_read_latency":2,"avg_write_latency":3,"p99_write_latency":4} }""")}]"),
        ("bdev_get_bdevs", """{"name":"M0"}""", $"[{Shown("M0", "Malloc disk", 4096, 256, Uuid0, isClaimed: true)}]"),
        ("bdev_passthru_create", """{"base_bdev_name":"M0","name":"P0"}""", Error(-1, "Operation not permitted")),
        ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"M0"}""", Error(-32602, "Operation not permitted")),
        ("bdev_passthru_create", """{"base_bdev_name":"D0","name":"P0"}""", "\"P0\""),
        ("bdev_error_create", """{"base_name":"P0"}""", "true"),
        ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"EE_P0"}""", "true"),
        ("vhost_create_blk_controller", """{"ctrlr":"vhost1","dev_name":"EE_P0"}""", Error(-32602, "Operation not permitted")),
        ("vhost_delete_controller", """{"ctrlr":"vhost0"}""", "true"),
        ("bdev_error_delete", """{"name":"EE_P0"}""", "true"),
        ("bdev_passthru_delete", """{"name":"P0"}""", "true"),
        ("bdev_delay_delete", """{"name":"D0"}""", "true"),
        ("bdev_get_bdevs", """{"name":"M0"}""", $"[{Shown("M0", "Malloc disk", 4096, 256, Uuid0)}]"),
        ("bdev_malloc_delete", """{"name":"M0"}""", "true"));

    [Fact]
    public Task No_tower_is_so_high_that_a_request_could_fall_from_it() => PlayAsync([
        ("bdev_malloc_create", """{"num_blocks":16384,"block_size":4096,"name":"P1"}""", "*"),
        .. Enumerable.Range(2, 15).Select(i => ("bdev_passthru_create", $$"""{"base_bdev_name":"P{{i - 1}}","name":"P{{i}}"}""", $"\"P{i}\"")),
        ("bdev_passthru_create", """{"base_bdev_name":"P16","name":"P17"}""", Error(-40, "Too many levels of symbolic links")),
        ("bdev_lvol_create_lvstore", """{"bdev_name":"P16","lvs_name":"s"}""", Error(-32602, "Too many levels of symbolic links")),
        ("bdev_split_create", """{"base_bdev":"P16","split_count":2}""", Error(-32602, "Failed to create 2 split bdevs from 'P16': Too many levels of symbolic links")),
        ("vhost_create_blk_controller", """{"ctrlr":"c0","dev_name":"P16"}""", "true")]);

    [Fact]
    public Task What_a_bdev_cannot_stand_on_is_said() => PlayAsync(
        ("bdev_delay_create", """{"base_bdev_name":"none","name":"D0","avg_read_latency":1,"p99_read_latency":2,"avg_write_latency":3,"p99_write_latency":4}""", Error(-19, "No such device")),
        ("bdev_delay_create", """{"base_bdev_name":"none","name":"D0","avg_read_latency":3,"p99_read_latency":2,"avg_write_latency":3,"p99_write_latency":4}""", Error(-22, "Invalid argument")),
        ("bdev_delay_create", """{"base_bdev_name":"none","name":"D0"}""", Error(-32603, "spdk_json_decode_object failed")),
        ("bdev_delay_delete", """{"name":"D0"}""", Error(-19, "No such device")),
        ("bdev_passthru_create", """{"base_bdev_name":"none","name":"P0"}""", Error(-19, "No such device")),
        ("bdev_passthru_create", """{"name":"P0"}""", Error(-32603, "spdk_json_decode_object failed")),
        ("bdev_passthru_delete", """{"name":"P0"}""", Error(-19, "No such device")),
        ("bdev_error_create", """{"base_name":"none"}""", Error(-19, "No such device")),
        ("bdev_error_create", """{"base":"none"}""", Error(-32602, "spdk_json_decode_object failed")),
        ("bdev_error_delete", "{}", Error(-32602, "spdk_json_decode_object failed")));

    [Fact]
    public Task Errors_are_injected_by_kind_and_number() => PlayAsync(
        ("bdev_malloc_create", """{"num_blocks":256,"block_size":4096,"name":"M0"}""", "\"M0\""),
        ("bdev_error_create", """{"base_name":"M0"}""", "true"),
        ("bdev_error_inject_error", """{"name":"EE_M0","io_type":"read","error_type":"failure","num":3}""", "true"),
        ("bdev_error_inject_error", """{"name":"EE_M0","io_type":"all","error_type":"nomem"}""", "true"),
        ("bdev_error_inject_error", """{"name":"EE_M0","io_type":"clear","error_type":"failure"}""", "true"),
        ("bdev_error_inject_error", """{"name":"EE_M0","io_type":"read","error_type":"pending"}""", Error(-32602, "spdk_json_decode_object failed")),
        ("bdev_error_inject_error", """{"name":"EE_M0","io_type":"erase","error_type":"failure"}""", Error(-32602, "spdk_json_decode_object failed")),
        ("bdev_error_inject_error", """{"name":"M0","io_type":"read","error_type":"failure"}""", Error(-19, "No such device")));

    [Fact]
    public async Task Controllers_are_refused_with_SPDKs_words()
    {
        string occupied = Files["sockets/occupied"];
        using (var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            listener.Bind(new UnixDomainSocketEndPoint(occupied));
            listener.Listen();
            await PlayAsync(
                ("bdev_malloc_create", """{"num_blocks":256,"block_size":4096,"name":"M0"}""", "\"M0\""),
                ("vhost_create_blk_controller", """{"ctrlr":"occupied","dev_name":"M0"}""", Error(-32602, "Address already in use")));
        }
        File.Delete(occupied);
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":256,"block_size":4096,"name":"M1"}""", "\"M1\""),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"M0","readonly":true,"transport":"VHOST_USER_BLK","cpumask":"[0-1]","packed_ring":false,"whatever":1}""", "true"),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"M1"}""", Error(-32602, "File exists")),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost1","dev_name":"M0"}""", Error(-32602, "Operation not permitted")),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost1","dev_name":"none"}""", Error(-32602, "No such device")),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost1","dev_name":"M1","cpumask":"0x4"}""", Error(-32602, "Invalid argument")),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost1","dev_name":"M1","cpumask":"all"}""", Error(-32602, "Invalid argument")),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost1","dev_name":"M1","transport":"vfio_user"}""", Error(-32602, "Invalid argument")),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost1","dev_name":"M1","packed_ring":"yes"}""", Error(-32602, "Invalid argument")),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost1","dev_name":"M1","packed_ring":true}""", "true"), // they are offered in any case
            ("vhost_delete_controller", """{"ctrlr":"vhost1"}""", "true"),
            ("vhost_create_blk_controller", """{"ctrlr":"../vhost1","dev_name":"M1"}""", Error(-32602, "Invalid argument")),
            ("vhost_create_blk_controller", """{"ctrlr":"..","dev_name":"M1"}""", Error(-32602, "Invalid argument")),
            ("vhost_create_blk_controller", """{"ctrlr":"","dev_name":"M1"}""", Error(-32602, "Invalid argument")),
            ("vhost_create_blk_controller", $$"""{"ctrlr":"{{new string('x', 108)}}","dev_name":"M1"}""", Error(-32602, "File name too long")),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost1"}""", Error(-32602, "Invalid argument")),
            ("vhost_get_controllers", """{"name":"none"}""", Error(-32603, "No such device")),
            ("vhost_get_controllers", """{"nam":"vhost0"}""", Error(-32603, "Invalid argument")),
            ("vhost_delete_controller", """{"ctrlr":"none"}""", Error(-32602, "No such device")),
            ("vhost_delete_controller", """{"name":"vhost0"}""", Error(-32602, "Invalid argument")),
            ("spdk_get_version", "{}", Error(-32602, "spdk_get_version method requires no parameters")),
            ("spdk_get_version", "null", """{"version":"SPDK v25.05.1-vhostfs","fields":{"major":25,"minor":5,"patch":1,"suffix":"-vhostfs"} }"""));
        Assert.True((await CallAsync("vhost_get_controllers", "null"))["result"]![0]!["backend_specific"]!["block"]!["readonly"]!.GetValue<bool>());
    }

    [Fact]
    public async Task A_connected_controller_is_not_deleted_under_its_VM()
    {
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":256,"block_size":4096,"name":"M0"}""", "\"M0\""),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"M0"}""", "true"));
        using (Socket frontEnd = Connect(Files["sockets/vhost0"]))
        {
            while ((await CallAsync("vhost_get_controllers", "null"))["result"]![0]!["sessions"]!.AsArray().Count == 0) { await Task.Yield(); }
            await PlayAsync(
                ("vhost_get_controllers", "null", Controllers("vhost0", "M0", """{"vid":0,"id":0,"name":"vhost0s0","started":false,"max_queues":0,"inflight_task_cnt":0}""")),
                ("vhost_delete_controller", """{"ctrlr":"vhost0"}""", Error(-32602, "Device or resource busy")));
        }
        await PlayAsync(("vhost_delete_controller", """{"ctrlr":"vhost0"}""", "true")); // what has just been left may be gone a moment later
    }

    [Fact]
    public async Task Calls_of_a_controller_are_held_back_as_a_client_says()
    {
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":256,"block_size":4096,"name":"M0"}""", "\"M0\""),
            ("vhost_create_blk_controller", """{"ctrlr":"b","dev_name":"M0"}""", "true"),
            ("vhost_create_scsi_controller", """{"ctrlr":"s"}""", "true"),
            ("vhost_controller_set_coalescing", """{"ctrlr":"b","delay_base_us":1000000,"iops_threshold":100}""", "true"),
            ("vhost_controller_set_coalescing", """{"ctrlr":"s","delay_base_us":20,"iops_threshold":90000}""", "true"),
            ("vhost_controller_set_coalescing", """{"ctrlr":"none","delay_base_us":20,"iops_threshold":90000}""", Error(-32602, "No such device")),
            ("vhost_controller_set_coalescing", """{"ctrlr":"b","delay_base_us":1000001,"iops_threshold":100}""", Error(-32602, "Invalid argument")),
            ("vhost_controller_set_coalescing", """{"ctrlr":"b","delay_base_us":20,"iops_threshold":99}""", Error(-32602, "Invalid argument")),
            ("vhost_controller_set_coalescing", """{"ctrlr":"b","delay_base_us":-1,"iops_threshold":100}""", Error(-32602, "Invalid argument")),
            ("vhost_controller_set_coalescing", """{"ctrlr":"b","delay_base_us":20}""", Error(-32602, "Invalid argument")));
        JsonArray shown = (await CallAsync("vhost_get_controllers", "null"))["result"]!.AsArray();
        Assert.Equal([(1_000_000, 100), (20, 90_000)], shown.Select(c => (c!["delay_base_us"]!.GetValue<int>(), c["iops_threshold"]!.GetValue<int>())));
        using var guest = new BlkGuest(Files["sockets/b"], BlkGuest.All & ~VirtioFeatures.EventIdx);
        ulong flushes = 0, calls = 0;
        FrontEnd.Poll(() => // the driver looks at the ring itself, and so may be ahead of one call, but not of two
        {
            Assert.Equal(0, guest.Flush());
            calls += guest.Queue.TakeCalls();
            return ++flushes - calls >= 2;
        }, "a call that is held back");
        await PlayAsync(("vhost_controller_set_coalescing", """{"ctrlr":"b","delay_base_us":0,"iops_threshold":60000}""", "true"));
        Assert.Equal(0, guest.Flush());
        FrontEnd.Poll(() => guest.Queue.TakeCalls() > 0, "the call that was held back, and that of the last request");
    }

    [Fact]
    public async Task A_client_may_wait_for_a_bdev_that_another_makes()
    {
        using Socket waiting = Connect(Files["s"]);
        await SendAsync(waiting, """{"id":1,"method":"bdev_get_bdevs","params":{"name":"Malloc0","timeout":60000}}""");
        await PlayAsync(
            ("bdev_get_bdevs", """{"name":"Malloc0","timeout":1}""", Error(-19, "No such device")),
            ("bdev_malloc_create", """{"num_blocks":8,"block_size":512}""", "\"Malloc0\""));
        Assert.Contains("\"name\":\"Malloc0\"", await ReadOnceAsync(waiting), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_reason_that_a_client_cannot_be_told_is_in_the_log()
    {
        await CallAsync("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"nam":"x"}""");
        Assert.Contains("bdev_malloc_create: unknown parameter 'nam'; did you mean 'name'?", LogText, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Bdevs_are_dealt_to_the_reactors_and_controllers_run_where_they_are()
    {
        await PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":8,"block_size":512}""", "\"Malloc0\""),
            ("bdev_malloc_create", """{"num_blocks":8,"block_size":512}""", "\"Malloc1\""),
            ("vhost_create_blk_controller", """{"ctrlr":"a","dev_name":"Malloc0"}""", "true"),
            ("vhost_create_blk_controller", """{"ctrlr":"b","dev_name":"Malloc1"}""", "true"));
        JsonArray shown = (await CallAsync("vhost_get_controllers", "null"))["result"]!.AsArray();
        Assert.Equal(["0x1", "0x2"], shown.Select(c => c!["cpumask"]!.GetValue<string>()));
    }

    [Theory]
    [InlineData("0x1", true, 1)]
    [InlineData("3", true, 3)]
    [InlineData("0XfF", true, 255)]
    [InlineData("[0]", true, 1)]
    [InlineData("[0,2-3,63]", true, 0x800000000000000DUL)]
    [InlineData("0x0", false, 0)]
    [InlineData("", false, 0)]
    [InlineData("0x", false, 0)]
    [InlineData("[]", false, 0)]
    [InlineData("[3-1]", false, 0)]
    [InlineData("[1-2-3]", false, 0)]
    [InlineData("[64]", false, 0)]
    [InlineData("0x10000000000000000", false, 0)]
    public void Masks_are_read_as_SPDK_reads_them(string text, bool isMask, ulong expected)
    {
        Assert.Equal(isMask, CpuMask.TryParse(text, out ulong mask));
        if (isMask) { Assert.Equal(expected, mask); }
    }
}
