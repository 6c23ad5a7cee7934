using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>Extended attributes: which names exist, what setting an ACL means, values up to 65,536 bytes.</summary>
internal sealed class Xattrs(BlobfsState state, ChangeNotices notices)
{
    public const uint CreateOnly = 1;
    public const uint ReplaceOnly = 2;

    public IoTask<IoResult> GetAsync(ulong node, IoVec name, IoVec target) =>
        state.Loop.Read<GetRead, int>(new GetRead(this, node, name, target)).ToIoResult();

    /// <param name="withTrusted">Only root is told the names in trusted.*; the size query counts them for everybody.</param>
    public IoTask<IoResult> ListAsync(ulong node, IoVec target, bool withTrusted) =>
        state.Loop.Read<ListRead, int>(new ListRead(this, node, target, withTrusted)).ToIoResult();

    public IoTask<Errno> SetAsync(ulong node, IoVec name, IoVec value, uint flags, bool killSgid)
    {
        Errno legal = CheckName(name.Span);
        if (legal == Errno.None && (flags & ~(CreateOnly | ReplaceOnly)) != 0) { legal = Errno.EINVAL; }
        if (legal == Errno.None && value.Length > XattrItems.MaxValueBytes) { legal = Errno.E2BIG; }
        if (legal == Errno.None && IsAcl(name.Span)) { legal = Acl.Validate(value.Span); }
        if (legal != Errno.None) { return new IoTask<Errno>(legal); }
        var change = new SetChange(this, node, name, value, flags, killSgid);
        return value.Length > XattrItems.MaxSingleBytes ? SetLargeAsync(change) : state.Loop.Change<SetChange, Nothing>(change).ToErrno();
    }

    public IoTask<Errno> RemoveAsync(ulong node, IoVec name)
    {
        Errno legal = CheckName(name.Span);
        return legal != Errno.None ? new IoTask<Errno>(legal) : state.Loop.Change<RemoveChange, Nothing>(new RemoveChange(this, node, name)).ToErrno();
    }

    private static Errno CheckName(ReadOnlySpan<byte> name)
    {
        if (name.Length is 0 or > FileLimits.MaxNameBytes) { return Errno.ERANGE; }
        if (IsAcl(name)) { return Errno.None; }
        int prefix = name.StartsWith("user."u8) ? 5 : name.StartsWith("trusted."u8) ? 8 : name.StartsWith("security."u8) ? 9 : 0;
        if (prefix == 0) { return Errno.EOPNOTSUPP; }
        return name.Length == prefix ? Errno.EINVAL : Errno.None;
    }

    private static bool IsAcl(ReadOnlySpan<byte> name) => name.SequenceEqual(Acl.AccessName) || name.SequenceEqual(Acl.DefaultName);

    private Errno TryGet(ulong node, ReadOnlySpan<byte> name, Span<byte> target, out int length)
    {
        length = 0;
        Errno found = CheckName(name);
        if (found != Errno.None) { return found; }
        found = state.Volume.TryGetInode(node, out InodeRecord record);
        if (found != Errno.None) { return found; }
        if (record.XattrCount == 0) { return Errno.ENODATA; }
        found = state.Xattrs.TryFind(node, name, out XattrPlace place, out ReadOnlySpan<byte> first);
        if (found != Errno.None) { return found; }
        length = place.ValueBytes;
        if (target.IsEmpty) { return Errno.None; }
        return length > target.Length ? Errno.ERANGE : state.Xattrs.TryReadValue(node, place, first, target);
    }

    private Errno TryList(ulong node, Span<byte> target, bool withTrusted, out int length)
    {
        length = 0;
        Errno found = state.Volume.TryGetInode(node, out InodeRecord record);
        if (found != Errno.None) { return found; }
        // Both counts are the disk's word: the length of a reply is what was written to the target, and never more.
        if (record.XattrNameBytes > XattrItems.MaxListBytes || (record.XattrCount == 0) != (record.XattrNameBytes == 0)) { return Errno.EIO; }
        if (target.IsEmpty || record.XattrCount == 0)
        {
            length = (int)record.XattrNameBytes;
            return Errno.None;
        }
        if (withTrusted && record.XattrNameBytes > target.Length) { return Errno.ERANGE; }
        TreeKey from = BlobfsKeys.Xattr(node, 0, 0);
        while (true)
        {
            found = state.Volume.TryNext(from, BlobfsKeys.XattrLimit(node), out TreeKey key, out ReadOnlySpan<byte> first);
            if (found == Errno.ENOENT) { return Errno.None; }
            if (found != Errno.None) { return found; }
            ulong position = key.Sub >> BlobfsKeys.XattrChunkBits;
            if (XattrItems.IsFirstChunk(key))
            {
                if (!XattrItems.TryParse(position, first, out _)) { return Errno.EIO; }
                ReadOnlySpan<byte> name = XattrItems.NameOf(first);
                if (withTrusted || !name.StartsWith("trusted."u8))
                {
                    if (length + name.Length + 1 > target.Length) { return withTrusted ? Errno.EIO : Errno.ERANGE; }
                    name.CopyTo(target[length..]);
                    target[length + name.Length] = 0;
                    length += name.Length + 1;
                }
            }
            from = BlobfsKeys.Xattr(node, position, (1 << BlobfsKeys.XattrChunkBits) - 1).Next();
        }
    }

    private Errno TrySet(in SetChange change, out ulong lsn)
    {
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = tx.TryGetInode(change.Node, out InodeRecord record);
        if (staged == Errno.None) { staged = Protection.SetXattr(record); }
        if (staged == Errno.None) { staged = StageSet(tx, change, ref record); }
        if (staged == Errno.None) { staged = tx.PutInode(change.Node, record.WithChange(state.Clock())); }
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Inode(change.Node, contentChanged: false);
        return Errno.None;
    }

    private Errno StageSet(Transaction tx, in SetChange change, ref InodeRecord record)
    {
        ReadOnlySpan<byte> name = change.Name.Span, value = change.Value.Span;
        Errno allowed = CheckFlags(tx, change, record);
        if (allowed != Errno.None) { return allowed; }
        if (!IsAcl(name)) { return state.Xattrs.StageSet(tx, change.Node, ref record, name, value); }
        if (record.IsSymbolicLink) { return Errno.EOPNOTSUPP; }
        bool isDefault = name.SequenceEqual(Acl.DefaultName), store = !Acl.IsEmpty(value);
        if (isDefault && !record.IsDirectory) { return store ? Errno.EACCES : Errno.None; }
        if (!isDefault && store) { record = record with { Mode = Acl.ToMode(value, record.Mode, out store) }; }
        if (!isDefault && change.KillSgid) { record = record with { Mode = record.Mode & ~FileMode.S_ISGID }; }
        if (store) { return state.Xattrs.StageSet(tx, change.Node, ref record, name, value); }
        Errno removed = state.Xattrs.StageRemove(tx, change.Node, ref record, name);
        return removed == Errno.ENODATA ? Errno.None : removed;
    }

    private Errno CheckFlags(Transaction tx, in SetChange change, in InodeRecord record)
    {
        if (change.Flags == 0) { return Errno.None; }
        bool exists = false;
        if (record.XattrCount > 0)
        {
            Errno found = state.Xattrs.Probe(tx, change.Node, change.Name.Span, out XattrPlace current, out _);
            if (found != Errno.None) { return found; }
            exists = current.Chunks > 0;
        }
        if (exists && (change.Flags & CreateOnly) != 0) { return Errno.EEXIST; }
        return !exists && (change.Flags & ReplaceOnly) != 0 ? Errno.ENODATA : Errno.None;
    }

    /// <summary>A value too large for one transaction: most chunks go first, to a position that no name has; the last transaction writes the first chunk, which makes
    /// them the value, and removes the old value. The lock keeps other large values away; smaller changes in between show in the change counter, and it starts over.</summary>
    private async IoTask<Errno> SetLargeAsync(SetChange change)
    {
        BlobLock held = await state.Data.LockAsync(change.Node, 0, long.MaxValue);
        Errno result = Errno.EAGAIN;
        for (int attempt = 0; attempt < OperationLoop.MaxAttempts && result == Errno.EAGAIN; attempt++)
        {
            FsResult<LargePlace> begun = await state.Loop.Change<LargeBegin, LargePlace>(new LargeBegin(this, change));
            if (begun.IsError) { result = begun.Errno; break; }
            result = await state.Loop.Change<LargeEnd, Nothing>(new LargeEnd(this, change, begun.Value)).ToErrno();
        }
        state.Data.Unlock(held);
        return result;
    }

    private Errno TryBeginLarge(in SetChange change, out LargePlace place, out ulong lsn)
    {
        lsn = 0;
        place = default;
        ReadOnlySpan<byte> name = change.Name.Span, value = change.Value.Span;
        Transaction tx = state.Volume.Begin();
        Errno staged = tx.TryGetInode(change.Node, out InodeRecord record);
        if (staged == Errno.None) { staged = Protection.SetXattr(record); }
        if (staged == Errno.None) { staged = CheckFlags(tx, change, record); }
        ulong free = ulong.MaxValue;
        if (staged == Errno.None) { staged = state.Xattrs.Probe(tx, change.Node, name, out _, out free); }
        if (staged == Errno.None && free == ulong.MaxValue) { staged = Errno.ENOSPC; }
        if (staged == Errno.None)
        {
            int chunks = XattrItems.ChunksOf(name.Length, value.Length);
            staged = XattrItems.StageChunks(tx, change.Node, free, name, value, XattrItems.FinalChunks, chunks);
        }
        if (staged == Errno.None) { staged = tx.PutInode(change.Node, record with { Flags = record.Flags | InodeFlags.XattrDebris }); }
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        place = new LargePlace(free, record.ChangeCounter);
        return Errno.None;
    }

    private Errno TryEndLarge(in SetChange change, LargePlace place, out ulong lsn)
    {
        lsn = 0;
        ReadOnlySpan<byte> name = change.Name.Span, value = change.Value.Span;
        Transaction tx = state.Volume.Begin();
        Errno staged = tx.TryGetInode(change.Node, out InodeRecord record);
        if (staged == Errno.None && record.ChangeCounter != place.ChangeCounter) { staged = Errno.EAGAIN; }
        XattrPlace current = default;
        if (staged == Errno.None) { staged = state.Xattrs.Probe(tx, change.Node, name, out current, out _); }
        if (staged == Errno.None && current.Chunks == 0) { staged = XattrItems.CountNew(ref record, name); }
        if (staged == Errno.None) { staged = XattrItems.StageChunks(tx, change.Node, place.Position, name, value, 0, XattrItems.FinalChunks); }
        if (staged == Errno.None) { staged = XattrItems.StageDelete(tx, change.Node, current.Position, 0, current.Chunks); }
        if (staged == Errno.None) { staged = tx.PutInode(change.Node, record.WithChange(state.Clock())); }
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Inode(change.Node, contentChanged: false);
        return Errno.None;
    }

    private Errno TryRemove(ulong node, ReadOnlySpan<byte> name, out ulong lsn)
    {
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = tx.TryGetInode(node, out InodeRecord record);
        if (staged == Errno.None) { staged = Protection.SetXattr(record); }
        if (staged == Errno.None) { staged = state.Xattrs.StageRemove(tx, node, ref record, name); }
        if (staged == Errno.None) { staged = tx.PutInode(node, record.WithChange(state.Clock())); }
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        notices.Inode(node, contentChanged: false);
        return Errno.None;
    }

    private readonly record struct LargePlace(ulong Position, ulong ChangeCounter);

    private readonly record struct GetRead(Xattrs Xattrs, ulong Node, IoVec Name, IoVec Target) : ITreeRead<int>
    {
        public Errno Try(out int result) => Xattrs.TryGet(Node, Name.Span, Target.Span, out result);
    }

    private readonly record struct ListRead(Xattrs Xattrs, ulong Node, IoVec Target, bool WithTrusted) : ITreeRead<int>
    {
        public Errno Try(out int result) => Xattrs.TryList(Node, Target.Span, WithTrusted, out result);
    }

    private readonly record struct SetChange(Xattrs Xattrs, ulong Node, IoVec Name, IoVec Value, uint Flags, bool KillSgid) : ITreeChange<Nothing>
    {
        public Admission Admission => Admission.Grow;

        public Errno Try(out Nothing result, out ulong lsn)
        {
            result = default;
            return Xattrs.TrySet(this, out lsn);
        }
    }

    private readonly record struct LargeBegin(Xattrs Xattrs, SetChange Change) : ITreeChange<LargePlace>
    {
        public Admission Admission => Admission.Grow;

        public Errno Try(out LargePlace result, out ulong lsn) => Xattrs.TryBeginLarge(Change, out result, out lsn);
    }

    private readonly record struct LargeEnd(Xattrs Xattrs, SetChange Change, LargePlace Place) : ITreeChange<Nothing>
    {
        public Admission Admission => Admission.Grow;

        public Errno Try(out Nothing result, out ulong lsn)
        {
            result = default;
            return Xattrs.TryEndLarge(Change, Place, out lsn);
        }
    }

    private readonly record struct RemoveChange(Xattrs Xattrs, ulong Node, IoVec Name) : ITreeChange<Nothing>
    {
        public Admission Admission => Admission.Release;

        public Errno Try(out Nothing result, out ulong lsn)
        {
            result = default;
            return Xattrs.TryRemove(Node, Name.Span, out lsn);
        }
    }
}
