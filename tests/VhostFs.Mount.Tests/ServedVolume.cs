using System.Globalization;
using Xunit;

namespace VhostFs.Mount.Tests;

/// <summary>A volume that a `vhostfs serve` process serves, and mounts of it through that process.</summary>
sealed class ServedVolume : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    private readonly string[] _options;
    private readonly List<(Command Process, string Path)> _mounts = [];
    private Command? _daemon;

    public ServedVolume(params string[] options)
    {
        _options = options;
        Folder = Path.Combine(Directory.Exists("/dev/shm") ? "/dev/shm" : Path.GetTempPath(), $"vhostfs-served-{Guid.NewGuid():N}");
        Directory.CreateDirectory(Folder);
        Start();
    }

    public string Folder { get; }

    public string Image => Path.Combine(Folder, "disk.img");

    public string Socket => Path.Combine(Folder, "s");

    public string Log => _daemon!.Error;

    /// <summary>Starts the daemon, and waits until guests may connect and the volume may be mounted.</summary>
    public void Start() => _daemon = StartAndWait("listening on", ["serve", "--volume", Image, "--size", "256M", "--socket", Socket, "--rpc-socket", Path.Combine(Folder, "rpc"), "--log-level", "debug", .. _options], "[rpc] listening on");

    public void KillDaemon()
    {
        _daemon!.Kill();
        _daemon.Wait(s_patience);
    }

    /// <summary>SIGTERM: ends in order.</summary>
    public void StopDaemon()
    {
        _daemon!.Terminate();
        Finished ended = _daemon.Wait(s_patience);
        Assert.True(ended.ExitStatus == 0, ended.Error);
        Assert.DoesNotContain("a bug", ended.Error, StringComparison.Ordinal);
    }

    /// <summary>The process that holds the mount, and where it is.</summary>
    public (Command Holder, string Path) Mount(string? options = null)
    {
        string path = Path.Combine(Folder, string.Create(CultureInfo.InvariantCulture, $"mnt{_mounts.Count}"));
        Directory.CreateDirectory(path);
        Command holder = StartAndWait("mount", MountArguments(path, options), "mounted volume 'disk', served by process");
        _mounts.Add((holder, path));
        return (holder, path);
    }

    public string[] MountArguments(string path, string? options = null) => ["mount", Image, path, "--rpc-socket", Path.Combine(Folder, "rpc"), .. options is null ? (string[])[] : ["-o", options]];

    public static bool IsMounted(string path) => File.ReadAllText("/proc/self/mounts").Contains($" {path} ", StringComparison.Ordinal);

    public static void Unmount((Command Holder, string Path) mount)
    {
        // A file that was closed just now may be in use for another moment.
        Finished unmounted = Command.Run("/bin/umount", [mount.Path]);
        for (int tries = 0; unmounted.ExitStatus != 0 && tries < 50; tries++)
        {
            Thread.Sleep(100);
            unmounted = Command.Run("/bin/umount", [mount.Path]);
        }
        Assert.True(unmounted.ExitStatus == 0, unmounted.Error);
        Finished ended = mount.Holder.Wait(s_patience);
        Assert.True(ended.ExitStatus == 0, ended.Error);
    }

    public void ExpectClean()
    {
        Finished check = Command.Run(Repository.Daemon, ["check", Image]);
        Assert.True(check.ExitStatus == 0, check.Output + check.Error);
    }

    public void Dispose()
    {
        foreach ((Command holder, string path) in _mounts)
        {
            if (!holder.HasExited) { holder.Kill(); }
            holder.Dispose();
            if (IsMounted(path)) { Command.Run("/bin/umount", ["-l", path]); }
        }
        if (!_daemon!.HasExited) { _daemon.Kill(); }
        _daemon.Dispose();
        Directory.Delete(Folder, recursive: true);
    }

    private static Command StartAndWait(string what, string[] arguments, string text)
    {
        var ready = new ManualResetEventSlim();
        var process = new Command(Repository.Daemon, arguments, onErrorLine: line =>
        {
            if (line.Contains(text, StringComparison.Ordinal)) { ready.Set(); }
        });
        for (int tenths = 0; !ready.Wait(100); tenths++)
        {
            Assert.False(process.HasExited && !ready.Wait(1000), $"{what} ended at once:\n{process.Error}");
            Assert.True(tenths < 600, $"no {what} within a minute:\n{process.Error}");
        }
        return process;
    }
}
