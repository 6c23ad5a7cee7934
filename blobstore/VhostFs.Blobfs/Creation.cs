using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;

namespace VhostFs.Blobfs;

/// <summary>What is made, beside its name.</summary>
internal readonly record struct NewObject(CreateContext Context, uint Mode, uint DeviceNumber = 0, IoVec LinkTarget = default);

/// <summary>Stages new inodes: owner and mode by the rules of set-group-id directories, umask and default ACLs.</summary>
internal sealed class Creation(BlobfsState state)
{
    /// <summary>Bound of the security context set with the creation: the whole creation is one transaction.</summary>
    private const int MaxSecurityBytes = 16 * 1024;

    private readonly byte[] _accessAcl = new byte[Acl.MaxBytes];
    private readonly byte[] _defaultAcl = new byte[Acl.MaxBytes];

    /// <summary>Stages the inode and its items; the name is the caller's.</summary>
    public Errno Stage(Transaction tx, ulong parent, in InodeRecord parentRecord, in NewObject what, uint linkCount, FsTime now, out ulong inode, out InodeRecord record)
    {
        inode = 0;
        record = default;
        if (!state.Volume.AllowsInode) { return Errno.EDQUOT; }
        CreateContext context = what.Context;
        if (context.SecurityName.Length > FileLimits.MaxNameBytes || context.SecurityValue.Length > MaxSecurityBytes) { return Errno.E2BIG; }
        uint type = what.Mode & FileMode.S_IFMT, gid = parentRecord.Gid;
        uint mode = InheritGroup(context.Caller, parentRecord, what.Mode, ref gid);
        Errno inherited = TryGetDefaultAcl(parent, parentRecord, type, out int aclBytes);
        if (inherited != Errno.None) { return inherited; }
        bool extended = false;
        if (aclBytes > 0)
        {
            _defaultAcl.AsSpan(0, aclBytes).CopyTo(_accessAcl);
            mode = Acl.Inherit(_accessAcl.AsSpan(0, aclBytes), mode, out extended);
        }
        else if (type != FileMode.S_IFLNK) { mode &= ~(context.Umask & 0x1FFu); }

        inode = state.Volume.AllocateInode();
        bool isDirectory = type == FileMode.S_IFDIR;
        record = new InodeRecord() with
        {
            Mode = mode,
            Uid = context.Caller.Uid,
            Gid = gid,
            LinkCount = linkCount,
            SizeBytes = what.LinkTarget.Length,
            DeviceNumber = what.DeviceNumber,
            Flags = InodeFlagRules.Inherit(parentRecord, mode) | (type is FileMode.S_IFREG or FileMode.S_IFLNK ? InodeFlags.Inline : InodeFlags.None),
            Generation = 1,
            Parent = isDirectory ? parent : 0,
        };
        record = record.WithBirth(now);
        Errno staged = StageLinkTarget(tx, inode, what.LinkTarget.Span);
        if (staged == Errno.None && extended) { staged = state.Xattrs.StageSet(tx, inode, ref record, Acl.AccessName, _accessAcl.AsSpan(0, aclBytes)); }
        if (staged == Errno.None && isDirectory && aclBytes > 0) { staged = state.Xattrs.StageSet(tx, inode, ref record, Acl.DefaultName, _defaultAcl.AsSpan(0, aclBytes)); }
        if (staged == Errno.None && !context.SecurityName.IsEmpty)
        {
            staged = state.Xattrs.StageSet(tx, inode, ref record, context.SecurityName.Span, context.SecurityValue.Span);
        }
        return staged == Errno.None ? tx.PutInode(inode, record) : staged;
    }

    private static uint InheritGroup(FuseCaller caller, in InodeRecord parent, uint mode, ref uint gid)
    {
        if ((parent.Mode & FileMode.S_ISGID) == 0) { gid = caller.Gid; return mode; }
        if ((mode & FileMode.S_IFMT) == FileMode.S_IFDIR) { return mode | FileMode.S_ISGID; }
        bool privilege = (mode & (FileMode.S_ISGID | FileMode.S_IXGRP)) == (FileMode.S_ISGID | FileMode.S_IXGRP);
        bool member = caller.Uid == 0 || caller.Gid == gid || caller.SupplementaryGroup == gid;
        return privilege && !member ? mode & ~FileMode.S_ISGID : mode;
    }

    private Errno TryGetDefaultAcl(ulong parent, in InodeRecord parentRecord, uint type, out int length)
    {
        length = 0;
        if (parentRecord.XattrCount == 0 || type == FileMode.S_IFLNK) { return Errno.None; }
        Errno found = state.Xattrs.TryGet(parent, Acl.DefaultName, _defaultAcl, out int bytes);
        if (found == Errno.ENODATA) { return Errno.None; }
        if (found != Errno.None) { return found; }
        if (Acl.Validate(_defaultAcl.AsSpan(0, bytes)) != Errno.None) { return Errno.EIO; }
        length = Acl.IsEmpty(_defaultAcl.AsSpan(0, bytes)) ? 0 : bytes;
        return Errno.None;
    }

    private static Errno StageLinkTarget(Transaction tx, ulong inode, ReadOnlySpan<byte> target)
    {
        if (target.IsEmpty) { return Errno.None; }
        int first = Math.Min(target.Length, FileLimits.LinkChunkBytes);
        Errno put = tx.Put(BlobfsKeys.Inline(inode), target[..first]);
        return put == Errno.None && target.Length > first ? tx.Put(BlobfsKeys.Inline(inode, 1), target[first..]) : put;
    }
}
