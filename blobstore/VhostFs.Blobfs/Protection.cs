using VhostFs.Fuse;
using VhostFs.Linux;

namespace VhostFs.Blobfs;

/// <summary>What the flags "immutable" and "append-only" forbid, as Linux and ext4 do it. FUSE kernels do not know these flags of an inode: nobody else refuses.</summary>
/// <remarks>Data that a guest's cache had accepted before the flag was set is still taken: its write(2) has succeeded.</remarks>
internal static class Protection
{
    private const uint O_TRUNC = 0x200;
    private const uint O_APPEND = 0x400;
    private const uint O_ACCMODE = 3;
    private const InodeFlags Either = InodeFlags.Immutable | InodeFlags.AppendOnly;

    public static Errno OpenFile(in InodeRecord file, uint openFlags)
    {
        bool truncates = (openFlags & O_TRUNC) != 0, writes = (openFlags & O_ACCMODE) != 0 || truncates;
        if ((file.Flags & Either) == 0 || !writes) { return Errno.None; }
        return Refuse((file.Flags & InodeFlags.Immutable) != 0 || truncates || (openFlags & O_APPEND) == 0);
    }

    /// <summary>An append-only file that was opened before it became so is written to as before; an immutable one is not.</summary>
    public static Errno Write(in InodeRecord file, bool fromCache) => Refuse(!fromCache && (file.Flags & InodeFlags.Immutable) != 0);

    public static Errno Allocate(in InodeRecord file, bool changesContent) =>
        Refuse((file.Flags & InodeFlags.Immutable) != 0 || (changesContent && (file.Flags & InodeFlags.AppendOnly) != 0));

    /// <summary>Touching an append-only file (both times, to the present) is the one change of attributes that is allowed. Times that come alone with a change time are
    /// those of writes that a write-back cache did before.</summary>
    public static Errno SetAttributes(in InodeRecord record, in SetAttributes changes)
    {
        if ((record.Flags & Either) == 0) { return Errno.None; }
        bool onlyTimes = changes is { Mode: null, Uid: null, Gid: null, SizeBytes: null };
        bool fromCache = changes is { ChangeTime: not null, AccessTime: null, AccessTimeNow: false };
        bool touches = changes.AccessTimeNow && (changes.ModifyTimeNow || changes.ChangeTime is not null);
        return Refuse(!onlyTimes || !(fromCache || (touches && (record.Flags & InodeFlags.Immutable) == 0)));
    }

    public static Errno SetXattr(in InodeRecord record) => Refuse((record.Flags & Either) != 0);

    public static Errno AddName(in InodeRecord directory) => Refuse((directory.Flags & InodeFlags.Immutable) != 0);

    public static Errno RemoveName(in InodeRecord directory, in InodeRecord target) => Refuse(((directory.Flags | target.Flags) & Either) != 0);

    public static Errno Link(in InodeRecord target) => Refuse((target.Flags & Either) != 0);

    private static Errno Refuse(bool refused) => refused ? Errno.EPERM : Errno.None;
}
