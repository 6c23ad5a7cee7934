using System.Text.RegularExpressions;
using VhostFs.Hosting;
using VhostFs.Rpc;

namespace VhostFs.ProgramTests;

/// <summary>Every method of the control socket has a line in docs/rpc.md, and a test that calls it.</summary>
public sealed partial class RpcCoverageTests
{
    [Fact]
    public void Every_method_is_documented_and_called_by_a_test_and_no_other_is()
    {
        using var files = new TemporaryDirectory();
        using var target = new RpcTarget(files);
        string[] methods = [.. target.Methods.Keys.Append(RpcServer.GetMethods).Append(AttachedMounts.Method).Order(StringComparer.Ordinal)];
        // The first column of a table that lists methods may name several.
        string[] documented = [.. File.ReadLines(Repository.File("docs", "rpc.md")).Where(line => line.StartsWith("| `", StringComparison.Ordinal))
            .SelectMany(line => Name().Matches(line.Split('|')[1]).Select(match => match.Groups[1].Value)).Order(StringComparer.Ordinal)];
        Assert.Equal(methods, documented);
        string tests = string.Concat(Directory.EnumerateFiles(Repository.File("tests"), "*.cs", SearchOption.AllDirectories)
            .Concat(Directory.EnumerateFiles(Repository.File("tests", "VhostFs.Program.Tests", "Exchanges"))).Select(File.ReadAllText));
        // Two modules are the same and have one test; what `vhostfs mount` calls is tested by mounting.
        bool IsCalled(string method) => tests.Contains($"\"{method}\"", StringComparison.Ordinal) || tests.Contains($"\"{FileModule().Replace(method, "bdev_{module}_")}\"", StringComparison.Ordinal);
        Assert.DoesNotContain(methods, method => !IsCalled(method) && method != AttachedMounts.Method);
    }

    // rpc_..., bdev_..., and not a type's GUID.
    [GeneratedRegex("`([a-z]+(?:_[a-z0-9]+)+)`")]
    private static partial Regex Name();

    [GeneratedRegex("^bdev_(aio|uring)_")]
    private static partial Regex FileModule();
}
