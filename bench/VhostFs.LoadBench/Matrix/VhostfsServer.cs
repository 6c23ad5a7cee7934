using System.Diagnostics;

namespace VhostFs.LoadBench.Matrix;

/// <summary>vhostfs with volumes. It runs on: a daemon for all guests of a host does.</summary>
internal sealed class VhostfsServer : Server
{
    private static readonly TimeSpan s_patiencePerVolume = TimeSpan.FromMilliseconds(100);

    private readonly string _program;
    private readonly VhostfsSetup _setup;

    public VhostfsServer(string folder, string program, VhostfsSetup setup)
        : base("vhostfs", folder)
    {
        _program = program;
        _setup = setup;
        Patience += setup.Volumes * s_patiencePerVolume; // that are made at the first start
    }

    /// <summary>For calls.</summary>
    public string RpcSocket => Path.Combine(Folder, $"{_setup.Name}-rpc.sock");

    public override void Start()
    {
        if (IsRunning) { return; }
        Sockets = [.. Enumerable.Range(0, _setup.Volumes).Select(i => Path.Combine(Folder, $"{_setup.Name}{i}.sock"))];
        // A killed one leaves them.
        foreach (string socket in Sockets) { File.Delete(socket); }
        string config = Path.Combine(Folder, $"{_setup.Name}.json");
        File.WriteAllText(config, _setup.Config(Sockets));
        Process process = Launch($"{Quote(_program)} serve {Quote(config)} --rpc-socket {Quote(RpcSocket)}");
        foreach (string socket in Sockets) { WaitForSocket(process, socket); }
    }

    public override void Finish()
    {
    }

    /// <summary>Ends it, and takes its pools away.</summary>
    public void Remove()
    {
        End();
        foreach (string image in _setup.Images) { File.Delete(image); }
    }
}
