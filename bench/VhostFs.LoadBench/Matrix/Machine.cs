using System.Globalization;

namespace VhostFs.LoadBench.Matrix;

/// <summary>Where it was measured.</summary>
internal static class Machine
{
    public static string Describe()
    {
        string model = File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))?.Split(':', 2)[1].Trim() ?? "processors of an unknown kind";
        string kernel = File.ReadAllText("/proc/sys/kernel/osrelease").Trim();
        return string.Create(CultureInfo.InvariantCulture, $"{DateTime.UtcNow:yyyy-MM-dd}, Linux {kernel}, {Environment.ProcessorCount} processors ({model})");
    }

    /// <summary>Type of the file system that holds a directory, as mount(8) calls it.</summary>
    public static string FileSystemOf(string directory)
    {
        string path = Path.GetFullPath(directory);
        // proc(5), mounts: device, mount point, type; the longest mount point above the path is its own.
        return File.ReadLines("/proc/mounts").Select(line => line.Split(' ')).Where(m => IsAbove(m[1], path)).MaxBy(m => m[1].Length)?[2] ?? "unknown";
    }

    private static bool IsAbove(string mountPoint, string path) => mountPoint == "/" || path == mountPoint || path.StartsWith(mountPoint + "/", StringComparison.Ordinal);
}
