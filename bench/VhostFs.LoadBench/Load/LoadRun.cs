using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Load;

/// <summary>One job on one device or several, from connecting to leaving them.</summary>
internal static class LoadRun
{
    /// <returns>A result per phase of the job, as they end.</returns>
    public static IEnumerable<RunResult> Run(LoadOptions options)
    {
        options.Check();
        using var pinned = new Pinned(options.CpuOf(0));
        var devices = new List<LoadDevice>();
        try
        {
            foreach (string socket in options.Sockets) { devices.Add(new LoadDevice(options, socket, Jobs.DataBytes(options))); }
            var server = new ServerProcess(options.ServerProcess > 0 ? [options.ServerProcess] : devices.Select(device => device.FrontEnd.DeviceProcessId));
            if (options.ServerCpus.Count > 0) { server.Pin(options.ServerCpus); }
            IEnumerator<Phase>[] jobs = [.. devices.Select(device => Jobs.Prepare(options, device).GetEnumerator())];
            // All of them move on, or all are through.
            while (jobs.Count(job => job.MoveNext()) == jobs.Length) { yield return Measure(options, devices, [.. jobs.Select(job => job.Current)], server); }
        }
        finally { devices.ForEach(device => device.Dispose()); }
    }

    private static RunResult Measure(LoadOptions options, List<LoadDevice> devices, Phase[] phases, ServerProcess server)
    {
        bool isTimed = phases[0].IsTimed;
        Lane[] lanes = [.. devices.Zip(phases).SelectMany(pair => pair.First.Queues.Zip(pair.Second.Workloads)).Select((pair, i) => new Lane(pair.First, pair.Second, options.CpuOf(i)))];
        var latencies = new Histogram();
        if (isTimed && options.WarmUpSeconds > 0) { Lane.RunAll(lanes, options.WarmUpSeconds, options.MaxOperations, latencies); }
        latencies.Clear();
        long kicks = lanes.Sum(lane => lane.Queue.Queue.Kicks);
        var meter = new Meter(server);
        long done = Lane.RunAll(lanes, isTimed ? options.Seconds : double.PositiveInfinity, isTimed ? options.MaxOperations : 0, latencies);
        Spent spent = meter.Stop();
        kicks = lanes.Sum(lane => lane.Queue.Queue.Kicks) - kicks;
        return RunResult.Of(options, phases[0].Name, lanes[0].Workload.BytesPerOperation, done, kicks, latencies, spent, server.Memory);
    }
}
