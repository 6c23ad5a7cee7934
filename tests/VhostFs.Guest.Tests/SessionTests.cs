using Xunit;

namespace VhostFs.Guest.Tests;

[Trait("Kind", "Guest")]
public class SessionTests
{
    [Fact]
    public void Mounting_and_unmounting_ten_times_leaks_nothing()
    {
        const string cycles = """
            for i in 1 2 3 4 5 6 7 8 9 10; do
                mount -t virtiofs $TAGS /mnt || exit 1
                echo $i >/mnt/file$i && ls -l /mnt >/dev/null || exit 2
                cd /; umount /mnt || exit 3
            done
            """;
        using var daemon = new Daemon();
        Guest.Succeeds(daemon, Guest.Trixie, cycles, "--no-mount");
        int descriptors = SettledDescriptorCount(daemon);
        long residentKib = daemon.ResidentKib;
        Guest.Succeeds(daemon, Guest.Trixie, cycles, "--no-mount");
        // One that leaks is ten by now; the runtime opens a few of its own when it first needs them.
        Assert.True(SettledDescriptorCount(daemon) < descriptors + 10, $"{daemon.DescriptorCount} descriptors instead of {descriptors}");
        Assert.True(daemon.ResidentKib < residentKib + 64 * 1024, $"{daemon.ResidentKib} KiB instead of {residentKib}");
        daemon.Stop();
        daemon.AssertClean();
    }

    [Theory]
    [InlineData("6.1", "7.2")]
    [InlineData("6.12", "10")]
    public void A_volume_is_served_on_packed_rings_and_a_reboot_begins_them_anew(string kernel, string qemu)
    {
        using var daemon = new Daemon();
        string output = Guest.Succeeds(daemon, ["--kernel", kernel, "--qemu", qemu, "--packed"], """
            if [ -e tree ]; then data-check verify 7 tree && data-check write 8 other && exit 0; exit 1; fi
            mkdir tree other && data-check write 7 tree && data-check verify 7 tree || exit 2
            sync; reboot -n -f
            sleep 60
            """, "--reboots");
        Assert.Equal(4, output.Split("problems=0").Length - 1);
        daemon.Stop();
        daemon.AssertClean();
    }

    [Fact]
    public void A_guest_reboots_without_unmounting()
    {
        using var daemon = new Daemon();
        string output = Guest.Succeeds(daemon, Guest.Trixie, """
            if [ -e marker ]; then echo "second boot finds: $(cat marker)"; exit 0; fi
            echo written before the reset >marker; sync
            exec 7<marker; rm -f forgotten; echo x >forgotten
            reboot -n -f
            sleep 60
            """, "--reboots");
        Assert.Contains("second boot finds: written before the reset", output, StringComparison.Ordinal);
        daemon.Stop();
        daemon.AssertClean();
    }

    [Fact]
    public void A_guest_that_is_killed_leaves_a_daemon_that_serves_the_next()
    {
        using var daemon = new Daemon();
        var written = new ManualResetEventSlim();
        using (Command guest = Guest.Start(daemon, Guest.Bookworm, "echo kept >file; sync; exec 7<file; rm file; echo kept >other; sync; echo ready; sleep 100",
            onLine: line => { if (line == "ready") { written.Set(); } }))
        {
            Assert.True(written.Wait(TimeSpan.FromMinutes(2)), guest.Error);
        }
        Assert.Equal("kept\n", Guest.Succeeds(daemon, Guest.Bookworm, "cat other"));
        daemon.Stop();
        daemon.AssertClean();
    }

    // The connection of a guest that has ended is closed a moment later.
    private static int SettledDescriptorCount(Daemon daemon)
    {
        int count = daemon.DescriptorCount;
        for (int calm = 0; calm < 5; calm++)
        {
            Thread.Sleep(200);
            int next = daemon.DescriptorCount;
            if (next != count) { calm = -1; }
            count = next;
        }
        return count;
    }
}
