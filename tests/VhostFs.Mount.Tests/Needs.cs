using Xunit;

namespace VhostFs.Mount.Tests;

/// <summary>What tests on a real mount need of the machine. What is missing skips them, with the reason.</summary>
static class Needs
{
    /// <summary>Null, or why nothing can be mounted here.</summary>
    public static string? Mount { get; } =
        !File.Exists("/dev/fuse") ? "there is no /dev/fuse" :
        Find("gcc") is null ? "there is no C compiler (vm/prepare installs one)" :
        !Environment.IsPrivilegedProcess ? "only root can mount with all options, take a dead mount away and become other users" : null;

    /// <summary>Null, or why this program cannot be run.</summary>
    public static string? Program(string name, string package) =>
        Mount ?? (Find(name) is null ? $"{name} is not installed (Debian: {package})" : null);

    /// <summary>Null, or why another user than root cannot mount here.</summary>
    public static string? UserMount { get; } = Program("fusermount3", "fuse3") ?? Program("setpriv", "util-linux")
        ?? (Command.Run("setpriv", [.. AsUser, "/usr/bin/test", "-w", "/dev/fuse"]).ExitStatus != 0 ? "/dev/fuse is root's only on this machine" : null)
        ?? UserProgram;

    /// <summary>Null, or why another user than root cannot run the program.</summary>
    public static string? UserProgram =>
        Command.Run("setpriv", [.. AsUser, Repository.Daemon, "--version"]).ExitStatus != 0 ? "a user who is not root cannot run the program where it was built" : null;

    /// <summary>Arguments of setpriv before the program to run as a user without any rights.</summary>
    public static string[] AsUser => ["--reuid=65534", "--regid=65534", "--clear-groups"];

    /// <summary>The path of a program, or null.</summary>
    public static string? Find(string name) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Append("/usr/sbin").Append("/sbin").Select(folder => Path.Combine(folder, name)).FirstOrDefault(File.Exists);
}

/// <summary>A test that mounts without being root.</summary>
sealed class UserMountFactAttribute : FactAttribute
{
    public UserMountFactAttribute() => Skip = Needs.UserMount;
}

/// <summary>A test of a user's mount that brings a /dev/fuse of its own.</summary>
sealed class OwnDeviceFactAttribute : FactAttribute
{
    public OwnDeviceFactAttribute() => Skip = Needs.Program("fusermount3", "fuse3") ?? Needs.Program("setpriv", "util-linux") ?? Needs.UserProgram;
}

/// <summary>A test that mounts.</summary>
sealed class MountFactAttribute : FactAttribute
{
    public MountFactAttribute() => Skip = Needs.Mount;
}

/// <summary>The same with arguments.</summary>
sealed class MountTheoryAttribute : TheoryAttribute
{
    public MountTheoryAttribute() => Skip = Needs.Mount;
}
