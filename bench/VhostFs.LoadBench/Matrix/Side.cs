using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Matrix;

/// <summary>What several runs of one server found: medians.</summary>
/// <param name="SpreadPercent">Between the slowest and the fastest run, of the median.</param>
internal sealed record Side(double Rate, double SpreadPercent, double MibPerSecond, double CpuUs, double P50Us, double P999Us)
{
    public static Side Of(IReadOnlyList<RunResult> runs)
    {
        double rate = Median(runs, r => r.Rate);
        double spread = rate == 0 ? 0 : (runs.Max(r => r.Rate) - runs.Min(r => r.Rate)) / rate * 100;
        return new Side(rate, spread, Median(runs, r => r.MibPerSecond), Median(runs, r => r.ServerCpuUs), Median(runs, r => r.LatencyUs.P50), Median(runs, r => r.LatencyUs.P999));
    }

    public static double Median<T>(IReadOnlyList<T> runs, Func<T, double> value)
    {
        double[] sorted = [.. runs.Select(value).Order()];
        int middle = sorted.Length / 2;
        return sorted.Length == 0 ? 0 : sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }
}
