using System.Text.Json.Nodes;
using VhostFs.Block;

namespace VhostFs.ProgramTests;

/// <summary>save_config and load_config as SPDK's client does them, and --json.</summary>
public sealed class SavedConfigTests : IDisposable
{
    private const string Uuid = "00000000-0000-4000-8000-000000000000";
    private readonly TemporaryDirectory _directory = new();
    private RpcTarget _target;

    public SavedConfigTests() => _target = new RpcTarget(_directory);

    public void Dispose()
    {
        _target.Dispose();
        _directory.Dispose();
    }

    [Fact]
    public async Task What_is_saved_makes_the_same_again()
    {
        string saved = await MakeAsync();
        string before = await ShowAsync();
        _target.Dispose();
        _target = new RpcTarget(_directory);
        await LoadAsync(JsonNode.Parse(saved)!);
        Assert.Equal(before, await ShowAsync());
        Assert.Equal(saved, (await SaveAsync()).ToJsonString());
    }

    [Fact]
    public async Task A_copy_that_is_out_of_date_does_not_come_back_as_if_it_were_not()
    {
        for (int i = 0; i < 3; i++) { await _target.ResultAsync("bdev_malloc_create", $$"""{"num_blocks":2048,"block_size":512,"name":"M{{i}}"}"""); }
        await _target.ResultAsync("bdev_raid_create", """{"name":"R","raid_level":"raid1","base_bdevs":["M0","M1","M2"]}""");
        await _target.ResultAsync("bdev_raid_remove_base_bdev", """{"name":"M1"}""");
        JsonNode saved = (await _target.ResultAsync("framework_get_config", """{"name":"bdev"}""")).AsArray().Single(c => c!["method"]!.GetValue<string>() == "bdev_raid_create")!;
        Assert.Equal(["M0", "M2"], saved["params"]!["base_bdevs"]!.AsArray().Select(b => b!.GetValue<string>()));
    }

    [Fact]
    public async Task The_program_makes_it_at_its_start()
    {
        string saved = await MakeAsync();
        string before = await ShowAsync();
        _target.Dispose();
        _target = new RpcTarget(_directory);
        await File.WriteAllTextAsync(_directory["saved.json"], saved.Replace("\"subsystem\":\"bdev\",\"config\":[", "\"subsystem\":\"bdev\",\"config\":[{\"method\":\"accel_set_options\",\"params\":{}},", StringComparison.Ordinal));
        var log = new StringWriter();
        Assert.Null(await SavedConfig.LoadAsync(_directory["saved.json"], _target.Methods, new Log(log, LogLevel.Info)));
        Assert.Equal(before, await ShowAsync());
        Assert.Contains("accel_set_options is not known here, and left out", log.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{", "cannot be read")]
    [InlineData("""{"subsystems":[{"subsystem":"bdev","config":[{"method":"bdev_malloc_create","params":{"num_blocks":0,"block_size":512}}]}]}""", "Invalid argument (there must be a block)")]
    [InlineData("""{"subsystems":[{"subsystem":"vhost_blk","config":[{"method":"vhost_create_blk_controller","params":{"ctrlr":"c","dev_name":"none"}}]}]}""", "No such device (there is no bdev 'none')")]
    public async Task What_is_wrong_in_it_is_said(string text, string expected)
    {
        await File.WriteAllTextAsync(_directory["saved.json"], text);
        Assert.Contains(expected, await SavedConfig.LoadAsync(_directory["saved.json"], _target.Methods, new Log(TextWriter.Null, LogLevel.Info)), StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_goes_wrong_does_not_show_keys()
    {
        await File.WriteAllTextAsync(_directory["saved.json"], """
            {"subsystems":[{"subsystem":"accel","config":[
             {"method":"accel_crypto_key_create","params":{"name":"a","cipher":"AES_XTS","key":"000102030405060708090a0b0c0d0e0f","key2":"101112131415161718191a1b1c1d1e1f"}},
             {"method":"accel_crypto_key_create","params":{"name":"b","cipher":"AES_XTS","key":"00112233445566778899aabbccddeeff","key2":"00112233445566778899aabbccddeeff"}}]}]}
            """);
        var log = new StringWriter();
        string? problem = await SavedConfig.LoadAsync(_directory["saved.json"], _target.Methods, new Log(log, LogLevel.Debug));
        Assert.EndsWith(": call 2, accel_crypto_key_create: Invalid argument (the two keys must differ)", problem, StringComparison.Ordinal);
        Assert.DoesNotContain("00112233", problem + log + _target.Log, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("""{"subsystems":7}""")]
    [InlineData("""{"subsystems":[7,{"config":7},{"config":[7,{"method":7}]},{"subsystem":"bdev","config":null}]}""")]
    public async Task Nothing_is_made_of_nothing(string text)
    {
        await File.WriteAllTextAsync(_directory["saved.json"], text);
        Assert.Null(await SavedConfig.LoadAsync(_directory["saved.json"], _target.Methods, new Log(TextWriter.Null, LogLevel.Info)));
    }

    [Fact]
    public async Task Clients_hear_of_what_comes_and_goes()
    {
        await _target.ResultAsync("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"name":"M0"}""");
        await _target.ResultAsync("vhost_create_blk_controller", """{"ctrlr":"c0","dev_name":"M0"}""");
        await _target.ResultAsync("vhost_delete_controller", """{"ctrlr":"c0"}""");
        await _target.ResultAsync("bdev_malloc_delete", """{"name":"M0"}""");
        await _target.PlayAsync(
            ("notify_get_types", "null", """["bdev_register","bdev_unregister","vhost_controller_register","vhost_controller_unregister"]"""),
            ("notify_get_notifications", "{}", """
                [{"type":"bdev_register","ctx":"M0","id":0},{"type":"vhost_controller_register","ctx":"c0","id":1},
                 {"type":"vhost_controller_unregister","ctx":"c0","id":2},{"type":"bdev_unregister","ctx":"M0","id":3}]
                """),
            ("notify_get_notifications", """{"id":1,"max":1}""", """[{"type":"vhost_controller_register","ctx":"c0","id":1}]"""),
            ("notify_get_notifications", """{"id":4}""", "[]"),
            ("notify_get_notifications", """{"id":-1}""", RpcTarget.Error(-32602, "Invalid parameters")));
        var many = new Notifications();
        for (int i = 0; i < Notifications.Kept + 10; i++) { many.Add("bdev_register", $"{i}"); }
        Assert.Equal((Notifications.Kept, "10"), (many.From(0, int.MaxValue).Length, many.From(0, 1)[0].Context));
    }

    [Fact]
    public async Task A_client_hears_for_how_long_collections_have_stopped_the_process()
    {
        JsonNode before = (await _target.ResultAsync("framework_get_memory"))!;
        GC.Collect();
        JsonNode after = (await _target.ResultAsync("framework_get_memory"))!;
        Assert.True((long)after["collections"]! > (long)before["collections"]!);
        Assert.True((long)after["pauses_ns"]! > (long)before["pauses_ns"]!);
        Assert.True((long)after["allocated_bytes"]! > (long)before["allocated_bytes"]!);
        Assert.InRange((long)after["heap_bytes"]!, 1, (long)after["committed_bytes"]!);
        await _target.PlayAsync(("framework_get_memory", """{"of":"others"}""", RpcTarget.Error(-32602, "Invalid parameters")));
    }

    [Fact]
    public async Task A_client_can_say_how_the_reactors_wait()
    {
        await _target.PlayAsync(
            ("reactor_set_mode", """{"mode":"sometimes"}""", RpcTarget.Error(-32602, "Invalid parameters")),
            ("reactor_set_mode", """{"mode":"interrupt","reactor":0}""", "true"));
        Assert.Equal((true, "interrupt"), await ModeAsync());
        await _target.PlayAsync(("reactor_set_mode", """{"mode":"poll"}""", "true"));
        Assert.Equal((false, "poll"), await ModeAsync());
        await _target.PlayAsync(("reactor_set_mode", """{"mode":"adaptive"}""", "true"));
        Assert.Equal((false, "adaptive"), await ModeAsync());
        JsonNode refused = (await _target.CallAsync("reactor_set_mode", """{"mode":"poll","reactor":99}"""))!;
        Assert.Equal(-19, (int)refused["error"]!["code"]!);

        async Task<(bool, string)> ModeAsync()
        {
            JsonNode first = (await _target.ResultAsync("framework_get_reactors"))!["reactors"]![0]!;
            Assert.True((long)first["busy"]! >= 0 && (long)first["idle"]! >= 0);
            return ((bool)first["in_interrupt"]!, (string)first["mode"]!);
        }
    }

    [Fact]
    public async Task A_client_can_end_the_process()
    {
        await _target.PlayAsync(
            ("spdk_kill_instance", """{"sig_name":"SIGSEGV"}""", RpcTarget.Error(-32602, "Invalid parameters")),
            ("spdk_kill_instance", """{"sig_name":"SIGTERM"}""", "true"),
            ("framework_wait_init", "null", "true"),
            ("framework_get_config", """{"name":"nvmf"}""", RpcTarget.Error(-32602, "Subsystem 'nvmf' not found")));
        Assert.Equal("SIGTERM", _target.AskedToStop);
    }

    private async Task<string> MakeAsync()
    {
        string file = _directory["disk.img"];
        if (!File.Exists(file)) { await File.WriteAllBytesAsync(file, new byte[1 << 20]); }
        await _target.ResultAsync("bdev_malloc_create", """{"num_blocks":2048,"block_size":512}""");
        await _target.ResultAsync("bdev_null_create", $$"""{"name":"N0","num_blocks":2048,"block_size":512,"uuid":"{{Uuid}}"}""");
        await _target.ResultAsync("bdev_null_resize", """{"name":"N0","new_size":4}""");
        await _target.ResultAsync("bdev_aio_create", $$"""{"name":"F0","filename":"{{file}}","block_size":4096,"readonly":true}""");
        await _target.ResultAsync("bdev_delay_create", """{"base_bdev_name":"Malloc0","name":"D0","avg_read_latency":1,"p99_read_latency":2,"avg_write_latency":3,"p99_write_latency":4}""");
        await _target.ResultAsync("bdev_error_create", """{"base_name":"D0"}""");
        await _target.ResultAsync("bdev_passthru_create", """{"base_bdev_name":"EE_D0","name":"P0"}""");
        await _target.ResultAsync("bdev_malloc_create", """{"num_blocks":2048,"block_size":512,"name":"M1"}""");
        await _target.ResultAsync("bdev_split_create", """{"base_bdev":"M1","split_count":4}""");
        await _target.ResultAsync("bdev_raid_create", """{"name":"R0","raid_level":"0","base_bdevs":["M1p0","M1p1"],"strip_size_kb":4}""");
        await _target.ResultAsync("bdev_raid_create", """{"name":"R1","raid_level":"raid1","base_bdevs":["M1p2","M1p3"]}""");
        await _target.ResultAsync("vhost_create_blk_controller", """{"ctrlr":"c0","dev_name":"P0","readonly":true}""");
        await _target.ResultAsync("vhost_create_blk_controller", """{"ctrlr":"c1","dev_name":"N0"}""");
        await _target.ResultAsync("vhost_controller_set_coalescing", """{"ctrlr":"c1","delay_base_us":100,"iops_threshold":5000}""");
        await _target.ResultAsync("vhost_create_scsi_controller", """{"ctrlr":"c2"}""");
        await _target.ResultAsync("vhost_controller_set_coalescing", """{"ctrlr":"c2","delay_base_us":7,"iops_threshold":100}""");
        return (await SaveAsync()).ToJsonString();
    }

    // As rpc.py does.
    private async Task<JsonNode> SaveAsync()
    {
        var subsystems = new JsonArray();
        foreach (JsonNode? subsystem in (await _target.ResultAsync("framework_get_subsystems")).AsArray())
        {
            string name = subsystem!["subsystem"]!.GetValue<string>();
            subsystems.Add(new JsonObject { ["subsystem"] = name, ["config"] = (await _target.ResultAsync("framework_get_config", $$"""{"name":"{{name}}"}""")).DeepClone() });
        }
        return new JsonObject { ["subsystems"] = subsystems };
    }

    private async Task LoadAsync(JsonNode config)
    {
        string[] allowed = [.. (await _target.ResultAsync("rpc_get_methods", """{"current":true,"include_aliases":false}""")).AsArray().Select(m => m!.GetValue<string>())];
        foreach (JsonNode? call in config["subsystems"]!.AsArray().SelectMany(s => s!["config"]!.AsArray()))
        {
            string method = call!["method"]!.GetValue<string>();
            Assert.Contains(method, allowed);
            await _target.ResultAsync(method, call["params"]!.ToJsonString());
        }
    }

    private async Task<string> ShowAsync() => (await _target.ResultAsync("bdev_get_bdevs")).ToJsonString() + (await _target.ResultAsync("vhost_get_controllers")).ToJsonString();
}
