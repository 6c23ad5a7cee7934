using Xunit;

namespace VhostFs.Guest.Tests;

/// <summary>vhost-user-blk under the virtio_blk driver of real kernels, behind real QEMUs.</summary>
[Trait("Kind", "Guest")]
public class BlockTests
{
    private const string Disks = "blk-check fill 7 /dev/vda && blk-check fill 8 /dev/vdb && blk-check verify 7 /dev/vda && blk-check mix 5 500 /dev/vda && blk-check verify 8 /dev/vdb";

    [Fact]
    public void Memory_and_a_file_are_disks_on_kernel_6_1_and_the_hosts_QEMU() => FillAndCheck(Guest.Bookworm, blockSize: 512);

    [Fact]
    public void Memory_and_a_file_are_disks_on_kernel_6_12_and_QEMU_10_with_two_queues() => FillAndCheck([.. Guest.Trixie, "--smp", "2", "--queues", "2"], blockSize: 4096);

    [Fact]
    public void The_next_guest_finds_what_the_last_one_wrote_and_a_read_only_disk_refuses_writes()
    {
        using var daemon = new BlockDaemon();
        daemon.Call("bdev_malloc_create", """{"num_blocks":32768,"block_size":512,"name":"Malloc0"}""");
        daemon.Call("vhost_create_blk_controller", """{"ctrlr":"vm1","dev_name":"Malloc0"}""");
        daemon.Succeeds(["vm1"], Guest.Trixie, "blk-check fill 7 /dev/vda");
        daemon.Call("vhost_delete_controller", """{"ctrlr":"vm1"}""");
        daemon.Call("vhost_create_blk_controller", """{"ctrlr":"vm2","dev_name":"Malloc0","readonly":true}""");
        string output = daemon.Succeeds(["vm2"], Guest.Bookworm, """
            cat /sys/block/vda/ro /sys/block/vda/size /sys/block/vda/serial; echo
            dd if=/dev/zero of=/dev/vda bs=4096 count=1 && exit 3
            blk-check verify 7 /dev/vda
            """);
        Assert.Contains("1\n32768\nMalloc0", output, StringComparison.Ordinal);
        Assert.Contains("ok verify 4096 blocks", output, StringComparison.Ordinal);
        daemon.Stop();
    }

    [Fact]
    public void A_running_guest_sees_that_its_disk_has_grown()
    {
        using var daemon = new BlockDaemon();
        string file = daemon["disk.img"];
        using (FileStream made = File.Create(file)) { made.SetLength(16 << 20); }
        daemon.Call("bdev_aio_create", $$"""{"name":"F0","filename":"{{file}}","block_size":4096}""");
        daemon.Call("vhost_create_blk_controller", """{"ctrlr":"vm1","dev_name":"F0"}""");
        bool isReady = false;
        using Command guest = daemon.Boot(["vm1"], Guest.Trixie, """
            cat /sys/block/vda/size; echo ready
            for i in $(seq 600); do [ "$(cat /sys/block/vda/size)" = 32768 ] || break; usleep 100000; done
            cat /sys/block/vda/size && blk-check fill 9 /dev/vda
            """, onLine: line =>
        {
            if (line != "ready" || isReady) { return; }
            isReady = true;
            Command.Run("truncate", ["-s", "32M", file]); // not with a FileStream, which asks for a lock of its own
            daemon.Call("bdev_aio_rescan", """{"name":"F0"}""");
        });
        Finished run = guest.Wait(TimeSpan.FromMinutes(3));
        Assert.True(run.ExitStatus == 0, run.Output + run.Error);
        Assert.Contains("32768\nready\n65536\nok fill 8192 blocks", run.Output, StringComparison.Ordinal);
        daemon.Stop();
        Verify(9, file);
    }

    [Fact]
    public void A_guest_at_work_goes_on_after_kill_9_of_the_daemon_on_QEMU_10() => KillUnderWork(Guest.Trixie);

    [Fact]
    public void A_guest_at_work_goes_on_after_kill_9_of_the_daemon_on_the_hosts_QEMU() => KillUnderWork([.. Guest.Bookworm, "--smp", "2", "--queues", "2"]);

    [Fact]
    public void A_guest_at_work_on_a_logical_volume_goes_on_after_kill_9()
    {
        using var daemon = new BlockDaemon();
        string file = daemon["disk.img"];
        using (FileStream made = File.Create(file)) { made.SetLength(96 << 20); }
        daemon.Make("bdev_aio_create", $$"""{"name":"F0","filename":"{{file}}","block_size":4096}""");
        daemon.Call("bdev_lvol_create_lvstore", """{"bdev_name":"F0","lvs_name":"lvs0"}""");
        daemon.Call("bdev_lvol_create", """{"lvol_name":"root","size_in_mib":32,"lvs_name":"lvs0"}""");
        daemon.Make("vhost_create_blk_controller", """{"ctrlr":"vm1","dev_name":"lvs0/root"}""");
        KillUnderWork(daemon, Guest.Trixie);
        daemon.Stop();
        Finished check = Command.Run(Repository.Daemon, ["check", file]);
        Assert.True(check.ExitStatus == 0, check.Output);
    }

    private static void KillUnderWork(string[] machine)
    {
        using var daemon = new BlockDaemon();
        string file = daemon["disk.img"];
        using (FileStream made = File.Create(file)) { made.SetLength(32 << 20); }
        daemon.Make("bdev_aio_create", $$"""{"name":"F0","filename":"{{file}}","block_size":4096}""");
        daemon.Make("vhost_create_blk_controller", """{"ctrlr":"vm1","dev_name":"F0"}""");
        int last = KillUnderWork(daemon, machine);
        daemon.Stop();
        Verify(last, file);
    }

    /// <summary>The daemon dies whenever the guest has just begun to write again. Returns what the disk is full of at the end.</summary>
    private static int KillUnderWork(BlockDaemon daemon, string[] machine)
    {
        const int rounds = 5;
        int kills = 0;
        using Command guest = daemon.Boot(["vm1"], machine, $"for i in $(seq {rounds}); do blk-check fill $i /dev/vda && blk-check verify $i /dev/vda || exit 1; done", ["--reconnect", "1"], onLine: line =>
        {
            if (!line.StartsWith("ok verify", StringComparison.Ordinal) || kills == rounds - 1) { return; }
            kills++;
            daemon.KillAndServeAgain();
        });
        Finished run = guest.Wait(TimeSpan.FromMinutes(3));
        Assert.True(run.ExitStatus == 0, run.Output + run.Error);
        Assert.Equal(rounds - 1, kills);
        return rounds;
    }

    private static void FillAndCheck(string[] machine, int blockSize)
    {
        using var daemon = new BlockDaemon();
        using (FileStream made = File.Create(daemon["disk.img"])) { made.SetLength(32 << 20); }
        daemon.Call("bdev_malloc_create", $$"""{"num_blocks":{{(32 << 20) / blockSize}},"block_size":{{blockSize}},"name":"Malloc0"}""");
        daemon.Call("bdev_uring_create", $$"""{"name":"U0","filename":"{{daemon["disk.img"]}}","block_size":4096}""");
        daemon.Call("vhost_create_blk_controller", """{"ctrlr":"memory","dev_name":"Malloc0","cpumask":"0x1"}""");
        daemon.Call("vhost_create_blk_controller", """{"ctrlr":"file","dev_name":"U0"}""");
        daemon.Succeeds(["memory", "file"], machine, Disks);
        daemon.Stop();
        Verify(8, daemon["disk.img"]);
    }

    // The same program, on the host: what is in the file, without any of ours in between.
    private static void Verify(int seed, string file)
    {
        Finished check = Command.Run(Path.Combine(Repository.GuestPrograms, "blk-check"), ["verify", $"{seed}", file]);
        Assert.True(check.ExitStatus == 0, check.Output);
    }
}
