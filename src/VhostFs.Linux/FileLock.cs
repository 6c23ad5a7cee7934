using System.Globalization;
using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>Whole-file locks between processes (flock): held as long as the descriptor is open, gone when its process dies, however it dies.</summary>
public static partial class FileLock
{
    private const int LOCK_SH = 1;
    private const int LOCK_EX = 2;
    private const int LOCK_NB = 4;
    private const int LOCK_UN = 8;

    /// <summary>EBUSY: someone else has it; <paramref name="ownerPid"/> says who, 0 when it cannot be found (another pid namespace, NFS).</summary>
    public static Errno TryLock(SafeFd fd, bool exclusive, out int ownerPid)
    {
        ownerPid = 0;
        while (FlockCore(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0)
        {
            var errno = (Errno)Marshal.GetLastPInvokeError();
            if (errno == Errno.EINTR) { continue; }
            if (errno != Errno.EAGAIN) { return errno; }
            ownerPid = FindOwner(fd);
            return Errno.EBUSY;
        }
        return Errno.None;
    }

    public static Errno Unlock(SafeFd fd) => FlockCore(fd, LOCK_UN) == 0 ? Errno.None : (Errno)Marshal.GetLastPInvokeError();

    /// <summary>The process that has a lock on this file, without asking for one; 0: none, or it cannot be found.</summary>
    // proc_locks(5): "1: FLOCK  ADVISORY  WRITE 1234 fe:00:56789 0 EOF". Some file systems (btrfs) show a device number there that
    // stat does not, so a match of the inode alone is taken when there is no better one.
    public static int FindOwner(SafeFd fd)
    {
        if (FileCalls.Status(fd, out FileStatus status) != Errno.None) { return 0; }
        string device = string.Create(CultureInfo.InvariantCulture, $"{status.DeviceMajor:x2}:{status.DeviceMinor:x2}");
        string inode = status.Inode.ToString(CultureInfo.InvariantCulture);
        int weak = 0;
        string[] lines;
        try { lines = File.ReadAllLines("/proc/locks"); }
        catch (IOException) { return 0; }
        catch (UnauthorizedAccessException) { return 0; }
        foreach (string line in lines)
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (words.Length < 6 || words[1] != "FLOCK" || !int.TryParse(words[4], CultureInfo.InvariantCulture, out int pid) || pid <= 0) { continue; }
            int lastColon = words[5].LastIndexOf(':');
            if (lastColon < 0 || words[5][(lastColon + 1)..] != inode) { continue; }
            if (words[5][..lastColon] == device) { return pid; }
            weak = pid;
        }
        return weak;
    }

    [LibraryImport("libc", EntryPoint = "flock", SetLastError = true)]
    private static partial int FlockCore(SafeHandle fd, int operation);
}
