using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;

namespace VhostFs.Blobfs;

/// <summary>Access times as a "relatime" mount keeps them; they never delay or fail what they accompany.</summary>
internal sealed class AccessTimes(BlobfsState state, bool isReadOnly)
{
    private const long MaxAgeSeconds = 24 * 60 * 60;

    /// <summary>The inode was read. Sets its access time when it is not newer than the last change, or a day old.</summary>
    public void Touch(ulong inode, in InodeRecord record)
    {
        if (isReadOnly || !state.Options.AccessTimes || record.LinkCount == 0 || (record.Flags & InodeFlags.NoAccessTime) != 0) { return; }
        if (IsNewer(record.AccessTime, record.ModifyTime) && IsNewer(record.AccessTime, record.ChangeTime)
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
