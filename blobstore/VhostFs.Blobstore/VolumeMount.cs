using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Opens a volume: header, tree, log replay, and a checkpoint that makes the recovered state the durable one before anything else happens.</summary>
internal static class VolumeMount
{
    private const int BlockBytes = BlobData.BlockBytes;

    /// <summary>Writes an empty volume: a root leaf in the first node slot and a header. Nothing refers to it yet.</summary>
    /// <param name="flush">In a pool that is open: the one of all its volumes, since a flush that fails is a failure of each.</param>
    public static async IoTask<Errno> FormatAsync(IBdev bdev, Func<IoTask<Errno>> flush, VolumeRecord record, ulong firstNodeBlock, VolumeFlags flags, VolumeIdentity identity)
    {
        using var memory = new NativeBuffer(NodePage.Bytes, zeroed: true);
        using var list = new IoVecList(1);
        // The whole anchor first: an old header with a higher generation must not come back to life, nor the old log of a pool that is formatted anew with the same uuid.
        Errno zeroed = await bdev.WriteZeroesAsync((long)record.Anchor.FirstBlock * BlockBytes, (long)record.Anchor.BlockCount * BlockBytes);
        if (zeroed != Errno.None) { return zeroed; }
        NodePointer root = MakeEmptyRoot(memory, record.Id, firstNodeBlock);
        list.Clear();
        list.Add(memory.Vec);
        IoResult written = await bdev.WriteAsync((long)firstNodeBlock * BlockBytes, list.View());
        Errno flushed = written.IsError ? written.Errno : await flush();
        if (flushed != Errno.None) { return flushed; }
        var header = new VolumeHeader
        {
            Flags = flags | VolumeFlags.CleanlyClosed | VolumeFlags.CountsInodes,
            Uuid = record.Uuid,
            VolumeId = record.Id,
            Generation = 1,
            LogEpoch = 0,
            Root = root,
            Height = 1,
            Tail = new LogTail(1, 0, 0),
            NextInode = 1,
            SnapshotEpoch = 1,
            HashKey0 = identity.HashKey0,
            HashKey1 = identity.HashKey1,
        };
        memory.Span.Clear();
        header.Write(memory.Span);
        list.Clear();
        list.Add(memory.Slice(0, BlockBytes));
        (ulong a, ulong b) = record.Anchor.HeaderSlots(header.Generation);
        foreach (ulong slot in new[] { a, b })
        {
            written = await bdev.WriteAsync((long)slot * BlockBytes, list.View());
            if (written.IsError) { return written.Errno; }
        }
        return await flush();
    }

    public static async IoTask<OpenResult<Volume>> OpenAsync(Pool pool, VolumeRecord record)
    {
        pool.ScanMemory.Enter();
        try { return await OpenCoreAsync(pool, record); }
        finally { pool.ScanMemory.Leave(); }
    }

    private static async IoTask<OpenResult<Volume>> OpenCoreAsync(Pool pool, VolumeRecord record)
    {
        string what = record.Id == 0 ? "the pool's metadata" : $"volume '{record.Name}'";
        if (!pool.IsPlausible(record.Anchor)) { return $"{what}: its anchor does not lie in the pool; run 'vhostfs check' on it"; }
        if (await ReadHeaderAsync(pool, record, what) is not { } header) { return $"{what}: no valid header in any of its four places; run 'vhostfs check' on the pool"; }
        if (await TakeLeftBatchesAsync(pool, record, header) is { } left) { return $"{what}: {left}"; }
        // Each opening raises the epoch before it writes anything that carries it.
        if (record.Id == 0 && header.LogEpoch >= pool.Epoch) { pool.Report($"{what}: newer than the superblock (epoch {header.LogEpoch}, not below {pool.Epoch}): both copies of the newest one were lost, an older one is used"); }
        var volume = new Volume(pool, record, header);
        string? problem = await OpenTreeAsync(pool, volume, header) ?? await ReplayAsync(pool, volume, header);
        if (problem is not null)
        {
            await volume.AbandonAsync();
            return $"{what}: {problem}";
        }
        return volume;
    }

    /// <inheritdoc cref="TakeLeftBatchesAsync(Pool, VolumeRecord, VolumeHeader)"/>
    public static async IoTask<string?> TakeLeftBatchesAsync(Pool pool, VolumeRecord record)
    {
        if (!LeftBatches(pool, record).Any()) { return null; }
        return await ReadHeaderAsync(pool, record, $"volume '{record.Name}'") is { } header ? await TakeLeftBatchesAsync(pool, record, header) : "it has no valid header";
    }

    /// <summary>Puts the batches that continue the log, and that only memory has, where they were to go: null, or why not.</summary>
    /// <remarks>On the bdev and flushed before recovery looks at the log: from then on it is as if the process had got that far, and a power cut in the middle of the recovery, when images are
    /// in place already, finds the records that explain them.</remarks>
    private static async IoTask<string?> TakeLeftBatchesAsync(Pool pool, VolumeRecord record, VolumeHeader header)
    {
        List<StagedBatch> left = [.. LeftBatches(pool, record)];
        if (left.Count == 0) { return null; }
        if (await WriteLeftBatchesAsync(pool, record, header, left) is { } problem) { return problem; }
        Errno flushed = await pool.Flusher.FlushAsync();
        if (flushed != Errno.None) { return $"flushing what memory kept of its log failed: {flushed}"; }
        pool.LogMemory!.Forget(record.Uuid);
        return null;
    }

    private static async IoTask<string?> WriteLeftBatchesAsync(Pool pool, VolumeRecord record, VolumeHeader header, List<StagedBatch> left)
    {
        OpenResult<LogScan> scanned = await LogScan.ReadAsync(pool.Bdev, record.Anchor, header, isKnownEmpty: false, pool.ScanMemory);
        if (scanned.Value is not { } scan) { return scanned.Error; }
        using LogScan log = scan;
        using var list = new IoVecList(1);
        for (int i = 0; i < left.Count;)
        {
            // One that the log has already, or that does not continue it (of a life before another one that did without this memory), is not taken.
            if (!log.TryAppend(left[i], out int position, out IoVec blocks)) { i++; continue; }
            left.RemoveAt(i);
            i = 0; // a marker has the same first LSN as the batch behind it: whatever their order was, the chain says which comes next
            list.Clear();
            list.Add(blocks);
            IoResult written = await pool.Bdev.WriteAsync((long)(record.Anchor.RingFirst + (ulong)position) * BlockBytes, list.View());
            if (written.IsError) { return $"writing what memory kept of its log failed: {written.Errno}"; }
        }
        return null;
    }

    /// <summary>Of earlier lives, and of this one when the volume had failed.</summary>
    private static IEnumerable<StagedBatch> LeftBatches(Pool pool, VolumeRecord record) =>
        pool.LogMemory is { } memory ? memory.Left.Concat(memory.Staged()).Where(batch => batch.Volume == record.Uuid) : [];

    private static unsafe NodePointer MakeEmptyRoot(NativeBuffer memory, ulong volumeId, ulong block)
    {
        memory.Span.Clear();
        var page = new NodePage((byte*)memory.Address);
        page.Initialize(0, volumeId);
        page.Address = block;
        page.BirthEpoch = 1;
        return new NodePointer(block, 1, page.Seal());
    }

    private static async IoTask<VolumeHeader?> ReadHeaderAsync(Pool pool, VolumeRecord record, string what)
    {
        using var memory = new NativeBuffer(BlockBytes);
        using var list = new IoVecList(1);
        list.Add(memory.Vec);
        VolumeHeader? newest = null;
        var generations = new ulong[4];
        for (int slot = 0; slot < 4; slot++)
        {
            IoResult read = await pool.Bdev.ReadAsync((long)record.Anchor.HeaderSlot(slot) * BlockBytes, list.View());
            if (read.IsError || VolumeHeader.Read(memory.Span, record.Id, record.Anchor.RingBlocks) is not { } found) { continue; }
            // What was written for another volume, or for another slot, is not ours.
            if (found.Uuid != record.Uuid || (found.Generation & 1) != ((ulong)slot & 1)) { continue; }
            generations[slot] = found.Generation;
            if (newest is null || found.Generation > newest.Value.Generation) { newest = found; }
        }
        for (int slot = 0; slot < 4 && newest is { } header; slot++)
        {
            // The other pair is not written before the second generation, and may be any older one.
            bool isCopy = ((ulong)slot & 1) == (header.Generation & 1);
            if (isCopy ? generations[slot] == header.Generation : generations[slot] > 0 || header.Generation == 1) { continue; }
            pool.Report($"{what}: the header copy at block {record.Anchor.HeaderSlot(slot)} is damaged, out of date or cannot be read; generation {header.Generation} is used");
        }
        return newest;
    }

    private static async IoTask<string?> OpenTreeAsync(Pool pool, Volume volume, VolumeHeader header)
    {
        pool.AddClusters(volume);
        Errno opened = await volume.Tree.OpenAsync(header.Root, header.Height);
        if (opened != Errno.None) { return $"the root of its tree cannot be used: {opened}"; }
        Errno visited = await volume.Tree.VisitAddressesAsync(volume.Nodes.TryMarkUsed);
        return visited == Errno.None ? null : $"an internal node of its tree cannot be used: {visited}";
    }

    private static async IoTask<string?> ReplayAsync(Pool pool, Volume volume, VolumeHeader header)
    {
        if (await ApplyLogAsync(pool, volume, header) is { } problem) { return problem; }
        Errno loaded = await LoadAllocationAsync(pool, volume);
        if (loaded != Errno.None) { return $"its allocation items cannot be read: {loaded}"; }
        volume.UsedBlocks = volume.Allocator.TotalBlocks - volume.Allocator.FreeBlocks;
        // A hostile header may count less than its log deletes.
        volume.InodeCount = Math.Max(volume.InodeCount, 0);
        if ((header.Flags & VolumeFlags.CountsInodes) == 0) { await CountInodesAsync(volume); }
        volume.Shared.Any = await HasSharedBlocksAsync(volume);
        // Whoever wrote this log had the room; a hostile log may change more nodes than there are slots.
        while (volume.Nodes.FreeCount < volume.Tree.DirtyCount)
        {
            Errno granted = await pool.GrantNodesAsync(volume);
            if (granted != Errno.None) { return $"its log changes more nodes than it has room for: {granted}"; }
        }
        // From here on the old log is history: the new header starts a new one, in a new epoch, so that nothing rejected above can be taken up again.
        // The checkpoint's first flush covers the images.
        Errno checkpointed = await volume.Checkpointer.RunAsync(VolumeFlags.None);
        return checkpointed == Errno.None ? null : $"the checkpoint after recovery failed: {checkpointed}";
    }

    /// <summary>Everything of the log that counts: records in the tree, images in place. The ring's memory is needed no longer.</summary>
    private static async IoTask<string?> ApplyLogAsync(Pool pool, Volume volume, VolumeHeader header)
    {
        bool isKnownEmpty = (header.Flags & VolumeFlags.CleanlyClosed) != 0 && !LeftBatches(pool, volume.Record).Any();
        OpenResult<LogScan> scanned = await LogScan.ReadAsync(pool.Bdev, volume.Record.Anchor, header, isKnownEmpty, pool.ScanMemory);
        if (scanned.Value is not { } scan) { return scanned.Error; }
        using LogScan log = scan;
        if (log.EndLsn < log.ProvenLsn)
        {
            return $"its log ends at record {log.EndLsn}, but record {log.ProvenLsn} had been durable: the device lost acknowledged data; the volume is not opened for writing";
        }
        var prefix = new LogPrefix(pool.Bdev, log, block => pool.IsDataBlock(volume, block));
        Errno found = await prefix.FindAsync(header.CheckpointLsn);
        if (found != Errno.None) { return $"verifying the end of its log failed: {found}"; }
        foreach (ScannedRecord record in log.Records)
        {
            if (record.Lsn > prefix.CutLsn) { break; }
            Errno applied = await ApplyAsync(volume, log, record);
            if (applied != Errno.None) { return $"record {record.Lsn} of its log cannot be applied: {applied}"; }
        }
        volume.NextInode = Math.Max(header.NextInode, log.NextInode);
        volume.StartLog(prefix.CutLsn);
        // All of them before the first is written: the ring's memory must not go while a write from it is under way.
        foreach ((ulong block, _) in prefix.Images)
        {
            if (!pool.IsDataBlock(volume, block)) { return $"its log holds an image for block {block}, which is not a data block of it"; }
        }
        using var writes = new ParallelWrites(pool.Bdev, 16);
        foreach ((ulong block, IoVec image) in prefix.Images) { await writes.AddAsync(block, image); }
        Errno written = await writes.FinishAsync();
        return written == Errno.None ? null : $"writing images of its log in place failed: {written}";
    }

    /// <summary>Once per volume that a version without counting wrote last. What cannot be read is not counted, and is counted again by the next mount.</summary>
    private static async IoTask<Errno> CountInodesAsync(Volume volume)
    {
        long count = 0;
        TreeKey from = new(1, ItemType.Inode, 0);
        for (;;)
        {
            Errno found = volume.TryNext(from, TreeKey.Max, out TreeKey key, out _);
            if (found == Residency.NotResident) { found = await volume.LoadMissingAsync(); }
            else if (found == Errno.None)
            {
                if (Volume.IsInode(key)) { count++; }
                // A forged key may be of the last object there can be: behind it, and not at the first one again, is the end.
                if (key.Object == ulong.MaxValue) { found = Errno.ENOENT; }
                else { from = new TreeKey(key.Object + 1, ItemType.Inode, 0); }
            }
            if (found == Errno.None) { continue; }
            volume.InodeCount = count;
            if (found == Errno.ENOENT) { volume.Header = volume.Header with { Flags = volume.Header.Flags | VolumeFlags.CountsInodes }; }
            return found;
        }
    }

    private static async IoTask<Errno> ApplyAsync(Volume volume, LogScan log, ScannedRecord record)
    {
        int next = 0;
        for (;;)
        {
            Errno applied = TryApply(volume, log.RecordBytes(record), ref next);
            if (applied != Residency.NotResident) { return applied; }
            Errno loaded = await volume.LoadMissingAsync();
            if (loaded != Errno.None) { return loaded; }
        }
    }

    /// <summary>Applies the operations from <paramref name="next"/> on, until a node is missing.</summary>
    private static Errno TryApply(Volume volume, ReadOnlySpan<byte> record, ref int next)
    {
        var reader = new RecordReader(record);
        for (int i = 0; reader.MoveNext(); i++)
        {
            if (i < next) { continue; }
            RecordOperation operation = reader.Current;
            if (operation.Code is RecordCode.Data or RecordCode.Image) { next = i + 1; continue; }
            if (operation.Code is RecordCode.Allocate or RecordCode.Free && !volume.Allocator.Owns(operation.Blocks.First, operation.Blocks.Count)) { return Errno.EIO; }
            TreeKey key = operation.Code is RecordCode.Allocate or RecordCode.Free ? volume.AllocationKey(operation.Blocks.First) : operation.Key;
            Errno touched = volume.Touch(key);
            if (touched != Errno.None) { return touched; }
            if (!volume.Apply(operation)) { return Errno.EIO; }
            next = i + 1;
        }
        return Errno.None;
    }

    private static async IoTask<bool> HasSharedBlocksAsync(Volume volume)
    {
        for (;;)
        {
            Errno found = volume.TryNext(SharedBlocks.FirstKey, SharedBlocks.LimitKey, out _, out _);
            if (found == Residency.NotResident)
            {
                found = await volume.LoadMissingAsync();
                if (found == Errno.None) { continue; }
            }
            // A damaged node may hold counts: who needs them is told EIO, and everybody looks.
            return found != Errno.ENOENT;
        }
    }

    private static async IoTask<Errno> LoadAllocationAsync(Pool pool, Volume volume)
    {
        TreeKey from = new(0, ItemType.Allocation, 0), limit = new(0, ItemType.Snapshot, 0);
        volume.Allocator.Clear();
        var present = new HashSet<uint>();
        for (;;)
        {
            Errno found = volume.TryNext(from, limit, out TreeKey key, out ReadOnlySpan<byte> bitmap);
            if (found == Residency.NotResident)
            {
                found = await volume.LoadMissingAsync();
                if (found != Errno.None) { return found; }
                continue;
            }
            if (found == Errno.ENOENT) { break; }
            if (found != Errno.None) { return found; }
            if (!pool.IsDataCluster(volume, key.Sub) || bitmap.Length != pool.Geometry.ClusterBlocks / 8) { return Errno.EIO; }
            volume.Allocator.AddCluster((uint)key.Sub, bitmap);
            present.Add((uint)key.Sub);
            from = key.Next();
        }
        pool.AddFreeDataClusters(volume, present);
        return Errno.None;
    }
}
