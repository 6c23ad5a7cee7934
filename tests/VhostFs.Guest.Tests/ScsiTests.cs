using Xunit;

namespace VhostFs.Guest.Tests;

/// <summary>vhost-user-scsi under the virtio_scsi and sd drivers of real kernels, behind real QEMUs.</summary>
[Trait("Kind", "Guest")]
public class ScsiTests
{
    [Fact]
    public void Bdevs_are_SCSI_disks_on_kernel_6_1_and_the_hosts_QEMU() => CheckDisks(Guest.Bookworm);

    [Fact]
    public void Bdevs_are_SCSI_disks_on_packed_rings_on_kernel_6_12_and_QEMU_10_with_two_queues() => CheckDisks([.. Guest.Trixie, "--smp", "2", "--queues", "2", "--packed"]);

    [Fact]
    public void Disks_come_grow_and_go_under_a_running_guest_on_kernel_6_1_and_the_hosts_QEMU() => PlugAndUnplug(Guest.Bookworm);

    [Fact]
    public void Disks_come_grow_and_go_under_a_running_guest_on_packed_rings_on_kernel_6_12_and_QEMU_10() => PlugAndUnplug([.. Guest.Trixie, "--packed"]);

    [Fact]
    public void A_guest_at_work_goes_on_after_kill_9_of_the_daemon_on_QEMU_10()
    {
        const int rounds = 4;
        using var daemon = new BlockDaemon();
        string file = NewFile(daemon);
        daemon.Make("bdev_aio_create", $$"""{"name":"F0","filename":"{{file}}","block_size":4096}""");
        daemon.Make("vhost_create_scsi_controller", """{"ctrlr":"vm1","delay":true}""");
        daemon.Make("vhost_scsi_controller_add_target", """{"ctrlr":"vm1","scsi_target_num":-1,"bdev_name":"F0"}""");
        daemon.Make("vhost_start_scsi_controller", """{"ctrlr":"vm1"}""");
        int kills = 0;
        using Command guest = Boot(daemon, Guest.Trixie, $"for i in $(seq {rounds}); do blk-check fill $i /dev/sda && blk-check verify $i /dev/sda || exit 1; done", ["--reconnect", "1"], line =>
        {
            if (!line.StartsWith("ok verify", StringComparison.Ordinal) || kills == rounds - 1) { return; }
            kills++;
            daemon.KillAndServeAgain();
        });
        Finished run = guest.Wait(TimeSpan.FromMinutes(3));
        Assert.True(run.ExitStatus == 0, run.Output + run.Error);
        Assert.Equal(rounds - 1, kills);
        daemon.Stop();
        Verify("verify", $"{rounds}", file);
    }

    // Memory with blocks of 512 bytes, memory with 4096 on another reactor, and a file.
    private static void CheckDisks(string[] machine)
    {
        using var daemon = new BlockDaemon();
        string file = NewFile(daemon);
        daemon.Call("bdev_malloc_create", """{"num_blocks":65536,"block_size":512,"name":"Malloc0"}""");
        daemon.Call("bdev_malloc_create", """{"num_blocks":8192,"block_size":4096,"name":"Malloc1"}""");
        daemon.Call("bdev_uring_create", $$"""{"name":"U0","filename":"{{file}}","block_size":512}""");
        daemon.Call("vhost_create_scsi_controller", """{"ctrlr":"vm1"}""");
        daemon.Call("vhost_scsi_controller_add_target", """{"ctrlr":"vm1","scsi_target_num":0,"bdev_name":"Malloc0"}""");
        daemon.Call("vhost_scsi_controller_add_target", """{"ctrlr":"vm1","scsi_target_num":3,"bdev_name":"Malloc1"}""");
        daemon.Call("vhost_scsi_controller_add_target", """{"ctrlr":"vm1","scsi_target_num":7,"bdev_name":"U0"}""");
        // Kernels probe disks at the same time, and so their letters are as they come.
        using Command guest = Boot(daemon, machine, """
            disk() { ls /sys/bus/scsi/devices/0:0:$1:0/block; }
            a=/dev/$(disk 0) b=/dev/$(disk 3) c=/dev/$(disk 7)
            scsi-check $a && scsi-check $b && scsi-check $c || exit 1
            blk-check fill 7 $a && blk-check fill 8 $b && blk-check verify 7 $a && blk-check verify 8 $b && blk-check mix 5 500 $a || exit 2
            mke2fs -q $c >/dev/null 2>&1; mkdir /disk
            mount -t ext4 $c /disk && cp /bin/blk-check /disk/one && mkdir /disk/two && cp /bin/busybox /disk/two && umount /disk || exit 3
            mount -t ext4 $c /disk && cmp /disk/one /bin/blk-check && cmp /disk/two/busybox /bin/busybox && umount /disk || exit 4
            """, ["--module", "ext4"]);
        Finished run = guest.Wait(TimeSpan.FromMinutes(3));
        Assert.True(run.ExitStatus == 0, run.Output + run.Error);
        daemon.Stop();
        Finished check = Command.Run("/sbin/e2fsck", ["-fn", file]); // on the host, without any of ours in between
        Assert.True(check.ExitStatus == 0, check.Output);
    }

    private static void PlugAndUnplug(string[] machine)
    {
        using var daemon = new BlockDaemon();
        string file = NewFile(daemon);
        daemon.Call("bdev_malloc_create", """{"num_blocks":65536,"block_size":512,"name":"Malloc0"}""");
        daemon.Call("bdev_aio_create", $$"""{"name":"F0","filename":"{{file}}","block_size":4096}""");
        daemon.Call("vhost_create_scsi_controller", """{"ctrlr":"vm1"}""");
        daemon.Call("vhost_scsi_controller_add_target", """{"ctrlr":"vm1","scsi_target_num":0,"bdev_name":"Malloc0"}""");
        string[] steps = ["plug", "grow", "unplug", "again"];
        int done = 0;
        using Command guest = Boot(daemon, machine, """
            wait_for() { for i in $(seq 600); do eval "$1" && return; usleep 50000; done; echo "waited in vain for $1"; exit 3; }
            (while [ ! -e /tmp/stop ]; do blk-check mix 5 100 /dev/sda || exit 1; done; touch /tmp/ended) & # goes on all the time
            echo plug; wait_for '[ -e /dev/sdb ]'; cat /sys/block/sdb/size; blk-check fill 9 /dev/sdb || exit 1
            echo grow; wait_for '[ "$(cat /sys/block/sdb/size)" = 131072 ]'; blk-check fill 9 /dev/sdb && blk-check verify 9 /dev/sdb || exit 1
            echo unplug; wait_for '[ ! -e /sys/block/sdb ]'
            echo again; wait_for '[ -e /dev/sdb ]'; blk-check verify 9 /dev/sdb || exit 1
            touch /tmp/stop; wait_for '[ -e /tmp/ended ]'
            """, [], line =>
        {
            if (done == steps.Length || line != steps[done]) { return; }
            switch (steps[done++])
            {
                case "plug" or "again":
                    daemon.Call("vhost_scsi_controller_add_target", """{"ctrlr":"vm1","scsi_target_num":-1,"bdev_name":"F0"}""");
                    break;
                case "grow":
                    Command.Run("truncate", ["-s", "64M", file]); // not with a FileStream, which asks for a lock of its own
                    daemon.Call("bdev_aio_rescan", """{"name":"F0"}""");
                    break;
                default:
                    daemon.Call("vhost_scsi_controller_remove_target", """{"ctrlr":"vm1","scsi_target_num":1}""");
                    break;
            }
        });
        Finished run = guest.Wait(TimeSpan.FromMinutes(3));
        Assert.True(run.ExitStatus == 0, run.Output + run.Error);
        Assert.Equal(steps.Length, done);
        daemon.Stop();
        Verify("verify", "9", file);
    }

    private static string NewFile(BlockDaemon daemon)
    {
        using FileStream made = File.Create(daemon["disk.img"]);
        made.SetLength(32 << 20);
        return made.Name;
    }

    // What is to be tested is what the guest's driver has agreed to: feature 34 is packed rings.
    private static Command Boot(BlockDaemon daemon, string[] machine, string command, string[] more, Action<string>? onLine = null) =>
        daemon.Boot([], machine, $$"""
            grep -q '^.\{34\}{{(machine.Contains("--packed") ? 1 : 0)}}' /sys/bus/virtio/drivers/virtio_scsi/virtio*/features || exit 5
            {{command}}
            """, ["--scsi-socket", daemon["vm1"], "--file", $"{Repository.GuestPrograms}/scsi-check:bin/scsi-check", .. more], onLine);

    // The same program, on the host: what is in the file, without any of ours in between.
    private static void Verify(params string[] arguments)
    {
        Finished check = Command.Run(Path.Combine(Repository.GuestPrograms, "blk-check"), arguments);
        Assert.True(check.ExitStatus == 0, check.Output);
    }
}
