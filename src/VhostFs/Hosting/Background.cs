using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using VhostFs.Commands;
using VhostFs.Linux;

namespace VhostFs.Hosting;

/// <summary>Runs the same command once more as a process of its own session, and returns when that one is ready: what mount(8) and fstab need.</summary>
/// <remarks>Ready is what it tells a service manager, so nothing but <c>NOTIFY_SOCKET</c> differs for it. Until then its log is ours; afterwards nobody reads it.</remarks>
internal static class Background
{
    public const string Option = "--background";
    private const string Mark = "VHOSTFS_BACKGROUND";

    /// <summary>This process is the one in the background: lets go of terminal and directory.</summary>
    public static void Detach()
    {
        if (Environment.GetEnvironmentVariable(Mark) is null) { return; }
        ProcessCalls.NewSession();
        Environment.CurrentDirectory = "/";
    }

    public static async Task<int> StartAsync(Terminal terminal)
    {
        string address = $"vhostfs-{Guid.NewGuid():N}";
        using var socket = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint("\0" + address));
        using var process = Process.Start(NewStart(address))!;
        process.StandardInput.Close();
        Task log = CopyAsync(process.StandardError, terminal.Error);
        Task<bool> ready = IsReadyAsync(socket);
        if (await Task.WhenAny(ready, process.WaitForExitAsync()) == ready) { return ExitCode.Ok; }
        await log;
        return process.ExitCode == ExitCode.Ok ? ExitCode.Failure : process.ExitCode;
    }

    private static ProcessStartInfo NewStart(string address)
    {
        string[] own = Environment.GetCommandLineArgs();
        var start = new ProcessStartInfo(Environment.ProcessPath!) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        if (Path.GetFileName(Environment.ProcessPath) == "dotnet") { start.ArgumentList.Add(own[0]); }
        foreach (string argument in own.Skip(1).Where(a => a != Option)) { start.ArgumentList.Add(argument); }
        start.Environment["NOTIFY_SOCKET"] = "@" + address;
        start.Environment[Mark] = "1";
        return start;
    }

    private static async Task<bool> IsReadyAsync(Socket socket)
    {
        byte[] message = new byte[256];
        while (true)
        {
            int length = await socket.ReceiveAsync(message);
            if (Encoding.UTF8.GetString(message, 0, length).StartsWith("READY=1", StringComparison.Ordinal)) { return true; }
        }
    }

    private static async Task CopyAsync(TextReader source, TextWriter target)
    {
        while (await source.ReadLineAsync() is { } line) { await target.WriteLineAsync(line); }
    }
}
