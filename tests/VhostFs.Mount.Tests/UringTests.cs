using System.Globalization;
using Xunit;

namespace VhostFs.Mount.Tests;

/// <summary>Requests that come through io_uring, with the kernel of this machine.</summary>
public sealed class UringTests
{
    private const string Begun = "requests come through io_uring";

    [UringFact]
    public void Posix_checks_pass_over_io_uring()
    {
        using MountedVolume volume = Mount("suid,dev,io_uring");
        MountTests.RunPosixChecks(volume);
    }

    [UringFact]
    public void Far_more_callers_than_entries_all_get_their_own_answers()
    {
        using MountedVolume volume = Mount("io_uring");
        Parallel.For(0, 64, new ParallelOptions { MaxDegreeOfParallelism = 64 }, caller =>
        {
            byte[] written = new byte[(caller * 9973) + 1];
            new Random(caller).NextBytes(written);
            for (int round = 0; round < 8; round++)
            {
                string path = Path.Combine(volume.MountPoint, string.Create(CultureInfo.InvariantCulture, $"{caller}-{round}"));
                File.WriteAllBytes(path, written);
                Assert.Equal(written.Length, new FileInfo(path).Length);
                Assert.Equal(written, File.ReadAllBytes(path));
                if (round > 0) { File.Delete(path); }
            }
        });
        Assert.Equal(64, Directory.GetFiles(volume.MountPoint).Length);
        volume.Unmount();
        volume.ExpectClean();
    }

    [UringFact]
    public void Large_direct_transfers_stay_whole()
    {
        using MountedVolume volume = Mount("io_uring");
        string source = Path.Combine(volume.Folder, "source"), copy = Path.Combine(volume.MountPoint, "copy");
        byte[] bytes = new byte[96 << 20];
        new Random(1).NextBytes(bytes);
        File.WriteAllBytes(source, bytes);
        string[] jobs = [.. Enumerable.Range(0, 6).Select(job => string.Create(CultureInfo.InvariantCulture,
            $"dd if={source} of={copy} bs=1M count=16 skip={16 * job} seek={16 * job} conv=notrunc oflag=direct &"))];
        Finished run = Command.Run("/bin/sh", ["-c", string.Join('\n', jobs) + "\nwait"]);
        Assert.True(run.ExitStatus == 0, run.Error);
        Finished compared = Command.Run("/bin/sh", ["-c", $"dd if={copy} bs=1M iflag=direct | cmp - {source}"]);
        Assert.True(compared.ExitStatus == 0, compared.Output + compared.Error);
        volume.Unmount();
        volume.ExpectClean();
    }

    [UringFact]
    public void An_idle_mount_keeps_little_in_memory()
    {
        using MountedVolume volume = Mount("io_uring");
        File.WriteAllText(Path.Combine(volume.MountPoint, "file"), "small");
        string[] lines = File.ReadAllLines(string.Create(CultureInfo.InvariantCulture, $"/proc/{volume.ProcessId}/smaps"));
        long reservedKiB = 0, residentKiB = 0, size = 0, resident = 0;
        foreach (string[] fields in lines.Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries)))
        {
            if (fields[0] == "Size:") { size = long.Parse(fields[1], CultureInfo.InvariantCulture); }
            if (fields[0] == "Rss:") { resident = long.Parse(fields[1], CultureInfo.InvariantCulture); }
            if (fields[0] != "VmFlags:" || !fields.Contains("nr") || !fields.Contains("nh")) { continue; } // reserved, and no huge pages: the entries
            reservedKiB += size;
            residentKiB += resident;
        }
        Assert.InRange(reservedKiB, 2 * 1024 * Environment.ProcessorCount, long.MaxValue);
        Assert.InRange(residentKiB, 4, 128);
        volume.Stop();
    }

    [UringFact]
    public void Sigterm_ends_it_while_a_file_is_open()
    {
        using MountedVolume volume = Mount(null);
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

    [UringFact]
    public void An_aborted_connection_ends_it_under_load()
    {
        using MountedVolume volume = Mount("io_uring");
        using Command writers = StartWriters(volume);
        Finished aborted = Command.Run("/bin/umount", ["-f", volume.MountPoint]); // says busy, and aborts
        Assert.NotEqual(0, aborted.ExitStatus);
        volume.ExpectEnd();
        Assert.NotEqual(0, writers.Wait(TimeSpan.FromSeconds(60)).ExitStatus);
        volume.DetachDeadMount();
        volume.ExpectClean();
    }

    [UringFact]
    public void Kill_9_under_load_leaves_nobody_waiting()
    {
        using MountedVolume volume = Mount(null);
        using Command writers = StartWriters(volume);
        volume.Kill();
        Assert.NotEqual(0, writers.Wait(TimeSpan.FromSeconds(60)).ExitStatus);
        volume.DetachDeadMount();
        volume.Start();
        volume.Unmount();
        volume.ExpectClean();
    }

    [UringFact]
    public void It_is_chosen_when_the_kernel_offers_it()
    {
        using (MountedVolume chosen = Mount(null)) { chosen.Stop(); }
        using (var on = new UringSwitch(isOn: true))
        {
            using MountedVolume refused = new MountedVolume(options: "no_io_uring").Start();
            File.WriteAllText(Path.Combine(refused.MountPoint, "file"), "written");
            refused.Stop();
            Assert.DoesNotContain(Begun, refused.Log, StringComparison.Ordinal);
        }
        using var off = new UringSwitch(isOn: false);
        using MountedVolume other = new MountedVolume().Start();
        File.WriteAllText(Path.Combine(other.MountPoint, "file"), "written");
        other.Stop();
        Assert.DoesNotContain(Begun, other.Log, StringComparison.Ordinal);
    }

    [UringFact]
    public void What_the_kernel_does_not_offer_cannot_be_asked_for()
    {
        using var volume = new MountedVolume();
        using var off = new UringSwitch(isOn: false);
        Finished refused = Command.Run(Repository.Daemon, ["mount", volume.Image, volume.MountPoint, "-o", "io_uring"]);
        Assert.Equal(1, refused.ExitStatus);
        Assert.Contains("FUSE over io_uring is switched off; 'echo Y > ", refused.Error, StringComparison.Ordinal);
    }

    /// <summary>The switch matters while INIT is under way, and no longer. Without options a second start may take another way.</summary>
    private static MountedVolume Mount(string? options)
    {
        var volume = new MountedVolume(options: options);
        using var on = new UringSwitch(isOn: true);
        volume.Start();
        Assert.True(volume.IsAlive);
        for (int tries = 0; tries < 100 && !volume.Log.Contains(Begun, StringComparison.Ordinal); tries++) { Thread.Sleep(50); }
        Assert.Contains(Begun, volume.Log, StringComparison.Ordinal);
        return volume;
    }

    private static Command StartWriters(MountedVolume volume)
    {
        const string script = "for i in 1 2 3 4 5 6 7 8; do (while echo $i > $0/$i && cat $0/$i; do :; done) & done; wait; exit 1";
        using var started = new ManualResetEventSlim();
        var writers = new Command("/bin/sh", ["-c", script, volume.MountPoint], onOutputLine: _ => { try { started.Set(); } catch (ObjectDisposedException) { } });
        Assert.True(started.Wait(TimeSpan.FromSeconds(60)));
        return writers;
    }
}
