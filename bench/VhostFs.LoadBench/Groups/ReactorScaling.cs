using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Matrix;

namespace VhostFs.LoadBench.Groups;

/// <summary>What a second reactor is good for: random reads by two threads of the front-end, which share processors with the two reactors.</summary>
/// <remarks>Thread and reactor of the same number share a processor, so that two processors are enough: what two processes reach, which have nothing in common, is what the machine has. Reactors
/// sleep at once (interrupt): one that looks on would keep its neighbour from the processor.</remarks>
internal static class ReactorScaling
{
    private static readonly Case s_case = new("randread", 32);

    private sealed record Arrangement(string Name, Server Server, IReadOnlyList<string> Sockets, int Queues);

    public static void Run(Rig rig)
    {
        VhostfsSetup one = rig.Setup("one") with { Mode = "interrupt" };
        using VhostfsServer first = rig.NewOurs(one), second = rig.NewOurs(one with { Name = "other" }), both = rig.NewOurs(one with { Name = "both", Reactors = 2, Pools = 2 });
        VhostfsServer[] servers = [first, second, both];
        foreach (VhostfsServer server in servers) { rig.Prepare(server, [s_case]); }
        Arrangement[] arrangements =
        [
            new("1 reactor, 1 queue", first, [first.Socket], 1),
            new("1 reactor, 2 queues of a volume", first, [first.Socket], 2),
            new("2 reactors, 2 queues of a volume", both, [both.Socket], 2),
            new("2 reactors, 2 volumes", both, both.Sockets, 1),
            new("2 processes, 2 volumes", first, [first.Socket, second.Socket], 1),
        ];
        int[] cpus = [rig.Options.ServerCpu, rig.Options.Cpu];
        foreach (Arrangement arrangement in rig.Rounds(arrangements))
        {
            rig.Run(arrangement.Server, s_case, arrangement.Name, load => load with { Sockets = arrangement.Sockets, Queues = arrangement.Queues, Cpus = cpus, ServerCpus = cpus });
        }
        foreach (VhostfsServer server in servers) { server.Remove(); }
    }
}
