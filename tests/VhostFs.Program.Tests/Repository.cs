namespace VhostFs.ProgramTests;

/// <summary>The source tree that the tests were built from: documentation that they hold to its word.</summary>
internal static class Repository
{
    public static string Root { get; } = FindRoot();

    public static string File(params string[] parts) => Path.Combine([Root, .. parts]);

    private static string FindRoot()
    {
        DirectoryInfo? folder = new(AppContext.BaseDirectory);
        while (folder is not null && !System.IO.File.Exists(Path.Combine(folder.FullName, "VhostFs.sln"))) { folder = folder.Parent; }
        return folder?.FullName ?? throw new InvalidOperationException($"no VhostFs.sln above {AppContext.BaseDirectory}");
    }
}
