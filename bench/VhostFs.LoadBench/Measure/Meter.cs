using System.Diagnostics;

namespace VhostFs.LoadBench.Measure;

/// <summary>What went by between two looks at the clocks.</summary>
/// <param name="ServerSeconds">Processor time of the server; of the front-end likewise.</param>
/// <param name="OthersCpuPercent">What everybody else's work took meanwhile; 100: one processor.</param>
/// <param name="StolenPercent">What the host of this machine took away.</param>
internal readonly record struct Spent(double Seconds, double ServerSeconds, double FrontEndSeconds, double OthersCpuPercent, double StolenPercent);

/// <summary>Clocks read before a measurement, and again behind it.</summary>
internal sealed class Meter
{
    private readonly ServerProcess? _server;
    private readonly MachineTime _machine;
    private readonly long _frontEndNs, _serverNs, _startedAt;

    /// <param name="server">Null: it is yet to be started.</param>
    public Meter(ServerProcess? server)
    {
        _server = server;
        _machine = MachineTime.Now;
        _frontEndNs = Libc.ProcessorNs(Environment.ProcessId);
        _serverNs = server?.ProcessorNs ?? 0;
        _startedAt = Stopwatch.GetTimestamp();
    }

    public Spent Stop() => Stop(_server!);

    /// <param name="server">That has been started meanwhile.</param>
    public Spent Stop(ServerProcess server)
    {
        double seconds = Stopwatch.GetElapsedTime(_startedAt).TotalSeconds;
        double serverSeconds = (server.ProcessorNs - _serverNs) / 1e9;
        double frontEndSeconds = (Libc.ProcessorNs(Environment.ProcessId) - _frontEndNs) / 1e9;
        MachineTime machine = MachineTime.Now;
        double others = Math.Max(0, machine.Busy - _machine.Busy - serverSeconds - frontEndSeconds);
        return new Spent(seconds, serverSeconds, frontEndSeconds, others / seconds * 100, (machine.Stolen - _machine.Stolen) / seconds * 100);
    }
}
