using Xunit;

namespace VhostFs.Guest.Tests;

[Trait("Kind", "Guest")]
public class PosixTests
{
    [Fact]
    public void Posix_checks_pass_on_kernel_6_1_and_the_hosts_QEMU() => RunChecks(Guest.Bookworm);

    [Fact]
    public void Posix_checks_pass_on_kernel_6_12_and_QEMU_10() => RunChecks(Guest.Trixie);

    [Fact]
    public void Posix_checks_pass_on_two_processors_and_queues() => RunChecks([.. Guest.Trixie, "--smp", "2", "--queues", "2"]);

    private static void RunChecks(string[] machine)
    {
        using var daemon = new Daemon();
        Finished run = Guest.Run(daemon, [.. machine, "--module", "overlay"], "posix-checks .");
        string[] lines = run.Output.Split('\n');
        IEnumerable<string> failures = lines.Where(line => line.StartsWith("FAIL ", StringComparison.Ordinal));
        Assert.True(run.ExitStatus == 0, $"exit status {run.ExitStatus}; {lines.LastOrDefault(line => line.StartsWith("RESULT", StringComparison.Ordinal))}\n{string.Join('\n', failures)}\n{run.Error}");
        daemon.Stop();
        daemon.AssertClean();
    }
}
