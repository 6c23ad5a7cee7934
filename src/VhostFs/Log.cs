using System.Text;

namespace VhostFs;

/// <summary>virtiofsd's levels, in its order.</summary>
internal enum LogLevel
{
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// <summary>The log: stderr, one line each, <c>vhostfs: [export vm1] message</c>. Written from any thread, never per request.</summary>
/// <remarks>Text from outside (names, paths) may hold anything: control characters are escaped, so that an entry stays one line and
/// nobody can forge another.</remarks>
internal sealed class Log
{
    private readonly Lock _lock = new();
    private readonly TextWriter _target;

    public Log(TextWriter target, LogLevel level)
    {
        _target = target;
        Level = level;
    }

    public LogLevel Level { get; set; }

    public void Error(string scope, string message) => Write(LogLevel.Error, scope, "error: " + message);

    public void Warn(string scope, string message) => Write(LogLevel.Warn, scope, "warning: " + message);

    public void Info(string scope, string message) => Write(LogLevel.Info, scope, message);

    public void Debug(string scope, string message) => Write(LogLevel.Debug, scope, message);

    /// <summary>Written at any level: what another program waits for.</summary>
    public void Always(string scope, string message) => WriteLine(scope, message);

    private void Write(LogLevel level, string scope, string message)
    {
        if (level <= Level) { WriteLine(scope, message); }
    }

    private void WriteLine(string scope, string message)
    {
        string line = scope.Length == 0 ? $"vhostfs: {OneLine(message)}\n" : $"vhostfs: [{OneLine(scope)}] {OneLine(message)}\n";
        lock (_lock)
        {
            try
            {
                _target.Write(line);
                _target.Flush();
            }
            catch (IOException)
            {
                // Whoever read our stderr went away. There is no better place to say so, and guests go on.
            }
        }
    }

    internal static string OneLine(string text)
    {
        if (!text.AsSpan().ContainsAnyInRange('\0', '\x1f') && !text.Contains('\x7f', StringComparison.Ordinal)) { return text; }
        var escaped = new StringBuilder(text.Length + 8);
        foreach (char c in text)
        {
            switch (c)
            {
                case '\n': escaped.Append("\\n"); break;
                case '\t': escaped.Append("\\t"); break;
                case < ' ' or '\x7f': escaped.Append($"\\x{(int)c:x2}"); break;
                default: escaped.Append(c); break;
            }
        }
        return escaped.ToString();
    }
}
