using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>Lookup, creation, hard links and removal of names, for one session. Each is one transaction over everything it touches.</summary>
internal sealed class Names(BlobfsState state, SessionReferences references, Creation creation, ChangeNotices notices)
{
    public IoTask<FsResult<InodeAttributes>> LookupAsync(ulong parent, IoVec name) =>
        state.Loop.Read<LookupRead, InodeAttributes>(new LookupRead(this, parent, name));

    /// <param name="open">The creator opens the file: one open reference beside the lookup reference.</param>
    public IoTask<FsResult<InodeAttributes>> CreateAsync(ulong parent, IoVec name, NewObject what, bool open) =>
        state.Loop.Change<CreateChange, InodeAttributes>(new CreateChange(this, parent, name, what, open));

    /// <summary>A file without a name, opened by the caller.</summary>
    public IoTask<FsResult<InodeAttributes>> CreateTemporaryAsync(ulong parent, NewObject what) =>
        state.Loop.Change<TemporaryChange, InodeAttributes>(new TemporaryChange(this, parent, what));

    public IoTask<FsResult<InodeAttributes>> LinkAsync(ulong node, ulong newParent, IoVec newName) =>
        state.Loop.Change<LinkChange, InodeAttributes>(new LinkChange(this, node, newParent, newName));

    public IoTask<Errno> RemoveAsync(ulong parent, IoVec name, bool directory)
    {
        if (state.Orphans.IsBacklogFull) { return RemoveAfterHelpAsync(parent, name, directory); }
        return state.Loop.Change<RemoveChange, Nothing>(new RemoveChange(this, parent, name, directory)).ToErrno();
    }

    private async IoTask<Errno> RemoveAfterHelpAsync(ulong parent, IoVec name, bool directory)
    {
        await state.Orphans.HelpAsync();
        return await state.Loop.Change<RemoveChange, Nothing>(new RemoveChange(this, parent, name, directory)).ToErrno();
    }

    private Errno TryLookup(ulong parent, ReadOnlySpan<byte> name, out InodeAttributes attributes)
    {
        attributes = default;
        Errno found = name[0] == '.' && (name.SequenceEqual("."u8) || name.SequenceEqual(".."u8))
            ? TryLookupDots(parent, name.Length == 2, out ulong inode)
            : state.Entries.TryFind(parent, name, out inode, out _);
        if (found == Errno.ENOENT) { return WhyAbsent(parent); }
        if (found != Errno.None) { return found; }
        found = state.Volume.TryGetInode(inode, out InodeRecord record);
        // A name without an inode is damage, not a stale handle of the guest.
        if (found != Errno.None) { return found == Errno.ESTALE ? Errno.EIO : found; }
        if (!references.CanAdd(inode)) { return Errno.ENFILE; }
        references.AddLookup(inode);
        attributes = record.ToAttributes(inode);
        return Errno.None;
    }

    private Errno TryLookupDots(ulong directory, bool parent, out ulong inode)
    {
        inode = directory;
        Errno found = state.Volume.TryGetInode(directory, out InodeRecord record);
        if (found != Errno.None) { return found; }
        // "." names any inode: that is how a guest turns a file handle (NFS export, open_by_handle_at) into an inode again.
        if (!parent) { return Errno.None; }
        if (!record.IsDirectory) { return Errno.ENOTDIR; }
        inode = record.Parent;
        return record.LinkCount == 0 ? Errno.ENOENT : Errno.None; // a removed directory's parent may be gone, too
    }

    private Errno WhyAbsent(ulong parent)
    {
        Errno found = state.Volume.TryGetInode(parent, out InodeRecord record);
        if (found != Errno.None) { return found; }
        return record.IsDirectory ? Errno.ENOENT : Errno.ENOTDIR;
    }

    private Errno TryCreate(ulong parent, ReadOnlySpan<byte> name, in NewObject what, bool open, out InodeAttributes attributes, out ulong lsn)
    {
        attributes = default;
        lsn = 0;
        if (!references.CanAddNew(open)) { return Errno.ENFILE; }
        Transaction tx = state.Volume.Begin();
        Errno staged = StageCreate(tx, parent, name, what, out ulong inode, out InodeRecord record);
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Entry(parent, name);
        references.AddLookup(inode);
        if (open) { references.AddOpen(inode); }
        attributes = record.ToAttributes(inode);
        return Errno.None;
    }

    private Errno StageCreate(Transaction tx, ulong parent, ReadOnlySpan<byte> name, in NewObject what, out ulong inode, out InodeRecord record)
    {
        inode = 0;
        record = default;
        Errno found = tx.TryGetLiveDirectory(parent, out InodeRecord directory);
        if (found != Errno.None) { return found; }
        found = state.Entries.TryFind(tx, parent, name, out _, out _);
        if (found != Errno.ENOENT) { return found == Errno.None ? Errno.EEXIST : found; }
        found = Protection.AddName(directory);
        if (found != Errno.None) { return found; }
        bool isDirectory = (what.Mode & FileMode.S_IFMT) == FileMode.S_IFDIR;
        FsTime now = state.Clock();
        Errno staged = creation.Stage(tx, parent, directory, what, isDirectory ? 2u : 1u, now, out inode, out record);
        if (staged == Errno.None) { staged = state.Entries.Insert(tx, parent, name, inode, record.EntryType); }
        if (staged != Errno.None) { return staged; }
        directory = directory.WithModify(now).WithChange(now) with
        {
            EntryCount = directory.EntryCount + 1,
            LinkCount = directory.LinkCount + (isDirectory ? 1u : 0u),
        };
        return tx.PutInode(parent, directory);
    }

    private Errno TryCreateTemporary(ulong parent, in NewObject what, out InodeAttributes attributes, out ulong lsn)
    {
        attributes = default;
        lsn = 0;
        if (!references.CanAddNew(open: true)) { return Errno.ENFILE; }
        Transaction tx = state.Volume.Begin();
        Errno staged = tx.TryGetLiveDirectory(parent, out InodeRecord directory);
        if (staged == Errno.None) { staged = Protection.AddName(directory); }
        ulong inode = 0;
        InodeRecord record = default;
        if (staged == Errno.None) { staged = creation.Stage(tx, parent, directory, what, 0, state.Clock(), out inode, out record); }
        if (staged == Errno.None) { staged = Orphans.StageItem(tx, inode, OrphanKind.Nameless, Orphans.MayBeNamed); }
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        references.AddLookup(inode);
        references.AddOpen(inode);
        state.Orphans.Kept(inode);
        attributes = record.ToAttributes(inode);
        return Errno.None;
    }

    private Errno TryLink(ulong node, ulong newParent, ReadOnlySpan<byte> newName, out InodeAttributes attributes, out ulong lsn)
    {
        attributes = default;
        lsn = 0;
        if (!references.CanAdd(node)) { return Errno.ENFILE; }
        Transaction tx = state.Volume.Begin();
        Errno staged = StageLink(tx, node, newParent, newName, out InodeRecord record);
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Entry(newParent, newName);
        notices.Inode(node, contentChanged: false);
        if (record.LinkCount == 1) { state.Orphans.Revived(node); }
        references.AddLookup(node);
        attributes = record.ToAttributes(node);
        return Errno.None;
    }

    private Errno StageLink(Transaction tx, ulong node, ulong newParent, ReadOnlySpan<byte> newName, out InodeRecord record)
    {
        Errno found = tx.TryGetInode(node, out record);
        if (found != Errno.None) { return found; }
        if (record.IsDirectory) { return Errno.EPERM; }
        if (record.LinkCount >= FileLimits.MaxLinks) { return Errno.EMLINK; }
        found = tx.TryGetLiveDirectory(newParent, out InodeRecord directory);
        if (found != Errno.None) { return found; }
        found = state.Entries.TryFind(tx, newParent, newName, out _, out _);
        if (found != Errno.ENOENT) { return found == Errno.None ? Errno.EEXIST : found; }
        found = Protection.AddName(directory);
        if (found == Errno.None) { found = Protection.Link(record); }
        if (found != Errno.None) { return found; }
        Errno staged = record.LinkCount == 0 ? StageRevive(tx, node, record) : Errno.None;
        if (staged == Errno.None) { staged = state.Entries.Insert(tx, newParent, newName, node, record.EntryType); }
        if (staged != Errno.None) { return staged; }
        FsTime now = state.Clock();
        record = record.WithChange(now) with { LinkCount = record.LinkCount + 1 };
        directory = directory.WithModify(now).WithChange(now) with { EntryCount = directory.EntryCount + 1 };
        staged = tx.PutInode(node, record);
        return staged == Errno.None ? tx.PutInode(newParent, directory) : staged;
    }

    private Errno StageRevive(Transaction tx, ulong node, in InodeRecord record)
    {
        Errno found = Orphans.TryGetItem(tx, node, out OrphanKind kind, out long number);
        if (found != Errno.None) { return found; }
        // Without a reference the inode may be on its way out; and what was unlinked stays unlinked, as in Linux.
        if (kind != OrphanKind.Nameless || number != Orphans.MayBeNamed || !state.References.Contains(node)) { return Errno.ENOENT; }
        // With a truncation under way, the item that finishes it after a crash must stay.
        return state.Truncation.IsUnderWay(node) ? Orphans.StageItem(tx, node, OrphanKind.Truncating, record.SizeBytes) : tx.Delete(BlobfsKeys.Orphan(node));
    }

    private Errno TryRemove(ulong parent, ReadOnlySpan<byte> name, bool directory, out ulong lsn)
    {
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = StageRemove(tx, parent, name, directory, out ulong inode, out bool kept);
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Entry(parent, name);
        notices.Inode(inode, contentChanged: false);
        if (kept) { state.Orphans.Kept(inode); }
        return Errno.None;
    }

    private Errno StageRemove(Transaction tx, ulong parent, ReadOnlySpan<byte> name, bool wantDirectory, out ulong inode, out bool kept)
    {
        inode = 0;
        kept = false;
        Errno found = tx.TryGetLiveDirectory(parent, out InodeRecord directory);
        if (found != Errno.None) { return found; }
        found = state.Entries.TryFind(tx, parent, name, out inode, out _);
        if (found != Errno.None) { return found; }
        found = tx.TryGetInode(inode, out InodeRecord record);
        if (found != Errno.None) { return found == Errno.ESTALE ? Errno.EIO : found; }
        found = Protection.RemoveName(directory, record);
        if (found != Errno.None) { return found; }
        if (wantDirectory != record.IsDirectory) { return wantDirectory ? Errno.ENOTDIR : Errno.EISDIR; }
        if (wantDirectory && record.EntryCount != 0) { return Errno.ENOTEMPTY; }
        FsTime now = state.Clock();
        Errno staged = state.Entries.Remove(tx, parent, name);
        if (staged == Errno.None) { staged = StageNameGone(tx, inode, record, now, out kept); }
        if (staged != Errno.None) { return staged; }
        directory = directory.WithModify(now).WithChange(now) with
        {
            EntryCount = directory.EntryCount - 1,
            LinkCount = directory.LinkCount - (wantDirectory ? 1u : 0u),
        };
        return tx.PutInode(parent, directory);
    }

    /// <summary>Stages what a lost name means for its inode.</summary>
    /// <param name="kept">It lives on without a name: report it to <see cref="Orphans.Kept"/> after the commit.</param>
    public Errno StageNameGone(Transaction tx, ulong inode, in InodeRecord record, FsTime now, out bool kept)
    {
        kept = false;
        if (record.LinkCount == 0) { return Errno.EIO; }
        InodeRecord changed = record.WithChange(now) with { LinkCount = record.IsDirectory ? 0 : record.LinkCount - 1 };
        if (changed.LinkCount > 0) { return tx.PutInode(inode, changed); }
        references.Presume(inode);
        return state.Orphans.StageNameless(tx, inode, changed, out kept);
    }

    private readonly record struct LookupRead(Names Names, ulong Parent, IoVec Name) : ITreeRead<InodeAttributes>
    {
        public Errno Try(out InodeAttributes result) => Names.TryLookup(Parent, Name.Span, out result);
    }

    private readonly record struct CreateChange(Names Names, ulong Parent, IoVec Name, NewObject What, bool Open) : ITreeChange<InodeAttributes>
    {
        public Admission Admission => Admission.Grow;

        public Errno Try(out InodeAttributes result, out ulong lsn) => Names.TryCreate(Parent, Name.Span, What, Open, out result, out lsn);
    }

    private readonly record struct TemporaryChange(Names Names, ulong Parent, NewObject What) : ITreeChange<InodeAttributes>
    {
        public Admission Admission => Admission.Grow;

        public Errno Try(out InodeAttributes result, out ulong lsn) => Names.TryCreateTemporary(Parent, What, out result, out lsn);
    }

    private readonly record struct LinkChange(Names Names, ulong Node, ulong NewParent, IoVec NewName) : ITreeChange<InodeAttributes>
    {
        public Admission Admission => Admission.Grow;

        public Errno Try(out InodeAttributes result, out ulong lsn) => Names.TryLink(Node, NewParent, NewName.Span, out result, out lsn);
    }

    private readonly record struct RemoveChange(Names Names, ulong Parent, IoVec Name, bool Directory) : ITreeChange<Nothing>
    {
        public Admission Admission => Admission.Release;

        public Errno Try(out Nothing result, out ulong lsn)
        {
            result = default;
            return Names.TryRemove(Parent, Name.Span, Directory, out lsn);
        }
    }
}
