using System.Diagnostics;
using VhostFs.LoadBench.Load;

namespace VhostFs.LoadBench.Matrix;

/// <summary>Who is compared with when nobody is named, and what a peer calls itself.</summary>
internal static class PeerCommands
{
    /// <summary>On a disk virtiofsd passes O_DIRECT on, and needs threads for more than one request in flight there.</summary>
    public static string Default(DeviceKind device, bool isDirect) => device == DeviceKind.Blk
        ? "qemu-storage-daemon --blockdev driver=file,node-name=disk,filename={image},aio=io_uring,cache.direct=on --export type=vhost-user-blk,id=disk,node-name=disk,addr.type=unix,addr.path={socket},writable=on"
        : "virtiofsd --shared-dir {dir} --socket-path {socket} --sandbox none --seccomp none --log-level error" + (isDirect ? " --allow-direct-io --thread-pool-size 64" : "");

    /// <summary>The program's name and version, as it says when it is asked; its name alone when it does not.</summary>
    public static string NameOf(string command)
    {
        string program = command.Split(' ')[0];
        string name = Path.GetFileName(program);
        try
        {
            using Process process = Process.Start(new ProcessStartInfo(program, ["--version"]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
            string? version = process.StandardOutput.ReadToEnd().Split([' ', '\n']).FirstOrDefault(word => word.Length > 0 && char.IsAsciiDigit(word[0]));
            process.WaitForExit();
            return version is null ? name : $"{name} {version}";
        }
        catch (System.ComponentModel.Win32Exception) { return name; } // no such program: starting it will say so
    }
}
