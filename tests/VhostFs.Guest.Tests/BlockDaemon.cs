using System.Net.Sockets;
using System.Text;
using Xunit;

namespace VhostFs.Guest.Tests;

/// <summary>A `vhostfs serve` process with nothing but a control socket, and the disks that are made through it.</summary>
sealed class BlockDaemon : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vhostfs-test-").FullName;
    private readonly List<(string Method, string Parameters)> _made = [];
    private Command _process;

    public BlockDaemon() => _process = Start();

    private string RpcSocket => Path.Combine(_folder, "rpc");

    public string this[string name] => Path.Combine(_folder, name);

    /// <summary>A call that must succeed, and is made once more when the daemon is started again.</summary>
    public void Make(string method, string parameters)
    {
        _made.Add((method, parameters));
        Call(method, parameters);
    }

    /// <summary>kill -9, as a crash would be, and a new process with the same disks.</summary>
    public void KillAndServeAgain()
    {
        _process.Kill();
        _process.Wait(TimeSpan.FromSeconds(30));
        _process.Dispose();
        _process = Start();
        foreach ((string method, string parameters) in _made) { Call(method, parameters); }
    }

    /// <summary>A call that must succeed.</summary>
    public string Call(string method, string parameters)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { ReceiveTimeout = 60_000 };
        socket.Connect(new UnixDomainSocketEndPoint(RpcSocket));
        socket.Send(Encoding.UTF8.GetBytes($$"""{"id":1,"method":"{{method}}","params":{{parameters}}}"""));
        byte[] answer = new byte[65536];
        string text = Encoding.UTF8.GetString(answer, 0, socket.Receive(answer));
        Assert.True(text.Contains("\"result\"", StringComparison.Ordinal), $"{method} {parameters}\nanswers {text}\n{_process.Error}");
        return text;
    }

    /// <summary>SIGTERM; the exit status must be 0.</summary>
    public void Stop()
    {
        _process.Terminate();
        Finished ended = _process.Wait(TimeSpan.FromSeconds(60));
        Assert.True(ended.ExitStatus == 0, $"vhostfs serve ended with {ended.ExitStatus} after SIGTERM:\n{ended.Error}");
    }

    /// <summary>Boots a guest with these controllers as its disks.</summary>
    public Command Boot(string[] controllers, string[] machine, string command, string[]? more = null, Action<string>? onLine = null) => new(Repository.VmRun,
    [
        .. controllers.SelectMany(c => new[] { "--blk-socket", this[c] }), "--timeout", "150", .. machine, .. more ?? [],
        "--file", $"{Repository.GuestPrograms}/blk-check:bin/blk-check", "--", command,
    ], onLine);

    public string Succeeds(string[] controllers, string[] machine, string command, params string[] more)
    {
        using Command guest = Boot(controllers, machine, command, more);
        Finished run = guest.Wait(TimeSpan.FromMinutes(3));
        Assert.True(run.ExitStatus == 0, $"in the guest, `{command}` ended with {run.ExitStatus}:\n{run.Output}{run.Error}\n{_process.Error}");
        return run.Output;
    }

    /// <summary>Boots a guest with a file system controller, mounted where the command runs.</summary>
    public string SucceedsOn(string controller, string[] machine, string command)
    {
        using var guest = new Command(Repository.VmRun, ["--socket", this[controller], "--timeout", "150", .. machine, "--", command]);
        Finished run = guest.Wait(TimeSpan.FromMinutes(3));
        Assert.True(run.ExitStatus == 0, $"in the guest, `{command}` ended with {run.ExitStatus}:\n{run.Output}{run.Error}\n{_process.Error}");
        return run.Output;
    }

    public void Dispose()
    {
        _process.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private Command Start()
    {
        Assert.True(File.Exists(Repository.Daemon), $"no daemon at {Repository.Daemon}; build the solution first");
        var listening = new ManualResetEventSlim();
        var process = new Command(Repository.Daemon, ["serve", "-r", RpcSocket, "-S", _folder], onErrorLine: line =>
        {
            if (line.Contains("[rpc] listening", StringComparison.Ordinal)) { listening.Set(); }
        });
        Assert.True(listening.Wait(TimeSpan.FromMinutes(1)), $"vhostfs serve did not listen within a minute:\n{process.Error}");
        return process;
    }
}
