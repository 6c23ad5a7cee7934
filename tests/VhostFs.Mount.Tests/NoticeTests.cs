using System.Text;
using Xunit;

namespace VhostFs.Mount.Tests;

/// <summary>A mount whose kernel keeps everything for an hour sees what others change, since it is told.</summary>
public sealed class NoticeTests
{
    private const string Keeping = "sharing=shared,cache=always,attr_timeout=3600,entry_timeout=3600,negative_timeout=3600";

    [MountFact]
    public void A_kernel_that_keeps_everything_is_told_what_others_change()
    {
        using var served = new ServedVolume();
        (Command Holder, string Path) first = served.Mount(Keeping), second = served.Mount(Keeping);
        CheckChanges(first.Path, second.Path);
        ServedVolume.Unmount(first);
        ServedVolume.Unmount(second);
        served.StopDaemon();
        served.ExpectClean();
    }

    [MountFact]
    public void And_after_a_restart_of_the_daemon()
    {
        using var served = new ServedVolume();
        (Command Holder, string Path) first = served.Mount(Keeping), second = served.Mount(Keeping);
        string file = Path.Combine(second.Path, "before");
        File.WriteAllText(Path.Combine(first.Path, "before"), "as it was");
        See(() => File.Exists(file) && File.ReadAllText(file) == "as it was");
        served.KillDaemon();
        served.Start();
        File.WriteAllText(Path.Combine(first.Path, "before"), "after");
        See(() => File.ReadAllText(file) == "after");
        CheckChanges(first.Path, second.Path);
        ServedVolume.Unmount(first);
        ServedVolume.Unmount(second);
        served.StopDaemon();
        served.ExpectClean();
    }

    [MountFact]
    public void Many_changes_at_once_all_arrive()
    {
        const int files = 3000;
        using var served = new ServedVolume();
        (Command Holder, string Path) first = served.Mount(Keeping), second = served.Mount(Keeping);
        for (int i = 0; i < files; i++) { File.WriteAllText(Path.Combine(first.Path, $"f{i}"), "old"); }
        See(() => Directory.GetFiles(second.Path).Length == files);
        for (int i = 0; i < files; i++) { Assert.Equal("old", File.ReadAllText(Path.Combine(second.Path, $"f{i}"))); }
        for (int i = 0; i < files; i++)
        {
            if (i % 3 == 0) { File.Delete(Path.Combine(first.Path, $"f{i}")); }
            else { File.WriteAllText(Path.Combine(first.Path, $"f{i}"), "newer"); }
        }
        for (int i = 0; i < files; i++)
        {
            string path = Path.Combine(second.Path, $"f{i}");
            See(() => i % 3 == 0 ? !File.Exists(path) : File.ReadAllText(path) == "newer");
        }
        See(() => Directory.GetFiles(second.Path).Length == files - (files / 3));
        ServedVolume.Unmount(first);
        ServedVolume.Unmount(second);
    }

    [MountFact]
    public void The_kernel_that_changes_flags_itself_sees_the_change_time_move()
    {
        using MountedVolume volume = new MountedVolume(options: "attr_timeout=3600").Start();
        string file = Path.Combine(volume.MountPoint, "file");
        File.WriteAllText(file, "");
        string before = ChangeTime(file);
        Assert.Equal(0, Command.Run("chattr", ["+A", file]).ExitStatus);
        Assert.NotEqual(before, ChangeTime(file));
    }

    [MountFact]
    public void When_the_holder_is_killed_the_daemon_says_that_the_kernel_is_told_no_more_and_serves_on()
    {
        using var served = new ServedVolume();
        (Command Holder, string Path) first = served.Mount("sharing=shared"), second = served.Mount("sharing=shared");
        second.Holder.Kill();
        second.Holder.Wait(TimeSpan.FromSeconds(60));
        File.WriteAllText(Path.Combine(first.Path, "file"), "from the first");
        See(() => served.Log.Contains("does not hear us any more", StringComparison.Ordinal));
        Assert.Equal("from the first", File.ReadAllText(Path.Combine(second.Path, "file")));
        Assert.Equal(0, Command.Run("/bin/umount", ["-l", second.Path]).ExitStatus);
        ServedVolume.Unmount(first);
        served.StopDaemon();
        served.ExpectClean();
    }

    private static void CheckChanges(string changes, string sees)
    {
        string Here(string name) => Path.Combine(changes, name);
        string There(string name) => Path.Combine(sees, name);
        // Content, size and times, through names, an open descriptor, and a mapping.
        File.WriteAllText(Here("file"), "old content");
        See(() => File.Exists(There("file")) && File.ReadAllText(There("file")) == "old content");
        using (FileStream open = File.Open(There("file"), FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete))
        {
            byte[] text = new byte[100];
            Assert.Equal(11, RandomAccess.Read(open.SafeFileHandle, text, 0));
            File.WriteAllText(Here("file"), "new content, and more");
            See(() => RandomAccess.Read(open.SafeFileHandle, text, 0) == 21 && Encoding.ASCII.GetString(text, 0, 21) == "new content, and more");
        }
        See(() => new FileInfo(There("file")).Length == 21);
        // A name that was not there.
        Assert.False(File.Exists(There("new")));
        File.WriteAllText(Here("new"), "");
        See(() => File.Exists(There("new")));
        // A listing.
        int before = Directory.GetFileSystemEntries(sees).Length;
        Directory.CreateDirectory(Here("directory"));
        See(() => Directory.GetFileSystemEntries(sees).Length == before + 1);
        // Names that go, and that come to mean something else.
        File.Move(Here("new"), Path.Combine(Here("directory"), "moved"));
        See(() => !File.Exists(There("new")) && File.Exists(Path.Combine(There("directory"), "moved")));
        File.WriteAllText(Here("other"), "other");
        See(() => File.Exists(There("other")) && File.ReadAllText(There("other")) == "other");
        File.Move(Here("other"), Here("file"), overwrite: true);
        See(() => File.ReadAllText(There("file")) == "other" && !File.Exists(There("other")));
        // Modes.
        Assert.Equal(0, Command.Run("/bin/chmod", ["400", Here("file")]).ExitStatus);
        See(() => Command.Run("/usr/bin/stat", ["-c", "%a", There("file")]).Output.Trim() == "400");
        File.Delete(Here("file"));
        See(() => !File.Exists(There("file")));
        Directory.Delete(Here("directory"), recursive: true);
        See(() => !Directory.Exists(There("directory")));
    }

    /// <summary>Within seconds, where time-outs say an hour.</summary>
    private static string ChangeTime(string file) => Command.Run("stat", ["-c", "%z", file]).Output;

    private static void See(Func<bool> holds)
    {
        for (int tries = 0; tries < 1000; tries++)
        {
            try { if (holds()) { return; } }
            catch (FileNotFoundException) { } // between the two looks
            Thread.Sleep(10);
        }
        Assert.Fail("what others changed does not show");
    }
}
