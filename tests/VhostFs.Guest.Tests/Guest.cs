using Xunit;

namespace VhostFs.Guest.Tests;

/// <summary>Boots of the test guest through vm/run.</summary>
static class Guest
{
    /// <summary>The pairs that are tested: Debian 12's and Debian 13's.</summary>
    public static readonly string[] Bookworm = ["--kernel", "6.1", "--qemu", "7.2"];
    public static readonly string[] Trixie = ["--kernel", "6.12", "--qemu", "10"];

    public static Command Start(Daemon daemon, string[] machine, string command, string[]? more = null, Action<string>? onLine = null, int socket = 0)
    {
        string programs = Repository.GuestPrograms;
        return new Command(Repository.VmRun,
        [
            "--socket", daemon.SocketOf(socket), "--timeout", "150", .. machine, .. more ?? [],
            "--file", $"{programs}/posix-checks:bin/posix-checks", "--file", $"{programs}/data-check:bin/data-check", "--file", $"{programs}/locks:bin/locks",
            "--", command,
        ], onLine);
    }

    public static Finished Run(Daemon daemon, string[] machine, string command, params string[] more)
    {
        using Command guest = Start(daemon, machine, command, more);
        return guest.Wait(TimeSpan.FromMinutes(3));
    }

    public static string Succeeds(Daemon daemon, string[] machine, string command, params string[] more)
    {
        Finished run = Run(daemon, machine, command, more);
        Assert.True(run.ExitStatus == 0, $"in the guest, `{command}` ended with {run.ExitStatus}:\n{run.Output}{run.Error}");
        return run.Output;
    }
}
