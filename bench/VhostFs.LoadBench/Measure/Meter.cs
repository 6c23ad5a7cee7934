using System.Diagnostics;
using VhostFs.GuestDriver;

namespace VhostFs.LoadBench.Measure;

/// <summary>Clocks read before a measurement, and again behind it.</summary>
internal sealed class Meter
{
    private readonly ServerProcess _server;
    private readonly DriverQueue _queue;
    private readonly long _serverNs, _frontEndNs, _kicks, _startedAt;
    private readonly MachineTime _machine;

    public Meter(ServerProcess server, DriverQueue queue)
    {
        (_server, _queue) = (server, queue);
        _machine = MachineTime.Now;
        _kicks = queue.Kicks;
        _frontEndNs = Libc.ProcessorNs(Environment.ProcessId);
        _serverNs = server.ProcessorNs;
        _startedAt = Stopwatch.GetTimestamp();
    }

    /// <param name="done">Operations since.</param>
    public RunResult Stop(Load.LoadOptions options, string name, int bytesPerOperation, long done, Histogram latencies)
    {
        double seconds = Stopwatch.GetElapsedTime(_startedAt).TotalSeconds;
        double serverSeconds = (_server.ProcessorNs - _serverNs) / 1e9;
        double frontEndSeconds = (Libc.ProcessorNs(Environment.ProcessId) - _frontEndNs) / 1e9;
        MachineTime machine = MachineTime.Now;
        double others = Math.Max(0, machine.Busy - _machine.Busy - serverSeconds - frontEndSeconds);
        double operations = Math.Max(1, done);
        return new RunResult(name, options.Device == Load.DeviceKind.Fs ? "fs" : "blk", options.Depth, bytesPerOperation, options.IsPolling ? "poll" : "irq", done, seconds, done / seconds,
            done * (double)bytesPerOperation / (1 << 20) / seconds, Latency.Of(latencies), serverSeconds * 1e6 / operations, frontEndSeconds * 1e6 / operations,
            (_queue.Kicks - _kicks) / operations, _server.Memory, others / seconds * 100, (machine.Stolen - _machine.Stolen) / seconds * 100, MachineTime.LoadAverage);
    }
}
