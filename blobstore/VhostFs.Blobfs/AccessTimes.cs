using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;

namespace VhostFs.Blobfs;

/// <summary>Access times; they never delay or fail what they accompany: a new one is a log record that nobody waits for.</summary>
internal sealed class AccessTimes(BlobfsState state, AccessTimeMode mode)
{
    private const long MaxAgeSeconds = 24 * 60 * 60;
    private const ulong O_NOATIME = 0x40000;

    /// <summary>As a handle: a read that leaves the access time alone.</summary>
    public const ulong None = O_NOATIME;

    /// <summary>The inode was read, through a handle, which is the flags it was opened with (0: through none).</summary>
    public void Touch(ulong inode, in InodeRecord record, ulong handle = 0)
    {
        if (mode == AccessTimeMode.Off || (handle & O_NOATIME) != 0 || !state.Options.AccessTimes || record.LinkCount == 0 || (record.Flags & InodeFlags.NoAccessTime) != 0) { return; }
        if (mode == AccessTimeMode.Relative && IsNewer(record.AccessTime, record.ModifyTime) && IsNewer(record.AccessTime, record.ChangeTime)
            && record.AccessSeconds > state.Clock().Seconds - MaxAgeSeconds) { return; }
        // No room right now, or the volume has failed: the time is lost, the read is not.
        if (!state.Volume.TryAdmit(Admission.Release)) { return; }
        Transaction tx = state.Volume.Begin();
        // Neither change time nor change counter move: an access is no change.
        if (tx.PutInode(inode, record.WithAccess(state.Clock())) == Errno.None) { tx.Commit(); }
        else { tx.Abort(); }
    }

    private static bool IsNewer(FsTime a, FsTime b) => a.Seconds > b.Seconds || (a.Seconds == b.Seconds && a.Nanoseconds > b.Nanoseconds);
}
