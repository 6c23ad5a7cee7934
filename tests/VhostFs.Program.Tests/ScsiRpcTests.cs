using System.Net.Sockets;
using System.Text.Json.Nodes;
using VhostFs.GuestDriver;
using VhostFs.VhostUser;

namespace VhostFs.ProgramTests;

/// <summary>SCSI controllers and their targets over the control socket.</summary>
public sealed class ScsiRpcTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();
    private readonly RpcTarget _target;

    public ScsiRpcTests() => _target = new RpcTarget(_directory);

    public void Dispose()
    {
        _target.Dispose();
        _directory.Dispose();
    }

    [Fact]
    public Task A_controller_and_its_targets_from_beginning_to_end() => _target.PlayAsync(
        ("bdev_malloc_create", """{"num_blocks":8192,"block_size":512,"name":"M0"}""", "\"M0\""),
        ("bdev_malloc_create", """{"num_blocks":8192,"block_size":4096,"name":"M1"}""", "\"M1\""), // on the other reactor
        ("vhost_create_scsi_controller", """{"ctrlr":"c0","cpumask":"0x1"}""", "true"),
        ("vhost_get_controllers", """{"name":"c0"}""", Controller("c0", "0x1", "")),
        ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":-1,"bdev_name":"M0"}""", "0"),
        ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":5,"bdev_name":"M1"}""", "5"),
        ("vhost_get_controllers", "null", Controller("c0", "0x1", $"{Target(0, "M0")},{Target(5, "M1")}")),
        ("vhost_delete_controller", """{"ctrlr":"c0"}""", RpcTarget.Error(-32602, "Device or resource busy")), // with targets
        ("vhost_scsi_controller_remove_target", """{"ctrlr":"c0","scsi_target_num":0}""", "true"),
        ("vhost_get_controllers", "null", Controller("c0", "0x1", Target(5, "M1"))),
        ("bdev_malloc_delete", """{"name":"M0"}""", "true"),
        ("vhost_scsi_controller_remove_target", """{"ctrlr":"c0","scsi_target_num":5}""", "true"),
        ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":-1,"bdev_name":"M1"}""", "0"),
        ("vhost_scsi_controller_remove_target", """{"ctrlr":"c0","scsi_target_num":0}""", "true"),
        ("vhost_delete_controller", """{"ctrlr":"c0"}""", "true"),
        ("vhost_get_controllers", "null", "[]"));

    [Fact]
    public async Task Controllers_and_targets_are_refused_with_SPDKs_words()
    {
        string longName = new('x', 108);
        await _target.PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"name":"M0"}""", "\"M0\""),
            ("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"name":"M1"}""", "\"M1\""),
            ("vhost_create_scsi_controller", "{}", Wrong("Invalid argument")),
            ("vhost_create_scsi_controller", """{"ctrlr":"../c0"}""", Wrong("Invalid argument")),
            ("vhost_create_scsi_controller", """{"ctrlr":"c0","cpumask":"0x4"}""", Wrong("Invalid argument")),
            ("vhost_create_scsi_controller", """{"ctrlr":"c0","readonly":true}""", Wrong("Invalid argument")),
            ("vhost_create_scsi_controller", $$"""{"ctrlr":"{{longName}}"}""", Wrong("File name too long")),
            ("vhost_create_scsi_controller", """{"ctrlr":"c0"}""", "true"),
            ("vhost_create_scsi_controller", """{"ctrlr":"c0"}""", Wrong("File exists")),
            ("vhost_create_blk_controller", """{"ctrlr":"c0","dev_name":"M0"}""", Wrong("File exists")),
            ("vhost_create_blk_controller", """{"ctrlr":"b0","dev_name":"M1"}""", "true"),
            ("vhost_scsi_controller_add_target", """{"ctrlr":"none","scsi_target_num":0,"bdev_name":"M0"}""", Wrong("No such device")),
            ("vhost_scsi_controller_add_target", """{"ctrlr":"b0","scsi_target_num":0,"bdev_name":"M0"}""", Wrong("Invalid argument")),
            ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":0,"bdev_name":"none"}""", Wrong("No such device")),
            ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":8,"bdev_name":"M0"}""", Wrong("Invalid argument")),
            ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":0,"bdev_name":"M1"}""", Wrong("Operation not permitted")), // b0 has it
            ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":"0","bdev_name":"M0"}""", Wrong("Invalid argument")),
            ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","bdev_name":"M0"}""", Wrong("Invalid argument")),
            ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":3,"bdev_name":"M0"}""", "3"),
            ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":3,"bdev_name":"M1"}""", Wrong("File exists")),
            ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":4,"bdev_name":"M0"}""", Wrong("Operation not permitted")),
            ("vhost_scsi_controller_remove_target", """{"ctrlr":"c0","scsi_target_num":4}""", Wrong("No such device")),
            ("vhost_scsi_controller_remove_target", """{"ctrlr":"c0","scsi_target_num":-1}""", Wrong("Invalid argument")),
            ("vhost_scsi_controller_remove_target", """{"ctrlr":"none","scsi_target_num":0}""", Wrong("No such device")),
            ("vhost_start_scsi_controller", """{"ctrlr":"c0"}""", Wrong("Operation already in progress")));
    }

    [Fact]
    public async Task There_are_eight_targets()
    {
        await _target.ResultAsync("vhost_create_scsi_controller", """{"ctrlr":"c0"}""");
        for (int i = 0; i < 9; i++)
        {
            await _target.ResultAsync("bdev_malloc_create", $$"""{"num_blocks":8,"block_size":512,"name":"M{{i}}"}""");
            await _target.PlayAsync(("vhost_scsi_controller_add_target", $$"""{"ctrlr":"c0","scsi_target_num":-1,"bdev_name":"M{{i}}"}""", i < 8 ? $"{i}" : Wrong("No space left on device")));
        }
    }

    [Fact]
    public async Task A_delayed_controller_listens_when_it_is_started()
    {
        await _target.ResultAsync("vhost_create_scsi_controller", """{"ctrlr":"c0","delay":true}""");
        Assert.False(File.Exists(_directory["sockets/c0"]));
        await _target.ResultAsync("vhost_start_scsi_controller", """{"ctrlr":"c0"}""");
        using (Connect("c0")) { await _target.PlayAsync(("vhost_delete_controller", """{"ctrlr":"c0"}""", Wrong("Device or resource busy"))); }
        await _target.ResultAsync("vhost_delete_controller", """{"ctrlr":"c0"}""");
        await _target.PlayAsync(
            ("vhost_create_scsi_controller", """{"ctrlr":"c1","delay":true}""", "true"),
            ("vhost_delete_controller", """{"ctrlr":"c1"}""", "true"));
    }

    [Fact]
    public async Task Saved_calls_make_all_of_it_again()
    {
        await _target.ResultAsync("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"name":"M0"}""");
        await _target.ResultAsync("vhost_create_scsi_controller", """{"ctrlr":"c0","cpumask":"0x2"}""");
        await _target.ResultAsync("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":6,"bdev_name":"M0"}""");
        string before = (await _target.ResultAsync("vhost_get_controllers")).ToJsonString();
        JsonArray calls = (await _target.ResultAsync("framework_get_config", """{"name":"vhost_scsi"}""")).AsArray();
        Assert.Equal(["vhost_create_scsi_controller", "vhost_scsi_controller_add_target", "vhost_start_scsi_controller"], calls.Select(c => c!["method"]!.GetValue<string>()));
        await _target.ResultAsync("vhost_scsi_controller_remove_target", """{"ctrlr":"c0","scsi_target_num":6}""");
        await _target.ResultAsync("vhost_delete_controller", """{"ctrlr":"c0"}""");
        foreach (JsonNode? call in calls) { await _target.ResultAsync(call!["method"]!.GetValue<string>(), call["params"]!.ToJsonString()); }
        Assert.Equal(before, (await _target.ResultAsync("vhost_get_controllers")).ToJsonString());
        Assert.Contains("\"vhost_scsi\"", (await _target.ResultAsync("framework_get_subsystems")).ToJsonString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("0x1")] // where the bdev is
    [InlineData("0x2")] // on another reactor
    public async Task Disks_are_the_same_wherever_their_bdev_lives(string mask)
    {
        await _target.ResultAsync("bdev_null_create", """{"name":"N0","num_blocks":2048,"block_size":512}""");
        await _target.ResultAsync("bdev_malloc_create", """{"num_blocks":8,"block_size":512,"name":"there"}""");
        await _target.ResultAsync("bdev_malloc_create", """{"num_blocks":8192,"block_size":512,"name":"M0"}""");
        await _target.ResultAsync("vhost_create_scsi_controller", $$"""{"ctrlr":"c0","cpumask":"{{mask}}"}""");
        await _target.ResultAsync("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":0,"bdev_name":"M0"}""");
        using var guest = new ScsiGuest(_directory["sockets/c0"]);
        List<int> events = guest.LeaveEventBuffers(8);
        var random = new Random(1);
        byte[] model = new byte[8192 * 512];
        for (int i = 0; i < 200; i++)
        {
            int count = 1 + random.Next(16), block = random.Next(8192 - count);
            byte[] data = new byte[count * 512];
            random.NextBytes(data);
            data.CopyTo(model, block * 512);
            Assert.True(guest.Write((ulong)block, data).IsGood);
            block = random.Next(8192 - count);
            Assert.Equal(model.AsSpan(block * 512, count * 512).ToArray(), guest.Read((ulong)block, count).Data);
        }
        Assert.True(guest.Command(ScsiGuest.Cdb10(0x35, 0, 0)).IsGood);
        await _target.ResultAsync("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":4,"bdev_name":"N0"}""");
        Assert.Equal((1u, 4, 1u), guest.WaitForEvent(events[0]));
        Assert.Equal(ScsiGuest.PowerOn, guest.TestUnitReady(4).Sense);
        await _target.ResultAsync("bdev_null_resize", """{"name":"N0","new_size":2}""");
        Assert.Equal((3u, 4, 0x092Au), guest.WaitForEvent(events[1]));
        Assert.Equal(0x062A09, guest.TestUnitReady(4).Sense);
        Assert.Equal("00000FFF00000200", Convert.ToHexString(guest.In("25", 8, target: 4).Data));
        await _target.ResultAsync("vhost_scsi_controller_remove_target", """{"ctrlr":"c0","scsi_target_num":4}""");
        Assert.Equal((1u, 4, 2u), guest.WaitForEvent(events[2]));
        await _target.ResultAsync("bdev_null_resize", """{"name":"N0","new_size":3}"""); // nobody listens any more
        Assert.Equal(ScsiResponse.BadTarget, guest.TestUnitReady(4).Response);
        Assert.True(guest.TestUnitReady().IsGood);
    }

    [Fact]
    public async Task A_bdev_that_is_deleted_takes_its_target_with_it()
    {
        await _target.PlayAsync(
            ("bdev_malloc_create", """{"num_blocks":8192,"block_size":512,"name":"M0"}""", "\"M0\""),
            ("bdev_passthru_create", """{"base_bdev_name":"M0","name":"P0"}""", "\"P0\""),
            ("bdev_malloc_create", """{"num_blocks":8192,"block_size":512,"name":"M1"}""", "\"M1\""),
            ("vhost_create_scsi_controller", """{"ctrlr":"c0","cpumask":"0x1"}""", "true"),
            ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":2,"bdev_name":"P0"}""", "2"),
            ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":3,"bdev_name":"M1"}""", "3"));
        using var guest = new ScsiGuest(_directory["sockets/c0"], isReady: false);
        List<int> events = guest.LeaveEventBuffers(2);
        Assert.Equal((ScsiGuest.PowerOn, ScsiGuest.PowerOn), (guest.TestUnitReady(2).Sense, guest.TestUnitReady(3).Sense));
        await _target.ResultAsync("bdev_malloc_delete", """{"name":"M0"}""");
        Assert.Equal((1u, 2, 2u), guest.WaitForEvent(events[0]));
        Assert.Equal(ScsiResponse.BadTarget, guest.TestUnitReady(2).Response);
        await _target.ResultAsync("bdev_malloc_delete", """{"name":"M1"}"""); // on the other reactor
        Assert.Equal((1u, 3, 2u), guest.WaitForEvent(events[1]));
        Assert.Equal("[]", (await _target.ResultAsync("vhost_get_controllers"))[0]!["backend_specific"]!["scsi"]!.ToJsonString());
        Assert.Equal("[]", (await _target.ResultAsync("bdev_get_bdevs")).ToJsonString());
    }

    [Theory]
    [InlineData("0x1")] // where the bdev is
    [InlineData("0x2")] // on another reactor
    public async Task Several_VMs_share_the_disks_of_a_controller_each_as_an_initiator(string mask)
    {
        await _target.PlayAsync(
            ("bdev_null_create", """{"name":"N0","num_blocks":2048,"block_size":512}""", "\"N0\""),
            ("vhost_create_scsi_controller", $$"""{"ctrlr":"c0","cpumask":"{{mask}}"}""", "true"),
            ("vhost_scsi_controller_add_target", """{"ctrlr":"c0","scsi_target_num":0,"bdev_name":"N0"}""", "0"));
        using var a = new ScsiGuest(_directory["sockets/c0"]);
        using var b = new ScsiGuest(_directory["sockets/c0"]);
        string sessions = (await _target.ResultAsync("vhost_get_controllers"))[0]!["sessions"]!.ToJsonString();
        Assert.Equal("""[{"vid":0,"id":0,"name":"c0s0","started":true,"max_queues":1,"inflight_task_cnt":0},{"vid":1,"id":1,"name":"c0s1","started":true,"max_queues":1,"inflight_task_cnt":0}]""", sessions);
        List<int> eventsOfA = a.LeaveEventBuffers(2), eventsOfB = b.LeaveEventBuffers(2);
        Assert.True(a.Out("5F000000000000001800", Keys(0, 1)).IsGood); // registers
        Assert.True(a.Out("5F010300000000001800", Keys(1, 0)).IsGood); // reserves: exclusive access
        Assert.Equal((ScsiStatus.Good, ScsiStatus.ReservationConflict), (a.Read(0, 1).Status, b.Read(0, 1).Status));
        Assert.True(b.Out("5F000000000000001800", Keys(0, 2)).IsGood);
        Assert.True(b.Out("5F040300000000001800", Keys(2, 1)).IsGood); // preempts
        Assert.Equal(0x062A05, a.TestUnitReady().Sense);
        Assert.Equal((ScsiStatus.ReservationConflict, ScsiStatus.Good), (a.Read(0, 1).Status, b.Read(0, 1).Status));
        await _target.ResultAsync("bdev_null_resize", """{"name":"N0","new_size":2}""");
        Assert.Equal(((3u, 0, 0x092Au), (3u, 0, 0x092Au)), (a.WaitForEvent(eventsOfA[0]), b.WaitForEvent(eventsOfB[0])));
        await _target.PlayAsync(("bdev_null_delete", """{"name":"N0"}""", "true"));
        Assert.Equal(((1u, 0, 2u), (1u, 0, 2u)), (a.WaitForEvent(eventsOfA[1]), b.WaitForEvent(eventsOfB[1])));
        await _target.PlayAsync(("vhost_delete_controller", """{"ctrlr":"c0"}""", Wrong("Device or resource busy")));

        static byte[] Keys(byte own, byte service) => [0, 0, 0, 0, 0, 0, 0, own, 0, 0, 0, 0, 0, 0, 0, service, 0, 0, 0, 0, 0, 0, 0, 0];
    }

    private static string Wrong(string message) => RpcTarget.Error(-32602, message);

    private static string Target(int number, string bdev) => $$"""{"scsi_dev_num":{{number}},"id":{{number}},"target_name":"Target {{number}}","luns":[{"id":0,"bdev_name":"{{bdev}}"}]}""";

    private string Controller(string name, string mask, string targets) =>
        $$$"""[{"ctrlr":"{{{name}}}","cpumask":"{{{mask}}}","delay_base_us":0,"iops_threshold":60000,"socket":"{{{_directory["sockets/" + name]}}}","sessions":[],"backend_specific":{"scsi":[{{{targets}}}]} }]""";

    private Socket Connect(string name)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(_directory["sockets/" + name]));
        return socket;
    }
}
