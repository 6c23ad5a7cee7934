using Xunit;

namespace VhostFs.Mount.Tests;

/// <summary>What the options of a mount do to those who use it, and what the kernel does with the mount besides system calls on files.</summary>
public sealed class MountOptionTests
{
    private const string Nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";

    [MountFact]
    public void Id_maps_pipes_handles_watching_and_execution_work() => RunMountChecks(new MountedVolume(options: "suid").Start());

    [UringFact]
    public void So_they_do_over_io_uring()
    {
        using var on = new UringSwitch(isOn: true);
        RunMountChecks(new MountedVolume(options: "suid,io_uring").Start());
    }

    [MountFact]
    public void Read_only_means_that_nothing_changes()
    {
        using MountedVolume volume = new MountedVolume().Start();
        File.WriteAllText(Path.Combine(volume.MountPoint, "file"), "kept");
        volume.Stop();
        using MountedVolume readOnly = volume.With("ro").Start();
        Assert.Equal("kept", File.ReadAllText(Path.Combine(volume.MountPoint, "file")));
        foreach (string change in (string[])["touch file", "rm file", "mkdir d", "chmod 600 file", "ln file other"])
        {
            Finished refused = Shell(volume, change);
            Assert.NotEqual(0, refused.ExitStatus);
            Assert.Contains("Read-only file system", refused.Error, StringComparison.Ordinal);
        }
    }

    [MountFact]
    public void Noexec_nosuid_and_nodev_hold_and_their_opposites_do_not()
    {
        using MountedVolume volume = new MountedVolume(options: "noexec").Start();
        Expect(volume, "cp /usr/bin/id id && chmod 4755 id && mknod null c 1 3 && chmod 666 null");
        Assert.Equal(126, Shell(volume, "./id").ExitStatus);
        volume.Stop();
        using MountedVolume careful = volume.With("rw").Start(); // nosuid,nodev
        Assert.Equal("65534", Expect(volume, $"{Nobody} ./id -u"));
        Assert.Contains("Permission denied", Shell(volume, "echo x > null").Error, StringComparison.Ordinal);
        careful.Stop();
        using MountedVolume trusting = volume.With("suid,dev").Start();
        Assert.Equal("0", Expect(volume, $"{Nobody} ./id -u"));
        Expect(volume, "echo x > null");
    }

    [MountFact]
    public void Permissions_are_checked_and_others_enter_or_not()
    {
        using MountedVolume volume = new MountedVolume().Start();
        Expect(volume, "echo open > open && echo closed > closed && chmod 600 closed && mkdir -m 1777 tmp && echo x > tmp/x");
        Assert.Equal("open", Expect(volume, $"{Nobody} cat open"));
        Assert.Contains("Permission denied", Shell(volume, $"{Nobody} cat closed").Error, StringComparison.Ordinal);
        Assert.Contains("Operation not permitted", Shell(volume, $"{Nobody} rm -f tmp/x").Error, StringComparison.Ordinal); // sticky
        volume.Stop();
        using MountedVolume own = volume.With("noallow_other").Start();
        Assert.Equal("open", Expect(volume, "cat open"));
        Assert.Contains("Permission denied", Command.Run("/bin/sh", ["-c", $"{Nobody} cat {volume.MountPoint}/open"]).Error, StringComparison.Ordinal);
    }

    [MountFact]
    public void Sync_shows_and_writes_go_through()
    {
        using MountedVolume volume = new MountedVolume(options: "sync,dirsync").Start();
        string line = File.ReadLines("/proc/self/mounts").Single(l => l.Contains(volume.MountPoint, StringComparison.Ordinal));
        Assert.Contains(" rw,sync,dirsync,nosuid,nodev,", line, StringComparison.Ordinal);
        Expect(volume, "echo written > file");
        volume.Kill();
        volume.DetachDeadMount();
        volume.Start();
        Assert.Equal("written", Expect(volume, "cat file"));
    }

    [MountFact]
    public void Fstab_mounts_through_the_helper()
    {
        using var volume = new MountedVolume();
        string helper = Path.Combine(Path.GetDirectoryName(Repository.Daemon)!, "mount.vhostfs");
        // In a namespace of its own, so that the helper can lie where mount(8) looks for it.
        Finished run = Command.Run("unshare", ["--mount", "/bin/sh", "-ec", $"""
            mount -t tmpfs none /usr/sbin
            ln -s {helper} /usr/sbin/mount.vhostfs
            echo '{volume.Image} {volume.MountPoint} vhostfs noatime,nofail,x-systemd.automount 0 0' > {volume.Folder}/fstab
            mount -T {volume.Folder}/fstab {volume.MountPoint}
            echo kept > {volume.MountPoint}/file
            grep {volume.MountPoint} /proc/self/mounts
            umount {volume.MountPoint}
            """]);
        Assert.True(run.ExitStatus == 0, run.Output + run.Error);
        Assert.Contains(" fuse.vhostfs rw,noatime,", run.Output, StringComparison.Ordinal);
        for (int tries = 0; tries < 300 && Command.Run(Repository.Daemon, ["check", volume.Image]).ExitStatus == 2; tries++) { Thread.Sleep(100); }
        volume.ExpectClean();
    }

    [OwnDeviceFact]
    public void A_user_without_rights_mounts_where_dev_fuse_is_open_to_all()
    {
        using var volume = new MountedVolume();
        // /dev/fuse is root's on some machines: in a namespace of its own there is another node of it.
        Finished run = Command.Run("unshare", ["--mount", "/bin/sh", "-ec", $"""
            node=$(mktemp -d /var/tmp/fuse-XXXXXX); trap 'umount -l /dev/fuse; rm -r $node' EXIT
            mknod $node/fuse c 10 229; chmod 666 $node/fuse; mount --bind $node/fuse /dev/fuse
            chown 65534:65534 {volume.Folder} {volume.Image} {volume.MountPoint}
            {Nobody} {Repository.Daemon} mount {volume.Image} {volume.MountPoint} -o noexec 2> {volume.Folder}/log & server=$!
            for try in $(seq 300); do grep -q mounted {volume.Folder}/log && break; sleep 0.1; done
            grep {volume.MountPoint} /proc/self/mounts
            {Nobody} ls {volume.MountPoint} && echo own
            ls {volume.MountPoint} 2> /dev/null || echo root is kept out
            {Nobody} fusermount3 -u {volume.MountPoint}
            wait $server && echo ended
            """]);
        Assert.True(run.ExitStatus == 0, run.Output + run.Error);
        Assert.Contains(" fuse.vhostfs rw,nosuid,nodev,noexec,relatime,user_id=65534,group_id=65534,default_permissions ", run.Output, StringComparison.Ordinal);
        Assert.EndsWith("own\nroot is kept out\nended\n", run.Output, StringComparison.Ordinal);
        volume.ExpectClean();
    }

    private static void RunMountChecks(MountedVolume mounted)
    {
        using MountedVolume volume = mounted;
        Finished run = Command.Run(Path.Combine(Repository.GuestPrograms, "mount-checks"), [volume.MountPoint]);
        Assert.True(run.ExitStatus == 0, $"{run.Output}{run.Error}\n{volume.Log}");
        Assert.Contains("fail=0", run.Output, StringComparison.Ordinal);
        volume.Unmount();
        volume.ExpectClean();
    }

    private static Finished Shell(MountedVolume volume, string script) => Command.Run("/bin/sh", ["-c", $"cd {volume.MountPoint} && {script}"]);

    private static string Expect(MountedVolume volume, string script)
    {
        Finished run = Shell(volume, script);
        Assert.True(run.ExitStatus == 0, $"{script}: {run.Error}\n{volume.Log}");
        return run.Output.Trim();
    }
}
