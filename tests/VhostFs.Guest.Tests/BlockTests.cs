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
    public void Memory_and_a_file_are_disks_on_packed_rings_on_kernel_6_1_and_the_hosts_QEMU() => FillAndCheck([.. Guest.Bookworm, "--packed"], blockSize: 4096);

    [Fact]
    public void Memory_and_a_file_are_disks_on_packed_rings_on_kernel_6_12_and_QEMU_10_with_two_queues() => FillAndCheck([.. Guest.Trixie, "--smp", "2", "--queues", "2", "--packed"], blockSize: 512);

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

    /// <summary>On a raid1, which each time is found again on its files, and must be the same on both in the end.</summary>
    [Fact]
    public void A_guest_at_work_on_a_raid1_goes_on_after_kill_9_of_the_daemon_on_QEMU_10()
    {
        using var daemon = new BlockDaemon();
        const long metadata = 1 << 20;
        for (int i = 0; i < 2; i++)
        {
            using (FileStream made = File.Create(daemon[$"{i}.img"])) { made.SetLength((32 << 20) + metadata); }
            daemon.Make("bdev_aio_create", $$"""{"name":"F{{i}}","filename":"{{daemon[$"{i}.img"]}}","block_size":4096}""");
        }
        daemon.Call("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["F0","F1"],"superblock":true}""");
        daemon.Make("vhost_create_blk_controller", """{"ctrlr":"vm1","dev_name":"R0"}""");
        int last = KillUnderWork(daemon, Guest.Trixie);
        while (daemon.Call("bdev_raid_get_bdevs", """{"category":"all"}""").Contains("\"process\"", StringComparison.Ordinal)) { Thread.Sleep(5); }
        daemon.Stop();
        Assert.True(Command.Run("cmp", [$"--ignore-initial={metadata}", daemon["0.img"], daemon["1.img"]]).ExitStatus == 0, "the copies differ");
        Command.Run("dd", [$"if={daemon["1.img"]}", $"of={daemon["content"]}", $"bs={metadata}", "skip=1"]);
        Verify(last, daemon["content"]);
    }

    [Fact]
    public void A_guest_at_work_goes_on_after_kill_9_of_the_daemon_on_the_hosts_QEMU() => KillUnderWork([.. Guest.Bookworm, "--smp", "2", "--queues", "2"]);

    [Fact]
    public void A_guest_at_work_on_packed_rings_goes_on_after_kill_9_on_QEMU_10() => KillUnderWork([.. Guest.Trixie, "--smp", "2", "--queues", "2", "--packed"]);

    [Fact]
    public void A_guest_at_work_on_packed_rings_goes_on_after_kill_9_on_the_hosts_QEMU() => KillUnderWork([.. Guest.Bookworm, "--packed"]);

    [Fact]
    public void A_guests_file_system_on_packed_rings_survives_kill_9()
    {
        const int kills = 3;
        using var daemon = new BlockDaemon();
        string file = daemon["disk.img"];
        using (FileStream made = File.Create(file)) { made.SetLength(64 << 20); }
        Assert.Equal(0, Command.Run("mkfs.ext4", ["-q", "-b", "4096", file]).ExitStatus);
        daemon.Make("bdev_aio_create", $$"""{"name":"F0","filename":"{{file}}","block_size":4096}""");
        daemon.Make("vhost_create_blk_controller", """{"ctrlr":"vm1","dev_name":"F0"}""");
        int killed = 0;
        using Command guest = daemon.Boot(["vm1"], [.. Guest.Trixie, "--packed"], """
            mkdir /tmp/d && mount -t ext4 /dev/vda /tmp/d || exit 3
            for round in $(seq 20); do
              dd if=/dev/urandom of=/tmp/new bs=64k count=16 2>/dev/null
              echo round $round
              cp /tmp/new /tmp/d/f$((round % 7)) && sync && echo 1 >/proc/sys/vm/drop_caches && cmp /tmp/new /tmp/d/f$((round % 7)) || exit 4
            done
            cd /tmp/d && md5sum f* >/tmp/sums && cd / && umount /tmp/d && mount -t ext4 /dev/vda /tmp/d && cd /tmp/d && md5sum -c /tmp/sums && cd / && umount /tmp/d
            """, ["--module", "ext4", "--reconnect", "1"], onLine: line =>
        {
            if (killed == kills || line != $"round {4 * (killed + 1)}") { return; }
            killed++;
            daemon.KillAndServeAgain();
        });
        Finished run = guest.Wait(TimeSpan.FromMinutes(3));
        Assert.True(run.ExitStatus == 0, run.Output + run.Error);
        Assert.Equal(kills, killed);
        daemon.Stop();
        Finished check = Command.Run("fsck.ext4", ["-f", "-n", file]);
        Assert.True(check.ExitStatus == 0, check.Output);
    }

    /// <summary>While a guest writes to ext4 on a raid1, each of its two files is taken away, spoilt and rebuilt.</summary>
    [Fact]
    public async Task A_guests_file_system_survives_the_loss_and_the_rebuild_of_either_copy_of_its_disk()
    {
        using var daemon = new BlockDaemon();
        string[] files = [daemon["0.img"], daemon["1.img"]];
        using (FileStream made = File.Create(files[0])) { made.SetLength(64 << 20); }
        Assert.Equal(0, Command.Run("mkfs.ext4", ["-q", "-b", "4096", files[0]]).ExitStatus);
        File.Copy(files[0], files[1]);
        for (int i = 0; i < 2; i++) { Open(i); }
        daemon.Call("bdev_raid_create", """{"name":"R0","raid_level":"raid1","base_bdevs":["U0","U1"]}""");
        daemon.Call("vhost_create_blk_controller", """{"ctrlr":"vm1","dev_name":"R0"}""");
        var changes = new TaskCompletionSource<bool>(); // whether the guest was still at work
        bool hasBegun = false, isWorking = true;
        using Command guest = daemon.Boot(["vm1"], Guest.Trixie, """
            mkdir /tmp/d && mount -t ext4 /dev/vda /tmp/d || { dmesg | tail -n 5; exit 3; }
            for round in $(seq 60); do
              dd if=/dev/urandom of=/tmp/new bs=64k count=16 2>/dev/null
              cp /tmp/new /tmp/d/f$((round % 12)) && sync && echo 1 >/proc/sys/vm/drop_caches && cmp /tmp/new /tmp/d/f$((round % 12)) || exit 4
              [ $((round % 5)) != 0 ] || rm /tmp/d/f$((round % 12))
              echo round $round
            done
            cd /tmp/d && md5sum f* >/tmp/sums && cd / && umount /tmp/d && mount -t ext4 /dev/vda /tmp/d && cd /tmp/d && md5sum -c /tmp/sums && cd / && umount /tmp/d
            """, ["--module", "ext4"], onLine: line =>
        {
            isWorking = line != "round 60";
            if (line != "round 2" || hasBegun) { return; }
            hasBegun = true;
            Task.Run(ChangeLegs);
        });
        Finished run = guest.Wait(TimeSpan.FromMinutes(3));
        Assert.True(run.ExitStatus == 0, run.Output + run.Error);
        Assert.True(await changes.Task.WaitAsync(TimeSpan.FromMinutes(1)), "the guest was done before its disk was whole again");
        daemon.Stop();
        Assert.True(Command.Run("cmp", files).ExitStatus == 0, "the copies differ");
        Finished check = Command.Run("fsck.ext4", ["-f", "-n", files[1]]);
        Assert.True(check.ExitStatus == 0, check.Output);

        void Open(int i) => daemon.Call("bdev_uring_create", $$"""{"name":"U{{i}}","filename":"{{files[i]}}","block_size":4096}""");

        void ChangeLegs()
        {
            try
            {
                foreach (int leaving in (int[])[1, 0, 1, 0])
                {
                    daemon.Call("bdev_uring_delete", $$"""{"name":"U{{leaving}}"}""");
                    Command.Run("dd", ["if=/dev/urandom", $"of={files[leaving]}", "bs=1M", "count=64", "conv=notrunc"]);
                    Open(leaving);
                    daemon.Call("bdev_raid_add_base_bdev", $$"""{"base_bdev":"U{{leaving}}","raid_bdev":"R0"}""");
                    while (daemon.Call("bdev_raid_get_bdevs", """{"category":"all"}""").Contains("\"process\"", StringComparison.Ordinal)) { Thread.Sleep(5); }
                }
                changes.SetResult(isWorking);
            }
            catch (Exception e) { changes.SetException(e); }
        }
    }

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

    [Fact]
    public void A_volume_of_a_pool_that_a_client_has_made_is_mounted_and_is_there_after_kill_9()
    {
        using var daemon = new BlockDaemon();
        string file = daemon["disk.img"];
        using (FileStream made = File.Create(file)) { made.SetLength(256 << 20); }
        daemon.Make("bdev_aio_create", $$"""{"name":"F0","filename":"{{file}}","block_size":4096}""");
        daemon.Call("fs_create_pool", """{"bdev_name":"F0","pool_name":"p"}""");
        daemon.Call("fs_create_volume", """{"volume":"p/web"}""");
        daemon.Call("vhost_create_fs_controller", """{"ctrlr":"vm1","volume":"p/web"}""");
        daemon.SucceedsOn("vm1", Guest.Trixie, "echo kept >file && sync");
        daemon.KillAndServeAgain();
        daemon.Call("fs_open_pool", """{"bdev_name":"F0","pool_name":"p"}""");
        daemon.Call("vhost_create_fs_controller", """{"ctrlr":"vm2","volume":"p/web","options":{"readonly":true}}""");
        Assert.Contains("kept", daemon.SucceedsOn("vm2", Guest.Bookworm, "cat file; echo x >more || exit 0; exit 1"), StringComparison.Ordinal);
        daemon.Stop();
        Assert.Equal(0, Command.Run(Repository.Daemon, ["check", file]).ExitStatus);
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
