using System.Diagnostics;

namespace VhostFs.LoadBench.Matrix;

/// <summary>Somebody else's server: started for each run, since most end with their client.</summary>
/// <param name="command">With {dir}, {socket} and {image} in it.</param>
internal sealed class PeerServer(string name, string folder, string command, string directory, string image) : Server(name, folder)
{
    public override void Start() => Start("peer.sock");

    public override void Finish() => End();

    /// <summary>One more, with a socket of its own.</summary>
    public Process Start(string socketName)
    {
        Socket = Path.Combine(Folder, socketName);
        File.Delete(Socket);
        Process process = Launch(command.Replace("{dir}", Quote(directory), StringComparison.Ordinal).Replace("{image}", Quote(image), StringComparison.Ordinal).Replace("{socket}", Quote(Socket), StringComparison.Ordinal));
        WaitForSocket(process);
        return process;
    }
}
