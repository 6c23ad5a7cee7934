using System.Text.Json.Nodes;
using VhostFs.GuestDriver;
using VhostFs.VhostUser;

namespace VhostFs.ProgramTests;

/// <summary>A bdev is deleted under whoever uses it: what becomes of each kind of user, and of guests that are at work.</summary>
public sealed class HotRemoveTests : BlockRpcFixture
{
    [Fact]
    public async Task A_guests_requests_under_way_finish_and_all_later_ones_fail()
    {
        await PlayAsync(
            Malloc("M0"),
            ("bdev_delay_create", """{"base_bdev_name":"M0","name":"D0","avg_read_latency":200000,"p99_read_latency":200000,"avg_write_latency":0,"p99_write_latency":0}""", "\"D0\""),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"D0"}""", "true"));
        using var guest = new BlkGuest(Files["sockets/vhost0"]);
        Assert.Equal(0, guest.Write(0, [5, .. new byte[4095]]));
        Task<(byte Status, byte[] Data, uint Used)> read = Task.Run(() => guest.Read(0, 4096));
        while ((await SessionAsync("vhost0"))["inflight_task_cnt"]!.GetValue<int>() == 0) { await Task.Delay(1); }
        await PlayAsync(("bdev_malloc_delete", """{"name":"M0"}""", "true"));
        (byte status, byte[] data, _) = await read;
        Assert.Equal((0, 5), (status, data[0]));
        AssertNothingWorks(guest);
        Assert.Equal(256UL * 8, guest.Config.Capacity); // it is the disk that it was
        await PlayAsync(
            ("bdev_get_bdevs", "{}", "[]"),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"M0"}""", Error(-32602, "No such device")),
            Malloc("M0"), // another one of that name is another one
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"M0"}""", Error(-32602, "File exists")));
        AssertNothingWorks(guest);
        JsonNode controller = (await CallAsync("vhost_get_controllers", "null"))["result"]![0]!;
        Assert.Null(controller["backend_specific"]!["block"]!["bdev"]);
        Assert.True(controller["sessions"]![0]!["started"]!.GetValue<bool>());
    }

    [Fact]
    public async Task A_disk_that_hangs_holds_up_its_own_deletion_and_nothing_else()
    {
        // Disks whose reads take nine seconds; a call waits for five of them, and its repetition for the rest. Of a raid1 one base is like that: it alone is waited for.
        (string, string, string) Slow(string below, string name) =>
            ("bdev_delay_create", $$"""{"base_bdev_name":"{{below}}","name":"{{name}}","avg_read_latency":9000000,"p99_read_latency":9000000,"avg_write_latency":0,"p99_write_latency":0}""", $"\"{name}\"");
        await PlayAsync(
            ("bdev_set_options", """{"bdev_auto_examine":false}""", "true"), // or their reads would be waited for, too
            Malloc("M0"), Malloc("M1"), Slow("M0", "D0"), Slow("M1", "D1"),
            Malloc("M3"), Malloc("M4"),
            ("bdev_delay_create", """{"base_bdev_name":"M4","name":"D4","avg_read_latency":9000000,"p99_read_latency":9000000,"avg_write_latency":9000000,"p99_write_latency":9000000}""", "\"D4\""),
            ("bdev_raid_create", """{"name":"R","raid_level":"raid1","base_bdevs":["M3","D4"]}""", "true"),
            ("vhost_create_blk_controller", """{"ctrlr":"r","dev_name":"R"}""", "true"),
            ("vhost_create_blk_controller", """{"ctrlr":"b","dev_name":"D0"}""", "true"),
            ("vhost_create_scsi_controller", """{"ctrlr":"s"}""", "true"),
            ("vhost_scsi_controller_add_target", """{"ctrlr":"s","scsi_target_num":0,"bdev_name":"D1"}""", "0"));
        using var disk = new BlkGuest(Files["sockets/b"]);
        using var target = new ScsiGuest(Files["sockets/s"]);
        using var mirror = new BlkGuest(Files["sockets/r"]);
        Task<byte> mirrorWrite = Apart(() => mirror.Write(0, [5, .. new byte[4095]]));
        Task<(byte Status, byte[] Data, uint Used)> read = Apart(() => disk.Read(0, 4096));
        Task<ScsiAnswer> targetRead = Apart(() => target.Read(0, 1, 4096));
        while ((await SessionAsync("r"))["inflight_task_cnt"]!.GetValue<int>() == 0) { await Task.Delay(1); }
        while ((await SessionAsync("b"))["inflight_task_cnt"]!.GetValue<int>() == 0 || (await SessionAsync("s"))["inflight_task_cnt"]!.GetValue<int>() == 0) { await Task.Delay(1); }
        try { await RemoveAsync(); }
        finally { await Task.WhenAll(read, targetRead, mirrorWrite); } // guests are not taken away under their requests
        Assert.Equal(0, (await read).Status);
        Assert.True((await targetRead).IsGood);

        async Task RemoveAsync()
        {
            Task<JsonNode> deletion = CallAsync("bdev_malloc_delete", """{"name":"M0"}""");
            Task<JsonNode> removal = CallAsync("vhost_scsi_controller_remove_target", """{"ctrlr":"s","scsi_target_num":0}""");
            Task<JsonNode> taken = CallAsync("bdev_raid_remove_base_bdev", """{"name":"D4"}""");
            Assert.Equal(0, await mirrorWrite); // on the other base
            for (int i = 0; i < 20; i++) { Assert.Equal((0, 5), (mirror.Flush(), mirror.Read(0, 4096).Data[0])); }
            Assert.False(taken.IsCompleted); // the base is not free: it has the request still
            await PlayAsync(Malloc("M2"), ("bdev_malloc_delete", """{"name":"M2"}""", "true")); // others are served meanwhile
            Assert.False(deletion.IsCompleted || removal.IsCompleted);
            Assert.Equal((-110, -32602, -110), (Code(await deletion), Code(await removal), Code(await taken)));
            await PlayAsync(
                ("vhost_scsi_controller_add_target", """{"ctrlr":"s","scsi_target_num":0,"bdev_name":"M0"}""", Error(-32602, "File exists")), // it is there until it is free
                ("bdev_malloc_delete", """{"name":"M0"}""", "true"),
                ("vhost_scsi_controller_remove_target", """{"ctrlr":"s","scsi_target_num":0}""", "true"),
                ("bdev_malloc_delete", """{"name":"M1"}""", "true"),
                ("bdev_raid_remove_base_bdev", """{"name":"D4"}""", "true"),
                ("bdev_malloc_delete", """{"name":"M4"}""", "true"),
                ("bdev_malloc_delete", """{"name":"M3"}""", "true"),
                ("bdev_get_bdevs", "{}", "[]"));
        }

        static int Code(JsonNode answer) => answer["error"]!["code"]!.GetValue<int>();

        // On threads of their own: a driver looks at its ring until it is answered, and would keep the pool's threads, of which there are two on two processors, from the calls.
        static Task<T> Apart<T>(Func<T> request) => Task.Factory.StartNew(request, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    [Fact]
    public async Task Several_VMs_share_a_disk_and_lose_it_together()
    {
        await PlayAsync(Malloc("M0"), ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"M0"}""", "true"));
        using var first = new BlkGuest(Files["sockets/vhost0"]);
        var second = new BlkGuest(Files["sockets/vhost0"], queues: 2);
        Assert.Equal(0, first.Write(0, [5, .. new byte[4095]]));
        Assert.Equal(5, second.Read(0, 4096).Data[0]);
        Assert.Equal(0, second.Request(BlkRequestType.Flush, 0, [], 0, queue: second.FrontEnd.Queues[1]).Status);
        await PlayAsync(
            ("vhost_get_controllers", "null", Controllers("vhost0", "M0", """
                {"vid":0,"id":0,"name":"vhost0s0","started":true,"max_queues":1,"inflight_task_cnt":0},{"vid":1,"id":1,"name":"vhost0s1","started":true,"max_queues":2,"inflight_task_cnt":0}
                """)),
            ("vhost_delete_controller", """{"ctrlr":"vhost0"}""", Error(-32602, "Device or resource busy")),
            ("bdev_malloc_delete", """{"name":"M0"}""", "true"));
        AssertNothingWorks(first);
        AssertNothingWorks(second);
        second.Dispose();
        using var third = new BlkGuest(Files["sockets/vhost0"]);
        AssertNothingWorks(third);
        while ((await CallAsync("vhost_get_controllers", "null"))["result"]![0]!["sessions"]!.AsArray().Count > 2) { await Task.Yield(); }
        Assert.Equal(2, (await SessionAsync("vhost0", 1))["id"]!.GetValue<int>());
    }

    [Fact]
    public async Task Who_connects_afterwards_finds_the_disk_and_nothing_that_works()
    {
        await PlayAsync(
            Malloc("M0"),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"M0"}""", "true"),
            ("bdev_malloc_delete", """{"name":"M0"}""", "true"),
            ("vhost_get_controllers", "null", Controllers("vhost0", null)));
        using (var guest = new BlkGuest(Files["sockets/vhost0"])) { AssertNothingWorks(guest); }
        await PlayAsync(
            ("vhost_delete_controller", """{"ctrlr":"vhost0"}""", "true"),
            Malloc("M0"),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"M0"}""", "true"));
        using (var guest = new BlkGuest(Files["sockets/vhost0"])) { Assert.Equal(0, guest.Write(0, new byte[4096])); }
    }

    [Fact]
    public async Task Everything_that_stands_on_it_goes_too()
    {
        await PlayAsync(
            Malloc("M0"), Malloc("M1"), Malloc("M2"),
            ("bdev_delay_create", """{"base_bdev_name":"M0","name":"D0","avg_read_latency":0,"p99_read_latency":0,"avg_write_latency":0,"p99_write_latency":0}""", "\"D0\""),
            ("bdev_passthru_create", """{"base_bdev_name":"D0","name":"P0"}""", "\"P0\""),
            ("bdev_error_create", """{"base_name":"P0"}""", "true"),
            ("bdev_raid_create", """{"name":"C","raid_level":"concat","strip_size_kb":4,"base_bdevs":["EE_P0","M1"]}""", "true"),
            ("bdev_raid_create", """{"name":"R","raid_level":"raid0","strip_size_kb":4,"base_bdevs":["M2","C"]}""", "true"),
            ("bdev_split_create", """{"base_bdev":"R","split_count":2}""", """["Rp0","Rp1"]"""),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"Rp0"}""", "true"),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost1","dev_name":"Rp1"}""", "true"));
        using var guest = new BlkGuest(Files["sockets/vhost1"]);
        Assert.Equal(0, guest.Write(0, new byte[65536]));
        await PlayAsync(("bdev_malloc_delete", """{"name":"M0"}""", "true"));
        AssertNothingWorks(guest);
        JsonArray left = (await CallAsync("bdev_get_bdevs", "{}"))["result"]!.AsArray();
        Assert.Equal([("M1", false), ("M2", false)], left.Select(b => (b!["name"]!.GetValue<string>(), b["claimed"]!.GetValue<bool>())));
        Assert.Equal(2, (await CallAsync("vhost_get_controllers", "null"))["result"]!.AsArray().Count);
        await PlayAsync(("bdev_raid_get_bdevs", """{"category":"all"}""", "[]"));
    }

    [Fact]
    public async Task A_raid1_does_without_it_and_its_guest_notices_nothing()
    {
        await PlayAsync(
            Malloc("M0"), Malloc("M1"),
            ("bdev_raid_create", """{"name":"R","raid_level":"raid1","base_bdevs":["M0","M1"]}""", "true"),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"R"}""", "true"));
        using var guest = new BlkGuest(Files["sockets/vhost0"]);
        var stop = new CancellationTokenSource();
        Task<int> work = Task.Run(() =>
        {
            int round = 0;
            for (; !stop.IsCancellationRequested; round++)
            {
                ulong sector = (ulong)(round % 250) * 8;
                byte[] data = [(byte)round, (byte)(round >> 8), .. new byte[4094]];
                Assert.Equal(0, guest.Write(sector, data));
                Assert.Equal(0, guest.Flush());
                (byte status, byte[] read, _) = guest.Read(sector, 4096);
                Assert.Equal(0, status);
                Assert.Equal(data, read);
            }
            return round;
        });
        for (int i = 0; i < 20 && !work.IsCompleted; i++)
        {
            string leaving = i % 2 == 0 ? "M0" : "M1";
            await PlayAsync(
                ("bdev_malloc_delete", $$"""{"name":"{{leaving}}"}""", "true"),
                Malloc(leaving),
                ("bdev_raid_add_base_bdev", $$"""{"base_bdev":"{{leaving}}","raid_bdev":"R"}""", "true"));
            while ((await CallAsync("bdev_raid_get_bdevs", """{"category":"all"}"""))["result"]![0]!["process"] is not null) { await Task.Delay(1); }
        }
        await stop.CancelAsync();
        Assert.True(await work > 20);
        await PlayAsync(
            ("bdev_malloc_delete", """{"name":"M1"}""", "true"),
            ("bdev_malloc_delete", """{"name":"M0"}""", "true"), // the last of them
            ("bdev_get_bdevs", "{}", "[]"));
        AssertNothingWorks(guest);
    }

    [Fact]
    public async Task A_base_that_fails_is_free_and_may_be_deleted()
    {
        await PlayAsync(
            Malloc("M0"), Malloc("M1"),
            ("bdev_error_create", """{"base_name":"M1"}""", "true"),
            ("bdev_raid_create", """{"name":"R","raid_level":"raid1","base_bdevs":["M0","EE_M1"]}""", "true"),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"R"}""", "true"),
            ("bdev_error_inject_error", """{"name":"EE_M1","io_type":"write","error_type":"failure","num":1}""", "true"));
        using var guest = new BlkGuest(Files["sockets/vhost0"]);
        Assert.Equal(0, guest.Write(0, new byte[512 * 8]));
        await PlayAsync(("bdev_malloc_delete", """{"name":"M1"}""", "true")); // at once: whether or not the array has told
        while ((await CallAsync("bdev_raid_get_bdevs", """{"category":"all"}"""))["result"]![0]!["num_base_bdevs_operational"]!.GetValue<int>() == 2) { await Task.Delay(1); }
        Assert.Equal(0, guest.Write(0, new byte[512 * 8]));
    }

    [Fact]
    public Task Data_of_ours_is_not_let_go_and_then_nothing_is_done() => PlayAsync(
        Malloc("M0", 16384), Malloc("M1", 16384), Malloc("M2", 16384),
        ("bdev_split_create", """{"base_bdev":"M2","split_count":2}""", """["M2p0","M2p1"]"""),
        ("bdev_raid_create", """{"name":"R","raid_level":"raid1","base_bdevs":["M0","M1"]}""", "true"),
        ("bdev_lvol_create_lvstore", """{"bdev_name":"R","lvs_name":"s"}""", "*"),
        ("bdev_lvol_create_lvstore", """{"bdev_name":"M2p1","lvs_name":"t"}""", "*"),
        ("bdev_lvol_create", """{"lvol_name":"v","size_in_mib":8,"lvs_name":"s"}""", "*"),
        ("bdev_lvol_create", """{"lvol_name":"v","size_in_mib":8,"lvs_name":"t"}""", "*"),
        ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"M2p0"}""", "true"),
        ("vhost_create_blk_controller", """{"ctrlr":"vhost1","dev_name":"s/v"}""", "true"),
        ("vhost_create_blk_controller", """{"ctrlr":"vhost2","dev_name":"t/v"}""", "true"),
        ("bdev_malloc_delete", """{"name":"M2"}""", Error(-16, "Device or resource busy")),
        ("bdev_split_delete", """{"base_bdev":"M2"}""", Error(-32602, "Device or resource busy")),
        ("vhost_get_controllers", """{"name":"vhost0"}""", Controllers("vhost0", "M2p0")),
        ("bdev_raid_delete", """{"name":"R"}""", Error(-32603, "Device or resource busy")),
        ("bdev_malloc_delete", """{"name":"M0"}""", "true"), // the store does not need it
        ("bdev_malloc_delete", """{"name":"M1"}""", Error(-16, "Device or resource busy")),
        ("bdev_raid_remove_base_bdev", """{"name":"M1"}""", Error(-16, "Failed to remove base bdev from raid bdev")),
        ("vhost_delete_controller", """{"ctrlr":"vhost1"}""", "true"),
        ("vhost_delete_controller", """{"ctrlr":"vhost2"}""", "true"),
        ("bdev_malloc_delete", """{"name":"M2"}""", "true"), // nobody uses what is in the store
        ("bdev_malloc_delete", """{"name":"M1"}""", "true"),
        ("vhost_get_controllers", "null", Controllers("vhost0", null)),
        ("bdev_get_bdevs", "null", "[]"));

    private static (string Method, string Parameters, string Expected) Malloc(string name, int blocks = 256) =>
        ("bdev_malloc_create", $$"""{"num_blocks":{{blocks}},"block_size":4096,"name":"{{name}}"}""", $"\"{name}\"");

    private async Task<JsonNode> SessionAsync(string name, int index = 0) => (await CallAsync("vhost_get_controllers", $$"""{"name":"{{name}}"}"""))["result"]![0]!["sessions"]![index]!;

    private static void AssertNothingWorks(BlkGuest guest)
    {
        Assert.Equal(1, guest.Read(0, 4096).Status);
        Assert.Equal(1, guest.Write(8, new byte[4096]));
        Assert.Equal(1, guest.Flush());
        Assert.Equal(1, guest.Change(BlkRequestType.Discard, new BlkRange(0, 8, 0)));
        Assert.Equal(1, guest.Change(BlkRequestType.WriteZeroes, new BlkRange(0, 8, 0)));
    }
}
