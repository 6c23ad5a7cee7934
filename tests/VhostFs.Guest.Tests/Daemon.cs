using Xunit;

namespace VhostFs.Guest.Tests;

/// <summary>One `vhostfs serve` process on a volume in a folder of its own, behind one socket or several.</summary>
sealed class Daemon : IDisposable
{
    private readonly string _folder;
    private readonly bool _ownsFolder;
    private readonly int _exports;
    private Command _process;

    /// <param name="exports">More than one: guests share the volume.</param>
    public Daemon(string size = "2G", int exports = 1)
    {
        _exports = exports;
        _folder = Directory.CreateTempSubdirectory("vhostfs-test-").FullName;
        _ownsFolder = true;
        if (exports > 1)
        {
            IEnumerable<string> sockets = Enumerable.Range(0, exports).Select(i => $$"""{ "name": "vm{{i}}", "volume": "pool/web", "socket": "{{Path.GetFileName(SocketOf(i))}}", "sharing": "shared", "cache": "never" }""");
            File.WriteAllText(Config, $$"""
                { "bdevs": [ { "name": "disk", "filename": "disk.img", "size": "{{size}}" } ],
                  "pools": [ { "name": "pool", "bdev": "disk", "create": true, "volumes": [ { "name": "web" } ] } ],
                  "exports": [ {{string.Join(", ", sockets)}} ] }
                """);
        }
        _process = Start("--size", size);
    }

    public string Socket => SocketOf(0);

    public string SocketOf(int export) => Path.Combine(_folder, $"vm{(export == 0 ? "" : export)}.sock");

    private string Config => Path.Combine(_folder, "config.json");

    public string Volume => Path.Combine(_folder, "disk.img");

    public int DescriptorCount => Directory.GetFileSystemEntries($"/proc/{_process.Id}/fd").Length;

    public long ResidentKib => long.Parse(
        File.ReadLines($"/proc/{_process.Id}/status").Single(line => line.StartsWith("VmRSS:", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[^2],
        System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>kill -9, as a crash would be.</summary>
    public void Kill()
    {
        _process.Kill();
        _process.Wait(TimeSpan.FromSeconds(30));
    }

    public void ServeAgain() => _process = Start();

    /// <summary>SIGTERM; the exit status must be 0 and everything durable.</summary>
    public void Stop()
    {
        _process.Terminate();
        Finished ended = _process.Wait(TimeSpan.FromSeconds(60));
        Assert.True(ended.ExitStatus == 0, $"vhostfs serve ended with {ended.ExitStatus} after SIGTERM:\n{ended.Error}");
    }

    /// <summary>`vhostfs check` finds nothing; the daemon must not be running.</summary>
    public void AssertClean()
    {
        Finished check = Command.Run(Repository.Daemon, ["check", Volume]);
        Assert.True(check.ExitStatus == 0, $"vhostfs check: {check.ExitStatus}\n{check.Output}{check.Error}");
    }

    public void Dispose()
    {
        _process.Dispose();
        if (_ownsFolder) { Directory.Delete(_folder, recursive: true); }
    }

    private Command Start(params string[] more)
    {
        Assert.True(File.Exists(Repository.Daemon), $"no daemon at {Repository.Daemon}; build the solution first");
        File.Delete(Socket);
        var listening = new CountdownEvent(_exports);
        string[] arguments = _exports > 1 ? ["serve", Config] : ["serve", "--volume", Volume, .. more, "--socket", Socket];
        var process = new Command(Repository.Daemon, arguments, onErrorLine: line =>
        {
            if (line.Contains("Waiting for vhost-user socket connection", StringComparison.Ordinal) && !listening.IsSet) { listening.Signal(); }
        });
        for (int tenths = 0; !listening.Wait(100); tenths++)
        {
            Assert.False(process.HasExited, $"vhostfs serve ended at once:\n{process.Error}");
            Assert.True(tenths < 600, $"vhostfs serve did not listen within a minute:\n{process.Error}");
        }
        return process;
    }
}
