using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>GETATTR, and the attribute changes that leave the content alone (size: <see cref="Truncation"/>).</summary>
internal sealed class Attributes(BlobfsState state, ChangeNotices notices)
{
    private readonly byte[] _acl = new byte[Acl.MaxBytes];

    public IoTask<FsResult<InodeAttributes>> GetAsync(ulong node) =>
        state.Loop.Read<GetRead, InodeAttributes>(new GetRead(state, node));

    public IoTask<FsResult<InodeRecord>> GetRecordAsync(ulong node) =>
        state.Loop.Read<RecordRead, InodeRecord>(new RecordRead(state, node));

    /// <summary>Everything but <see cref="SetAttributes.SizeBytes"/>, which the caller has looked at.</summary>
    public IoTask<FsResult<InodeAttributes>> SetAsync(ulong node, SetAttributes changes) =>
        state.Loop.Change<SetChange, InodeAttributes>(new SetChange(this, node, changes));

    /// <summary>Takes set-id bits and capabilities from a file; leaves one that has none as it is.</summary>
    /// <param name="marks">Set-group-id without group execute, too.</param>
    public IoTask<FsResult<InodeAttributes>> DropPrivilegesAsync(ulong node, bool marks) =>
        state.Loop.Change<DropChange, InodeAttributes>(new DropChange(this, node, marks));

    /// <summary>Nanoseconds of a guest are checked before they can reach the disk.</summary>
    public static bool IsValid(in SetAttributes changes) =>
        IsValid(changes.AccessTime) && IsValid(changes.ModifyTime) && IsValid(changes.ChangeTime);

    /// <summary>Applies the changes to the record, which the caller stages; stages xattrs that change with them.</summary>
    public Errno StageApply(Transaction tx, ulong node, ref InodeRecord record, in SetAttributes changes, FsTime now)
    {
        bool newOwner = changes.Uid is not null || changes.Gid is not null;
        uint mode = record.Mode;
        if (changes.Mode is uint wanted) { mode = (mode & FileMode.S_IFMT) | (wanted & FileMode.PermissionMask); }
        else if (!record.IsDirectory && (newOwner || changes.KillPrivileges)) { mode = FileMode.KillSetId(mode); }
        record = record with { Mode = mode, Uid = changes.Uid ?? record.Uid, Gid = changes.Gid ?? record.Gid };
        if (changes.AccessTimeNow || changes.AccessTime is not null) { record = record.WithAccess(changes.AccessTimeNow ? now : changes.AccessTime!.Value); }
        if (changes.ModifyTimeNow || changes.ModifyTime is not null) { record = record.WithModify(changes.ModifyTimeNow ? now : changes.ModifyTime!.Value); }
        record = record.WithChange(changes.ChangeTime ?? now);
        if (record.XattrCount == 0) { return Errno.None; }
        if (changes.Mode is not null)
        {
            Errno chmod = StageAclChmod(tx, node, ref record, mode);
            if (chmod != Errno.None) { return chmod; }
        }
        return newOwner || changes.KillPrivileges || changes.SizeBytes is not null ? StageDropCapability(tx, node, ref record) : Errno.None;
    }

    /// <summary>File capabilities do not survive a change of content or owner.</summary>
    public Errno StageDropCapability(Transaction tx, ulong node, ref InodeRecord record)
    {
        if (record.XattrCount == 0 || record.IsDirectory) { return Errno.None; }
        Errno removed = state.Xattrs.StageRemove(tx, node, ref record, "security.capability"u8);
        return removed == Errno.ENODATA ? Errno.None : removed;
    }

    private static bool IsValid(FsTime? time) => time is null || time.Value.Nanoseconds < 1_000_000_000;

    private Errno StageAclChmod(Transaction tx, ulong node, ref InodeRecord record, uint mode)
    {
        Errno found = state.Xattrs.TryGet(node, Acl.AccessName, _acl, out int length);
        if (found == Errno.ENODATA) { return Errno.None; }
        if (found != Errno.None) { return found; }
        Span<byte> acl = _acl.AsSpan(0, length);
        if (Acl.Validate(acl) != Errno.None || Acl.IsEmpty(acl)) { return Errno.EIO; }
        Acl.Chmod(acl, mode);
        return state.Xattrs.StageSet(tx, node, ref record, Acl.AccessName, acl);
    }

    private Errno TrySet(ulong node, in SetAttributes changes, out InodeAttributes attributes, out ulong lsn)
    {
        attributes = default;
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = tx.TryGetInode(node, out InodeRecord record);
        if (staged == Errno.None) { staged = Protection.SetAttributes(record, changes); }
        if (staged == Errno.None) { staged = StageApply(tx, node, ref record, changes, state.Clock()); }
        if (staged == Errno.None) { staged = tx.PutInode(node, record); }
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Inode(node, contentChanged: false);
        attributes = record.ToAttributes(node);
        return Errno.None;
    }

    private Errno TryDrop(ulong node, bool marks, out InodeAttributes attributes, out ulong lsn)
    {
        attributes = default;
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = tx.TryGetInode(node, out InodeRecord record);
        InodeRecord before = record;
        if (staged == Errno.None && !record.IsDirectory)
        {
            record = record with { Mode = FileMode.KillSetId(record.Mode) & ~(marks ? FileMode.S_ISGID : 0) };
            staged = StageDropCapability(tx, node, ref record);
        }
        bool changes = staged == Errno.None && record != before;
        if (changes && (record.Flags & InodeFlags.Immutable) != 0) { staged = Errno.EPERM; }
        if (staged != Errno.None || !changes)
        {
            tx.Abort();
            attributes = record.ToAttributes(node);
            return staged;
        }
        record = record.WithChange(state.Clock());
        staged = tx.PutInode(node, record);
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Inode(node, contentChanged: false);
        attributes = record.ToAttributes(node);
        return Errno.None;
    }

    private readonly record struct GetRead(BlobfsState State, ulong Node) : ITreeRead<InodeAttributes>
    {
        public Errno Try(out InodeAttributes result)
        {
            Errno found = State.Volume.TryGetInode(Node, out InodeRecord record);
            result = found == Errno.None ? record.ToAttributes(Node) : default;
            return found;
        }
    }

    private readonly record struct RecordRead(BlobfsState State, ulong Node) : ITreeRead<InodeRecord>
    {
        public Errno Try(out InodeRecord result) => State.Volume.TryGetInode(Node, out result);
    }

    private readonly record struct DropChange(Attributes Attributes, ulong Node, bool Marks) : ITreeChange<InodeAttributes>
    {
        public Admission Admission => Admission.Release;

        public Errno Try(out InodeAttributes result, out ulong lsn) => Attributes.TryDrop(Node, Marks, out result, out lsn);
    }

    private readonly record struct SetChange(Attributes Attributes, ulong Node, SetAttributes Changes) : ITreeChange<InodeAttributes>
    {
        // chmod and chown take no room; they also have to work on a full volume.
        public Admission Admission => Admission.Release;

        public Errno Try(out InodeAttributes result, out ulong lsn) => Attributes.TrySet(Node, Changes, out result, out lsn);
    }
}
