using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Load;

/// <summary>One job on one device, from connecting to leaving it.</summary>
internal static class LoadRun
{
    /// <returns>A result per phase of the job, as they end.</returns>
    public static IEnumerable<RunResult> Run(LoadOptions options)
    {
        using var pinned = new Pinned(options.Cpu);
        using var device = new LoadDevice(options, options.Depth, Jobs.DataBytes(options));
        var server = new ServerProcess(options.ServerProcess > 0 ? options.ServerProcess : device.FrontEnd.DeviceProcessId);
        if (options.ServerCpu >= 0) { server.Pin(options.ServerCpu); }
        var latencies = new Histogram();
        foreach (Phase phase in Jobs.Prepare(options, device))
        {
            if (phase.IsTimed && options.WarmUpSeconds > 0) { LoadLoop.Run(device.Slots, phase.Workload, options.WarmUpSeconds, options.MaxOperations, latencies); }
            latencies.Clear();
            var meter = new Meter(server, device.Queue);
            long done = LoadLoop.Run(device.Slots, phase.Workload, phase.IsTimed ? options.Seconds : double.PositiveInfinity, phase.IsTimed ? options.MaxOperations : 0, latencies);
            yield return meter.Stop(options, phase.Name, phase.Workload.BytesPerOperation, done, latencies);
        }
    }
}
