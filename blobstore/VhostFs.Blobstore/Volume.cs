using System.Buffers.Binary;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>What a change does to space: whether it may be refused on a full volume.</summary>
public enum Admission
{
    /// <summary>Creates or writes: refused with ENOSPC when the volume is full.</summary>
    Grow,

    /// <summary>Unlinks, truncates, changes attributes: works on a full volume, from a reserve.</summary>
    Release,
}

/// <summary>One volume: a tree of items, a log that makes changes durable, and blobs. Owned by one reactor.</summary>
/// <remarks>
/// <para>The pattern of use: reads and changes are synchronous over what is in memory. <see cref="Residency.NotResident"/> means: drop what you did,
/// await <see cref="LoadMissingAsync"/>, start over. A change is one <see cref="Transaction"/>, begun and committed without an await in between, after
/// <see cref="AdmitAsync"/>; its reply waits for <see cref="LoggedAsync"/> (survives the death of the process), fsync for <see cref="SyncAsync"/> (survives a power cut).</para>
/// <para>Invariants: the tree in memory is the last durable tree plus every record since; a record is submitted to the log only after the data it names
/// has been written; a failed log write or flush ends all changes until the volume is opened again.</para>
/// </remarks>
public sealed class Volume
{
    public const int MaxValueBytes = Tree.MaxValueBytes;

    /// <summary>Nodes one transaction can make dirty without asking again (<see cref="HasNodesFor"/>): a few paths and their splits.</summary>
    private const int NodesPerTransaction = 40;

    /// <summary>Nodes that come into being because the values of one record (64 KiB) fill them.</summary>
    private const int NodesFilledPerTransaction = 8;

    /// <summary>So many nodes may be dirty before a checkpoint starts for their sake, whatever others of the reactor have.</summary>
    private const int MinDirtyLimit = 1024;

    /// <summary>More blocks than this (64 MiB) start a sync: of new data, which bounds what a power cut can take; of freed space, which bounds how far overwriting spreads over the device.</summary>
    private const int MaxUnsyncedBlocks = 16384;

    private readonly Pool _pool;
    private readonly Checkpointer _checkpointer;
    private readonly Background _background;
    private int _wantedNodes;

    /// <summary>New data since the last sync that this volume started by itself.</summary>
    private long _unsyncedBlocks;
    /// <summary>The last record whose change must be durable before it is replied to.</summary>
    private ulong _demandedLsn;
    private bool _isClosed;

    internal Volume(Pool pool, VolumeRecord record, VolumeHeader header)
    {
        _pool = pool;
        Record = record;
        Header = header;
        HasDataChecksums = (header.Flags & VolumeFlags.DataChecksums) != 0;
        Nodes = new NodeSpace();
        var reader = new NodeReader(pool.Bdev, record.Id, Nodes.Owns, text => pool.Report($"volume '{record.Name}': {text}"));
        Tree = new Tree(record.Id, pool.NodeCache, reader);
        Allocator = new BlockAllocator(pool.Geometry.DataStart, pool.Geometry.ClusterBlocks);
        Overlay = new ImageOverlay();
        Shared = new SharedBlocks(this);
        NextInode = header.NextInode;
        InodeCount = header.InodeCount;
        Log = null!;
        _checkpointer = new Checkpointer(this, pool);
        _background = new Background(this);
        Data = new BlobData(this, pool);
    }

    public string Name => Record.Name;

    public ulong Id => Record.Id;

    public Guid Uuid => Record.Uuid;

    /// <summary>Keys of the volume's name hashes.</summary>
    public ulong HashKey0 => Header.HashKey0;

    /// <inheritdoc cref="HashKey0"/>
    public ulong HashKey1 => Header.HashKey1;

    public bool HasDataChecksums { get; }

    /// <summary>Why the volume takes no more changes; null while it does.</summary>
    public string? FailReason { get; private set; }

    public bool Failed => FailReason is not null;

    /// <summary>File contents.</summary>
    public BlobData Data { get; }

    /// <summary>No item exists yet.</summary>
    public bool IsNew => NextInode == 1;

    public VolumeStatistics Statistics { get; } = new();

    public VolumeSpace Space => _pool.SpaceOf(this);

    public VolumeQuota Quota => Record.Quota;

    /// <summary>Data blocks that files map.</summary>
    public long UsedBlocks { get; internal set; }

    public long InodeCount { get; internal set; }

    /// <summary>One more inode is within the volume's limit (else EDQUOT).</summary>
    public bool AllowsInode => Quota.Inodes == 0 || InodeCount < Quota.Inodes;

    /// <summary>The rest of the volume's limit has room for what a change adds; what takes nothing, or gives back, is always allowed.</summary>
    internal bool AllowsBlocks(long delta) => delta <= 0 || Quota.Blocks == 0 || UsedBlocks + delta <= Quota.Blocks;

    internal VolumeRecord Record { get; set; }

    internal VolumeHeader Header { get; set; }

    internal Tree Tree { get; }

    internal NodeSpace Nodes { get; }

    internal BlockAllocator Allocator { get; }

    internal ImageOverlay Overlay { get; }

    internal SharedBlocks Shared { get; }

    internal ReadEpochs Reads { get; } = new();

    internal Log Log { get; private set; }

    internal ulong NextInode { get; set; }

    internal Checkpointer Checkpointer => _checkpointer;

    /// <summary>In-place writes of a checkpoint are under way: no freed block may be used again before they end, one of them could be its old image.</summary>
    internal bool HoldsFreedBlocks { get; set; }

    /// <summary>Blocks will become free without anybody freeing more: freed ones that something still holds, or some that are being unmapped.</summary>
    internal bool HasSpaceOnTheWay => Allocator.PendingBlocks > 0 || _background.IsUnmapping;

    /// <summary>For whoever waits for <see cref="HasSpaceOnTheWay"/>.</summary>
    internal WaitQueue SpaceFreed { get; } = new();

    /// <inheritdoc cref="Tree.TryGet"/>
    /// <returns>None, ENOENT, NotResident, or EIO for a damaged node. The span is valid until the next change or await.</returns>
    public Errno TryGet(TreeKey key, out ReadOnlySpan<byte> value) => Tree.TryGet(key, out value);

    /// <summary>The first item with from &lt;= key &lt; limit; ENOENT when there is none.</summary>
    public Errno TryNext(TreeKey from, TreeKey limit, out TreeKey key, out ReadOnlySpan<byte> value) => Tree.TryNext(from, limit, out key, out value);

    /// <summary>Gets what the last <see cref="Residency.NotResident"/> was about: a node from the disk, or room for the nodes of an unusually wide change.</summary>
    /// <returns>None, EIO, or ENOSPC when there is no such room.</returns>
    public IoTask<Errno> LoadMissingAsync() => _wantedNodes > 0 ? MakeRoomForNodesAsync() : Tree.LoadMissingAsync();

    /// <summary>Begins a change; see <see cref="AdmitAsync"/>.</summary>
    public Transaction Begin()
    {
        _pool.Transaction.Open(this);
        return _pool.Transaction;
    }

    /// <summary>A change may begin now, without waiting.</summary>
    public bool TryAdmit(Admission admission) => FailReason is null && Log.HasRoomForNext && HasNodes(admission);

    /// <summary>Waits until a change may begin: room in the log, node slots for the next checkpoint. The change must begin synchronously after this.</summary>
    /// <returns>None, ENOSPC (only for Grow), or EIO when the volume has failed.</returns>
    public IoTask<Errno> AdmitAsync(Admission admission) => TryAdmit(admission) ? new IoTask<Errno>(Errno.None) : AdmitSlowAsync(admission);

    /// <summary>The record survives the end of the process, and a power cut if its change demanded that.</summary>
    public bool IsLogged(ulong lsn) => lsn <= Log.LoggedLsn && (lsn > _demandedLsn || lsn <= Log.DurableLsn);

    /// <summary>Completes when the change survives the end of the process; and, if it or one after it demanded that, a power cut.</summary>
    public IoTask<Errno> LoggedAsync(ulong lsn)
    {
        if (IsLogged(lsn)) { return new IoTask<Errno>(Errno.None); }
        if (Failed) { return new IoTask<Errno>(Errno.EIO); }
        return lsn <= _demandedLsn ? SyncSlowAsync(lsn) : Log.LoggedAsync(lsn);
    }

    /// <summary>Completes when the record is on the bdev, so that a flush makes it durable.</summary>
    internal IoTask<Errno> WrittenAsync(ulong lsn) => Failed ? new IoTask<Errno>(Errno.EIO) : Log.WrittenAsync(lsn);

    /// <summary>Completes when everything committed before this call survives a power cut.</summary>
    public IoTask<Errno> SyncAsync()
    {
        if (Failed) { return new IoTask<Errno>(Errno.EIO); }
        return Log.LastLsn <= Log.DurableLsn ? new IoTask<Errno>(Errno.None) : SyncSlowAsync(Log.LastLsn);
    }

    /// <summary>A number that no inode of this volume ever had. 1 comes first: the root directory.</summary>
    public ulong AllocateInode() => NextInode++;

    /// <summary>Before the first block of the pool is shared: programs that would give it two owners are told not to open the pool. Completes at once ever after.</summary>
    public IoTask<Errno> AllowSharingAsync() => _pool.AllowSharingAsync();

    /// <summary>Makes everything durable, writes a checkpoint and lets go of memory. All operations have ended.</summary>
    public async IoTask<Errno> CloseAsync()
    {
        await _background.StopAsync();
        // Who opens the volume meanwhile waits until it is closed.
        await _pool.EnterAsync(Name);
        Errno result = _isClosed ? Errno.None : await CloseCoreAsync();
        _isClosed = true;
        _pool.Leave(Name);
        return result;
    }

    private async IoTask<Errno> CloseCoreAsync()
    {
        Errno result = FailReason is null ? await SyncAsync() : Errno.EIO;
        await _checkpointer.IdleAsync();
        if (result == Errno.None) { result = await _checkpointer.RunAsync(VolumeFlags.CleanlyClosed); }
        await ReleaseAsync();
        _pool.Forget(this);
        return result;
    }

    /// <summary>Lets go of everything without another checkpoint: what opening it found on the disk is not to be built on.</summary>
    internal async IoTask<Errno> AbandonAsync()
    {
        await _background.StopAsync();
        await _checkpointer.IdleAsync();
        _isClosed = true;
        return await ReleaseAsync();
    }

    private async IoTask<Errno> ReleaseAsync()
    {
        // A batch that arrived late (a marker of the background, what was under way when the volume failed) would overwrite the log of whoever opens it next.
        if (Log is not null)
        {
            await Log.IdleAsync();
            Log.Dispose();
        }
        Overlay.Clear();
        Tree.Close();
        return Errno.None;
    }

    internal void StartLog(ulong lastLsn) =>
        Log = new Log(_pool.Bdev, Record.Anchor, Record.Uuid, _pool.Epoch, lastLsn, _pool.LogBuffers, Fail, MakeRoomInLog, PutImagesInPlace) { NextInode = NextInode };

    internal Errno Touch(TreeKey key) => Tree.Touch(key);

    internal TreeKey AllocationKey(ulong block) => new(0, ItemType.Allocation, Allocator.ClusterOf(block));

    /// <summary>There are slots for a change that touches this many clean nodes; if not, <see cref="LoadMissingAsync"/> makes room. Admission guarantees the usual amount.</summary>
    internal bool HasNodesFor(int touchedNodes)
    {
        // Each one may split, or take a neighbour along when it shrinks.
        int needed = (2 * touchedNodes) + NodesFilledPerTransaction;
        if (needed <= NodesPerTransaction || Nodes.FreeCount >= Tree.DirtyCount + needed) { return true; }
        _wantedNodes = needed;
        return false;
    }

    /// <summary>The whole run is marked in the bitmap of its cluster.</summary>
    internal bool IsAllocated(ReadOnlySpan<byte> bitmap, BlockRun run)
    {
        int first = (int)((run.First - _pool.Geometry.DataStart) % (ulong)_pool.Geometry.ClusterBlocks);
        if (bitmap.Length * 8 < first + run.Count) { return false; }
        for (int bit = first; bit < first + run.Count; bit++)
        {
            if ((bitmap[bit / 8] & (1 << (bit % 8))) == 0) { return false; }
        }
        return true;
    }

    internal ulong Commit(Transaction transaction)
    {
        ulong lsn = Log.LastLsn + 1;
        var reader = new RecordReader(transaction.Record);
        while (reader.MoveNext())
        {
            RecordOperation operation = reader.Current;
            bool applied = Apply(operation);
            Invariant.That(applied, "a staged change applies");
            switch (operation.Code)
            {
                case RecordCode.Free:
                    // The revoke rule: the block's old image must not be written any more.
                    for (int i = 0; Overlay.Count > 0 && i < operation.Blocks.Count; i++) { Overlay.Forget(operation.Blocks.First + (ulong)i); }
                    Allocator.Free(lsn, operation.Blocks, Reads.Current);
                    UsedBlocks -= operation.Blocks.Count;
                    break;
                case RecordCode.Allocate:
                    UsedBlocks += operation.Blocks.Count;
                    break;
                case RecordCode.Data:
                    _unsyncedBlocks += operation.Blocks.Count;
                    break;
                case RecordCode.Image:
                    Overlay.Set(operation.Blocks.First, transaction.Images[operation.ImageIndex - Log.OpenImageCount].Page);
                    break;
            }
        }
        Invariant.That(!reader.IsBroken);
        Log.NextInode = NextInode;
        Log.Append(transaction.Record, transaction.Images);
        PutInPlace(transaction.Overwrites);
        if (transaction.DemandsSync) { _demandedLsn = lsn; }
        Statistics.Transactions++;
        if (Log.UsedBlocks > Log.RingBlocks / 2 || Tree.DirtyCount > DirtyLimit) { _checkpointer.Start(); }
        if (Math.Max(_unsyncedBlocks, Allocator.PendingBlocks) > MaxUnsyncedBlocks)
        {
            _unsyncedBlocks = 0;
            _background.SyncSoon();
        }
        _background.Wake();
        return lsn;
    }

    /// <summary>In the turn of the commit: nobody sees a block that does not match its checksum.</summary>
    private void PutInPlace(List<ImageBlock> overwrites)
    {
        foreach (ImageBlock overwrite in overwrites)
        {
            if (_pool.Bdev.TryGetMemory((long)overwrite.Block * BlobData.BlockBytes, BlobData.BlockBytes, out IoVec memory)) { StreamingCopy.Copy(overwrite.Page.Span, memory.Span); }
            else { Fail($"{_pool.Bdev.Name} is gone"); }
        }
        if (overwrites.Count > 0) { StreamingCopy.Order(); }
    }

    /// <summary>The log has these images: where what is written is at once as safe as it gets (a file in memory), they go in place now, while they are in the processor's cache, and no checkpoint
    /// has to fetch them again.</summary>
    /// <remarks>Their records are there, so recovery writes the same images again, whichever of this is done by then. Not blocks that a checkpoint is about to write: its image would come after
    /// a newer one.</remarks>
    private void PutImagesInPlace(List<ImageBlock> images)
    {
        if (!_pool.Bdev.CompletesAtOnce || _pool.Bdev.HasWriteCache) { return; }
        long inPlace = 0;
        foreach (ImageBlock image in images)
        {
            // Freed since, overwritten by a later record, or in a checkpoint's hands.
            if (!Overlay.IsNewest(image) || Overlay.IsCopied(image)) { continue; }
            if (!_pool.Bdev.TryGetPlace((long)image.Block * BlobData.BlockBytes, BlobData.BlockBytes, out IoVec place)) { continue; }
            Overlay.Forget(image.Block);
            StreamingCopy.Copy(image.Page.Span, place.Span);
            inPlace += BlobData.BlockBytes;
        }
        if (inPlace == 0) { return; }
        StreamingCopy.Order();
        if (_pool.Bdev.EndInPlace(inPlace) != Errno.None) { Fail($"{_pool.Bdev.Name} is gone"); }
    }

    /// <summary>Applies one operation to the tree: the same code for a commit and for recovery. The paths are resident. False: the operation makes no sense.</summary>
    internal bool Apply(in RecordOperation operation)
    {
        switch (operation.Code)
        {
            case RecordCode.Put:
                if (Tree.Put(operation.Key, operation.Value) && IsInode(operation.Key)) { InodeCount++; }
                return true;
            case RecordCode.Delete:
                if (!Tree.Delete(operation.Key)) { return false; }
                if (IsInode(operation.Key)) { InodeCount--; }
                return true;
            case RecordCode.Patch:
                return Tree.Patch(operation.Key, operation.PatchOffset, operation.Value);
            case RecordCode.Allocate:
                return MarkBlocks(operation.Blocks, inUse: true);
            case RecordCode.Free:
                return MarkBlocks(operation.Blocks, inUse: false);
            default:
                return true;
        }
    }

    internal static bool IsInode(TreeKey key) => key is { Type: ItemType.Inode, Object: not 0 };

    /// <summary>A log write or a flush failed: what it carried may or may not be there. No further change is promised to anybody.</summary>
    internal void Fail(string reason)
    {
        if (FailReason is not null) { return; }
        FailReason = reason;
        _pool.Report($"volume '{Name}' takes no more changes: {reason}");
        Log.Abort();
        SpaceFreed.CompleteAll(Errno.EIO);
    }

    /// <summary>Makes freed blocks usable whose record is durable.</summary>
    internal void ReleaseFreedBlocks()
    {
        if (HoldsFreedBlocks) { return; }
        ulong oldest = Reads.Oldest;
        while (Allocator.TryTakeReleasable(Log.DurableLsn, oldest, out BlockRun run)) { _pool.Unmapper.Release(Allocator, run); }
        if (Allocator.FreeBlocks > 0) { SpaceFreed.CompleteAll(Errno.None); }
    }

    private bool MarkBlocks(BlockRun run, bool inUse)
    {
        if (!Allocator.Owns(run.First, run.Count)) { return false; }
        TreeKey key = AllocationKey(run.First);
        int clusterBlocks = _pool.Geometry.ClusterBlocks;
        Span<byte> bitmap = stackalloc byte[PoolGeometry.MaxClusterBlocks / 8];
        bitmap = bitmap[..(clusterBlocks / 8)];
        if (Tree.TryGet(key, out ReadOnlySpan<byte> value) == Errno.None && value.Length == bitmap.Length) { value.CopyTo(bitmap); }
        else { bitmap.Clear(); }
        int first = (int)((run.First - _pool.Geometry.DataStart) % (ulong)clusterBlocks);
        for (int bit = first; bit < first + run.Count; bit++)
        {
            if (inUse) { bitmap[bit / 8] |= (byte)(1 << (bit % 8)); }
            else { bitmap[bit / 8] &= (byte)~(1 << (bit % 8)); }
        }
        Tree.Put(key, bitmap);
        return true;
    }

    private async IoTask<Errno> AdmitSlowAsync(Admission admission)
    {
        bool checkpointed = false;
        for (bool isNext = Log.HasRoomForNext; !Failed && !(isNext && HasNodes(admission));)
        {
            if (!isNext)
            {
                MakeRoomInLog();
                await Log.Room.WaitAsync();
                isNext = Log.HasRoom;
                continue;
            }
            // Node slots are short: more of them, or the ones that a checkpoint sets free.
            Errno granted = await GrantNodesAsync();
            if (granted != Errno.None)
            {
                if (checkpointed && Tree.DirtyCount == 0) { return granted; }
                Errno done = await _checkpointer.RunAsync(VolumeFlags.None);
                if (done != Errno.None) { return done; }
                if (checkpointed && admission == Admission.Grow && !HasNodes(admission)) { return granted; }
                checkpointed = true;
            }
            isNext = Log.HasRoomForNext;
        }
        return Failed ? Errno.EIO : Errno.None;
    }

    /// <summary>Somebody waits for room: a checkpoint, unless what he waits for is only the next batch, which below a third it is.</summary>
    internal void MakeRoomInLog()
    {
        if (Log.UsedBlocks > Log.RingBlocks / 3) { _checkpointer.Start(); }
    }

    private bool HasNodes(Admission admission) =>
        Nodes.FreeCount >= Tree.DirtyCount + NodesPerTransaction + (admission == Admission.Grow ? NodesPerTransaction : 0);

    /// <summary>More dirty nodes than this start a checkpoint. Names are spread by their hashes, so that nearly each change in a large directory makes a leaf dirty: the more changes
    /// share a checkpoint, the fewer nodes are written for each.</summary>
    private int DirtyLimit => Math.Max(MinDirtyLimit, _pool.NodeCache.DirtyLimit - (_pool.NodeCache.DirtyCount - Tree.DirtyCount));

    /// <summary>With many dirty nodes a checkpoint frees more than a grant gives.</summary>
    private IoTask<Errno> GrantNodesAsync() => Tree.DirtyCount < DirtyLimit / 2 ? _pool.GrantNodesAsync(this) : new IoTask<Errno>(Errno.ENOSPC);

    private async IoTask<Errno> MakeRoomForNodesAsync()
    {
        int wanted = _wantedNodes;
        _wantedNodes = 0;
        for (int checkpoints = 0; Nodes.FreeCount < Tree.DirtyCount + wanted;)
        {
            if (Failed) { return Errno.EIO; }
            Errno granted = await GrantNodesAsync();
            if (granted == Errno.None) { continue; }
            // The first may be one that was under way already; the second certainly took all nodes that are dirty now.
            if (checkpoints++ == 2) { return granted; }
            Errno done = await _checkpointer.RunAsync(VolumeFlags.None);
            if (done != Errno.None) { return done; }
        }
        return Errno.None;
    }

    private async IoTask<Errno> SyncSlowAsync(ulong lsn)
    {
        Errno written = await Log.WrittenAsync(lsn);
        if (written != Errno.None) { return written; }
        if (lsn <= Log.DurableLsn) { return Errno.None; }
        // Only what had completed when the flush began is proven by it.
        ulong covered = Log.WrittenLsn;
        Errno flushed = await _pool.Flusher.FlushAsync();
        if (flushed != Errno.None)
        {
            Fail($"flushing {_pool.Bdev.Name} failed: {flushed}");
            return Errno.EIO;
        }
        Log.SetDurable(covered);
        Statistics.Syncs++;
        ReleaseFreedBlocks();
        return Failed ? Errno.EIO : Errno.None;
    }

    /// <summary>Bounds what a power cut can take (one second); when the volume falls idle, tells the log what is durable and the device what is free. Runs only while there is something to do.</summary>
    private sealed class Background(Volume volume)
    {
        private const long TickNs = 100_000_000;
        private const int TicksToSync = 10;
        private readonly WaitQueue _unmapped = new();
        private bool _isRunning;
        private bool _isStopped;
        private bool _isSyncing;

        public bool IsUnmapping { get; private set; }

        /// <summary>Starts a sync now, unless this did so and it is under way.</summary>
        public void SyncSoon()
        {
            if (_isSyncing || _isStopped) { return; }
            _isSyncing = true;
            SyncAsync().Detach();
        }

        public void Wake()
        {
            if (_isRunning || _isStopped) { return; }
            _isRunning = true;
            RunAsync().Detach();
        }

        /// <summary>Stops; when this completes, no unmap is under way that could take what somebody writes after us.</summary>
        public IoTask<Errno> StopAsync()
        {
            _isStopped = true;
            return IsUnmapping ? _unmapped.WaitAsync() : new IoTask<Errno>(Errno.None);
        }

        private async IoTask<Errno> SyncAsync()
        {
            Errno synced = await volume.SyncAsync();
            _isSyncing = false;
            return synced;
        }

        private async IoTask<Errno> RunAsync()
        {
            int ticks = 0;
            while (!_isStopped && !volume.Failed)
            {
                ulong before = volume.Log.LastLsn;
                if (await VhostFs.Reactor.Reactor.Current.DelayAsync(TickNs) != Errno.None || _isStopped || volume.Failed) { break; }
                if (volume.Log.LastLsn > volume.Log.DurableLsn)
                {
                    if (++ticks < TicksToSync) { continue; }
                    ticks = 0;
                    await volume.SyncAsync();
                }
                else if (volume.Log.LastLsn == before)
                {
                    volume.ReleaseFreedBlocks();
                    volume.Log.WriteMarker();
                    IsUnmapping = true;
                    bool unmapsMore = await volume._pool.Unmapper.UnmapSomeAsync(volume.Allocator);
                    IsUnmapping = false;
                    _unmapped.CompleteAll(Errno.None);
                    volume.SpaceFreed.CompleteAll(Errno.None);
                    if (!unmapsMore && !volume.Log.IsMarkerDue && volume.Allocator.PendingBlocks == 0) { break; }
                }
            }
            _isRunning = false;
            return Errno.None;
        }
    }
}

/// <summary>Sizes in 4 KiB blocks.</summary>
/// <param name="AvailableBlocks">Free less what is kept back so that a full volume can still be emptied.</param>
public readonly record struct VolumeSpace(long TotalBlocks, long FreeBlocks, long AvailableBlocks);

/// <summary>Counters of one volume.</summary>
public sealed class VolumeStatistics
{
    public long Transactions { get; set; }

    public long Syncs { get; set; }

    public long Checkpoints { get; set; }

    public long ChecksumErrors { get; set; }
}
