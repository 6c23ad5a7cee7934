using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using VhostFs.Linux;

namespace VhostFs.FuseDev;

/// <summary>A FUSE mount on this host: made by root with mount(2), by others with the set-id program fusermount3.</summary>
/// <remarks>Permissions are always checked by the kernel (default_permissions): the file system below relies on it. Blocking calls: not for a reactor's thread.</remarks>
public sealed class HostMountPoint
{
    private const string Helper = "fusermount3";
    private static readonly TimeSpan s_helperTime = TimeSpan.FromSeconds(30);

    private readonly bool _byHelper;
    private readonly uint _connection;

    private HostMountPoint(string path, bool byHelper)
    {
        Path = path;
        _byHelper = byHelper;
        _connection = FuseConnection.Find(path);
    }

    /// <summary>Null, or why this kernel gives no FUSE over io_uring to a file system that is mounted now.</summary>
    public static string? UringProblem => FuseConnection.UringProblem;

    public string Path { get; }

    /// <summary>Null, with <paramref name="error"/> saying why not and what to do. The caller owns <paramref name="device"/>.</summary>
    public static HostMountPoint? Mount(MountRequest request, out SafeFd device, out string error)
    {
        device = SafeFd.Invalid;
        error = Check(request, out FileStatus status);
        if (error.Length > 0) { return null; }
        bool byHelper = MountCalls.EffectiveUserId != 0;
        error = byHelper ? MountByHelper(request, out device) : MountDirectly(request, status, out device);
        return error.Length == 0 ? new HostMountPoint(System.IO.Path.GetFullPath(request.MountPoint), byHelper) : null;
    }

    /// <summary>Gives a mount that is there other flags. The server does not take part: options of the file system stay as they are.</summary>
    /// <returns>Empty, or what is wrong.</returns>
    public static string Remount(MountRequest request) =>
        MountCalls.Mount(request.Source, request.MountPoint, "", request.Flags | MountCalls.MS_REMOUNT, "") switch
        {
            Errno.None => "",
            Errno.EINVAL => $"nothing is mounted on {request.MountPoint}",
            Errno.EPERM => $"only root can remount {request.MountPoint}",
            Errno.EBUSY => $"{request.MountPoint} has files open for writing",
            Errno failed => $"cannot remount {request.MountPoint}: {failed}",
        };

    /// <summary>Takes the mount away. <paramref name="lazy"/>: also while somebody uses it, who keeps it until the device is closed.</summary>
    public Errno Unmount(bool lazy)
    {
        if (!_byHelper) { return MountCalls.Unmount(Path, MountCalls.UMOUNT_NOFOLLOW | (lazy ? MountCalls.MNT_DETACH : 0)); }
        string[] arguments = lazy ? ["-u", "-q", "-z", "--", Path] : ["-u", "-q", "--", Path];
        return RunHelper(arguments, null, out _) switch { 0 => Errno.None, _ => Errno.EBUSY };
    }

    /// <summary>Ends the connection of a mount that is still in use: every call on it fails from now on. False when nothing here can do that.</summary>
    public bool Abort()
    {
        if (FuseConnection.Abort(_connection)) { return true; }
        // EBUSY says that the mount stays, for those who use it; its connection is gone.
        return !_byHelper && MountCalls.Unmount(Path, MountCalls.UMOUNT_NOFOLLOW | MountCalls.MNT_FORCE) is Errno.None or Errno.EBUSY;
    }

    /// <summary>Sends to the file system what the kernel holds for it.</summary>
    public Errno WriteOut()
    {
        Errno opened = FileCalls.Open(Path, FileCalls.O_RDONLY | FileCalls.O_DIRECTORY, 0, out SafeFd root);
        using (root) { return opened == Errno.None ? MountCalls.SyncFileSystem(root) : opened; }
    }

    private static string Check(MountRequest request, out FileStatus status)
    {
        status = default;
        Errno opened = FileCalls.Open(request.MountPoint, FileCalls.O_PATH, 0, out SafeFd target);
        using (target)
        {
            if (opened == Errno.None) { opened = FileCalls.Status(target, out status); }
        }
        return opened switch
        {
            Errno.None when status.IsDirectory => "",
            Errno.None => $"{request.MountPoint} is not a directory",
            Errno.ENOENT => $"{request.MountPoint} does not exist; make the directory first",
            Errno.ENOTCONN => $"{request.MountPoint} is a mount whose server is dead; 'umount -l {request.MountPoint}' takes it away",
            _ => $"{request.MountPoint} cannot be used: {opened}",
        };
    }

    private static string MountDirectly(MountRequest request, in FileStatus status, out SafeFd device)
    {
        Errno opened = FileCalls.Open("/dev/fuse", FileCalls.O_RDWR, 0, out device);
        if (opened != Errno.None) { return OpenError(opened); }
        var options = new StringBuilder();
        options.Append(CultureInfo.InvariantCulture, $"fd={device.Fd},rootmode={Convert.ToString(status.Mode & 0xF000, 8)},user_id={MountCalls.EffectiveUserId},group_id={MountCalls.EffectiveGroupId},default_permissions");
        if (request.AllowOther ?? true) { options.Append(",allow_other"); }
        AppendMaxRead(options, request);
        Errno mounted = MountCalls.Mount(request.Source, request.MountPoint, $"fuse.{request.Subtype}", request.Flags, options.ToString());
        if (mounted == Errno.None) { return ""; }
        device.Dispose();
        return mounted switch
        {
            Errno.ENODEV => "the kernel has no FUSE; load the module fuse",
            Errno.EPERM => $"mounting on {request.MountPoint} is not permitted; a container needs the capability SYS_ADMIN",
            _ => $"cannot mount on {request.MountPoint}: {mounted}",
        };
    }

    private static string MountByHelper(MountRequest request, out SafeFd device)
    {
        device = SafeFd.Invalid;
        Errno paired = UnixSocket.CreatePair(out SafeFd ours, out SafeFd theirs);
        if (paired != Errno.None) { return $"cannot make a socket pair: {paired}"; }
        using (ours)
        using (theirs)
        {
            int status = RunHelper(["-o", HelperOptions(request), "--", request.MountPoint], theirs, out string said);
            if (status == MissingHelper)
            {
                return $"{Helper} is not installed, and only root can mount without it; install the package fuse3 (Debian: apt install fuse3), or mount as root";
            }
            if (status != 0) { return said.Length > 0 ? said : $"{Helper} ended with {status}"; }
            Span<int> descriptors = stackalloc int[1];
            IoResult received = UnixSocket.Receive(ours, stackalloc byte[1], descriptors, out int count);
            if (received.IsError || count != 1) { return $"{Helper} did not pass the device on ({received})"; }
            device = new SafeFd(descriptors[0]);
            return "";
        }
    }

    private static string HelperOptions(MountRequest request)
    {
        var options = new StringBuilder("default_permissions");
        if (request.AllowOther ?? false) { options.Append(",allow_other"); }
        AppendMaxRead(options, request);
        ReadOnlySpan<(ulong Flag, string Name)> names =
        [
            (MountCalls.MS_RDONLY, "ro"), (MountCalls.MS_NOSUID, "nosuid"), (MountCalls.MS_NODEV, "nodev"), (MountCalls.MS_NOEXEC, "noexec"),
            (MountCalls.MS_SYNCHRONOUS, "sync"), (MountCalls.MS_DIRSYNC, "dirsync"), (MountCalls.MS_NOATIME, "noatime"),
        ];
        foreach ((ulong flag, string name) in names)
        {
            if ((request.Flags & flag) != 0) { options.Append(',').Append(name); }
        }
        options.Append(",subtype=").Append(Escape(request.Subtype)).Append(",fsname=").Append(Escape(request.Source));
        return options.ToString();
    }

    // fusermount3 takes a backslash before a comma or a backslash for the character itself.
    private static string Escape(string text) => text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace(",", "\\,", StringComparison.Ordinal);

    private static void AppendMaxRead(StringBuilder options, MountRequest request)
    {
        if (request.MaxReadBytes > 0) { options.Append(CultureInfo.InvariantCulture, $",max_read={request.MaxReadBytes}"); }
    }

    private const int MissingHelper = -1;

    /// <summary>The helper's exit status; it sends the mounted device over <paramref name="socket"/>.</summary>
    private static int RunHelper(string[] arguments, SafeFd? socket, out string said)
    {
        said = "";
        var start = new ProcessStartInfo(Helper, arguments) { RedirectStandardError = true, RedirectStandardInput = true, RedirectStandardOutput = true };
        if (socket is not null)
        {
            FileCalls.SetInheritable(socket, true);
            start.Environment["_FUSE_COMMFD"] = socket.Fd.ToString(CultureInfo.InvariantCulture);
        }
        try
        {
            using var process = Process.Start(start)!;
            if (socket is not null) { FileCalls.SetInheritable(socket, false); }
            said = process.StandardError.ReadToEnd().Trim();
            if (!process.WaitForExit(s_helperTime)) { process.Kill(); }
            process.WaitForExit();
            return process.ExitCode;
        }
        catch (Win32Exception) { return MissingHelper; }
    }

    private static string OpenError(Errno errno) => errno switch
    {
        Errno.ENOENT or Errno.ENXIO or Errno.ENODEV => "there is no /dev/fuse; load the module fuse, or pass the device into the container",
        _ => $"/dev/fuse cannot be opened: {errno}",
    };
}
