using System.Globalization;

namespace VhostFs.FuseDev;

/// <summary>What the kernel shows of FUSE in files: a mount's connection and its end, and the switch of FUSE over io_uring.</summary>
internal static class FuseConnection
{
    private const string Switch = "/sys/module/fuse/parameters/enable_uring";
    private const string Connections = "/sys/fs/fuse/connections"; // empty unless fusectl is mounted there
    private const string MountTable = "/proc/self/mountinfo";

    /// <summary>Null, or why the kernel offers no io_uring to a file system that is mounted now.</summary>
    public static string? UringProblem
    {
        get
        {
            if (TryRead(Switch) is not { } value) { return "this kernel has no FUSE over io_uring; Linux 6.14 or later with CONFIG_FUSE_IO_URING is needed"; }
            return value.StartsWith('Y') ? null : $"FUSE over io_uring is switched off; 'echo Y > {Switch}' switches it on";
        }
    }

    /// <summary>The number of the connection mounted at <paramref name="path"/>; 0 when it cannot be found. It asks the mount nothing.</summary>
    public static uint Find(string path)
    {
        string[] lines = (TryRead(MountTable) ?? "").Split('\n');
        // 36 35 0:45 / /mnt/point ...: the last one covers the others.
        for (int i = lines.Length - 1; i >= 0; i--)
        {
            string[] fields = lines[i].Split(' ', 6);
            if (fields.Length < 6 || Unescape(fields[4]) != path) { continue; }
            return uint.TryParse(fields[2].Split(':')[^1], CultureInfo.InvariantCulture, out uint minor) ? minor : 0;
        }
        return 0;
    }

    /// <summary>False when the kernel does not show the connection here.</summary>
    public static bool Abort(uint connection)
    {
        try
        {
            File.WriteAllText($"{Connections}/{connection}/abort", "1");
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { return false; }
    }

    private static string? TryRead(string file)
    {
        try { return File.ReadAllText(file); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { return null; }
    }

    // Blanks, backslashes and line ends stand there in octal.
    private static string Unescape(string field) =>
        field.Replace("\\040", " ", StringComparison.Ordinal).Replace("\\011", "\t", StringComparison.Ordinal).Replace("\\012", "\n", StringComparison.Ordinal).Replace("\\134", "\\", StringComparison.Ordinal);
}
