using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;

namespace VhostFs.ProgramTests;

/// <summary>The real binary as a process: what it writes, and how it ends.</summary>
internal sealed partial class RunningProgram : IDisposable
{
    public const int SIGINT = 2;
    public const int SIGTERM = 15;

    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60); // a hang is a failure; a busy machine is not

    private readonly Process _process;
    private readonly StringBuilder _output = new();
    private readonly StringBuilder _error = new();
    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _written = new(0);
    private bool _disposed;

    public RunningProgram(params string[] arguments)
    {
        // A test run in the background of a script ignores SIGINT, and what it starts would, too: as a program that nohup or such a script starts should.
        var start = new ProcessStartInfo("env", ["--default-signal=INT", Path.Combine(AppContext.BaseDirectory, "vhostfs"), .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["DOTNET_ROOT"] = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", ".."));
        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) => Append(_output, line.Data);
        _process.ErrorDataReceived += (_, line) => Append(_error, line.Data);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public int ProcessId => _process.Id;

    public string Output => Text(_output);

    public string Error => Text(_error);

    public static async Task<(int Status, string Output, string Error)> RunAsync(params string[] arguments)
    {
        using var program = new RunningProgram(arguments);
        int status = await program.WaitForEndAsync();
        return (status, program.Output, program.Error);
    }

    /// <summary>Waits until stderr has this text so many times.</summary>
    public Task WaitForErrorTextAsync(string text, int times = 1) => WaitAsync(() => Error.Split(text).Length > times, text);

    /// <summary>Waits until there is anything on stdout.</summary>
    public Task WaitForOutputAsync() => WaitAsync(() => Output.Length > 0, "any output");

    public void Signal(int signal) => Assert.Equal(0, Kill(_process.Id, signal));

    public async Task<int> WaitForEndAsync()
    {
        using var patience = new CancellationTokenSource(s_patience);
        try { await _process.WaitForExitAsync(patience.Token); }
        catch (OperationCanceledException) { Assert.Fail($"after {s_patience.TotalSeconds} s the program {(_process.HasExited ? "has ended, but its output is still open" : "has not ended")}; it said:\n{Error}"); }
        return _process.ExitCode;
    }

    public void Dispose()
    {
        if (!_process.HasExited) { _process.Kill(); }
        _process.Dispose();
        lock (_lock) { _disposed = true; }
        _written.Dispose();
    }

    private async Task WaitAsync(Func<bool> isThere, string what)
    {
        using var patience = new CancellationTokenSource(s_patience);
        while (!isThere())
        {
            if (_process.HasExited)
            {
                await WaitForEndAsync(); // and for the last lines
                Assert.True(isThere(), $"ended without {what}:\n{Error}");
            }
            await _written.WaitAsync(patience.Token);
        }
    }

    private void Append(StringBuilder target, string? line)
    {
        lock (_lock)
        {
            if (line is not null) { target.Append(line).Append('\n'); }
            if (!_disposed) { _written.Release(); } // the end of a stream, too, is news
        }
    }

    private string Text(StringBuilder source)
    {
        lock (_lock) { return source.ToString(); }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int process, int signal);
}

/// <summary>A directory of one test. In /tmp, because a socket's path has 107 bytes at most.</summary>
internal sealed class TemporaryDirectory : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("vhostfs-test-");

    public string this[string name] => Path.Combine(_directory.FullName, name);

    public void Dispose() => _directory.Delete(recursive: true);
}
