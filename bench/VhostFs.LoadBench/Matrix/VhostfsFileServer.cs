using System.Diagnostics;

namespace VhostFs.LoadBench.Matrix;

/// <summary>vhostfs with one volume. It runs on: a daemon for all guests of a host does.</summary>
internal sealed class VhostfsFileServer(string folder, string program, string image, long poolBytes) : Server("vhostfs", folder)
{
    private Process? _process;

    public override void Start()
    {
        if (_process is not null) { return; }
        Socket = Path.Combine(Folder, "vhostfs.sock");
        _process = Launch($"{Quote(program)} serve --volume {Quote(image)} --size {poolBytes} --socket {Quote(Socket)} --rpc-socket {Quote(Path.Combine(Folder, "rpc.sock"))} --log-level warn");
        WaitForSocket(_process);
    }

    public override void Finish()
    {
    }
}
