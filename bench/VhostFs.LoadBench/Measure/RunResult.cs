using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using VhostFs.LoadBench.Load;

namespace VhostFs.LoadBench.Measure;

/// <summary>Latencies of operations in microseconds.</summary>
internal readonly record struct Latency(double Mean, double P50, double P99, double P999, double Max)
{
    public static Latency Of(Histogram h) => new(h.MeanNs / 1e3, h.PercentileNs(50) / 1e3, h.PercentileNs(99) / 1e3, h.PercentileNs(99.9) / 1e3, h.MaxNs / 1e3);
}

/// <summary>What one measurement found.</summary>
/// <param name="Mode">poll or irq: how the front-end waited.</param>
/// <param name="Seconds">That it took.</param>
/// <param name="Rate">Operations per second.</param>
/// <param name="MibPerSecond">Of payload; 0: operations have none.</param>
/// <param name="ServerCpuUs">Processor time of the server per operation, microseconds; of the front-end likewise.</param>
/// <param name="KicksPerOperation">That the device wanted.</param>
/// <param name="ServerMemoryKib">Afterwards.</param>
/// <param name="OthersCpuPercent">What everybody else's work took meanwhile; 100: one processor.</param>
/// <param name="StolenPercent">What the host of this machine took away.</param>
/// <param name="LoadAverage">Afterwards.</param>
internal sealed record RunResult(string Job, string Device, int Depth, int BlockBytes, string Mode, long Operations, double Seconds, double Rate, double MibPerSecond, Latency LatencyUs,
    double ServerCpuUs, double FrontEndCpuUs, double KicksPerOperation, ServerMemory ServerMemoryKib, double OthersCpuPercent, double StolenPercent, string LoadAverage)
{
    private static readonly JsonSerializerOptions s_json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, Converters = { new Rounded() } };

    /// <param name="done">Operations.</param>
    /// <param name="kicks">That they took.</param>
    public static RunResult Of(LoadOptions options, string job, int bytesPerOperation, long done, long kicks, Histogram latencies, Spent spent, ServerMemory memory)
    {
        double operations = Math.Max(1, done);
        return new RunResult(job, options.Device == DeviceKind.Fs ? "fs" : "blk", options.Depth, bytesPerOperation, options.IsPolling ? "poll" : "irq", done, spent.Seconds, done / spent.Seconds,
            done * (double)bytesPerOperation / (1 << 20) / spent.Seconds, Latency.Of(latencies), spent.ServerSeconds * 1e6 / operations, spent.FrontEndSeconds * 1e6 / operations,
            kicks / operations, memory, spent.OthersCpuPercent, spent.StolenPercent, MachineTime.LoadAverage);
    }

    public string ToJson() => JsonSerializer.Serialize(this, s_json);

    public override string ToString() => string.Create(CultureInfo.InvariantCulture,
        $"{Job,-12} QD{Depth,-3} {Rate,10:N0}/s {MibPerSecond,8:N1} MiB/s  p50 {LatencyUs.P50:N1} p99 {LatencyUs.P99:N1} p99.9 {LatencyUs.P999:N1} max {LatencyUs.Max:N0} us  server {ServerCpuUs:N2} us/op, {ServerMemoryKib.Own / 1024.0:N1} MiB  front-end {FrontEndCpuUs:N2} us/op  [{Mode}] others {OthersCpuPercent:N0} %");

    // Seventeen digits say nothing that four do not.
    private sealed class Rounded : JsonConverter<double>
    {
        public override double Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.GetDouble();

        public override void Write(Utf8JsonWriter writer, double value, JsonSerializerOptions options) => writer.WriteNumberValue(Math.Round(value, 3));
    }
}
