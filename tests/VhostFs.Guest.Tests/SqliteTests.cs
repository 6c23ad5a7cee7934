using System.Globalization;
using Xunit;

namespace VhostFs.Guest.Tests;

/// <summary>SQLite on one database from two guests and the host mount at once.</summary>
[Trait("Kind", "Guest")]
public class SqliteTests
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(4);

    [SqliteFact]
    public void Two_guests_and_the_host_count_in_one_database_without_losing_a_transaction()
    {
        const int times = 20;
        using var daemon = new Daemon(exports: 2);
        string mountPoint = Directory.CreateTempSubdirectory("vhostfs-test-").FullName;
        using Command holder = Mount(daemon, mountPoint);
        Succeeds(Shell(mountPoint, "sqlite3 -bail -batch data.sqlite 'PRAGMA journal_mode = DELETE; CREATE TABLE number (value); INSERT INTO number VALUES (0); CREATE TABLE log (value, who);'"));
        // Each waits for the others, and gives them a turn, so that they really meet.
        string command = $$"""
            touch here-$ME
            until [ -e here-1 -a -e here-2 -a -e here-3 ]; do sleep 0.1; done
            i=0
            { echo '.timeout 60000'
              while [ $i -lt {{times}} ]; do
                echo "BEGIN IMMEDIATE; UPDATE number SET value = value + 1; INSERT INTO log SELECT value, $ME FROM number; COMMIT;"
                echo '.shell sleep 0.05'
                i=$((i + 1))
              done
            } | sqlite3 -bail -batch data.sqlite
            """;
        using Command first = Guest.Start(daemon, Guest.Trixie, $"ME=1; {command}", SqliteFactAttribute.Files);
        using Command second = Guest.Start(daemon, Guest.Bookworm, $"ME=2; {command}", SqliteFactAttribute.Files, socket: 1);
        using Command host = StartShell(mountPoint, $"ME=3; {command}");
        Succeeds(host.Wait(s_patience));
        Succeeds(first.Wait(s_patience));
        Succeeds(second.Wait(s_patience));
        Finished told = Shell(mountPoint, "sqlite3 -bail -batch data.sqlite 'PRAGMA integrity_check; SELECT value FROM number; SELECT who FROM log ORDER BY value; SELECT count(DISTINCT value), max(value) FROM log;'");
        Succeeds(told);
        string[] lines = told.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal("ok", lines[0]);
        Assert.Equal((3 * times).ToString(CultureInfo.InvariantCulture), lines[1]);
        Assert.Equal(string.Create(CultureInfo.InvariantCulture, $"{3 * times}|{3 * times}"), lines[^1]);
        string[] who = lines[2..^1];
        Assert.All(["1", "2", "3"], me => Assert.Equal(times, who.Count(w => w == me)));
        Assert.True(who.Zip(who.Skip(1)).Count(pair => pair.First != pair.Second) > 2, $"one after the other: {string.Concat(who)}");
        Assert.Empty(Directory.GetFiles(mountPoint, "*-journal"));
        holder.Terminate();
        Assert.Equal(0, holder.Wait(s_patience).ExitStatus);
        Directory.Delete(mountPoint);
        daemon.Stop();
        daemon.AssertClean();
    }

    private static Command Mount(Daemon daemon, string path)
    {
        var mounted = new ManualResetEventSlim();
        var holder = new Command(Repository.Daemon, ["mount", daemon.Volume, path, "-o", "sharing=shared,cache=never"], onErrorLine: line =>
        {
            if (line.Contains("mounted volume", StringComparison.Ordinal)) { mounted.Set(); }
        });
        for (int tenths = 0; !mounted.Wait(100); tenths++)
        {
            Assert.False(holder.HasExited, $"vhostfs mount ended at once:\n{holder.Error}");
            Assert.True(tenths < 600, $"not mounted within a minute:\n{holder.Error}");
        }
        return holder;
    }

    private static Command StartShell(string folder, string command) => new("/bin/sh", ["-c", $"cd {folder}; {command}"]);

    private static Finished Shell(string folder, string command)
    {
        using Command shell = StartShell(folder, command);
        return shell.Wait(s_patience);
    }

    private static void Succeeds(Finished run) => Assert.True(run.ExitStatus == 0, $"{run.ExitStatus}:\n{run.Output}{run.Error}");
}

/// <summary>A test that needs the host's sqlite3, also in guests, and a host mount.</summary>
sealed class SqliteFactAttribute : FactAttribute
{
    private const string Program = "/usr/bin/sqlite3";

    public SqliteFactAttribute() => Skip =
        !File.Exists("/dev/fuse") ? "there is no /dev/fuse" :
        !Environment.IsPrivilegedProcess ? "only root can mount" :
        !File.Exists(Program) ? "sqlite3 is not installed (vm/prepare --applications installs it)" : null;

    /// <summary>For vm/run: the program, and the libraries that it names.</summary>
    public static string[] Files
    {
        get
        {
            Finished libraries = Command.Run("/usr/bin/ldd", [Program]);
            IEnumerable<string> paths = libraries.Output.Split((char[])[' ', '\t', '\n'], StringSplitOptions.RemoveEmptyEntries).Where(word => word.StartsWith('/'));
            return [.. paths.Append(Program).SelectMany(path => (string[])["--file", $"{path}:{(path == Program ? "bin/sqlite3" : path[1..])}"])];
        }
    }
}
