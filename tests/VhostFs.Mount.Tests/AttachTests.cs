using System.Globalization;
using System.Net.Sockets;
using Xunit;

namespace VhostFs.Mount.Tests;

/// <summary>Mounts that the running daemon serves.</summary>
public sealed class AttachTests
{
    [MountFact]
    public void Two_mounts_through_the_daemon_show_one_file_system()
    {
        using var served = new ServedVolume();
        (Command Holder, string Path) first = served.Mount("sharing=shared"), second = served.Mount("sharing=shared");
        File.WriteAllText(Path.Combine(first.Path, "file"), "from the first");
        Assert.Equal("from the first", File.ReadAllText(Path.Combine(second.Path, "file")));
        File.AppendAllText(Path.Combine(second.Path, "file"), ", and the second");
        Assert.Equal("from the first, and the second", File.ReadAllText(Path.Combine(first.Path, "file")));
        ServedVolume.Unmount(first);
        ServedVolume.Unmount(second);
        served.StopDaemon();
        served.ExpectClean();
    }

    [MountFact]
    public void The_daemon_is_found_by_the_pool_it_has()
    {
        using var image = new MountedVolume();
        var listening = new ManualResetEventSlim();
        using var daemon = new Command(Repository.Daemon, ["serve", "--volume", image.Image, "--socket", Path.Combine(image.Folder, "s"), "--log-level", "debug"], onErrorLine: line =>
        {
            if (line.Contains("[rpc] listening", StringComparison.Ordinal)) { listening.Set(); }
        });
        Assert.True(listening.Wait(TimeSpan.FromSeconds(60)), daemon.Error);
        image.Start();
        Assert.Contains(string.Create(CultureInfo.InvariantCulture, $"mounted volume 'web', served by process {daemon.Id}"), image.Log, StringComparison.Ordinal);
        image.Stop();
        Assert.False(ServedVolume.IsMounted(image.MountPoint));
    }

    [MountFact]
    public void Sigterm_to_the_holder_unmounts()
    {
        using var served = new ServedVolume();
        (Command holder, string path) = served.Mount();
        File.WriteAllText(Path.Combine(path, "file"), "kept");
        holder.Terminate();
        Finished ended = holder.Wait(TimeSpan.FromSeconds(60));
        Assert.True(ended.ExitStatus == 0, ended.Error);
        Assert.False(ServedVolume.IsMounted(path));
        Assert.Equal("kept", File.ReadAllText(Path.Combine(served.Mount().Path, "file")));
    }

    [MountFact]
    public void The_mount_outlives_its_holder()
    {
        using var served = new ServedVolume();
        (Command holder, string path) = served.Mount();
        holder.Kill();
        holder.Wait(TimeSpan.FromSeconds(60));
        File.WriteAllText(Path.Combine(path, "file"), "still served");
        Assert.Equal("still served", File.ReadAllText(Path.Combine(path, "file")));
        Assert.Equal(0, Command.Run("/bin/umount", ["-l", path]).ExitStatus);
        served.StopDaemon();
        served.ExpectClean();
    }

    [MountFact]
    public void A_volume_that_a_guest_has_to_itself_is_refused()
    {
        using var served = new ServedVolume("--sharing", "exclusive");
        using (var guest = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            guest.Connect(new UnixDomainSocketEndPoint(served.Socket));
            Directory.CreateDirectory(Path.Combine(served.Folder, "refused"));
            Finished refused = default!;
            // The daemon takes the connection a moment after it was made.
            for (int tries = 0; tries < 20; tries++)
            {
                refused = Command.Run(Repository.Daemon, served.MountArguments(Path.Combine(served.Folder, "refused")));
                if (refused.ExitStatus != 0) { break; }
            }
            Assert.Equal(1, refused.ExitStatus);
            Assert.Contains("volume 'disk' is in use by export disk, which has it to itself", refused.Error, StringComparison.Ordinal);
            Assert.False(ServedVolume.IsMounted(Path.Combine(served.Folder, "refused")));
        }
    }

    [MountFact]
    public void Programs_go_on_after_kill_9_of_the_daemon()
    {
        using var served = new ServedVolume();
        (Command Holder, string Path) mount = served.Mount();
        // A process of its own: one that has files open on the mount cannot start the daemon, since the child's exec closes them and that asks the daemon.
        const string script = "cd $0; exec 3>open; printf before >&3; i=0; while [ $i -lt 600 ]; do echo $i > file$i || exit 1; i=$((i+1)); done; printf ' and after' >&3";
        using var writer = new Command("/bin/sh", ["-c", script, mount.Path]);
        for (int kills = 0; kills < 3; kills++)
        {
            int atLeast = Directory.GetFiles(mount.Path).Length;
            served.KillDaemon();
            served.Start();
            for (int tries = 0; tries < 600 && !writer.HasExited && Directory.GetFiles(mount.Path).Length <= atLeast; tries++) { Thread.Sleep(50); }
        }
        Finished written = writer.Wait(TimeSpan.FromMinutes(3));
        Assert.True(written.ExitStatus == 0, $"{written.Error}{mount.Holder.Error}{served.Log}");
        Assert.Equal("before and after", File.ReadAllText(Path.Combine(mount.Path, "open")));
        for (int i = 0; i < 600; i++) { Assert.Equal($"{i}\n", File.ReadAllText(Path.Combine(mount.Path, $"file{i}"))); }
        ServedVolume.Unmount(mount);
        served.StopDaemon();
        served.ExpectClean();
    }

    [MountTheory]
    [InlineData(true)]
    [InlineData(false)]
    public void An_open_file_without_a_name_outlives_the_daemon(bool orderly)
    {
        using var served = new ServedVolume();
        (Command Holder, string Path) mount = served.Mount();
        var ready = new ManualResetEventSlim();
        string go = Path.Combine(served.Folder, "go");
        const string script = "cd $0; exec 3>file 4<file; printf before >&3; rm file; echo ready; until [ -e $1 ]; do sleep 0.1; done; printf ' and after' >&3; cat <&4";
        using var program = new Command("/bin/sh", ["-c", script, mount.Path, go], onOutputLine: _ => ready.Set());
        Assert.True(ready.Wait(TimeSpan.FromSeconds(60)), program.Error);
        if (orderly) { served.StopDaemon(); }
        else { served.KillDaemon(); }
        served.Start();
        File.WriteAllText(go, "");
        Finished ended = program.Wait(TimeSpan.FromMinutes(1));
        Assert.True(ended.ExitStatus == 0, ended.Error);
        Assert.Equal("ready\nbefore and after", ended.Output.TrimEnd());
        ServedVolume.Unmount(mount);
        served.StopDaemon();
        served.ExpectClean();
    }

    [MountFact]
    public void When_no_daemon_comes_back_the_mount_is_taken_away()
    {
        using var served = new ServedVolume();
        (Command holder, string path) = served.Mount("reconnect=1");
        served.StopDaemon();
        Finished ended = holder.Wait(TimeSpan.FromSeconds(60));
        Assert.Equal(1, ended.ExitStatus);
        Assert.Contains("is taken away: nobody serves it any more", ended.Error, StringComparison.Ordinal);
        Assert.False(ServedVolume.IsMounted(path));
        served.ExpectClean();
    }
}
