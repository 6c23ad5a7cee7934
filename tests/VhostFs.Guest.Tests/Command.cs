using System.Diagnostics;
using System.Text;

namespace VhostFs.Guest.Tests;

sealed record Finished(int ExitStatus, string Output, string Error);

/// <summary>A child process with both outputs collected, and each line of its stdout offered as it comes.</summary>
sealed class Command : IDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _output = new();
    private readonly StringBuilder _error = new();
    private bool _isDisposed;

    /// <param name="takesInput">It is spoken to with <see cref="Send"/>.</param>
    public Command(string program, IEnumerable<string> arguments, Action<string>? onOutputLine = null, Action<string>? onErrorLine = null, bool takesInput = false)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = takesInput };
        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) => Take(_output, line.Data, onOutputLine);
        _process.ErrorDataReceived += (_, line) => Take(_error, line.Data, onErrorLine);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public int Id => _process.Id;

    public bool HasExited => _process.HasExited;

    public string Error { get { lock (_error) { return _error.ToString(); } } }

    public static Finished Run(string program, IEnumerable<string> arguments)
    {
        using var command = new Command(program, arguments);
        return command.Wait(TimeSpan.FromMinutes(10));
    }

    public Finished Wait(TimeSpan limit)
    {
        if (!_process.WaitForExit(limit))
        {
            Kill();
            throw new TimeoutException($"{_process.StartInfo.FileName} still ran after {limit.TotalSeconds:F0} s\n{_output}{_error}");
        }
        _process.WaitForExit(); // also for the rest of the output
        return new Finished(_process.ExitCode, _output.ToString(), _error.ToString());
    }

    /// <summary>Writes a line to its stdin; false when it has ended.</summary>
    public bool Send(string line)
    {
        try
        {
            _process.StandardInput.WriteLine(line);
            _process.StandardInput.Flush();
            return true;
        }
        catch (IOException) { return false; }
    }

    /// <summary>Ends its stdin.</summary>
    public void EndInput() => _process.StandardInput.Close();

    /// <summary>SIGKILL: no clean-up on the other side.</summary>
    public void Kill() => _process.Kill();

    /// <summary>SIGTERM: the process may end in order.</summary>
    public void Terminate() => Run("/bin/kill", ["-TERM", Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]);

    public void Dispose()
    {
        if (_isDisposed) { return; }
        _isDisposed = true;
        if (!_process.HasExited)
        {
            Terminate();
            if (!_process.WaitForExit(TimeSpan.FromSeconds(15))) { _process.Kill(); }
        }
        _process.Dispose();
    }

    private static void Take(StringBuilder collected, string? line, Action<string>? listener)
    {
        if (line is null) { return; }
        lock (collected) { collected.AppendLine(line); }
        listener?.Invoke(line);
    }
}
