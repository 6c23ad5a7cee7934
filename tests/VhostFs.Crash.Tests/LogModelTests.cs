using VhostFs.Crash.Tests.LogModel;
using Xunit;

namespace VhostFs.Crash.Tests;

/// <summary>The log protocol by itself, before any engine: right as designed, and wrong as soon as one rule is left out.</summary>
public sealed class LogModelTests
{
    private const int Seeds = 100_000;
    private const int SeedsToCatchAFault = 2_000;

    public static TheoryData<ProtocolFault> Faults => [.. Enum.GetValues<ProtocolFault>().Where(fault => fault != ProtocolFault.None)];

    [Fact]
    public void The_protocol_recovers_a_state_the_volume_had_after_every_power_cut()
    {
        for (int seed = 0; seed < Seeds; seed++)
        {
            string? verdict = LogModelRun.Judge(seed, ProtocolFault.None);
            Assert.True(verdict is null, $"seed {seed}: {verdict}; replay: LogModelRun.Judge({seed}, ProtocolFault.None)");
        }
    }

    [Theory, MemberData(nameof(Faults))]
    public void A_protocol_without_one_of_its_rules_is_caught(ProtocolFault fault)
    {
        Assert.Contains(Enumerable.Range(0, SeedsToCatchAFault), seed => LogModelRun.Judge(seed, fault) is not null);
    }
}
