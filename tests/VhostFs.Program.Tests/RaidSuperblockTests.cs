using System.Text.Json.Nodes;
using VhostFs.GuestDriver;

namespace VhostFs.ProgramTests;

/// <summary>raid1 with superblocks over the control socket: it is found on its bases, however they come and go.</summary>
public sealed class RaidSuperblockTests : BlockRpcFixture
{
    private const int Blocks = 4096; // 16 MiB
    private const string ArrayUuid = "00000000-0000-4000-8000-00000000000a";

    [Fact]
    public async Task It_is_shown_as_SPDK_shows_it_goes_and_comes_back_with_its_bases()
    {
        await CreateAsync();
        string Array(string state, int discovered, string bases) => $$"""
            [{"name":"R0","uuid":"{{ArrayUuid}}","strip_size_kb":0,"state":"{{state}}","raid_level":"raid1","superblock":true,"num_base_bdevs":2,"num_base_bdevs_discovered":{{discovered}},"num_base_bdevs_operational":2,
              "base_bdevs_list":[{{bases}}]}]
            """;
        string first = Base("F0", Uuid0), second = Base("F1", Uuid1), missing = Base(null, "00000000-0000-0000-0000-000000000000");
        await PlayAsync(
            ("bdev_raid_get_bdevs", """{"category":"online"}""", Array("online", 2, $"{first},{second}")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["F0","F1"],"superblock":true}""", Error(-1, "Failed to create RAID bdev R0: Operation not permitted")),
            ("bdev_raid_delete", """{"name":"R0"}""", "true"),
            ("bdev_raid_get_bdevs", """{"category":"all"}""", "[]"),
            ("bdev_examine", """{"name":"F1"}""", "true"),
            ("bdev_raid_get_bdevs", """{"category":"configuring"}""", Array("configuring", 1, $"{missing},{second}")),
            ("bdev_raid_get_bdevs", """{"category":"online"}""", "[]"),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"F1"}""", Error(-32602, "Operation not permitted")),
            ("bdev_examine", """{"name":"F0"}""", "true"),
            ("bdev_raid_get_bdevs", """{"category":"all"}""", Array("online", 2, $"{first},{second}")),
            ("bdev_raid_delete", """{"name":"R0"}""", "true"),
            ("bdev_examine", """{"name":"F0"}""", "true"),
            ("bdev_aio_delete", """{"name":"F0"}""", "true"), // an array that waits lets go of everything
            ("bdev_raid_get_bdevs", """{"category":"all"}""", "[]"),
            ("bdev_examine", """{"name":"F1"}""", "true"),
            ("bdev_raid_delete", """{"name":"R0"}""", "true"),
            ("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"F1"}""", "true"));
    }

    [Fact]
    public async Task It_is_there_again_in_the_next_process_and_with_what_stood_on_it()
    {
        await CreateAsync();
        await PlayAsync(("bdev_lvol_create_lvstore", """{"bdev_name":"R0","lvs_name":"s"}""", "*"), ("bdev_lvol_create", """{"lvol_name":"v","size_in_mib":2,"lvs_name":"s"}""", "*"));
        JsonNode saved = (await CallAsync("framework_get_config", """{"name":"bdev"}"""))["result"]!;
        Assert.Equal(
            ["bdev_set_options", "bdev_aio_create", "bdev_examine", "bdev_aio_create", "bdev_examine", "bdev_examine", "bdev_set_options", "bdev_wait_for_examine"],
            saved.AsArray().Select(call => call!["method"]!.GetValue<string>()));
        await PlayAsync(("bdev_aio_delete", """{"name":"F0"}""", "true"), ("bdev_aio_delete", """{"name":"F1"}""", "true"), ("bdev_get_bdevs", "{}", "[]"));
        foreach (JsonNode? call in saved.AsArray()) { await PlayAsync((call!["method"]!.GetValue<string>(), (call["params"] ?? new JsonObject()).ToJsonString(), "*")); }
        JsonArray volumes = (await CallAsync("bdev_lvol_get_lvols", "{}"))["result"]!.AsArray();
        Assert.Equal("s/v", volumes[0]!["alias"]!.GetValue<string>());
        await PlayAsync(("bdev_raid_get_bdevs", """{"category":"configuring"}""", "[]"));
    }

    [Fact]
    public async Task A_base_that_was_away_comes_back_by_itself_and_one_that_is_lost_for_good_is_done_without()
    {
        await CreateAsync();
        await PlayAsync(("vhost_create_blk_controller", """{"ctrlr":"vhost0","dev_name":"R0"}""", "true"), ("bdev_aio_delete", """{"name":"F1"}""", "true"));
        using (var guest = new BlkGuest(Files["sockets/vhost0"])) { Assert.Equal(0, guest.Write(0, [.. Enumerable.Repeat((byte)7, 4096)])); }
        await PlayAsync(FileBdev(1, Uuid1));
        await RebuiltAsync();
        Assert.Contains("F1 is back", LogText, StringComparison.Ordinal);
        await PlayAsync(
            ("vhost_delete_controller", """{"ctrlr":"vhost0"}""", "true"),
            ("bdev_aio_delete", """{"name":"F0"}""", "true"),
            ("bdev_aio_delete", """{"name":"F1"}""", "true"),
            ("bdev_get_bdevs", "{}", "[]"));
        foreach (int i in (int[])[0, 1]) { Assert.Equal(7, await ByteAsync(i, 1 << 20)); }
        await PlayAsync(FileBdev(0, Uuid0)); // it was not there when the other went on alone, and waits for it
        JsonNode waiting = await RaidAsync();
        Assert.Equal(("configuring", 1), (waiting["state"]!.GetValue<string>(), waiting["num_base_bdevs_discovered"]!.GetValue<int>()));
        await PlayAsync(
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["F0"],"superblock":true}""", "true"), // whoever knows that it is enough
            ("bdev_raid_delete", """{"name":"R0"}""", "true"));
    }

    [Fact]
    public async Task Bases_of_another_array_and_spoilt_ones_are_refused_with_a_reason()
    {
        await CreateAsync();
        await PlayAsync(
            ("bdev_raid_delete", """{"name":"R0"}""", "true"),
            ("bdev_malloc_create", $$"""{"num_blocks":{{Blocks}},"block_size":4096,"name":"M0"}""", "\"M0\""),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["F0","M0"],"superblock":true}""", Error(-17, "Failed to create RAID bdev R0: File exists")),
            ("bdev_raid_create", """{"name":"R1","raid_level":"raid1","base_bdevs":["F0","F1"],"superblock":true}""", Error(-17, "Failed to create RAID bdev R1: File exists")),
            ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["F1","F0"],"superblock":true}""", "true"), // the order is that of the superblocks
            ("bdev_raid_delete", """{"name":"R0"}""", "true"),
            ("bdev_aio_delete", """{"name":"F0"}""", "true"),
            ("bdev_aio_create", $$"""{"name":"F0","filename":"{{Files["0.img"]}}","block_size":4096,"readonly":true}""", "\"F0\""),
            ("bdev_raid_get_bdevs", """{"category":"all"}""", "[]"),
            ("bdev_aio_delete", """{"name":"F0"}""", "true"));
        Assert.Contains("no array could write to it", LogText, StringComparison.Ordinal);
        Assert.Contains("zeroes in its first 8 KiB make it free", LogText, StringComparison.Ordinal);
        using (FileStream file = File.OpenWrite(Files["0.img"]))
        {
            foreach (int copy in (int[])[0, 4096])
            {
                file.Position = copy + 100;
                file.WriteByte(99);
            }
        }
        await PlayAsync(FileBdev(0, Uuid0), ("bdev_raid_get_bdevs", """{"category":"all"}""", "[]"));
        Assert.Contains("the superblock of an array on it is not used: its checksum does not match", LogText, StringComparison.Ordinal);
    }

    /// <summary>A base that is younger than its array goes with it, and not before.</summary>
    [Fact]
    public async Task A_clean_end_leaves_every_base_complete()
    {
        using var files = new TemporaryDirectory();
        (string, string, string) FileOf(int i) => ("bdev_aio_create", $$"""{"name":"F{{i}}","filename":"{{files[$"{i}.img"]}}","block_size":4096}""", "*");
        foreach (int i in (int[])[0, 1])
        {
            await using FileStream file = File.Create(files[$"{i}.img"]);
            file.SetLength(Blocks * 4096);
        }
        using (var first = new RpcTarget(files))
        {
            await first.PlayAsync(
                FileOf(0), FileOf(1), ("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["F0","F1"],"superblock":true}""", "true"),
                ("bdev_aio_delete", """{"name":"F0"}""", "true"), FileOf(0));
            while ((await first.ResultAsync("bdev_raid_get_bdevs", """{"category":"all"}"""))[0]!["process"] is not null) { await Task.Delay(1); }
        }
        using var second = new RpcTarget(files);
        await second.PlayAsync(FileOf(1));
        JsonNode waiting = (await second.ResultAsync("bdev_raid_get_bdevs", """{"category":"configuring"}"""))[0]!;
        Assert.Equal((1, 2), (waiting["num_base_bdevs_discovered"]!.GetValue<int>(), waiting["num_base_bdevs_operational"]!.GetValue<int>()));
        await second.PlayAsync(FileOf(0));
        JsonNode array = (await second.ResultAsync("bdev_raid_get_bdevs", """{"category":"online"}"""))[0]!;
        Assert.Equal((2, true), (array["num_base_bdevs_operational"]!.GetValue<int>(), array["process"] is null));
    }

    private async Task CreateAsync()
    {
        foreach (int i in (int[])[0, 1])
        {
            using FileStream file = File.Create(Files[$"{i}.img"]);
            file.SetLength(Blocks * 4096);
        }
        await PlayAsync(
            FileBdev(0, Uuid0), FileBdev(1, Uuid1),
            ("bdev_raid_create", $$"""{"name":"R0","raid_level":"raid1","base_bdevs":["F0","F1"],"uuid":"{{ArrayUuid}}","superblock":true}""", "true"));
    }

    private (string, string, string) FileBdev(int i, string uuid) =>
        ("bdev_aio_create", $$"""{"name":"F{{i}}","filename":"{{Files[$"{i}.img"]}}","block_size":4096,"uuid":"{{uuid}}"}""", $"\"F{i}\"");

    private static string Base(string? name, string uuid) => $$"""{"name":{{(name is null ? "null" : $"\"{name}\"")}},"uuid":"{{uuid}}","is_configured":{{(name is null ? "false" : "true")}},"data_offset":256,"data_size":{{Blocks - 256}}}""";

    private async Task<JsonNode> RaidAsync() => (await CallAsync("bdev_raid_get_bdevs", """{"category":"all"}"""))["result"]![0]!;

    private async Task RebuiltAsync()
    {
        while ((await RaidAsync())["process"] is not null) { await Task.Delay(1); }
        Assert.Equal(2, (await RaidAsync())["num_base_bdevs_operational"]!.GetValue<int>());
    }

    private async Task<int> ByteAsync(int i, long offset)
    {
        await using var file = new FileStream(Files[$"{i}.img"], FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        file.Position = offset;
        return file.ReadByte();
    }
}
