using VhostFs.Linux;

namespace VhostFs.Fuzz.Tests.VhostUser;

/// <summary>What a session may have left in the process: descriptors, mappings of shared memory, guarded regions.</summary>
internal readonly record struct ProcessState(int DescriptorCount, int SharedMappings, int GuardedRegions)
{
    public static ProcessState Now()
    {
        int descriptors = Descriptors().Count();
        int mappings = File.ReadLines("/proc/self/maps").Count(line => line.Contains("/memfd:guest", StringComparison.Ordinal) || line.Contains("/memfd:fuzz", StringComparison.Ordinal) || line.Contains("/memfd:vhostfs-inflight", StringComparison.Ordinal));
        return new ProcessState(descriptors, mappings, SharedMemoryGuard.RegionCount);
    }

    /// <summary>The descriptors by what they are, with their counts: for people.</summary>
    public static string Describe() =>
        string.Join(", ", Descriptors().CountBy(kind => kind).Select(c => $"{c.Value} {c.Key}"));

    /// <summary>What each descriptor is, of the kinds that are sent or made for a session. The runtime opens others, assemblies and pipes, when it first needs them.</summary>
    private static IEnumerable<string> Descriptors() =>
        Directory.GetFileSystemEntries("/proc/self/fd").Select(fd => (new FileInfo(fd).LinkTarget ?? "").Split(':')[0]).Where(kind => kind is "socket" or "anon_inode" or "/memfd" or "/dev/null" or "/");

    /// <summary>Bytes that are the process's own and in memory.</summary>
    public static long PrivateBytes()
    {
        string line = File.ReadLines("/proc/self/smaps_rollup").First(l => l.StartsWith("Private_Dirty:", StringComparison.Ordinal));
        return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], System.Globalization.CultureInfo.InvariantCulture) << 10;
    }
}
