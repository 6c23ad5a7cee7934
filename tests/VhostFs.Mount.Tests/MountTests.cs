using System.Globalization;
using VhostFs.Campaigns;
using Xunit;

namespace VhostFs.Mount.Tests;

public sealed class MountTests
{
    private static readonly string s_helper = Path.Combine(Path.GetDirectoryName(Repository.Daemon)!, "mount.vhostfs");

    [MountFact]
    public void Posix_checks_pass_on_the_mount() => RunPosixChecks("suid,dev");

    [MountFact]
    public void Posix_checks_pass_on_a_mount_that_caches_all_it_can() => RunPosixChecks("suid,dev,cache=always");

    [MountFact]
    public void Umount_ends_the_process_and_everything_is_durable()
    {
        using MountedVolume volume = new MountedVolume().Start();
        File.WriteAllText(Path.Combine(volume.MountPoint, "file"), "kept");
        volume.Unmount();
        volume.ExpectClean();
        volume.Start();
        Assert.Equal("kept", File.ReadAllText(Path.Combine(volume.MountPoint, "file")));
        volume.Stop();
        volume.ExpectClean();
    }

    [MountFact]
    public void Sigterm_unmounts_even_while_a_file_is_open()
    {
        using MountedVolume volume = new MountedVolume().Start();
        using (FileStream file = File.Create(Path.Combine(volume.MountPoint, "open"), 1))
        {
            file.Write("written"u8);
            volume.Stop();
            Assert.DoesNotContain(volume.MountPoint, File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
            Assert.ThrowsAny<IOException>(() => file.Write("lost"u8));
        }
        volume.ExpectClean();
        volume.Start();
        Assert.Equal("written", File.ReadAllText(Path.Combine(volume.MountPoint, "open")));
    }

    [MountFact]
    public void With_write_back_caching_nothing_is_lost_at_sigterm()
    {
        using MountedVolume volume = new MountedVolume(options: "writeback,cache=always").Start();
        byte[] bytes = new byte[3_000_001];
        new Random(7).NextBytes(bytes);
        using (FileStream file = File.Create(Path.Combine(volume.MountPoint, "dirty"), 1))
        {
            file.Write(bytes);
            volume.Stop();
        }
        volume.ExpectClean();
        volume.Start();
        Assert.Equal(bytes, File.ReadAllBytes(Path.Combine(volume.MountPoint, "dirty")));
    }

    [MountFact]
    public void A_pool_in_use_is_refused_with_the_process_that_uses_it()
    {
        using MountedVolume volume = new MountedVolume().Start();
        string second = Path.Combine(volume.Folder, "second");
        Directory.CreateDirectory(second);
        Finished refused = Command.Run(Repository.Daemon, ["mount", volume.Image, second]);
        Assert.Equal(1, refused.ExitStatus);
        Assert.Contains(string.Create(CultureInfo.InvariantCulture, $"is in use by process {volume.ProcessId}"), refused.Error, StringComparison.Ordinal);
    }

    [MountFact]
    public void A_mount_point_that_is_none_is_refused()
    {
        using var volume = new MountedVolume();
        Finished refused = Command.Run(Repository.Daemon, ["mount", volume.Image, Path.Combine(volume.Folder, "absent")]);
        Assert.Equal(1, refused.ExitStatus);
        Assert.Contains("does not exist; make the directory first", refused.Error, StringComparison.Ordinal);
        Assert.Contains("is not a directory", Command.Run(Repository.Daemon, ["mount", volume.Image, volume.Image]).Error, StringComparison.Ordinal);
    }

    [MountFact]
    public void A_dead_mount_is_named_as_what_it_is()
    {
        using MountedVolume volume = new MountedVolume().Start();
        volume.Kill();
        Finished refused = Command.Run(Repository.Daemon, ["mount", volume.Image, volume.MountPoint]);
        Assert.Contains("is a mount whose server is dead", refused.Error, StringComparison.Ordinal);
        volume.DetachDeadMount();
        volume.ExpectClean();
    }

    [MountFact]
    public void Options_show_in_the_mount_table()
    {
        using MountedVolume volume = new MountedVolume(options: "ro,noexec,noatime,fsname=a\\,b,subtype=kind,max_read=65536").Start();
        string line = File.ReadLines("/proc/self/mounts").Single(l => l.Contains(volume.MountPoint, StringComparison.Ordinal));
        Assert.StartsWith($"a,b {volume.MountPoint} fuse.kind ro,nosuid,nodev,noexec,noatime,", line, StringComparison.Ordinal);
        Assert.Contains("default_permissions,allow_other,max_read=65536", line, StringComparison.Ordinal);
        Assert.ThrowsAny<IOException>(() => File.WriteAllText(Path.Combine(volume.MountPoint, "file"), ""));
    }

    [MountFact]
    public void An_unknown_option_is_refused()
    {
        using var volume = new MountedVolume();
        Finished refused = Command.Run(Repository.Daemon, ["mount", volume.Image, volume.MountPoint, "-o", "ro,alow_other"]);
        Assert.Equal(2, refused.ExitStatus);
        Assert.Contains("-o alow_other: unknown option; did you mean allow_other?", refused.Error, StringComparison.Ordinal);
    }

    [MountFact]
    public void One_of_several_volumes_is_named_below_the_image()
    {
        using var volume = new MountedVolume();
        Assert.Equal(0, Command.Run(Repository.Daemon, ["volume", "create", volume.Image, "db"]).ExitStatus);
        Finished refused = Command.Run(Repository.Daemon, ["mount", volume.Image, volume.MountPoint]);
        Assert.Contains("the pool has the volumes", refused.Error, StringComparison.Ordinal);
        var mounted = new ManualResetEventSlim();
        using var process = new Command(Repository.Daemon, ["mount", $"{volume.Image}/db", volume.MountPoint], onErrorLine: line =>
        {
            if (line.Contains("mounted volume 'db'", StringComparison.Ordinal)) { mounted.Set(); }
        });
        Assert.True(mounted.Wait(TimeSpan.FromSeconds(60)), process.Error);
        process.Terminate();
        Assert.Equal(0, process.Wait(TimeSpan.FromSeconds(60)).ExitStatus);
    }

    [MountFact]
    public void In_the_background_it_returns_when_the_volume_is_mounted()
    {
        using var volume = new MountedVolume();
        Finished mounted = Command.Run(s_helper, [volume.Image, volume.MountPoint, "-n", "-o", "rw,noatime,nofail"]);
        Assert.True(mounted.ExitStatus == 0, mounted.Error);
        File.WriteAllText(Path.Combine(volume.MountPoint, "file"), "kept");
        Finished again = Command.Run(s_helper, [volume.Image, volume.MountPoint]);
        Assert.Equal(1, again.ExitStatus);
        Assert.Contains("is in use by process", again.Error, StringComparison.Ordinal);
        Assert.Equal(0, Command.Run("/bin/umount", [volume.MountPoint]).ExitStatus);
        ExpectCleanSoon(volume);
    }

    [MountFact]
    public void Mounts_follow_each_other_as_fast_as_umount_returns()
    {
        using var volume = new MountedVolume();
        for (int i = 0; i < 10; i++)
        {
            Finished mounted = Command.Run(s_helper, [volume.Image, volume.MountPoint]);
            Assert.Equal((0, "", ""), (mounted.ExitStatus, mounted.Output, mounted.Error));
            for (int k = 0; k < 100; k++) { File.WriteAllText(Path.Combine(volume.MountPoint, $"file{i}-{k}"), new string('x', 10_000)); }
            Assert.Equal(0, Command.Run("/bin/umount", [volume.MountPoint]).ExitStatus);
        }
        ExpectCleanSoon(volume);
    }

    [MountFact]
    public void Mount_8_has_its_own_defaults_and_remounts()
    {
        using var volume = new MountedVolume();
        Finished mounted = Command.Run(s_helper, [volume.Image, volume.MountPoint, "-o", "rw,noexec"]);
        Assert.True(mounted.ExitStatus == 0, mounted.Error);
        Assert.Contains($"{volume.MountPoint} fuse.vhostfs rw,noexec,relatime,", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
        string file = Path.Combine(volume.MountPoint, "file");
        File.WriteAllText(file, "before");
        Finished remounted = Command.Run(s_helper, [volume.Image, volume.MountPoint, "-o", "remount,ro,nosuid,relatime,user_id=0,group_id=0,default_permissions,allow_other"]);
        Assert.True(remounted.ExitStatus == 0, remounted.Error);
        Assert.Contains($"{volume.MountPoint} fuse.vhostfs ro,nosuid,relatime,", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
        Assert.ThrowsAny<IOException>(() => File.WriteAllText(file, "refused"));
        Assert.Equal(0, Command.Run(s_helper, [volume.Image, volume.MountPoint, "-o", "remount,rw"]).ExitStatus);
        File.WriteAllText(file, "after");
        Assert.Equal(0, Command.Run("/bin/umount", [volume.MountPoint]).ExitStatus);
        Finished nothing = Command.Run(s_helper, [volume.Image, volume.MountPoint, "-o", "remount,ro"]);
        Assert.Equal(1, nothing.ExitStatus);
        Assert.Contains("nothing is mounted on", nothing.Error, StringComparison.Ordinal);
        ExpectCleanSoon(volume);
    }

    [UserMountFact]
    public void A_user_mounts_through_fusermount3_and_keeps_others_out()
    {
        using var volume = new MountedVolume();
        foreach (string path in (string[])[volume.Folder, volume.Image, volume.MountPoint]) { Assert.Equal(0, Command.Run("/bin/chown", ["65534:65534", path]).ExitStatus); }
        var mounted = new ManualResetEventSlim();
        using var process = new Command("setpriv", [.. Needs.AsUser, Repository.Daemon, "mount", volume.Image, volume.MountPoint, "-o", "noatime,fsname=with\\,comma"], onErrorLine: line =>
        {
            if (line.Contains("mounted volume", StringComparison.Ordinal)) { mounted.Set(); }
        });
        Assert.True(mounted.Wait(TimeSpan.FromSeconds(60)), process.Error);
        Assert.Contains($"with,comma {volume.MountPoint} fuse.vhostfs rw,nosuid,nodev,noatime,user_id=65534", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
        // The root directory of a new volume is root's; a user of his own pool cannot write there, but read.
        Finished listed = Command.Run("setpriv", [.. Needs.AsUser, "/bin/ls", "-la", volume.MountPoint]);
        Assert.True(listed.ExitStatus == 0, listed.Error);
        Assert.Throws<UnauthorizedAccessException>(() => Directory.GetFiles(volume.MountPoint)); // not even root, without allow_other
        Finished unmounted = Command.Run("setpriv", [.. Needs.AsUser, "fusermount3", "-u", volume.MountPoint]);
        Assert.True(unmounted.ExitStatus == 0, unmounted.Error);
        Assert.Equal(0, process.Wait(TimeSpan.FromSeconds(60)).ExitStatus);
        volume.ExpectClean();
    }

    // A process in the background ends a moment after umount.
    private static void ExpectCleanSoon(MountedVolume volume)
    {
        for (int tries = 0; tries < 300 && Command.Run(Repository.Daemon, ["check", volume.Image]).ExitStatus == 2; tries++) { Thread.Sleep(100); }
        volume.ExpectClean();
    }

    private static void RunPosixChecks(string options)
    {
        using MountedVolume volume = new MountedVolume(options: options).Start();
        RunPosixChecks(volume);
    }

    internal static void RunPosixChecks(MountedVolume volume)
    {
        Finished run = Command.Run(Path.Combine(Repository.GuestPrograms, "posix-checks"), [volume.MountPoint]);
        string[] lines = run.Output.Split('\n');
        IEnumerable<string> failures = lines.Where(line => line.StartsWith("FAIL ", StringComparison.Ordinal));
        Assert.True(run.ExitStatus == 0, $"exit status {run.ExitStatus}; {lines.LastOrDefault(line => line.StartsWith("RESULT", StringComparison.Ordinal))}\n{string.Join('\n', failures)}\n{run.Error}\n{volume.Log}");
        // What is skipped is known: who asks for trusted.* (not told with idmapped mounts).
        Assert.Equal(1, lines.Count(line => line.StartsWith("skip ", StringComparison.Ordinal)));
        volume.Unmount();
        volume.ExpectClean();
    }
}
