using System.Text.RegularExpressions;
using Xunit;

namespace VhostFs.Guest.Tests;

/// <summary>Live migration of a guest at work, from one QEMU to another one that is connected to the same controller.</summary>
/// <remarks>On QEMU 10: under emulation, 7.2 loses writes of the guest's own processor when it migrates, whatever the disk is.</remarks>
[Trait("Kind", "Guest")]
public class MigrationTests
{
    private static readonly string[] s_disks = ["vm1", "word", "held"]; // vda, vdb, vdc

    // A page that we had written to and not marked would be an old one there: of what was read, of an answer, or of a ring. The guest's own writes hide most of that, so one program holds what it has
    // read while all pages have been sent once. The second disk says when to read that, and when it is enough.
    private const string Work = """
        mkfifo /tmp/lines; blk-check hold 5 /dev/vdc </tmp/lines & exec 9>/tmp/lines
        for round in $(seq 1 1000); do
          blk-check mix $round 1000 /dev/vda || exit 1
          echo round $round
          case "$(head -c 4 /dev/vdb)" in
            read) [ -n "$told" ] || echo >&9; told=1 ;;
            done) break ;;
          esac
        done
        echo >&9; wait $! || exit 2
        blk-check fill 9 /dev/vda && blk-check verify 9 /dev/vda
        """;

    [Fact]
    public void A_guest_that_writes_and_reads_is_migrated() => Migrate(["--smp", "2", "--queues", "2"], there: 1);

    [Fact]
    public void A_guest_on_packed_rings_is_migrated_twice() => Migrate(["--packed"], there: 2);

    private static void Migrate(string[] machine, int there)
    {
        using var daemon = new BlockDaemon();
        string file = NewDisk("vm1", 32 << 20), word = NewDisk("word", 1 << 20), held = NewDisk("held", 8 << 20);
        Assert.Equal(0, Command.Run(Path.Combine(Repository.GuestPrograms, "blk-check"), ["fill", "5", held]).ExitStatus);
        foreach (string disk in s_disks)
        {
            daemon.Call("bdev_aio_create", $$"""{"name":"{{disk}}","filename":"{{daemon[disk + ".img"]}}","block_size":4096}""");
            daemon.Call("vhost_create_blk_controller", $$"""{"ctrlr":"{{disk}}","dev_name":"{{disk}}"}""");
        }
        ManualResetEventSlim isAtWork = new(), isHeld = new();
        Command guest = Boot(0);
        try
        {
            for (int machineNumber = 1; machineNumber <= there; machineNumber++)
            {
                Assert.True(isAtWork.Wait(TimeSpan.FromMinutes(2)), guest.Error);
                isAtWork.Reset();
                Command next = Boot(machineNumber);
                try { Move(daemon[$"qmp{machineNumber - 1}"], daemon[$"in{machineNumber}"], Hold); }
                finally { guest.Dispose(); }
                guest = next;
            }
            Assert.True(isAtWork.Wait(TimeSpan.FromMinutes(2)), guest.Error); // it goes on there
            Say("done");
            Finished run = guest.Wait(TimeSpan.FromMinutes(3));
            Assert.True(run.ExitStatus == 0, run.Output + run.Error);
            Assert.Contains("ok verify", run.Output, StringComparison.Ordinal);
        }
        finally { guest.Dispose(); }
        daemon.Stop();
        Finished check = Command.Run(Path.Combine(Repository.GuestPrograms, "blk-check"), ["verify", "9", file]);
        Assert.True(check.ExitStatus == 0, check.Output);

        string NewDisk(string name, long bytes)
        {
            using FileStream made = File.Create(daemon[name + ".img"]);
            made.SetLength(bytes);
            return made.Name;
        }

        // Not with a FileStream, which asks for a lock of its own.
        void Say(string what) => Command.Run("sh", ["-c", $"printf {what} | dd of={word} conv=notrunc"]);

        void Hold()
        {
            Say("read");
            Assert.True(isHeld.Wait(TimeSpan.FromMinutes(2)), guest.Error);
        }

        Command Boot(int number) => daemon.Boot(s_disks, [.. Guest.Trixie, .. machine], Work,
            ["--mem", "192M", "--qmp", daemon[$"qmp{number}"], .. number == 0 ? (string[])[] : ["--incoming", $"unix:{daemon[$"in{number}"]}"]], onLine: line =>
            {
                if (line.StartsWith("round", StringComparison.Ordinal)) { isAtWork.Set(); }
                if (line == "ok held") { isHeld.Set(); }
            });
    }

    /// <param name="onAllSent">When all pages have been sent once, and are being sent again. The guest stays until this returns, unless the host is so busy that it has no time to write to two pages.</param>
    private static void Move(string qmpPath, string target, Action onAllSent)
    {
        WaitFor(() => File.Exists(target), "the other QEMU listens");
        using var qmp = new Qmp(qmpPath);
        qmp.Execute("migrate-set-parameters", $$"""{"max-bandwidth":{{8 << 20}},"downtime-limit":1}"""); // in a millisecond no more than two pages: it does not come to an end by itself
        qmp.Execute("migrate", $$"""{"uri":"unix:{{target}}"}""");
        WaitFor(() => SyncCount().Success && SyncCount().Groups[1].Value != "1", "all pages are sent once");
        onAllSent();
        qmp.Execute("migrate-set-parameters", $$"""{"max-bandwidth":{{1 << 30}},"downtime-limit":300}""");
        WaitFor(() => Status().Contains("\"completed\"", StringComparison.Ordinal), "the guest is there");

        Match SyncCount() => Regex.Match(Status(), "\"dirty-sync-count\": ([0-9]+)");

        string Status()
        {
            string status = qmp.Execute("query-migrate");
            Assert.DoesNotContain("\"failed\"", status, StringComparison.Ordinal);
            return status;
        }
    }

    private static void WaitFor(Func<bool> condition, string what)
    {
        for (int tenths = 0; !condition(); tenths++)
        {
            Assert.True(tenths < 1200, $"waited two minutes for: {what}");
            Thread.Sleep(100);
        }
    }
}
