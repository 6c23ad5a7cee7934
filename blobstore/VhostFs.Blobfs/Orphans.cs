using System.Buffers.Binary;
using VhostFs.Blobstore;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>Why an ORPHAN item exists: the first byte of its value.</summary>
internal enum OrphanKind : byte
{
    None = 0,

    /// <summary>It has no name: delete when nobody refers to it, or at mount. The item's number is <see cref="Orphans.MayBeNamed"/> or 0.</summary>
    Nameless = 1,

    /// <summary>Blocks behind the size remain to be dropped. The item's number is that size.</summary>
    Truncating = 2,
}

/// <summary>Inodes without a name: keeps them while a session refers to them, deletes them in bounded steps afterwards.</summary>
/// <remarks>Invariants: link count 0 of a non-deleted inode &lt;=&gt; ORPHAN item of kind 1 &lt;=&gt; member of <see cref="_nameless"/>.
/// An inode in the queue has no references and cannot get any: opening or linking a nameless inode needs a reference.</remarks>
internal sealed class Orphans(BlobfsState state)
{
    public const int ItemBytes = 9;

    /// <summary>Number of a nameless inode that never had a name (O_TMPFILE) and may still get one.</summary>
    public const long MayBeNamed = 1;

    private const int MaxXattrDeletes = 64;

    private readonly HashSet<ulong> _nameless = [];
    private readonly SessionReferences _heirless = new(state.References, int.MaxValue, int.MaxValue);
    private readonly Queue<ulong> _pending = new();
    private int _running;
    private bool _stopping;
    private IoCompletion<Errno>? _idle;

    /// <summary>Deletion lags behind: whoever makes more orphans should help with <see cref="HelpAsync"/> first.</summary>
    public bool IsBacklogFull => _pending.Count >= state.Options.MaxReapBacklog;

    /// <summary>Nameless inodes that are kept for a session or wait for their deletion.</summary>
    public int Count => _nameless.Count;

    /// <summary>What was found at mount and waits for a session that has it open.</summary>
    public IEnumerable<ulong> Heirless => _heirless.Inodes;

    public static Errno StageItem(Transaction tx, ulong inode, OrphanKind kind, long number)
    {
        Span<byte> value = stackalloc byte[ItemBytes];
        value[0] = (byte)kind;
        BinaryPrimitives.WriteInt64LittleEndian(value[1..], number);
        return tx.Put(BlobfsKeys.Orphan(inode), value);
    }

    public static Errno TryGetItem(Transaction tx, ulong inode, out OrphanKind kind, out long number)
    {
        kind = OrphanKind.None;
        number = 0;
        Errno found = tx.TryGet(BlobfsKeys.Orphan(inode), out ReadOnlySpan<byte> value);
        if (found == Errno.ENOENT) { return Errno.None; }
        if (found != Errno.None) { return found; }
        if (value.Length != ItemBytes) { return Errno.EIO; }
        kind = (OrphanKind)value[0];
        number = BinaryPrimitives.ReadInt64LittleEndian(value[1..]);
        return Errno.None;
    }

    /// <summary>Stages what becomes of an inode whose last name goes (its record says so already): deleted at once when nobody refers to it and it is small, else kept.</summary>
    public Errno StageNameless(Transaction tx, ulong inode, in InodeRecord record, out bool kept)
    {
        kept = state.References.Contains(inode) || record.Blocks != 0 || record.XattrCount != 0 || (record.Flags & InodeFlags.XattrDebris) != 0;
        if (!kept) { return StageInodeDelete(tx, inode, record); }
        Errno staged = tx.PutInode(inode, record);
        return staged == Errno.None ? StageItem(tx, inode, OrphanKind.Nameless, 0) : staged;
    }

    /// <summary>The transaction that made an inode nameless is committed.</summary>
    public void Kept(ulong inode)
    {
        _nameless.Add(inode);
        if (!state.References.Contains(inode)) { ReferencesGone(inode); }
    }

    /// <summary>A nameless inode got a name.</summary>
    public void Revived(ulong inode) => _nameless.Remove(inode);

    /// <summary>No session refers to the inode any more.</summary>
    public void ReferencesGone(ulong inode)
    {
        if (!_nameless.Contains(inode)) { return; }
        _pending.Enqueue(inode);
        if (_running >= state.Options.MaxConcurrentReaps || _stopping) { return; }
        _running++;
        ReapAsync().Detach();
    }

    /// <summary>Deletes one waiting inode on behalf of an operation that makes more. That it cannot be deleted now is not that operation's failure.</summary>
    public async IoTask<Errno> HelpAsync()
    {
        if (_pending.TryDequeue(out ulong inode) && await DeleteAsync(inode) != Errno.None) { _pending.Enqueue(inode); }
        return Errno.None;
    }

    /// <summary>From now on what has no name any more is left to the next mount.</summary>
    public void Leave() => _stopping = true;

    /// <summary>Waits for running deletions; waiting ones are left to the next mount.</summary>
    public async IoTask<Errno> StopAsync()
    {
        Leave();
        if (_running == 0) { return Errno.None; }
        _idle ??= new IoCompletion<Errno>();
        return await _idle.Task;
    }

    /// <summary>At mount, before anything is served: no session refers to anything, so every orphan goes, now or after <see cref="BlobfsOptions.OrphanGrace"/>, and
    /// interrupted truncations are finished.</summary>
    public async IoTask<Errno> RecoverAsync(Truncation truncation)
    {
        TreeKey from = BlobfsKeys.Orphan(0);
        while (true)
        {
            Errno found = TryNextOrphan(from, out ulong inode, out OrphanKind kind);
            if (found == Residency.NotResident)
            {
                found = await state.Volume.LoadMissingAsync();
                if (found != Errno.None) { return found; }
                continue;
            }
            if (found == Errno.ENOENT) { break; }
            if (found != Errno.None) { return found; }
            Errno done = Errno.None;
            if (kind == OrphanKind.Truncating) { done = await truncation.FinishAsync(inode); }
            else if (state.Options.OrphanGrace == TimeSpan.Zero) { done = await DeleteAsync(inode); }
            else
            {
                _nameless.Add(inode);
                _heirless.AddLookup(inode);
            }
            if (done != Errno.None) { return done; }
            from = BlobfsKeys.Orphan(inode).Next();
        }
        if (_heirless.Count > 0) { WaitForHeirsAsync().Detach(); }
        return Errno.None;
    }

    private async IoTask<bool> WaitForHeirsAsync()
    {
        await Reactor.Reactor.Current.DelayAsync((long)state.Options.OrphanGrace.TotalNanoseconds);
        _heirless.Clear();
        return true;
    }

    private Errno TryNextOrphan(TreeKey from, out ulong inode, out OrphanKind kind)
    {
        Errno found = state.Volume.TryNext(from, BlobfsKeys.OrphanLimit, out TreeKey key, out ReadOnlySpan<byte> value);
        inode = key.Sub;
        kind = found == Errno.None && value.Length == ItemBytes ? (OrphanKind)value[0] : OrphanKind.None;
        return found == Errno.None && kind is OrphanKind.None or > OrphanKind.Truncating ? Errno.EIO : found;
    }

    private async IoTask<Errno> ReapAsync()
    {
        // What meets an error is tried again with the next one that comes: a node may be unreadable for a moment. If the volume has failed, the items stay for the next mount.
        var failed = new List<ulong>();
        while (!_stopping && _pending.TryDequeue(out ulong inode))
        {
            if (await DeleteAsync(inode) != Errno.None) { failed.Add(inode); }
        }
        foreach (ulong inode in failed) { _pending.Enqueue(inode); }
        _running--;
        if (_running == 0) { _idle?.Complete(Errno.None); }
        return Errno.None;
    }

    private async IoTask<Errno> DeleteAsync(ulong inode)
    {
        // Excludes changes that were prepared before the last reference went.
        BlobLock held = await state.Data.LockAsync(inode, 0, long.MaxValue);
        Errno result = await DeleteLockedAsync(inode);
        state.Data.Unlock(held);
        return result;
    }

    private async IoTask<Errno> DeleteLockedAsync(ulong inode)
    {
        for (int attempt = 0; attempt < OperationLoop.MaxAttempts; attempt++)
        {
            Errno ready = await state.Volume.AdmitAsync(Admission.Release);
            if (ready != Errno.None) { return ready; }
            Errno step = TryDeleteStep(inode, out ulong lsn, out bool done);
            if (step == Residency.NotResident)
            {
                step = await state.Volume.LoadMissingAsync();
                if (step != Errno.None) { return step; }
                continue;
            }
            if (step == Errno.None && lsn != 0) { step = await state.Volume.LoggedAsync(lsn); }
            if (step != Errno.None) { return step; }
            if (done) { _nameless.Remove(inode); return Errno.None; }
            attempt = 0; // it moved on: only attempts without progress count
        }
        return Errno.EIO;
    }

    private Errno TryDeleteStep(ulong inode, out ulong lsn, out bool done)
    {
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = StageDeleteStep(tx, inode, out done);
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        return Errno.None;
    }

    private Errno StageDeleteStep(Transaction tx, ulong inode, out bool done)
    {
        done = false;
        Errno found = tx.TryGetInode(inode, out InodeRecord record);
        if (found == Errno.ESTALE) { done = true; return tx.Delete(BlobfsKeys.Orphan(inode)); }
        if (found != Errno.None) { return found; }
        if (record.LinkCount != 0) { return Errno.EIO; }
        if (record.Blocks != 0)
        {
            Errno unmapped = state.Data.TryStageUnmap(tx, inode, 0, FileLimits.MaxBlocks, out long freed, out bool complete);
            if (unmapped != Errno.None) { return unmapped; }
            return tx.PutInode(inode, record with { Blocks = complete ? 0 : record.Blocks - freed });
        }
        if (record.XattrCount != 0 || (record.Flags & InodeFlags.XattrDebris) != 0)
        {
            Errno dropped = StageXattrDeletes(tx, inode, out bool complete);
            if (dropped != Errno.None || !complete) { return dropped; }
        }
        done = true;
        Errno deleted = StageInodeDelete(tx, inode, record);
        return deleted == Errno.None ? tx.Delete(BlobfsKeys.Orphan(inode)) : deleted;
    }

    private Errno StageXattrDeletes(Transaction tx, ulong inode, out bool complete)
    {
        complete = false;
        TreeKey from = BlobfsKeys.Xattr(inode, 0, 0);
        for (int i = 0; i < MaxXattrDeletes; i++)
        {
            Errno found = state.Volume.TryNext(from, BlobfsKeys.XattrLimit(inode), out TreeKey key, out _);
            if (found == Errno.ENOENT) { complete = true; return Errno.None; }
            if (found == Errno.None) { found = tx.Delete(key); }
            if (found != Errno.None) { return found; }
            from = key.Next();
        }
        return Errno.None;
    }

    private static Errno StageInodeDelete(Transaction tx, ulong inode, in InodeRecord record)
    {
        Errno deleted = Errno.None;
        if (record.IsInline && record.SizeBytes > 0) { deleted = tx.Delete(BlobfsKeys.Inline(inode)); }
        if (deleted == Errno.None && record.IsSymbolicLink && record.SizeBytes > FileLimits.LinkChunkBytes) { deleted = tx.Delete(BlobfsKeys.Inline(inode, 1)); }
        return deleted == Errno.None ? tx.Delete(BlobfsKeys.Inode(inode)) : deleted;
    }
}
