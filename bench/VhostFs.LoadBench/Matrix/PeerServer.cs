using System.Diagnostics;

namespace VhostFs.LoadBench.Matrix;

/// <summary>Somebody else's server: started for each run, since most end with their client.</summary>
/// <param name="command">With {dir}, {socket} and {image} in it.</param>
/// <param name="processes">That serve a device each.</param>
internal sealed class PeerServer(string name, string folder, string command, string directory, string image, int processes = 1) : Server(name, folder)
{
    public override void Start()
    {
        Sockets = [.. Enumerable.Range(0, processes).Select(i => Path.Combine(Folder, $"peer{i}.sock"))];
        foreach (string socket in Sockets) { File.Delete(socket); }
        Process[] started = [.. Sockets.Select(socket => Launch(CommandFor(socket)))];
        foreach ((Process process, string socket) in started.Zip(Sockets)) { WaitForSocket(process, socket); }
    }

    public override void Finish() => End();

    private string CommandFor(string socket) => command.Replace("{dir}", Quote(directory), StringComparison.Ordinal)
        .Replace("{image}", Quote(image), StringComparison.Ordinal).Replace("{socket}", Quote(socket), StringComparison.Ordinal);
}
