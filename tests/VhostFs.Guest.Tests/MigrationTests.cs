using Xunit;

namespace VhostFs.Guest.Tests;

/// <summary>Live migration of a guest at work, from one QEMU to another one that is connected to the same controller.</summary>
/// <remarks>On QEMU 10: under emulation, 7.2 loses writes of the guest's own processor when it migrates, whatever the disk is.</remarks>
[Trait("Kind", "Guest")]
public class MigrationTests
{
    // A page that we had written to and not marked would be an old one there: of what was read, of an answer, or of a ring. The second disk says when it is enough.
    private const string Work = """
        for round in $(seq 1 1000); do
          blk-check mix $round 2000 /dev/vda || exit 1
          echo round $round
          echo 1 >/proc/sys/vm/drop_caches
          [ "$(head -c 4 /dev/vdb)" != done ] || break
        done
        blk-check fill 9 /dev/vda && blk-check verify 9 /dev/vda
        """;

    [Fact]
    public void A_guest_that_writes_and_reads_is_migrated() => Migrate(["--smp", "2", "--queues", "2"], there: 1);

    [Fact]
    public void A_guest_on_packed_rings_is_migrated_twice() => Migrate(["--packed"], there: 2);

    private static void Migrate(string[] machine, int there)
    {
        using var daemon = new BlockDaemon();
        string file = daemon["disk.img"], word = daemon["word.img"];
        using (FileStream made = File.Create(file)) { made.SetLength(32 << 20); }
        using (FileStream made = File.Create(word)) { made.SetLength(1 << 20); }
        daemon.Call("bdev_aio_create", $$"""{"name":"F0","filename":"{{file}}","block_size":4096}""");
        daemon.Call("vhost_create_blk_controller", """{"ctrlr":"vm1","dev_name":"F0"}""");
        daemon.Call("bdev_aio_create", $$"""{"name":"F1","filename":"{{word}}","block_size":4096}""");
        daemon.Call("vhost_create_blk_controller", """{"ctrlr":"word","dev_name":"F1"}""");
        var isAtWork = new ManualResetEventSlim();
        Command guest = Boot(0);
        try
        {
            for (int machineNumber = 1; machineNumber <= there; machineNumber++)
            {
                Assert.True(isAtWork.Wait(TimeSpan.FromMinutes(2)), guest.Error);
                isAtWork.Reset();
                Command next = Boot(machineNumber);
                try { Move(daemon[$"qmp{machineNumber - 1}"], daemon[$"in{machineNumber}"]); }
                finally { guest.Dispose(); }
                guest = next;
            }
            Assert.True(isAtWork.Wait(TimeSpan.FromMinutes(2)), guest.Error); // it goes on there
            Command.Run("sh", ["-c", $"printf done | dd of={word} conv=notrunc"]); // not with a FileStream, which asks for a lock of its own
            Finished run = guest.Wait(TimeSpan.FromMinutes(3));
            Assert.True(run.ExitStatus == 0, run.Output + run.Error);
            Assert.Contains("ok verify", run.Output, StringComparison.Ordinal);
        }
        finally { guest.Dispose(); }
        daemon.Stop();
        Finished check = Command.Run(Path.Combine(Repository.GuestPrograms, "blk-check"), ["verify", "9", file]);
        Assert.True(check.ExitStatus == 0, check.Output);

        Command Boot(int number) => daemon.Boot(["vm1", "word"], [.. Guest.Trixie, .. machine], Work,
            ["--mem", "192M", "--qmp", daemon[$"qmp{number}"], .. number == 0 ? (string[])[] : ["--incoming", $"unix:{daemon[$"in{number}"]}"]], onLine: line =>
            {
                if (line.StartsWith("round", StringComparison.Ordinal)) { isAtWork.Set(); }
            });
    }

    // Slowly first, so that pages are sent while they change, and then to an end.
    private static void Move(string qmpPath, string target)
    {
        WaitFor(() => File.Exists(target), "the other QEMU listens");
        using var qmp = new Qmp(qmpPath);
        qmp.Execute("migrate-set-parameters", $$"""{"max-bandwidth":{{32 << 20}}}""");
        qmp.Execute("migrate", $$"""{"uri":"unix:{{target}}"}""");
        bool isFast = false;
        WaitFor(() =>
        {
            string state = qmp.Execute("query-migrate");
            Assert.DoesNotContain("\"failed\"", state, StringComparison.Ordinal);
            if (!isFast && !state.Contains("\"dirty-sync-count\": 1,", StringComparison.Ordinal) && !state.Contains("\"dirty-sync-count\": 2,", StringComparison.Ordinal)
                && state.Contains("\"dirty-sync-count\"", StringComparison.Ordinal))
            {
                isFast = true;
                qmp.Execute("migrate-set-parameters", $$"""{"max-bandwidth":{{1 << 30}}}""");
            }
            return state.Contains("\"completed\"", StringComparison.Ordinal);
        }, "the guest is there");
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
