using System.Diagnostics;
using System.Runtime.CompilerServices;
using Xunit;

namespace VhostFs.Reactor.Tests;

public class CompileFailTests
{
    [Fact]
    public void Awaiting_a_task_in_reactor_code_does_not_compile()
    {
        (int failed, string errors) = Build("REFUSED");
        Assert.True(failed != 0, "it compiled");
        Assert.Contains("CS0315", errors, StringComparison.Ordinal);
        (int compiled, string output) = Build("ALLOWED"); // the same project, so that the failure above is the one that is meant
        Assert.True(compiled == 0, output);
    }

    private static (int ExitCode, string Output) Build(string symbol, [CallerFilePath] string thisFile = "")
    {
        string project = Path.Combine(Path.GetDirectoryName(thisFile)!, "..", "compile-fail", "AwaitTask.csproj");
        // What the project refers to is not built again: it is there as this test is, in .../bin/Release/net10.0 or Debug.
        string configuration = new DirectoryInfo(AppContext.BaseDirectory).Parent!.Name;
        string output = Path.Combine(Path.GetTempPath(), $"vhostfs-{Guid.NewGuid():N}");
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true };
        foreach (string word in (string[])["build", project, "-c", configuration, "-v", "q", "-nodeReuse:false", "-p:UseSharedCompilation=false", $"-p:DefineConstants={symbol}", "-p:BuildProjectReferences=false", "-o", output])
        {
            start.ArgumentList.Add(word);
        }
        using var process = Process.Start(start)!;
        string text = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (Directory.Exists(output)) { Directory.Delete(output, recursive: true); }
        return (process.ExitCode, text);
    }
}
