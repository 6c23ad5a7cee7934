using System.Globalization;

namespace VhostFs.LoadBench.Measure;

/// <summary>Processor time that all processors together have spent at work, and that the host of this machine has taken away, in seconds since it was booted.</summary>
internal readonly record struct MachineTime(double Busy, double Stolen)
{
    private const double TicksPerSecond = 100; // USER_HZ, on all machines that .NET runs on

    /// <summary>The three load averages, as text.</summary>
    public static string LoadAverage => string.Join(' ', File.ReadAllText("/proc/loadavg").Split(' ')[..3]);

    public static MachineTime Now
    {
        get
        {
            // proc(5): user nice system idle iowait irq softirq steal
            double[] ticks = [.. File.ReadLines("/proc/stat").First().Split(' ', StringSplitOptions.RemoveEmptyEntries).Skip(1).Select(word => double.Parse(word, CultureInfo.InvariantCulture))];
            return new MachineTime((ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / TicksPerSecond, ticks[7] / TicksPerSecond);
        }
    }
}
