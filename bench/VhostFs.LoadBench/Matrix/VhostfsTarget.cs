using System.Diagnostics;

namespace VhostFs.LoadBench.Matrix;

/// <summary>vhostfs with nothing but a control socket: what it serves is made by calls.</summary>
internal class VhostfsTarget(string folder, string program) : Server("vhostfs", folder)
{
    private string RpcSocket => Path.Combine(Folder, "target-rpc.sock");

    public override void Start()
    {
        if (IsRunning) { return; }
        Process process = Launch($"{Quote(program)} serve --rpc-socket {Quote(RpcSocket)} --socket-dir {Quote(Folder)} --log-level warn");
        WaitForSocket(process, RpcSocket);
        using var rpc = new RpcClient(RpcSocket);
        Make(rpc);
    }

    public override void Finish()
    {
    }

    public RpcClient Connect() => new(RpcSocket);

    /// <summary>Where a controller listens.</summary>
    public string SocketOf(string controller) => Path.Combine(Folder, controller);

    /// <summary>What it is to serve from the start.</summary>
    protected virtual void Make(RpcClient rpc)
    {
    }
}
