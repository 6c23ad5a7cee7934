using System.Globalization;
using Xunit;

namespace VhostFs.Guest.Tests;

/// <summary>Two guests at once on one volume, each through an export of its own.</summary>
[Trait("Kind", "Guest")]
public class LockTests
{
    [Fact]
    public void Locks_inside_one_guest_are_what_fcntl_and_flock_say()
    {
        using var daemon = new Daemon(exports: 2);
        Succeeds(Guest.Run(daemon, Guest.Trixie, "locks check ."));
        Succeeds(Guest.Run(daemon, Guest.Bookworm, "locks check ."));
        daemon.Stop();
        daemon.AssertClean();
    }

    [Fact]
    public void A_number_that_two_guests_count_under_a_lock_counts_both()
    {
        const int times = 60;
        using var daemon = new Daemon(exports: 2);
        // Each waits for the other, so that they really meet.
        string command = $$"""
            touch here-$ME
            until [ -e here-$OTHER ]; do sleep 0.1; done
            for kind in posix ofd flock; do
                locks count $kind number-$kind {{times}} & locks count $kind number-$kind {{times}}; wait $! || exit 1
            done
            """;
        using Command second = Guest.Start(daemon, Guest.Bookworm, $"ME=2 OTHER=1; {command}", socket: 1);
        using Command first = Guest.Start(daemon, Guest.Trixie, $"ME=1 OTHER=2; {command}");
        Succeeds(first.Wait(TimeSpan.FromMinutes(4)));
        Succeeds(second.Wait(TimeSpan.FromMinutes(4)));
        string numbers = Guest.Succeeds(daemon, Guest.Trixie, "cat number-posix number-ofd number-flock");
        Assert.All(numbers.Split('\n', StringSplitOptions.RemoveEmptyEntries), n => Assert.Equal(4 * times, int.Parse(n, CultureInfo.InvariantCulture)));
        daemon.Stop();
        daemon.AssertClean();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)] // QEMU's stop and cont take the rings away and give them back: who waits goes on waiting, and is told afterwards what came meanwhile
    public void A_lock_goes_to_the_other_guest_when_its_holder_is_killed(bool whileStopped)
    {
        using var daemon = new Daemon(exports: 2);
        var holds = new ManualResetEventSlim();
        using Command holder = Guest.Start(daemon, Guest.Trixie, "locks hold posix file stop & locks hold flock file stop", onLine: CountLines("holds", 2, holds));
        Assert.True(holds.Wait(TimeSpan.FromMinutes(2)), holder.Error);
        var waits = new ManualResetEventSlim();
        string control = daemon.SocketOf(1) + ".qmp";
        using Command waiter = Guest.Start(daemon, Guest.Bookworm, "locks try posix file; locks try flock file; locks try ofd file; locks wait flock file & locks wait posix file; wait $!",
            ["--qmp", control], CountLines("waits", 2, waits), socket: 1);
        Assert.True(waits.Wait(TimeSpan.FromMinutes(2)), waiter.Error);
        Thread.Sleep(2000); // from saying it to waiting
        using (Qmp? qemu = whileStopped ? new Qmp(control) : null)
        {
            qemu?.Execute("stop");
            qemu?.Execute("cont");
            Thread.Sleep(500);
            qemu?.Execute("stop");
            holder.Dispose(); // the power is off
            if (whileStopped) { Thread.Sleep(1000); }
            qemu?.Execute("cont");
        }
        Finished ended = waiter.Wait(TimeSpan.FromMinutes(2));
        Succeeds(ended);
        Assert.Equal(["taken", "taken", "taken"], ended.Output.Split('\n').Where(l => l is "taken" or "free"));
        Assert.Equal(2, ended.Output.Split('\n').Count(l => l == "has it"));
        daemon.Stop();
        daemon.AssertClean();
    }

    private static Action<string> CountLines(string expected, int count, ManualResetEventSlim reached)
    {
        int seen = 0;
        return line =>
        {
            if (line == expected && Interlocked.Increment(ref seen) == count) { reached.Set(); }
        };
    }

    private static void Succeeds(Finished run) => Assert.True(run.ExitStatus == 0, $"{run.ExitStatus}:\n{run.Output}{run.Error}");
}
