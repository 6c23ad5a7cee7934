using System.Globalization;
using VhostFs.Campaigns;

namespace VhostFs.Mount.Tests;

/// <summary>A volume of its own in a folder of its own, mounted by a `vhostfs mount` process: a campaign's, so it complains by <see cref="FindingException"/>.</summary>
sealed class MountedVolume : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    private readonly string[] _arguments;
    private readonly bool _isBorrowed;
    private Command? _process;

    /// <param name="bdevs">JSON of the bdevs above "file" in a configuration file, the last one being called "top"; null: no configuration file.</param>
    /// <param name="options">For <c>-o</c>.</param>
    public MountedVolume(string size = "1G", string? bdevs = null, string? options = null)
    {
        // tmpfs keeps what a killed process wrote just as a disk does, and takes no time.
        string parent = Directory.Exists("/dev/shm") ? "/dev/shm" : Path.GetTempPath();
        Folder = Path.Combine(parent, $"vhostfs-mount-{Guid.NewGuid():N}");
        Directory.CreateDirectory(Folder);
        Directory.CreateDirectory(MountPoint);
        Expect(0, "pool", "create", Image, "--size", size);
        Expect(0, "volume", "create", Image, "web");
        string[] more = options is null ? [] : ["-o", options];
        if (bdevs is null) { _arguments = ["mount", Image, MountPoint, .. more]; }
        else
        {
            File.WriteAllText(Config, $$"""{ "bdevs": [ { "name": "file", "filename": "disk.img" }, {{bdevs}} ], "pools": [ { "name": "pool", "bdev": "top" } ] }""");
            _arguments = ["mount", "--config", Config, "pool/web", MountPoint, .. more];
        }
    }

    private MountedVolume(MountedVolume same, string options)
    {
        Folder = same.Folder;
        _arguments = ["mount", Image, MountPoint, "-o", options];
        _isBorrowed = true;
    }

    public string Folder { get; }

    public string MountPoint => Path.Combine(Folder, "mnt");

    public string Image => Path.Combine(Folder, "disk.img");

    public int ProcessId => _process!.Id;

    public string Log => _process!.Error;

    public bool HasEnded => _process!.HasExited;

    /// <summary>The process answers: statfs is never answered from a cache.</summary>
    public bool IsAlive
    {
        get
        {
            try { return new DriveInfo(MountPoint).TotalSize > 0; }
            catch (IOException) { return false; }
        }
    }

    private string Config => Path.Combine(Folder, "config.json");

    /// <summary>Starts the program and waits until the volume is mounted.</summary>
    public MountedVolume Start()
    {
        var mounted = new ManualResetEventSlim();
        _process = new Command(Repository.Daemon, _arguments, onErrorLine: line =>
        {
            if (line.Contains("mounted volume", StringComparison.Ordinal)) { mounted.Set(); }
        });
        for (int tenths = 0; !mounted.Wait(100); tenths++)
        {
            if (_process.HasExited && !mounted.Wait(1000)) { throw new FindingException($"vhostfs mount ended at once:\n{_process.Error}"); }
            if (tenths >= 600) { throw new FindingException($"vhostfs mount did not mount within a minute:\n{_process.Error}"); }
        }
        return this;
    }

    /// <summary>The same volume, to be mounted with other options while it is not mounted with these.</summary>
    public MountedVolume With(string options) => new(this, options);

    /// <summary>kill -9. What programs have open on the mount fails from now on; the dead mount stays.</summary>
    public void Kill()
    {
        _process!.Kill();
        _process.Wait(s_patience);
    }

    /// <summary>Takes a mount away whose process is dead.</summary>
    public void DetachDeadMount() => Command.Run("/bin/umount", ["-l", MountPoint]);

    public void Unmount()
    {
        Finished unmounted = Command.Run("/bin/umount", [MountPoint]);
        if (unmounted.ExitStatus != 0) { throw new FindingException($"umount: {unmounted.Error}"); }
        ExpectEnd();
    }

    /// <summary>SIGTERM: everything is written out, and the process ends well.</summary>
    public void Stop()
    {
        _process!.Terminate();
        ExpectEnd();
    }

    public void ExpectEnd()
    {
        Finished ended = _process!.Wait(s_patience);
        if (ended.ExitStatus != 0) { throw new FindingException($"vhostfs mount ended with {ended.ExitStatus}:\n{ended.Error}"); }
        if (ended.Error.Contains("a bug", StringComparison.Ordinal)) { throw new FindingException(ended.Error); }
    }

    /// <summary>`vhostfs check` finds nothing.</summary>
    public void ExpectClean()
    {
        Finished check = Command.Run(Repository.Daemon, ["check", Image]);
        if (check.ExitStatus != 0) { throw new FindingException($"vhostfs check: {check.ExitStatus}\n{check.Output}{check.Error}"); }
    }

    public void Dispose()
    {
        if (_process is { HasExited: false }) { Kill(); }
        if (File.ReadAllText("/proc/self/mounts").Contains($" {MountPoint} ", StringComparison.Ordinal)) { DetachDeadMount(); }
        _process?.Dispose();
        if (!_isBorrowed) { Directory.Delete(Folder, recursive: true); }
    }

    /// <summary>Keeps the image of a finding: where it lies now.</summary>
    public string KeepImage()
    {
        string kept = Path.Combine(Path.GetTempPath(), string.Create(CultureInfo.InvariantCulture, $"vhostfs-finding-{Environment.ProcessId}-{Path.GetFileName(Folder)}.img"));
        File.Copy(Image, kept);
        return kept;
    }

    private static void Expect(int status, params string[] arguments)
    {
        Finished run = Command.Run(Repository.Daemon, arguments);
        if (run.ExitStatus != status) { throw new FindingException($"vhostfs {string.Join(' ', arguments)} ended with {run.ExitStatus}:\n{run.Error}"); }
    }
}
