using System.Net.Sockets;

namespace VhostFs.Guest.Tests;

/// <summary>QEMU's control socket, as far as the tests need it.</summary>
sealed class Qmp : IDisposable
{
    private readonly Socket _socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly StreamReader _reader;

    public Qmp(string path)
    {
        _socket.Connect(new UnixDomainSocketEndPoint(path));
        _reader = new StreamReader(new NetworkStream(_socket));
        _reader.ReadLine(); // the greeting
        Execute("qmp_capabilities");
    }

    /// <summary>The answer, as it is.</summary>
    /// <param name="arguments">JSON.</param>
    public string Execute(string command, string arguments = "{}")
    {
        _socket.Send(System.Text.Encoding.ASCII.GetBytes($$"""{"execute":"{{command}}","arguments":{{arguments}}}""" + "\n"));
        for (; ; )
        {
            string line = _reader.ReadLine() ?? throw new IOException($"QEMU ended during '{command}'");
            if (line.Contains("\"error\"", StringComparison.Ordinal)) { throw new IOException($"{command}: {line}"); }
            if (line.Contains("\"return\"", StringComparison.Ordinal)) { return line; }
        }
    }

    public void Dispose()
    {
        _reader.Dispose();
        _socket.Dispose();
    }
}
