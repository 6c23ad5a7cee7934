using System.Globalization;
using Xunit;

namespace VhostFs.Guest.Tests;

[Trait("Kind", "Guest")]
public class DurabilityTests
{
    [Fact]
    public void What_a_guest_wrote_is_there_after_an_orderly_restart()
    {
        using var daemon = new Daemon();
        Guest.Succeeds(daemon, Guest.Trixie, "data-check write 11 .");
        daemon.Stop();
        daemon.AssertClean();
        daemon.ServeAgain();
        Guest.Succeeds(daemon, Guest.Bookworm, "data-check verify 11 .");
    }

    [Fact]
    public void What_a_guest_synced_survives_kill_9_of_the_daemon()
    {
        using var daemon = new Daemon();
        Guest.Succeeds(daemon, Guest.Bookworm, "data-check write 12 .");
        daemon.Kill();
        daemon.AssertClean();
        daemon.ServeAgain();
        Guest.Succeeds(daemon, Guest.Trixie, "data-check verify 12 .");
        daemon.Stop();
        daemon.AssertClean();
    }

    [Fact]
    public void Every_fsync_that_returned_holds_after_kill_9_in_the_middle_of_work()
    {
        using var daemon = new Daemon();
        for (int round = 0; round < 2; round++)
        {
            int killAfter = round == 0 ? 25 : 120, last = -1;
            string folder = $"round{round}";
            var enough = new ManualResetEventSlim();
            using (Command guest = Guest.Start(daemon, Guest.Trixie, $"mkdir {folder} && data-check until-killed {round} {folder}", onLine: line =>
            {
                if (!line.StartsWith("durable ", StringComparison.Ordinal)) { return; }
                last = int.Parse(line.AsSpan(8), CultureInfo.InvariantCulture);
                if (last >= killAfter) { enough.Set(); }
            }))
            {
                Assert.True(enough.Wait(TimeSpan.FromMinutes(2)), $"only {last + 1} steps were done\n{guest.Error}");
                daemon.Kill(); // under the running guest, whose requests now hang; it is ended by disposing it
            }
            daemon.AssertClean();
            daemon.ServeAgain();
            Guest.Succeeds(daemon, Guest.Trixie, string.Create(CultureInfo.InvariantCulture, $"data-check verify-until {round} {folder} {last}"));
        }
        daemon.Stop();
        daemon.AssertClean();
    }
}
