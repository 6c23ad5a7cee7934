using System.Text.Json.Nodes;
using VhostFs.Block;

namespace VhostFs.ProgramTests;

/// <summary>Partitions that are found on a bdev: as bdevs, whose base is used, from its examination to its end.</summary>
public sealed class GptRpcTests : IDisposable
{
    private const string Id0 = "11111111-2222-4333-8444-555555555550", Id1 = "11111111-2222-4333-8444-555555555551";
    private readonly TemporaryDirectory _directory = new();
    private RpcTarget _target;

    public GptRpcTests() => _target = new RpcTarget(_directory);

    public void Dispose()
    {
        _target.Dispose();
        _directory.Dispose();
    }

    [Fact]
    public async Task SPDKs_own_partitions_are_shown_and_their_base_is_used()
    {
        await WriteAsync("disk", new GptImage().Add(GptImage.Type, 100, 199, "Ω", Id0).Add(GptImage.LinuxType, 200, 299).Add(GptImage.OldType, 300, 400, "old", Id1).Add(GptImage.OldType, 500, 500));
        await _target.PlayAsync(Create("F0", "disk"));
        JsonArray bdevs = (await _target.ResultAsync("bdev_get_bdevs")).AsArray();
        Assert.Equal(["F0 AIO disk 2048 true", "F0p1 GPT Disk 100 false", "F0p3 GPT Disk 100 false"], bdevs.Select(b => $"{b!["name"]} {b["product_name"]} {b["num_blocks"]} {b["claimed"]}"));
        Assert.Equal((Id0, Id1), (bdevs[1]!["uuid"]!.GetValue<string>(), bdevs[2]!["uuid"]!.GetValue<string>()));
        Assert.True(JsonNode.DeepEquals(bdevs[1]!["driver_specific"],
            JsonNode.Parse($$$"""{"gpt":{"base_bdev":"F0","offset_blocks":100,"partition_type_guid":"{{{GptImage.Type}}}","unique_partition_guid":"{{{Id0}}}","partition_name":"Ω"} }""")), bdevs[1]!.ToJsonString());
        await _target.PlayAsync(
            ("vhost_create_blk_controller", """{"ctrlr":"c","dev_name":"F0"}""", RpcTarget.Error(-32602, "Operation not permitted")),
            ("bdev_split_create", """{"base_bdev":"F0","split_count":2}""", RpcTarget.Error(-32602, "Failed to create 2 split bdevs from 'F0': Operation not permitted")),
            ("bdev_split_delete", """{"base_bdev":"F0"}""", RpcTarget.Error(-32602, "No such file or directory")),
            ("vhost_create_blk_controller", $$"""{"ctrlr":"c","dev_name":"{{Id1}}"}""", "true"));
        using (var guest = new GuestDriver.BlkGuest(_directory["sockets/c"]))
        {
            Assert.Equal(0, guest.Write(99, [7, .. new byte[511]]));
            Assert.Equal(1, guest.Write(100, new byte[512])); // the last block, which SPDK does not show either
            Assert.Equal(100UL, guest.Config.Capacity);
        }
        await _target.PlayAsync(
            ("bdev_aio_delete", """{"name":"F0"}""", "true"), // taken from the controller
            ("bdev_get_bdevs", "{}", "[]"));
        Assert.Equal(7, (await File.ReadAllBytesAsync(_directory["disk"]))[(300 + 99) * 512]);
    }

    [Fact]
    public async Task A_disk_with_a_guests_partitions_stays_the_guests()
    {
        await WriteAsync("disk", new GptImage().Add(GptImage.LinuxType, 100, 199));
        await _target.PlayAsync(
            Create("F0", "disk"),
            ("vhost_create_blk_controller", """{"ctrlr":"c","dev_name":"F0"}""", "true"));
        Assert.DoesNotContain("warning", _target.Log, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_damaged_table_is_said_to_be_and_the_backup_is_used()
    {
        await WriteAsync("damaged", new GptImage().Add(GptImage.Type, 100, 199).Spoil(512 + 41));
        await WriteAsync("hostile", new GptImage().Add(GptImage.Type, 100, 199).Set(GptImage.EntryBytesOffset, 0, 4));
        await _target.PlayAsync(Create("F0", "damaged"), Create("F1", "hostile"), ("bdev_examine", """{"name":"F1"}""", "true"));
        Assert.Equal(["F0", "F0p1", "F1"], await NamesAsync());
        Assert.Contains("[bdev F0] warning: the partition table at its beginning is damaged (the checksum of its header does not match); that at its end is used", _target.Log, StringComparison.Ordinal);
        Assert.Contains("[bdev F1] warning: the partition table on it is not used: its entries have 0 bytes; and the backup: its entries have 0 bytes", _target.Log, StringComparison.Ordinal);
        Assert.DoesNotContain("a bug", _target.Log, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Partitions_whose_names_or_UUIDs_are_taken_are_not_shown()
    {
        await WriteAsync("one", new GptImage().Add(GptImage.Type, 100, 199, id: Id0));
        await WriteAsync("two", new GptImage().Add(GptImage.Type, 100, 199, id: Id0));
        await WriteAsync("twins", new GptImage().Add(GptImage.Type, 100, 199, id: Id1).Add(GptImage.Type, 200, 299, id: Id1));
        await _target.PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"name":"F0p1"}""", "\"F0p1\""),
            Create("F0", "one"), Create("F1", "one.copy"), Create("F2", "two"), Create("F3", "twins"),
            ("bdev_passthru_create", """{"base_bdev_name":"F0","name":"P"}""", "\"P\"")); // it is free
        Assert.Equal(["F0p1", "F0", "F1", "F1p1", "F2", "F3", "P"], await NamesAsync());
        Assert.Contains("[bdev F0] warning: the partitions on it are not shown: there is a bdev 'F0p1' already", _target.Log, StringComparison.Ordinal);
        Assert.Contains($"[bdev F2] warning: the partitions on it are not shown: there is a bdev {Id0} already", _target.Log, StringComparison.Ordinal);
        Assert.Contains($"[bdev F3] warning: the partitions on it are not shown: there is a bdev {Id1} already", _target.Log, StringComparison.Ordinal);
    }

    [Fact]
    public async Task They_are_looked_for_when_they_are_to_be_and_a_table_in_a_partition_never_is()
    {
        GptImage inner = new GptImage(blocks: 1024).Add(GptImage.Type, 100, 199);
        GptImage outer = new GptImage(blocks: 4096).Add(GptImage.Type, 1024, 2047);
        inner.Bytes.CopyTo(outer.Bytes, 1024 * 512);
        await WriteAsync("disk", outer);
        await _target.PlayAsync(
            ("bdev_set_options", """{"bdev_auto_examine":false}""", "true"),
            Create("F0", "disk"));
        Assert.Equal(["F0"], await NamesAsync());
        await _target.PlayAsync(("bdev_examine", """{"name":"F0"}""", "true"), ("bdev_examine", """{"name":"F0p1"}""", "true"), ("bdev_examine", """{"name":"F0"}""", "true"));
        Assert.Equal(["F0", "F0p1"], await NamesAsync());
    }

    [Fact]
    public async Task A_store_on_a_partition_comes_back_with_it_and_what_is_saved_says_so()
    {
        await WriteAsync("disk", new GptImage(4096, 20_000).Add(GptImage.Type, 256, 18_000));
        await _target.PlayAsync(
            Create("F0", "disk", 4096),
            ("bdev_lvol_create_lvstore", """{"bdev_name":"F0p1","lvs_name":"s"}""", "*"),
            ("bdev_lvol_create", """{"lvol_name":"v","size_in_mib":8,"lvs_name":"s"}""", "*"),
            ("vhost_create_blk_controller", """{"ctrlr":"c","dev_name":"s/v"}""", "true"),
            ("bdev_aio_delete", """{"name":"F0"}""", RpcTarget.Error(-16, "Device or resource busy"))); // its volume is used
        var saved = new JsonArray();
        foreach (string subsystem in (string[])["bdev", "vhost_blk"]) { saved.Add(new JsonObject { ["config"] = (await _target.ResultAsync("framework_get_config", $$"""{"name":"{{subsystem}}"}""")).DeepClone() }); }
        string before = (await _target.ResultAsync("bdev_get_bdevs")).ToJsonString();
        _target.Dispose();
        _target = new RpcTarget(_directory);
        await File.WriteAllTextAsync(_directory["saved.json"], new JsonObject { ["subsystems"] = saved }.ToJsonString());
        Assert.Null(await SavedConfig.LoadAsync(_directory["saved.json"], _target.Methods, new Log(TextWriter.Null, LogLevel.Info)));
        Assert.Equal(before, (await _target.ResultAsync("bdev_get_bdevs")).ToJsonString());
        await _target.PlayAsync(
            ("vhost_delete_controller", """{"ctrlr":"c"}""", "true"),
            ("bdev_aio_delete", """{"name":"F0"}""", "true"),
            ("bdev_get_bdevs", "{}", "[]"));
    }

    private Task WriteAsync(string name, GptImage image)
    {
        if (name == "one") { File.WriteAllBytes(_directory["one.copy"], image.Bytes); }
        return File.WriteAllBytesAsync(_directory[name], image.Bytes);
    }

    private (string Method, string Parameters, string Expected) Create(string name, string file, int blockSize = 512) =>
        ("bdev_aio_create", $$"""{"name":"{{name}}","filename":"{{_directory[file]}}","block_size":{{blockSize}}}""", $"\"{name}\"");

    private async Task<string[]> NamesAsync() => [.. (await _target.ResultAsync("bdev_get_bdevs")).AsArray().Select(b => b!["name"]!.GetValue<string>())];
}
