using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>renameat2(2) as one transaction: both names, the victim, both directories, the moved inode, the whiteout.</summary>
internal sealed class Renames(BlobfsState state, Names names, Creation creation, ChangeNotices notices)
{
    public const uint NoReplace = 1;
    public const uint Exchange = 2;
    public const uint Whiteout = 4;

    public IoTask<Errno> RenameAsync(FuseCaller caller, ulong parent, IoVec name, ulong newParent, IoVec newName, uint flags)
    {
        if ((flags & ~(NoReplace | Exchange | Whiteout)) != 0) { return new IoTask<Errno>(Errno.EINVAL); }
        if ((flags & Exchange) != 0 && flags != Exchange) { return new IoTask<Errno>(Errno.EINVAL); }
        var change = new RenameChange(this, caller, parent, name, newParent, newName, flags);
        return state.Orphans.IsBacklogFull ? AfterHelpAsync(change) : state.Loop.Change<RenameChange, Nothing>(change).ToErrno();
    }

    private async IoTask<Errno> AfterHelpAsync(RenameChange change)
    {
        await state.Orphans.HelpAsync();
        return await state.Loop.Change<RenameChange, Nothing>(change).ToErrno();
    }

    private Errno TryRename(in RenameChange change, out ulong lsn)
    {
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = Stage(tx, change, out Ends ends, out ulong victim, out bool isNoop);
        if (staged != Errno.None || isNoop) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Entry(change.Parent, change.Name.Span);
        notices.Entry(change.NewParent, change.NewName.Span);
        notices.Inode(ends.Source, contentChanged: false);
        if (ends.HasTarget) { notices.Inode(ends.Target, contentChanged: false); }
        if (victim != 0) { state.Orphans.Kept(victim); }
        return Errno.None;
    }

    private Errno Stage(Transaction tx, in RenameChange change, out Ends ends, out ulong keptVictim, out bool isNoop)
    {
        keptVictim = 0;
        isNoop = false;
        Errno found = Find(tx, change, out ends);
        if (found != Errno.None) { return found; }
        if (ends.HasTarget && (change.Flags & NoReplace) != 0) { return Errno.EEXIST; }
        if (!ends.HasTarget && (change.Flags & Exchange) != 0) { return Errno.ENOENT; }
        if (ends.HasTarget && ends.Target == ends.Source) { isNoop = true; return Errno.None; }
        Errno legal = Protection.RemoveName(ends.SourceDirectory, ends.SourceRecord);
        if (legal == Errno.None) { legal = ends.HasTarget ? Protection.RemoveName(ends.TargetDirectory, ends.TargetRecord) : Protection.AddName(ends.TargetDirectory); }
        if (legal == Errno.None) { legal = CheckLoops(tx, change, ends); }
        if (legal != Errno.None) { return legal; }
        FsTime now = state.Clock();
        return (change.Flags & Exchange) != 0
            ? StageExchange(tx, change, ends, now)
            : StageMove(tx, change, ends, now, out keptVictim);
    }

    private Errno Find(Transaction tx, in RenameChange change, out Ends ends)
    {
        ends = default;
        Errno found = tx.TryGetLiveDirectory(change.Parent, out InodeRecord sourceDirectory);
        if (found != Errno.None) { return found; }
        InodeRecord targetDirectory = sourceDirectory;
        if (change.NewParent != change.Parent) { found = tx.TryGetLiveDirectory(change.NewParent, out targetDirectory); }
        if (found != Errno.None) { return found; }
        found = state.Entries.TryFind(tx, change.Parent, change.Name.Span, out ulong source, out _);
        if (found != Errno.None) { return found; }
        found = tx.TryGetInode(source, out InodeRecord sourceRecord);
        if (found != Errno.None) { return found == Errno.ESTALE ? Errno.EIO : found; }
        found = state.Entries.TryFind(tx, change.NewParent, change.NewName.Span, out ulong target, out _);
        if (found != Errno.None && found != Errno.ENOENT) { return found; }
        InodeRecord targetRecord = default;
        bool hasTarget = found == Errno.None;
        if (hasTarget)
        {
            found = tx.TryGetInode(target, out targetRecord);
            if (found != Errno.None) { return found == Errno.ESTALE ? Errno.EIO : found; }
        }
        ends = new Ends(sourceDirectory, targetDirectory, source, sourceRecord, hasTarget, target, targetRecord);
        return Errno.None;
    }

    private static Errno CheckLoops(Transaction tx, in RenameChange change, in Ends ends)
    {
        if (change.Parent == change.NewParent) { return Errno.None; }
        if (ends.SourceRecord.IsDirectory)
        {
            Errno above = CheckNotAbove(tx, ends.Source, change.NewParent);
            if (above != Errno.None) { return above; }
        }
        return (change.Flags & Exchange) != 0 && ends.TargetRecord.IsDirectory ? CheckNotAbove(tx, ends.Target, change.Parent) : Errno.None;
    }

    /// <summary>EINVAL when <paramref name="directory"/> is <paramref name="below"/> or one of its ancestors.</summary>
    private static Errno CheckNotAbove(Transaction tx, ulong directory, ulong below)
    {
        for (int depth = 0; depth < FileLimits.MaxDepth; depth++)
        {
            if (below == directory) { return Errno.EINVAL; }
            if (below == BlobfsKeys.RootInode) { return Errno.None; }
            Errno found = tx.TryGetInode(below, out InodeRecord record);
            if (found != Errno.None) { return found == Errno.ESTALE ? Errno.EIO : found; }
            below = record.Parent;
        }
        return Errno.ELOOP;
    }

    private Errno StageExchange(Transaction tx, in RenameChange change, in Ends ends, FsTime now)
    {
        Errno staged = state.Entries.Replace(tx, change.Parent, change.Name.Span, ends.Target, ends.TargetRecord.EntryType);
        if (staged == Errno.None) { staged = state.Entries.Replace(tx, change.NewParent, change.NewName.Span, ends.Source, ends.SourceRecord.EntryType); }
        if (staged == Errno.None) { staged = StageMoved(tx, ends.Source, ends.SourceRecord, change.NewParent, now); }
        if (staged == Errno.None) { staged = StageMoved(tx, ends.Target, ends.TargetRecord, change.Parent, now); }
        if (staged != Errno.None) { return staged; }
        int balance = (ends.SourceRecord.IsDirectory ? 1 : 0) - (ends.TargetRecord.IsDirectory ? 1 : 0);
        return StageDirectories(tx, change, ends, new Deltas(0, -balance), new Deltas(0, balance), now);
    }

    private Errno StageMove(Transaction tx, in RenameChange change, in Ends ends, FsTime now, out ulong keptVictim)
    {
        keptVictim = 0;
        bool isDirectory = ends.SourceRecord.IsDirectory, hasTarget = ends.HasTarget, whiteout = (change.Flags & Whiteout) != 0;
        if (hasTarget)
        {
            if (isDirectory != ends.TargetRecord.IsDirectory) { return isDirectory ? Errno.ENOTDIR : Errno.EISDIR; }
            if (isDirectory && ends.TargetRecord.EntryCount != 0) { return Errno.ENOTEMPTY; }
        }
        Errno staged = whiteout ? StageWhiteout(tx, change, ends, now) : state.Entries.Remove(tx, change.Parent, change.Name.Span);
        if (staged == Errno.None)
        {
            staged = hasTarget
                ? state.Entries.Replace(tx, change.NewParent, change.NewName.Span, ends.Source, ends.SourceRecord.EntryType)
                : state.Entries.Insert(tx, change.NewParent, change.NewName.Span, ends.Source, ends.SourceRecord.EntryType);
        }
        if (staged == Errno.None && hasTarget)
        {
            staged = names.StageNameGone(tx, ends.Target, ends.TargetRecord, now, out bool kept);
            keptVictim = kept ? ends.Target : 0;
        }
        if (staged == Errno.None) { staged = StageMoved(tx, ends.Source, ends.SourceRecord, change.NewParent, now); }
        if (staged != Errno.None) { return staged; }
        int moved = isDirectory ? 1 : 0;
        var source = new Deltas(whiteout ? 0 : -1, -moved);
        var target = new Deltas(hasTarget ? 0 : 1, hasTarget && isDirectory ? 0 : moved);
        return StageDirectories(tx, change, ends, source, target, now);
    }

    /// <summary>A character device 0:0 takes the place of the moved name: overlayfs reads it as "deleted here".</summary>
    private Errno StageWhiteout(Transaction tx, in RenameChange change, in Ends ends, FsTime now)
    {
        var what = new NewObject(new CreateContext(change.Caller, 0), FileMode.S_IFCHR);
        Errno staged = creation.Stage(tx, change.Parent, ends.SourceDirectory, what, 1, now, out ulong inode, out InodeRecord record);
        return staged == Errno.None ? state.Entries.Replace(tx, change.Parent, change.Name.Span, inode, record.EntryType) : staged;
    }

    private static Errno StageMoved(Transaction tx, ulong inode, in InodeRecord record, ulong parent, FsTime now) =>
        tx.PutInode(inode, record.WithChange(now) with { Parent = record.IsDirectory ? parent : 0 });

    private static Errno StageDirectories(Transaction tx, in RenameChange change, in Ends ends, Deltas source, Deltas target, FsTime now)
    {
        if (change.Parent == change.NewParent)
        {
            return tx.PutInode(change.Parent, Apply(ends.SourceDirectory, new Deltas(source.Entries + target.Entries, source.Links + target.Links), now));
        }
        Errno staged = tx.PutInode(change.Parent, Apply(ends.SourceDirectory, source, now));
        return staged == Errno.None ? tx.PutInode(change.NewParent, Apply(ends.TargetDirectory, target, now)) : staged;
    }

    private static InodeRecord Apply(in InodeRecord directory, Deltas deltas, FsTime now) => directory.WithModify(now).WithChange(now) with
    {
        EntryCount = (ulong)((long)directory.EntryCount + deltas.Entries),
        LinkCount = (uint)((int)directory.LinkCount + deltas.Links),
    };

    private readonly record struct Deltas(int Entries, int Links);

    private readonly record struct Ends(
        InodeRecord SourceDirectory, InodeRecord TargetDirectory, ulong Source, InodeRecord SourceRecord, bool HasTarget, ulong Target, InodeRecord TargetRecord);

    private readonly record struct RenameChange(Renames Renames, FuseCaller Caller, ulong Parent, IoVec Name, ulong NewParent, IoVec NewName, uint Flags)
        : ITreeChange<Nothing>
    {
        // A whiteout is the one rename that makes an inode.
        public Admission Admission => (Flags & Whiteout) != 0 ? Admission.Grow : Admission.Release;

        public Errno Try(out Nothing result, out ulong lsn)
        {
            result = default;
            return Renames.TryRename(this, out lsn);
        }
    }
}
