using Xunit;

[assembly: CollectionBehavior(DisableTestParallelization = true)] // one emulated guest at a time is enough for two processors

namespace VhostFs.Guest.Tests;

/// <summary>A test that boots guests. Skipped while this build of the daemon has no `serve`; anything else missing fails.</summary>
[AttributeUsage(AttributeTargets.Method)]
sealed class GuestFactAttribute : FactAttribute
{
    private static readonly Lazy<bool> s_serves = new(() =>
        File.Exists(Repository.Daemon) && Command.Run(Repository.Daemon, ["serve", "--help"]) is { ExitStatus: 0 } help && help.Output.Contains("--socket", StringComparison.Ordinal));

    public GuestFactAttribute()
    {
        if (!s_serves.Value) { Skip = "this build of vhostfs has no `serve --socket`"; }
    }
}
