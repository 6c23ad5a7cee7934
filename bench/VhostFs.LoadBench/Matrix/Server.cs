using System.Diagnostics;
using VhostFs.GuestDriver;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Matrix;

/// <summary>A program that is measured, and where it listens.</summary>
internal abstract class Server(string name, string folder) : IDisposable
{
    private static readonly TimeSpan s_leaves = TimeSpan.FromMilliseconds(100), s_ends = TimeSpan.FromSeconds(20);
    private readonly List<Process> _processes = [];

    /// <summary>In tables and pictures.</summary>
    public string Name { get; } = name;

    /// <summary>For sockets and logs; short, because a socket's path has 107 bytes at most.</summary>
    protected string Folder { get; } = folder;

    public string Socket { get; protected set; } = "";

    /// <summary>Before a run; does nothing when it runs on.</summary>
    public abstract void Start();

    /// <summary>After a run.</summary>
    public abstract void Finish();

    public void Dispose() => End();

    /// <param name="command">For the shell. Its output goes to a file, and is shown when it ends without being asked to.</param>
    protected Process Launch(string command)
    {
        var start = new ProcessStartInfo("/bin/sh", ["-c", $"exec {command} > '{LogPath}' 2>&1 < /dev/null"]);
        Process process = Process.Start(start)!;
        _processes.Add(process);
        return process;
    }

    /// <summary>Ends what was launched: some servers end with their client, the others are asked to.</summary>
    protected void End()
    {
        foreach (Process process in _processes)
        {
            if (!process.WaitForExit(s_leaves)) { Libc.Terminate(process.Id); }
        }
        foreach (Process process in _processes)
        {
            if (!process.WaitForExit(s_ends)) { process.Kill(); }
            process.Dispose();
        }
        _processes.Clear();
    }

    protected void WaitForSocket(Process process)
    {
        while (!File.Exists(Socket))
        {
            if (process.HasExited) { throw new DriverException($"{Name} has ended at once: {File.ReadAllText(LogPath).Trim()}"); }
            Thread.Sleep(5);
        }
    }

    protected static string Quote(string word) => $"'{word.Replace("'", "'\\''", StringComparison.Ordinal)}'";

    private string LogPath => Path.Combine(Folder, $"{GetType().Name}.log");
}
