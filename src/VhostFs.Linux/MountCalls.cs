using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>mount(2), umount2(2) and what goes with them.</summary>
public static partial class MountCalls
{
    public const ulong MS_RDONLY = 1;
    public const ulong MS_NOSUID = 2;
    public const ulong MS_NODEV = 4;
    public const ulong MS_NOEXEC = 8;
    public const ulong MS_SYNCHRONOUS = 16;
    public const ulong MS_REMOUNT = 32;
    public const ulong MS_DIRSYNC = 128;
    public const ulong MS_NOATIME = 1024;
    public const ulong MS_NODIRATIME = 2048;
    public const ulong MS_RELATIME = 1 << 21;
    public const ulong MS_STRICTATIME = 1 << 24;
    public const ulong MS_LAZYTIME = 1 << 25;

    public const int MNT_FORCE = 1;
    public const int MNT_DETACH = 2;
    public const int UMOUNT_NOFOLLOW = 8;

    public static uint EffectiveUserId => GetEuidCore();

    public static uint EffectiveGroupId => GetEgidCore();

    public static Errno Mount(string source, string target, string type, ulong flags, string options) =>
        MountCore(source, target, type, (nuint)flags, options) == 0 ? Errno.None : LastErrno();

    /// <summary>Without <see cref="MNT_DETACH"/> it waits until the file system has been sent what is dirty; EBUSY while somebody uses it.</summary>
    public static Errno Unmount(string target, int flags)
    {
        while (Umount2Core(target, flags) != 0)
        {
            Errno errno = LastErrno();
            if (errno != Errno.EINTR) { return errno; }
        }
        return Errno.None;
    }

    /// <summary>Writes out what is dirty in the file system that holds <paramref name="fd"/>.</summary>
    public static Errno SyncFileSystem(SafeFd fd)
    {
        while (SyncFsCore(fd) != 0)
        {
            Errno errno = LastErrno();
            if (errno != Errno.EINTR) { return errno; }
        }
        return Errno.None;
    }

    private static Errno LastErrno() => (Errno)Marshal.GetLastPInvokeError();

    [LibraryImport("libc", EntryPoint = "mount", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int MountCore(string source, string target, string type, nuint flags, string options);

    [LibraryImport("libc", EntryPoint = "umount2", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Umount2Core(string target, int flags);

    [LibraryImport("libc", EntryPoint = "syncfs", SetLastError = true)]
    private static partial int SyncFsCore(SafeHandle fd);

    [LibraryImport("libc", EntryPoint = "geteuid")]
    private static partial uint GetEuidCore();

    [LibraryImport("libc", EntryPoint = "getegid")]
    private static partial uint GetEgidCore();
}
