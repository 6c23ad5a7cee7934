using System.Collections.Concurrent;
using System.Diagnostics;
using VhostFs.Campaigns;

namespace VhostFs.Mount.Tests;

/// <summary>A program that is told what to do on stdin and answers on stdout, line by line.</summary>
sealed class Conversation : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(100);

    private readonly Command _command;
    private readonly BlockingCollection<string> _lines = [];
    private readonly List<string> _seen = [];

    public Conversation(string program, params string[] arguments) =>
        _command = new Command(program, arguments, onOutputLine: _lines.Add, takesInput: true);

    public bool HasEnded => _command.HasExited;

    public bool Send(string line) => _command.Send(line);

    /// <summary>The next line that begins so; those before it are skipped and kept for messages.</summary>
    public string WaitFor(string beginning) => Next(beginning) ?? throw new FindingException($"no line '{beginning}', it has ended:\n{Said()}");

    /// <summary>As <see cref="WaitFor"/>, but null when the program has ended.</summary>
    public string? Next(string beginning)
    {
        long start = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(start) < s_patience)
        {
            string? line = TryTake(100);
            // The last lines may come after the end.
            if (line is null && _command.HasExited && (line = TryTake(300)) is null) { return null; }
            if (line?.StartsWith(beginning, StringComparison.Ordinal) == true) { return line; }
        }
        throw new FindingException($"no line '{beginning}' within {s_patience.TotalSeconds} s:\n{Said()}");
    }

    /// <summary>A line that has come, if one has.</summary>
    public string? TryTake(int waitMs = 0)
    {
        if (!_lines.TryTake(out string? line, waitMs)) { return null; }
        _seen.Add(line);
        return line;
    }

    /// <summary>The last lines it said, and its stderr.</summary>
    public string Said() => string.Join('\n', _seen.TakeLast(60)) + "\n" + _command.Error;

    public Finished End()
    {
        _command.EndInput();
        return _command.Wait(s_patience);
    }

    public void Kill()
    {
        _command.Kill();
        _command.Wait(s_patience);
    }

    public void Dispose()
    {
        if (!_command.HasExited) { Kill(); }
        _command.Dispose();
    }
}
