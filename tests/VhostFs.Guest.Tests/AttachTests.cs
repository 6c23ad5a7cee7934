using Xunit;

namespace VhostFs.Guest.Tests;

/// <summary><c>vhostfs attach</c> and <c>detach</c>: real guests get a disk and a file system while they run, and lose them again.</summary>
[Trait("Kind", "Guest")]
public class AttachTests
{
    [Fact]
    public void A_disk_is_plugged_in_filled_and_taken_out() => PlugDisk(Guest.Trixie);

    [Fact]
    public void And_on_the_hosts_QEMU() => PlugDisk(Guest.Bookworm);

    [Fact]
    public void A_file_system_is_plugged_in_used_and_taken_out()
    {
        using var disks = new BlockDaemon();
        using var volume = new Daemon();
        disks.Call("bdev_malloc_create", """{"num_blocks":8192,"block_size":512,"name":"Malloc0"}""");
        disks.Call("vhost_create_blk_controller", """{"ctrlr":"vm1","dev_name":"Malloc0"}""");
        disks.Call("bdev_malloc_create", """{"num_blocks":16384,"block_size":4096,"name":"Malloc1"}""");
        disks.Call("fs_create_pool", """{"bdev_name":"Malloc1","pool_name":"p"}""");
        disks.Call("fs_create_volume", """{"volume":"p/db"}""");
        disks.Call("vhost_create_fs_controller", """{"ctrlr":"db","volume":"p/db"}""");
        string qmp = disks["qmp"], rpc = disks["rpc"];
        var script = new Script(
            ("ready", () => Run("attach", "web", "--socket", volume.Socket, "--qmp", qmp, "--bus", "hotplug0") + Run("attach", "db", "--qmp", qmp, "--bus", "hotplug1", "-r", rpc)),
            ("written", () => Run("detach", "web", "--qmp", qmp, "--keep") + Run("detach", "db", "--qmp", qmp, "-r", rpc)));
        using Command guest = disks.Boot(["vm1"], Guest.Trixie, """
            mkdir -p /web /db; echo ready
            for i in $(seq 600); do mount -t virtiofs web /web 2>/dev/null && break; usleep 100000; done
            for i in $(seq 600); do mount -t virtiofs db /db 2>/dev/null && break; usleep 100000; done
            echo hello >/web/file && cp /web/file /db && cat /db/file && umount /web /db && echo written
            for i in $(seq 300); do mount -t virtiofs web /web 2>/dev/null || break; umount /web; usleep 100000; done
            mount -t virtiofs web /web 2>/dev/null || echo gone
            sleep 2 # QEMU says so a moment later
            """, ["--qmp", qmp], onLine: script.Hear);
        Finished run = guest.Wait(TimeSpan.FromMinutes(3));
        Assert.True(run.ExitStatus == 0 && script.Failures.Length == 0, script.Failures + run.Output + run.Error);
        Assert.Contains("hello\nwritten\ngone", run.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("p/db", disks.Call("vhost_get_controllers", "null"), StringComparison.Ordinal);
        disks.Stop();
        volume.Stop();
        volume.AssertClean();
    }

    private static void PlugDisk(string[] machine)
    {
        using var daemon = new BlockDaemon();
        daemon.Call("bdev_malloc_create", """{"num_blocks":8192,"block_size":512,"name":"Malloc0"}""");
        daemon.Call("bdev_malloc_create", """{"num_blocks":4096,"block_size":4096,"name":"Malloc1"}""");
        daemon.Call("vhost_create_blk_controller", """{"ctrlr":"vm1","dev_name":"Malloc0"}""");
        string qmp = daemon["qmp"], rpc = daemon["rpc"];
        var script = new Script(
            ("ready", () => Run("attach", "Malloc1", "--qmp", qmp, "--bus", "hotplug0", "-r", rpc)),
            ("ok verify 4096 blocks", () => Run("detach", "Malloc1", "--qmp", qmp, "-r", rpc)));
        using Command guest = daemon.Boot(["vm1"], machine, """
            echo ready
            for i in $(seq 600); do [ -b /dev/vdb ] && break; usleep 100000; done
            blk-check fill 7 /dev/vdb && blk-check verify 7 /dev/vdb || exit 1
            for i in $(seq 600); do [ -e /sys/block/vdb ] || break; usleep 100000; done
            [ -e /sys/block/vdb ] || echo gone
            sleep 2 # QEMU says so a moment later
            """, ["--qmp", qmp], onLine: script.Hear);
        Finished run = guest.Wait(TimeSpan.FromMinutes(3));
        Assert.True(run.ExitStatus == 0 && script.Failures.Length == 0, script.Failures + run.Output + run.Error);
        Assert.Contains("gone", run.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("Malloc1", daemon.Call("vhost_get_controllers", "null"), StringComparison.Ordinal);
        daemon.Call("bdev_malloc_delete", """{"name":"Malloc1"}""");
        daemon.Stop();
    }

    private static string? Run(params string[] arguments)
    {
        Finished run = Command.Run(Repository.Daemon, arguments);
        return run.ExitStatus == 0 ? null : $"{string.Join(' ', arguments)}: {run.Error}";
    }

    /// <summary>Does something whenever the guest says the next of some lines.</summary>
    private sealed class Script(params (string Line, Func<string?> Do)[] steps)
    {
        private int _done;

        public string Failures { get; private set; } = "";

        public void Hear(string line)
        {
            if (_done == steps.Length || line != steps[_done].Line) { return; }
            Failures += steps[_done++].Do();
        }
    }
}
