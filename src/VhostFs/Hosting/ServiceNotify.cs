using System.Net.Sockets;
using System.Text;

namespace VhostFs.Hosting;

/// <summary>Tells systemd (Type=notify) how far we are: sd_notify(3), one datagram to $NOTIFY_SOCKET.</summary>
internal static class ServiceNotify
{
    public static void Ready() => Send("READY=1");

    public static void Stopping() => Send("STOPPING=1");

    private static void Send(string state)
    {
        string? path = Environment.GetEnvironmentVariable("NOTIFY_SOCKET");
        if (string.IsNullOrEmpty(path)) { return; }
        try
        {
            using var socket = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
            // '@' stands for the abstract namespace.
            socket.SendTo(Encoding.UTF8.GetBytes(state), new UnixDomainSocketEndPoint(path[0] == '@' ? "\0" + path[1..] : path));
        }
        catch (SocketException)
        {
            // A service manager that does not listen is its own problem; guests are served all the same.
        }
    }
}
