using System.Diagnostics;
using VhostFs.GuestDriver;

namespace VhostFs.LoadBench.Matrix;

/// <summary>vhostfs with a disk that is a file. It runs on: a daemon for all guests of a host does.</summary>
internal sealed class VhostfsDiskServer(string folder, string program, string image) : Server("vhostfs", folder)
{
    private Process? _process;

    public override void Start()
    {
        if (_process is not null) { return; }
        string rpc = Path.Combine(Folder, "rpc.sock");
        Socket = rpc;
        _process = Launch($"{Quote(program)} serve --rpc-socket {Quote(rpc)} --socket-dir {Quote(Folder)} --log-level warn");
        WaitForSocket(_process);
        Ask("bdev", "create", "uring", "disk", "--file", image, "--block-size", "512", "--rpc-socket", rpc);
        Ask("controller", "create", "vhostfs.sock", "disk", "--rpc-socket", rpc);
        Socket = Path.Combine(Folder, "vhostfs.sock");
        WaitForSocket(_process);
    }

    public override void Finish()
    {
    }

    private void Ask(params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true })!;
        process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0) { throw new DriverException($"vhostfs {string.Join(' ', arguments)} failed"); }
    }
}
