using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>The flags of chattr(1): how they are told and set, and what a new inode takes over from its directory, as ext4 does it.</summary>
internal sealed class InodeFlagRules(BlobfsState state, ChangeNotices notices)
{
    private const InodeFlags Settable = InodeFlags.Immutable | InodeFlags.AppendOnly | InodeFlags.NoDump | InodeFlags.NoAccessTime | InodeFlags.Synchronous | InodeFlags.SynchronousDirectory;
    private const InodeFlags Inherited = InodeFlags.NoDump | InodeFlags.NoAccessTime | InodeFlags.Synchronous | InodeFlags.SynchronousDirectory;

    private static readonly (InodeFlags Stored, FsFlags Told)[] s_pairs =
    [
        (InodeFlags.Immutable, FsFlags.IMMUTABLE), (InodeFlags.AppendOnly, FsFlags.APPEND), (InodeFlags.NoDump, FsFlags.NODUMP),
        (InodeFlags.NoAccessTime, FsFlags.NOATIME), (InodeFlags.Synchronous, FsFlags.SYNC), (InodeFlags.SynchronousDirectory, FsFlags.DIRSYNC),
    ];

    public static FsFlags Told(InodeFlags stored)
    {
        FsFlags told = FsFlags.None;
        if ((stored & Settable) == 0) { return told; }
        foreach ((InodeFlags from, FsFlags to) in s_pairs) { told |= (stored & from) != 0 ? to : FsFlags.None; }
        return told;
    }

    public static InodeFlags Inherit(in InodeRecord parent, uint mode)
    {
        InodeFlags inherited = parent.Flags & Inherited;
        return (mode & FileMode.S_IFMT) switch
        {
            FileMode.S_IFDIR => inherited,
            FileMode.S_IFREG => inherited & ~InodeFlags.SynchronousDirectory,
            _ => inherited & (InodeFlags.NoDump | InodeFlags.NoAccessTime),
        };
    }

    /// <summary>Sets <paramref name="flags"/> among <paramref name="changeable"/>, which the request can express; others stay.</summary>
    public IoTask<Errno> SetAsync(FuseCaller caller, ulong node, FsFlags flags, FsFlags changeable) =>
        state.Loop.Change<SetChange, Nothing>(new SetChange(this, caller, node, flags, changeable)).ToErrno();

    private Errno TrySet(in SetChange change, out ulong lsn)
    {
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = tx.TryGetInode(change.Node, out InodeRecord record);
        if (staged == Errno.None) { staged = Decide(change, record, out InodeFlags wanted); record = record with { Flags = wanted }; }
        if (staged == Errno.None) { staged = tx.PutInode(change.Node, record.WithChange(state.Clock())); }
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Inode(change.Node, contentChanged: false);
        return Errno.None;
    }

    private static Errno Decide(in SetChange change, in InodeRecord record, out InodeFlags flags)
    {
        flags = record.Flags;
        if (!record.IsRegular && !record.IsDirectory) { return Errno.ENOTTY; }
        foreach ((InodeFlags stored, FsFlags told) in s_pairs)
        {
            if ((change.Changeable & told) == 0) { continue; }
            flags = (change.Flags & told) != 0 ? flags | stored : flags & ~stored;
        }
        if (!record.IsDirectory && (flags & InodeFlags.SynchronousDirectory) != 0) { return Errno.EOPNOTSUPP; }
        // Newer kernels have checked owner and CAP_LINUX_IMMUTABLE and do not say who asks; those before 5.13 check nothing.
        InodeFlags changed = flags ^ record.Flags;
        bool mayProtect = change.Caller.IsRoot || change.Caller.IsUnknown;
        if (!mayProtect && change.Caller.Uid != record.Uid) { return Errno.EPERM; }
        if (!mayProtect && (changed & (InodeFlags.Immutable | InodeFlags.AppendOnly)) != 0) { return Errno.EPERM; }
        // An immutable inode must first become mutable again.
        return (record.Flags & flags & InodeFlags.Immutable) != 0 && changed != InodeFlags.None ? Errno.EPERM : Errno.None;
    }

    private readonly record struct SetChange(InodeFlagRules Rules, FuseCaller Caller, ulong Node, FsFlags Flags, FsFlags Changeable) : ITreeChange<Nothing>
    {
        // As chmod: it takes no room, and has to work on a full volume.
        public Admission Admission => Admission.Release;

        public Errno Try(out Nothing result, out ulong lsn)
        {
            result = default;
            return Rules.TrySet(this, out lsn);
        }
    }
}
