using System.Globalization;
using VhostFs.Linux;

namespace VhostFs.Rpc;

/// <summary>Where control sockets lie when nobody says otherwise: one per process, named for it.</summary>
internal static class RuntimeDirectory
{
    private const string Name = "vhostfs";
    private const string Extension = ".sock";

    /// <summary>The default path for this process, in a directory that exists. Null, with the reason, when there is no place for it.</summary>
    public static string? TryMakePath(out string error)
    {
        error = "";
        string? directory = Candidates().FirstOrDefault();
        if (directory is null)
        {
            error = "neither RUNTIME_DIRECTORY nor XDG_RUNTIME_DIR is set";
            return null;
        }
        try { Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            error = e.Message;
            return null;
        }
        RemoveStale(directory);
        return SocketOf(directory, Environment.ProcessId);
    }

    /// <summary>The socket of a process; null when it has none in a place where we would look.</summary>
    public static string? Find(int processId) => Candidates().Select(directory => SocketOf(directory, processId)).FirstOrDefault(Path.Exists);

    /// <summary>The sockets of all processes, in the places where we would look; those of killed ones, too.</summary>
    public static IEnumerable<string> FindAll() => Candidates().Where(Directory.Exists).SelectMany(directory => Directory.EnumerateFiles(directory, "*" + Extension)).Distinct();

    // systemd's RuntimeDirectory= first; then where root, then where users have theirs.
    private static IEnumerable<string> Candidates()
    {
        if (Environment.GetEnvironmentVariable("RUNTIME_DIRECTORY") is { Length: > 0 } given) { yield return given.Split(':')[0]; }
        if (MountCalls.EffectiveUserId == 0) { yield return $"/run/{Name}"; }
        if (Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR") is { Length: > 0 } user) { yield return Path.Combine(user, Name); }
    }

    private static string SocketOf(string directory, int processId) => Path.Combine(directory, processId.ToString(CultureInfo.InvariantCulture) + Extension);

    // What killed processes leave. A number that is in use again belongs to somebody who listens, or to nobody of ours.
    private static void RemoveStale(string directory)
    {
        foreach (string path in Directory.EnumerateFiles(directory, "*" + Extension))
        {
            if (int.TryParse(Path.GetFileNameWithoutExtension(path), NumberStyles.None, CultureInfo.InvariantCulture, out _)) { UnixSocket.RemoveStale(path); }
        }
    }
}
