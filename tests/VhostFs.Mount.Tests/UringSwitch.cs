using Xunit;

namespace VhostFs.Mount.Tests;

/// <summary>The kernel's switch of FUSE over io_uring, as a test wants it; afterwards it is as it was found.</summary>
sealed class UringSwitch : IDisposable
{
    private const string Parameter = "/sys/module/fuse/parameters/enable_uring";

    private readonly string _found = File.ReadAllText(Parameter).Trim();

    public UringSwitch(bool isOn) => File.WriteAllText(Parameter, isOn ? "Y" : "N");

    /// <summary>Null, or why it cannot be switched here.</summary>
    public static string? Problem { get; } = Needs.Mount ?? FindProblem();

    public void Dispose() => File.WriteAllText(Parameter, _found);

    private static string? FindProblem()
    {
        if (!File.Exists(Parameter)) { return "this kernel has no FUSE over io_uring (Linux 6.14, CONFIG_FUSE_IO_URING)"; }
        try
        {
            using var test = new UringSwitch(isOn: true);
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { return $"{Parameter} cannot be written: {e.Message}"; }
    }
}

/// <summary>A test that switches FUSE over io_uring on.</summary>
sealed class UringFactAttribute : FactAttribute
{
    public UringFactAttribute() => Skip = UringSwitch.Problem;
}
