namespace VhostFs.Guest.Tests;

/// <summary>Where things are: the harness, the daemon this build made, the programs that run inside guests.</summary>
static class Repository
{
    public static string Root { get; } = FindRoot();

    public static string VmRun => Path.Combine(Root, "vm", "run");

    /// <summary>The daemon of the same configuration as these tests, or what VHOSTFS_TEST_DAEMON names.</summary>
    public static string Daemon { get; } = Environment.GetEnvironmentVariable("VHOSTFS_TEST_DAEMON") is { Length: > 0 } named
        ? named
        : Path.Combine(Root, "src", "VhostFs", "bin", OwnOutput(), "vhostfs");

    /// <summary>Where vm/prepare puts what it makes.</summary>
    public static string Cache { get; } = Environment.GetEnvironmentVariable("VHOSTFS_CACHE") is { Length: > 0 } cache
        ? cache
        : Path.Combine(Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } above ? above : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache"), "vhostfs");

    private static readonly Lazy<string> s_guestPrograms = new(BuildGuestPrograms);

    /// <summary>The folder with posix-checks and data-check, compiled once per test run.</summary>
    public static string GuestPrograms => s_guestPrograms.Value;

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "VhostFs.sln"))) { return folder.FullName; }
        }
        throw new InvalidOperationException($"no VhostFs.sln above {AppContext.BaseDirectory}");
    }

    // bin/<configuration>/<framework>: the last two folders of our own output.
    private static string OwnOutput()
    {
        var own = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar));
        return Path.Combine(own.Parent!.Name, own.Name);
    }

    private static string BuildGuestPrograms()
    {
        string output = Path.Combine(AppContext.BaseDirectory, "guest");
        Finished build = Command.Run(Path.Combine(Root, "tests", "guest", "build"), [output]);
        if (build.ExitStatus != 0)
        {
            throw new InvalidOperationException($"tests/guest/build failed; `vm/prepare` installs what it needs.\n{build.Output}{build.Error}");
        }
        return output;
    }
}
