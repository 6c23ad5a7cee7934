using System.Globalization;
using Xunit;

namespace VhostFs.Guest.Tests;

/// <summary>Every kind of disk under what guests do with disks, as block device and as SCSI disk: fio with its checksums, and git on ext4 and xfs, checked by their own tools.</summary>
[Trait("Kind", "Guest")]
public class DiskWorkTests
{
    private const long DiskBytes = 320L << 20; // xfs wants 300 MiB
    private const long LegBytes = DiskBytes + (1 << 20);

    /// <summary>So many times everything on every disk; 0: as much as a run of all tests has time for.</summary>
    private static readonly int s_rounds = int.Parse(Environment.GetEnvironmentVariable("VHOSTFS_DISK_ROUNDS") ?? "0", CultureInfo.InvariantCulture);

    /// <summary>Eight disks of one guest. All the time one leg of each raid1 is taken away and comes back.</summary>
    [Fact]
    public async Task Fio_git_ext4_and_xfs_are_content_with_disks_of_memory_files_raid1_and_logical_volumes()
    {
        using var daemon = new BlockDaemon();
        Memory("M0", 512);
        Memory("M1", 4096);
        NewFile("U0", DiskBytes, 4096);
        NewFile("U1", DiskBytes, 512);
        NewFile("S", 4 * DiskBytes, 4096);
        daemon.Call("bdev_lvol_create_lvstore", """{"bdev_name":"S","lvs_name":"s"}""");
        foreach (string volume in (string[])["a", "b"]) { daemon.Call("bdev_lvol_create", $$"""{"lvs_name":"s","lvol_name":"{{volume}}","size_in_mib":{{DiskBytes >> 20}}}"""); }
        foreach (string leg in (string[])["A0", "A1", "B0", "B1"]) { NewFile(leg, LegBytes, 4096); }
        daemon.Call("bdev_raid_create", """{"name":"A","raid_level":"raid1","base_bdevs":["A0","A1"],"superblock":true}""");
        daemon.Call("bdev_raid_create", """{"name":"B","raid_level":"raid1","base_bdevs":["B0","B1"]}""");
        string[] disks = ["M0", "U0", "A", "s/a"], controllers = [.. disks.Select((_, i) => $"blk{i}")];
        for (int i = 0; i < disks.Length; i++) { daemon.Call("vhost_create_blk_controller", $$"""{"ctrlr":"{{controllers[i]}}","dev_name":"{{disks[i]}}"}"""); }
        daemon.Call("vhost_create_scsi_controller", """{"ctrlr":"scsi"}""");
        foreach (string bdev in (string[])["M1", "U1", "B", "s/b"]) { daemon.Call("vhost_scsi_controller_add_target", $$"""{"ctrlr":"scsi","scsi_target_num":-1,"bdev_name":"{{bdev}}"}"""); }

        using var isOver = new CancellationTokenSource();
        using Command guest = daemon.Boot(controllers, [.. Guest.Trixie, "--smp", "2", "--queues", "2", "--mem", "768M"], $$"""
            for target in 0 1 2 3; do scsi="$scsi $(ls /sys/bus/scsi/devices/0:0:$target:0/block)"; done
            sh /bin/disk-work {{(s_rounds == 0 ? 4 : 32)}} {{s_rounds}} vda vdb vdc vdd $scsi
            """,
            ["--scsi-socket", daemon["scsi"], "--module", "xfs", "--applications", "--timeout", $"{150 + (s_rounds * 300)}", "--file", $"{Path.Combine(Repository.Root, "tests", "guest", "disk-work")}:bin/disk-work"]);
        Task<int> changes = Task.Run(ChangeLegs);
        Finished run;
        try { run = guest.Wait(TimeSpan.FromMinutes(3 + (s_rounds * 5))); }
        finally { await isOver.CancelAsync(); }
        Assert.True(run.ExitStatus == 0, run.Output + run.Error);
        Assert.True(await changes >= 2, "the guest was done before each raid1 had lost a leg and had it back");
        daemon.Stop();
        AssertSame(1 << 20, "A0", "A1"); // behind what they say of themselves
        AssertSame(0, "B0", "B1");
        Finished check = Command.Run(Repository.Daemon, ["check", daemon["S"]]);
        Assert.True(check.ExitStatus == 0, check.Output);

        void Memory(string name, int blockSize) => daemon.Call("bdev_malloc_create", $$"""{"num_blocks":{{DiskBytes / blockSize}},"block_size":{{blockSize}},"name":"{{name}}"}""");

        void NewFile(string name, long bytes, int blockSize)
        {
            using (FileStream made = File.Create(daemon[name])) { made.SetLength(bytes); }
            Open(name, blockSize);
        }

        void Open(string name, int blockSize) => daemon.Call("bdev_uring_create", $$"""{"name":"{{name}}","filename":"{{daemon[name]}}","block_size":{{blockSize}}}""");

        // Of the first array a leg that comes back is known by its superblock, and gets what it has missed; of the second it is spoilt first, and gets everything.
        int ChangeLegs()
        {
            int done = 0;
            for (; !isOver.IsCancellationRequested; done++)
            {
                bool isKnown = done % 2 == 0;
                string leaving = $"{(isKnown ? "A" : "B")}{done / 2 % 2}";
                daemon.Call("bdev_uring_delete", $$"""{"name":"{{leaving}}"}""");
                Thread.Sleep(1000); // there should be something to miss
                if (!isKnown) { Command.Run("dd", ["if=/dev/urandom", $"of={daemon[leaving]}", "bs=1M", "count=32", "conv=notrunc"]); }
                Open(leaving, 4096);
                if (!isKnown) { daemon.Call("bdev_raid_add_base_bdev", $$"""{"base_bdev":"{{leaving}}","raid_bdev":"B"}"""); }
                while (daemon.Call("bdev_raid_get_bdevs", """{"category":"all"}""").Contains("\"process\"", StringComparison.Ordinal)) { Thread.Sleep(20); }
            }
            return done;
        }

        void AssertSame(long from, string one, string other) => Assert.True(Command.Run("cmp", [$"--ignore-initial={from}", daemon[one], daemon[other]]).ExitStatus == 0, $"{one} and {other} differ");
    }
}
