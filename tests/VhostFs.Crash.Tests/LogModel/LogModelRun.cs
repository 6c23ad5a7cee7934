using System.Collections.Immutable;

namespace VhostFs.Crash.Tests.LogModel;

/// <summary>One random life of a volume up to a power cut, its recovery, and the verdict.</summary>
public static class LogModelRun
{
    private const int MaxSteps = 60;
    private const int MaxOperations = 140;

    /// <summary>Null when the recovered state is one the volume really had, at or after the last acknowledged fsync.</summary>
    public static string? Judge(int seed, ProtocolFault fault)
    {
        var random = new Random(seed);
        var disk = new SimulatedDisk(random.Next(1, MaxOperations));
        var protocol = new LogProtocol(disk, fault);
        try
        {
            for (int step = 0; step < MaxSteps; step++) { Step(protocol, random, 1000 + step); }
        }
        catch (PowerCutException) { }

        var recovery = new LogRecovery(disk.AfterPowerCut(random), fault);
        if (recovery.Run() is { } refused) { return refused; }
        if (recovery.Lsn < protocol.AcknowledgedLsn) { return $"acknowledged records are lost: recovered to {recovery.Lsn}, promised {protocol.AcknowledgedLsn}"; }
        ImmutableSortedDictionary<int, long> expected = protocol.History[recovery.Lsn];
        return recovery.Content.SequenceEqual(expected) ? null : $"the state at LSN {recovery.Lsn} is not what it was";
    }

    private static void Step(LogProtocol protocol, Random random, long content)
    {
        protocol.Admit();
        double choice = random.NextDouble();
        int block = random.Next(LogProtocol.BlockCount);
        if (choice < 0.45) { protocol.WriteToNewPage(block, content, random); }
        else if (choice < 0.62 && protocol.IsMapped(block)) { protocol.Overwrite(block, content); }
        else if (choice < 0.74 && protocol.IsMapped(block)) { protocol.Unmap(block); }
        else if (choice < 0.86) { protocol.Sync(); }
        else if (choice < 0.95) { protocol.WriteDeferredImages(); }
        else { protocol.WriteCheckpoint(); }
    }
}
