using System.Globalization;
using System.Text;
using System.Text.Json;
using VhostFs.Guest.Tests;

namespace VhostFs.Scale.Tests;

/// <summary>One `vhostfs serve` process with many volumes of one pool, each behind a socket of its own.</summary>
internal sealed class ManyVolumes : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(2);

    private readonly string _folder = Directory.CreateTempSubdirectory("vhostfs-test-").FullName;
    private readonly int _count;
    private Command _process;

    public ManyVolumes(int count, string size)
    {
        _count = count;
        var config = new
        {
            log_level = "warn",
            bdevs = new[] { new { name = "disk", filename = Image, size } },
            pools = new[] { new { name = "pool", bdev = "disk", create = true, volumes = Enumerable.Range(0, count).Select(i => new { name = $"v{i}" }) } },
            exports = Enumerable.Range(0, count).Select(i => new { volume = $"pool/v{i}", socket = Socket(i) }),
        };
        File.WriteAllText(Path.Combine(_folder, "config.json"), JsonSerializer.Serialize(config));
        _process = Start();
    }

    /// <summary>From the start of the process until it listens on all sockets.</summary>
    public TimeSpan StartTime { get; private set; }

    public int DescriptorCount => Directory.GetFileSystemEntries($"/proc/{_process.Id}/fd").Length;

    public int ThreadCount => Directory.GetDirectories($"/proc/{_process.Id}/task").Length;

    /// <summary>Memory that is only this process's: what a thousand guests' shared memory does not count to.</summary>
    public long PrivateKib => File.ReadLines($"/proc/{_process.Id}/smaps_rollup")
        .Where(line => line.StartsWith("Private_Dirty:", StringComparison.Ordinal) || line.StartsWith("Private_Clean:", StringComparison.Ordinal))
        .Sum(line => long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[^2], CultureInfo.InvariantCulture));

    /// <summary>Processor time used so far, all threads.</summary>
    public TimeSpan ProcessorTime
    {
        get
        {
            // proc(5): utime and stime are fields 14 and 15, in clock ticks of 10 ms; the name in field 2 may hold blanks.
            string[] fields = File.ReadAllText($"/proc/{_process.Id}/stat").Split(')')[^1].Split(' ', StringSplitOptions.RemoveEmptyEntries);
            return TimeSpan.FromMilliseconds(10 * (long.Parse(fields[11], CultureInfo.InvariantCulture) + long.Parse(fields[12], CultureInfo.InvariantCulture)));
        }
    }

    private string Image => Path.Combine(_folder, "disk.img");

    public string Socket(int volume) => Path.Combine(_folder, $"{volume}.sock");

    /// <summary>kill -9.</summary>
    public void Kill()
    {
        _process.Kill();
        _process.Wait(s_patience);
        _process.Dispose();
    }

    public void ServeAgain() => _process = Start();

    /// <summary>SIGTERM: ends with 0, everything durable.</summary>
    public void Stop()
    {
        _process.Terminate();
        Finished ended = _process.Wait(s_patience);
        if (ended.ExitStatus != 0) { throw new InvalidOperationException($"vhostfs serve ended with {ended.ExitStatus} after SIGTERM:\n{ended.Error}"); }
    }

    /// <summary>What `vhostfs check` finds; null: nothing. The daemon must not be running.</summary>
    public string? Check()
    {
        Finished check = Command.Run(Repository.Daemon, ["check", Image]);
        return check.ExitStatus == 0 ? null : $"vhostfs check: {check.ExitStatus}\n{check.Output}{check.Error}";
    }

    public void Dispose()
    {
        _process.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private Command Start()
    {
        for (int i = 0; i < _count; i++) { File.Delete(Socket(i)); }
        var clock = System.Diagnostics.Stopwatch.StartNew();
        var listening = new CountdownEvent(_count);
        var process = new Command(Repository.Daemon, ["serve", Path.Combine(_folder, "config.json")], onErrorLine: line =>
        {
            if (line.Contains("Waiting for vhost-user socket connection", StringComparison.Ordinal)) { listening.Signal(); }
        });
        while (!listening.Wait(100))
        {
            if (process.HasExited) { throw new InvalidOperationException($"vhostfs serve ended at once:\n{process.Error}"); }
            if (clock.Elapsed > s_patience) { throw new InvalidOperationException($"vhostfs serve listens on {_count - listening.CurrentCount} of {_count} sockets after {clock.Elapsed.TotalSeconds:f0} s:\n{process.Error}"); }
        }
        StartTime = clock.Elapsed;
        return process;
    }
}
