using System.Diagnostics;
using VhostFs.GuestDriver;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Matrix;

/// <summary>A program that is measured, and where it listens.</summary>
internal abstract class Server(string name, string folder) : IDisposable
{
    private static readonly TimeSpan s_leaves = TimeSpan.FromMilliseconds(100), s_ends = TimeSpan.FromSeconds(20);
    private static int s_count;
    private readonly List<Process> _processes = [];
    private readonly string _logPath = Path.Combine(folder, $"server{Interlocked.Increment(ref s_count)}.log");

    /// <summary>In tables and pictures.</summary>
    public string Name { get; } = name;

    /// <summary>For sockets and logs; short, because a socket's path has 107 bytes at most.</summary>
    protected string Folder { get; } = folder;

    /// <summary>Of its devices.</summary>
    public IReadOnlyList<string> Sockets { get; protected set; } = [];

    public string Socket => Sockets[0];

    /// <summary>What it consists of while it runs.</summary>
    public ServerProcess Running => new(_processes.Select(process => process.Id));

    public bool IsRunning => _processes.Count > 0;

    /// <summary>How long it may take until it listens.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Before a run; does nothing when it runs on.</summary>
    public abstract void Start();

    /// <summary>After a run.</summary>
    public abstract void Finish();

    /// <summary>Ends what was launched: some servers end with their client, the others are asked to.</summary>
    public void End()
    {
        foreach (Process process in _processes)
        {
            if (!process.WaitForExit(s_leaves)) { Libc.Terminate(process.Id); }
        }
        Collect();
    }

    /// <summary>As kill -9 does.</summary>
    public void Kill()
    {
        _processes.ForEach(process => process.Kill());
        Collect();
    }

    public void Dispose() => End();

    /// <param name="command">For the shell. Its output goes to a file, and is shown when it ends without being asked to.</param>
    protected Process Launch(string command)
    {
        var start = new ProcessStartInfo("/bin/sh", ["-c", $"exec {command} > '{_logPath}' 2>&1 < /dev/null"]);
        Process process = Process.Start(start)!;
        _processes.Add(process);
        return process;
    }

    protected void WaitForSocket(Process process, string socket)
    {
        long since = Stopwatch.GetTimestamp();
        while (!File.Exists(socket))
        {
            if (process.HasExited) { throw new DriverException($"{Name} has ended at once: {Output}"); }
            if (Stopwatch.GetElapsedTime(since) > Patience) { throw new DriverException($"{Name} still does not listen on {socket}, {Patience.TotalSeconds:0} s after its start; it says: {Output}"); }
            Thread.Sleep(1);
        }
    }

    protected static string Quote(string word) => $"'{word.Replace("'", "'\\''", StringComparison.Ordinal)}'";

    private string Output => File.Exists(_logPath) && File.ReadAllText(_logPath).Trim() is { Length: > 0 } text ? text : "nothing";

    private void Collect()
    {
        foreach (Process process in _processes)
        {
            if (!process.WaitForExit(s_ends)) { process.Kill(); }
            process.Dispose();
        }
        _processes.Clear();
    }
}
