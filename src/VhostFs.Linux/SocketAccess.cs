using System.Globalization;
using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>Who may use a socket file, and what kind of socket somebody else handed us.</summary>
public static unsafe partial class SocketAccess
{
    private const int SOL_SOCKET = 1;
    private const int SO_ACCEPTCONN = 30;

    /// <summary>The descriptor is a socket that listens: what --fd must be.</summary>
    public static bool IsListening(SafeFd socket)
    {
        int value = 0;
        uint length = sizeof(int);
        return GetSockOptCore(socket, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) == 0 && value != 0;
    }

    /// <summary>By name or number. Not thread-safe (getgrnam); for start-up.</summary>
    public static bool TryFindGroup(string name, out uint gid)
    {
        if (uint.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out gid)) { return true; }
        Group* group = GetGrNamCore(name);
        if (group is null) { return false; }
        gid = group->Gid;
        return true;
    }

    /// <summary>EPERM: only members of a group (or root) may give a file to it.</summary>
    public static Errno ChangeGroup(string path, uint gid) => ChownCore(path, uint.MaxValue, gid) == 0 ? Errno.None : (Errno)Marshal.GetLastPInvokeError();

    /// <summary>The permissions that new files of this process do not get; returns those before.</summary>
    public static int SetUmask(int mask) => UmaskCore(mask);

    [LibraryImport("libc", EntryPoint = "getsockopt", SetLastError = true)]
    private static partial int GetSockOptCore(SafeHandle socket, int level, int option, int* value, uint* length);

    [LibraryImport("libc", EntryPoint = "getgrnam", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial Group* GetGrNamCore(string name);

    [LibraryImport("libc", EntryPoint = "chown", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int ChownCore(string path, uint owner, uint group);

    [LibraryImport("libc", EntryPoint = "umask")]
    private static partial int UmaskCore(int mask);

    /// <summary><c>struct group</c>, as far as it is used.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Group
    {
        public byte* Name;
        public byte* Password;
        public uint Gid;
    }
}
