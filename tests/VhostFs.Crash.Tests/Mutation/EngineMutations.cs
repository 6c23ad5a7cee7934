namespace VhostFs.Crash.Tests.Mutation;

/// <summary>The mistakes that the explorer must notice.</summary>
public static class EngineMutations
{
    public static IReadOnlyList<EngineMutation> All { get; } =
    [
        // ---- order of writes and flushes in a checkpoint
        new("no flush between nodes and header", "Blobstore/Checkpointer.cs",
            "        if (result == Errno.None) { result = await FlushAsync(); }\n        if (result != Errno.None) { return result; }\n        VolumeHeader header",
            "        if (result != Errno.None) { return result; }\n        VolumeHeader header"),
        new("no flush after the header", "Blobstore/Checkpointer.cs",
            "        result = await WriteHeaderAsync(header);\n        if (result == Errno.None) { result = await FlushAsync(); }",
            "        result = await WriteHeaderAsync(header);"),
        new("images in place before their records are durable", "Blobstore/Checkpointer.cs",
            "            result = await FlushAsync();\n            if (result == Errno.None) { result = await WriteImagesAsync(); }",
            "            result = await WriteImagesAsync();"),
        new("images not written in place", "Blobstore/Checkpointer.cs", "if (result == Errno.None) { result = await WriteImagesAsync(); }", ""),
        new("header before its records are logged", "Blobstore/Checkpointer.cs", "Errno result = await volume.WrittenAsync(checkpointLsn);", "Errno result = Errno.None;"),
        new("header names a later LSN than its tree", "Blobstore/Checkpointer.cs", "CheckpointLsn = checkpointLsn,", "CheckpointLsn = volume.Log.LastLsn,"),
        new("header names the old root", "Blobstore/Checkpointer.cs", "Root = volume.Tree.FrozenRoot,", "Root = volume.Header.Root,"),
        new("both headers in the same slots", "Blobstore/Checkpointer.cs", "ulong generation = volume.Header.Generation + 1;", "ulong generation = volume.Header.Generation + 2;"),
        new("checkpoint's flush covers what was logged after it began", "Blobstore/Checkpointer.cs",
            "ulong covered = volume.Log.WrittenLsn;\n        Errno flushed = await pool.Flusher.FlushAsync();",
            "Errno flushed = await pool.Flusher.FlushAsync();\n        ulong covered = volume.Log.WrittenLsn;"),

        // ---- what fsync and a reply promise
        new("fsync without a flush", "Blobstore/Volume.cs", "Errno flushed = await _pool.Flusher.FlushAsync();", "Errno flushed = Errno.None;"),
        new("fsync promises what was logged during its flush", "Blobstore/Volume.cs", "Log.SetDurable(covered);", "Log.SetDurable(Log.WrittenLsn);"),
        new("a reply does not wait for the log", "Blobstore/Log.cs", "LoggedAsync(ulong lsn) => lsn <= LoggedLsn ?", "LoggedAsync(ulong lsn) => lsn <= LastLsn ?"),
        new("a flush under way serves who comes late", "Blobstore/FlushCoalescer.cs", "_inFlight.CompleteAll(last);", "_inFlight.CompleteAll(last); _waiting.CompleteAll(last);"),
        new("grant of clusters not durable", "Blobstore/SpaceGranter.cs", "transaction.Commit(); return await catalogue.SyncAsync();", "transaction.Commit(); return Errno.None;"),

        // ---- the log
        new("tail of a checkpoint skips the open batch", "Blobstore/Log.cs", "_open.IsEmpty ? LastLsn + 1 : _open.FirstLsn", "LastLsn + 1"),
        new("a batch claims more durability than there is", "Blobstore/LogBatch.cs", "batch[DurableLsn..], extent.DurableLsn)", "batch[DurableLsn..], identity.FirstLsn - 1)"),
        new("batch checksum not verified", "Blobstore/LogScan.cs", "if (LogBatchHeader.ComputeCrc(bytes, recordBytes) != crc) { return false; }", ""),
        new("image checksum not verified", "Blobstore/LogScan.cs", "if (Crc32C.Compute(images.Slice(operation.ImageIndex * BlockBytes, BlockBytes)) != operation.CrcAt(0)) { return false; }", ""),

        // ---- log memory
        new("fsync trusts log memory", "Blobstore/Volume.cs", "Errno written = await Log.WrittenAsync(lsn);", "Errno written = await Log.LoggedAsync(lsn);"),
        new("checkpoint trusts log memory", "Blobstore/Checkpointer.cs", "await volume.WrittenAsync(checkpointLsn);", "await volume.LoggedAsync(checkpointLsn);"),
        new("memory of a batch given up before the disk has it", "Blobstore/LogBatch.cs", "if (IsStaged) { _buffer.Descriptor.Publish(extent); }", "if (IsStaged) { _buffer.Descriptor.Clear(); }"),
        new("memory of a sealed batch is not what is sealed", "Blobstore/LogBatch.cs", "        if (IsStaged) { _buffer.Descriptor.Publish(extent); }\n", ""),
        new("record counts before its image does", "Blobstore/LogBatch.cs", "if (IsStaged) { _buffer.Descriptor.SetImage(Images.Count, image.Number); }", "if (IsStaged) { _buffer.Descriptor.SetImage(0, image.Number); }"),
        new("batch counts behind one that does not", "Blobstore/Log.cs", "_inFlight is null or { IsStaged: true }", "true"),
        new("batches left in memory not taken", "Blobstore/VolumeMount.cs", "if (left.Count == 0) { return null; }", "if (left.Count >= 0) { return null; }"),
        new("batches left in memory not durable before recovery", "Blobstore/VolumeMount.cs",
            "        Errno flushed = await pool.Flusher.FlushAsync();\n        if (flushed != Errno.None) { return $\"flushing what", "        Errno flushed = Errno.None;\n        if (flushed != Errno.None) { return $\"flushing what"),
        new("batches left in memory put over the log", "Blobstore/LogScan.cs", "position = _end + count > _ringBlocks ? 0 : _end;", "position = 0;"),

        // ---- which prefix, and what it means
        new("tail data not verified", "Blobstore/LogPrefix.cs", "bool isChecked = verify && record.Lsn > scan.ProvenLsn;", "bool isChecked = verify && record.Lsn == ulong.MaxValue;"),
        new("cut at the first mismatch", "Blobstore/LogPrefix.cs", "if (verify && record.Lsn > CutLsn && _liveMismatches == 0) { CutLsn = record.Lsn; }",
            "if (verify && record.Lsn > scan.ProvenLsn) { if (_liveMismatches > 0) { return Errno.None; } CutLsn = record.Lsn; }"),
        new("images of freed blocks are written", "Blobstore/LogPrefix.cs", "for (int i = 0; i < operation.Blocks.Count && _definitions.Count > 0; i++) { Remove(operation.Blocks.First + (ulong)i); }", ""),
        new("rejected records are applied", "Blobstore/VolumeMount.cs", "if (record.Lsn > prefix.CutLsn) { break; }", ""),
        new("images of the log are not written in place", "Blobstore/VolumeMount.cs", "await writes.AddAsync(block, image);", ""),
        new("no checkpoint after recovery", "Blobstore/VolumeMount.cs", "Errno checkpointed = await volume.Checkpointer.RunAsync(VolumeFlags.None);", "Errno checkpointed = Errno.None;"),

        // ---- blocks
        new("freed blocks used again before the free is durable", "Blobstore/BlockAllocator.cs", "next.Lsn > durableLsn || ", ""),
        new("old image of a freed block is written later", "Blobstore/Volume.cs", "Overlay.Forget(operation.Blocks.First + (ulong)i);", ""),
        new("record before its data is written", "Blobstore/BlobWriter.cs", "return result == Errno.None ? await WrittenAsync(change, FillAndWrite(change, offset, limit, source)) : result;",
            "if (result == Errno.None) { FillAndWrite(change, offset, limit, source); } return result;"),
        new("data written nowhere", "Blobstore/BlobWriter.cs", "tasks = StartWrites(change, first, end, tasks);", ""),
        new("new data not named in the log", "Blobstore/BlobMap.cs", "        StageData(transaction, change);\n", ""),
        new("checksum of an overwritten block not updated", "Blobstore/BlobMap.cs", "BinaryPrimitives.WriteUInt32LittleEndian(crc, change[i].Crc);", "BinaryPrimitives.WriteUInt32LittleEndian(crc, change[i].OldCrc);"),
        new("content of a new block not in its record", "Blobstore/BlobMap.cs", "if (block.IsLogged) {", "if (block.Kind == BlockChangeKind.Overwrite) {"),
        new("replaced blocks are not freed", "Blobstore/BlobMap.cs", "if (added == Errno.None && old != 0) { added = freed.Add(old, transaction, isFree: true); }", ""),

        new("log trimmed before the header is durable", "Blobstore/Checkpointer.cs", "        result = await WriteHeaderAsync(header);", "        volume.Log.Trim(written);\n        result = await WriteHeaderAsync(header);", "full log"),
        new("log ring overrun", "Blobstore/Log.cs", " && UsedBlocks + needed + _maxBatchBlocks < _ringBlocks && UsedBlocks + _open.Blocks < _pacedBlocks;", ";", "full log"),
        new("batch written over the end of the ring", "Blobstore/Log.cs", "if (_head + blocks > _ringBlocks)", "if (_head + blocks > _ringBlocks + 1)", "full log"),
        new("told before it is logged", "Blobstore/Log.cs", "            IoTask<IoResult> writing = _bdev.WriteAsync(offset, vecs);", "            LoggedLsn = last; _waiters.CompleteUpTo(last, Errno.None);\n            IoTask<IoResult> writing = _bdev.WriteAsync(offset, vecs);"),
        new("images not counted in a batch's length", "Blobstore/LogBatch.cs", "public int Blocks => RecordBlocks + Images.Count;", "public int Blocks => RecordBlocks;"),
        new("log not read past the ring's end", "Blobstore/LogScan.cs", "TryNext(_end, out Batch batch) || TryNext(0, out batch)", "TryNext(_end, out Batch batch)", "full log"),
        new("log taken for empty after a crash", "Blobstore/VolumeMount.cs", "isKnownEmpty = (header.Flags & VolumeFlags.CleanlyClosed) != 0 && ", "isKnownEmpty = "),
        new("oldest header taken", "Blobstore/VolumeMount.cs", "found.Generation > newest.Value.Generation", "found.Generation < newest.Value.Generation"),
        new("next inode number not in the header", "Blobstore/Checkpointer.cs", "            NextInode = nextInode,\n", "", "volumes", "files: roomy"),
        new("next inode number of the log not taken up", "Blobstore/LogScan.cs", "        NextInode = Math.Max(NextInode, batch.NextInode);\n", "", "files: roomy", "files: slow flushes"),

        // ---- nodes
        new("slots of the durable tree used again at once", "Blobstore/Checkpointer.cs", "        volume.Tree.Freeze(",
            "        volume.Tree.TakeObsolete(_obsolete); foreach (ulong old in _obsolete) { volume.Nodes.Free(old); } _obsolete.Clear();\n        volume.Tree.Freeze(", "small cache"),
        new("join loses the right node", "Blobstore/Tree.cs", "            right.Page.MoveTail(0, left.Page);\n            parent", "            parent", "small cache"),
        new("join takes the wrong node out of its parent", "Blobstore/Tree.cs", "            parent.Page.Remove(leftIndex + 1);\n", "            parent.Page.Remove(leftIndex);\n", "small cache"),
        new("first child's new place not entered", "Blobstore/Tree.cs", "child.FreezeRound == _freezeRound)", "child.FreezeRound == _freezeRound && i > 0)", "small cache"),
        new("parent that changed during a checkpoint does not hear of its child's new place", "Blobstore/Tree.cs", "parent.Bytes != (byte*)entry.ParentPage)", "parent.Bytes != (byte*)entry.ParentPage && parent.Level > 20)", "slow flushes", "small cache"),
        new("node changed while a checkpoint writes it", "Blobstore/Tree.cs", "        if (node.IsFrozen)\n        {\n            byte* copy", "        if (node.IsFrozen && node.Level > 0)\n        {\n            byte* copy", "slow flushes", "small cache"),
        new("changed nodes evicted", "Blobstore/NodeCache.cs", "node.Parent is null || node.IsDirty || ", "node.Parent is null || ", "small cache"),

        // ---- space
        new("block used again while it is being unmapped", "Blobstore/Unmapper.cs",
            "            await bdev.UnmapAsync((long)run.First * BlobData.BlockBytes, (long)run.Count * BlobData.BlockBytes);\n            allocator.Release(run);",
            "            allocator.Release(run);\n            await bdev.UnmapAsync((long)run.First * BlobData.BlockBytes, (long)run.Count * BlobData.BlockBytes);", "unmaps"),
        new("unmaps a block too many", "Blobstore/Unmapper.cs", "(long)run.Count * BlobData.BlockBytes", "(long)(run.Count + 1) * BlobData.BlockBytes", "unmaps"),
        new("reads under way not waited for", "Blobstore/BlockAllocator.cs", " || next.ReadEpoch >= oldestReadEpoch", "", "full disk"),
        new("freed blocks used again while images are on their way", "Blobstore/Checkpointer.cs", "volume.HoldsFreedBlocks = _images.Count > 0;", "volume.HoldsFreedBlocks = false;", "slow writes"),
        new("freed twice", "Blobstore/BlockAllocator.cs", "        _pending.Enqueue(new PendingFree(lsn, run, readEpoch));", "        _pending.Enqueue(new PendingFree(lsn, run, readEpoch)); _pending.Enqueue(new PendingFree(lsn, run, readEpoch));"),
        new("reserved twice", "Blobstore/BlockAllocator.cs", "        SetBits(cluster, first, count);\n        return new BlockRun(", "        return new BlockRun("),
        new("a blob goes on over the blocks of others", "Blobstore/BlockAllocator.cs", "count = FreeFrom(cluster, first, wanted);", "count = Math.Min(wanted, clusterBlocks - first);"),
        new("allocation not entered", "Blobstore/Volume.cs", "return MarkBlocks(operation.Blocks, inUse: true);", "return true;"),
        new("free not entered", "Blobstore/Volume.cs", "return MarkBlocks(operation.Blocks, inUse: false);", "return true;"),
        new("all blocks free after a mount", "Blobstore/VolumeMount.cs", "volume.Allocator.AddCluster((uint)key.Sub, bitmap);", "volume.Allocator.AddCluster((uint)key.Sub, []);"),
        new("unmapped blocks of a blob not freed", "Blobstore/BlobMap.cs", "            Errno added = freed.Add(physical, transaction, isFree: true);", "            Errno added = Errno.None;"),
        new("newer image dropped with the older", "Blobstore/ImageOverlay.cs", "out Page? current) && current == image.Page)", "out Page? current))"),
        new("partial overwrite loses the rest of its block", "Blobstore/BlobWriter.cs", "                if (isPartial) { SetOld(ref added, value, part); }\n", ""),
        new("rest of a new block not cleared", "Blobstore/BlobWriter.cs", "            memory[to..].Clear();\n", ""),

        // ---- blocks with several owners
        new("new owner not counted", "Blobstore/SharedBlocks.cs", "SetCount(counts, first + shared, references + 1);", "SetCount(counts, first + shared, Math.Max(references, 2));", "shared blocks"),
        new("shared block freed by its first owner", "Blobstore/SharedBlocks.cs", "        if (!Any) { return transaction.Free(run); }", "        if (run.Count > 0) { return transaction.Free(run); }", "shared blocks"),
        new("last owner does not free", "Blobstore/SharedBlocks.cs", "Errno freed = alone == 0 ? Errno.None : transaction.Free(", "Errno freed = alone >= 0 ? Errno.None : transaction.Free(", "shared blocks"),
        new("owner gone, count stays", "Blobstore/SharedBlocks.cs", "                SetCount(counts, first + i, references == 2 ? 0 : references - 1);\n", "                SetCount(counts, first + i, references);\n", "shared blocks"),
        new("owner gone, count is none", "Blobstore/SharedBlocks.cs", "references == 2 ? 0 : references - 1", "0", "shared blocks"),
        new("item stays when nothing is shared any more", "Blobstore/SharedBlocks.cs", "return counts.ContainsAnyExcept((byte)0)\n", "return counts.Length > 0\n", "shared blocks"),
        new("after a mount nobody looks whether a block is shared", "Blobstore/VolumeMount.cs", "        volume.Shared.Any = await HasSharedBlocksAsync(volume);\n", "", "shared blocks"),
        new("shared block overwritten in place", "Blobstore/BlobWriter.cs", "bool isOverwrite = isSmall && !isShared;", "bool isOverwrite = isSmall;", "shared blocks"),
        new("tail of a shared block zeroed in place", "Blobstore/BlobWriter.cs",
            "                    added.Kind = isShared ? BlockChangeKind.New : BlockChangeKind.Overwrite;\n                    added.Physical = isShared ? 0 : part.Physical;\n",
            "                    added.Kind = BlockChangeKind.Overwrite;\n                    added.Physical = part.Physical;\n", "shared blocks"),
        new("nobody looks whether a block is shared", "Blobstore/SharedBlocks.cs", "isShared = Count(counts, IndexOf(block)) > 1;", "isShared = false;", "shared blocks"),
        new("blocks that a share replaces are not freed", "Blobstore/BlobSharer.cs", "                if (old != 0) { result = released.Add(old, transaction, isFree: true); }\n", "", "shared blocks"),
        new("wrong checksum for a new owner", "Blobstore/BlobSharer.cs", "ExtentGroup.Crc(value, part.CrcIndex + i)", "ExtentGroup.Crc(value, part.CrcIndex)", "shared blocks"),
        new("pool not marked before a block is shared", "Blobstore/Pool.cs", "Incompatible = last.Incompatible | IncompatibleFeatures.SharedBlocks }", "Incompatible = last.Incompatible }", "shared blocks"),

        // ---- volumes that come and go
        new("space of a deleted volume not cleared", "Blobstore/Pool.cs", "Errno cleared = await ClearAsync(extent);", "Errno cleared = Errno.None;", "volumes"),
        new("space given on before its clearing is durable", "Blobstore/Pool.cs", "        Errno flushed = await Flusher.FlushAsync();\n", "        Errno flushed = Errno.None;\n", "volumes"),
        new("deleted before it is marked", "Blobstore/Pool.cs", "Errno marked = await _granter.CommitAsync([], record.Id, record);", "Errno marked = Errno.None;", "volumes"),
        new("interrupted deletion not taken up", "Blobstore/Pool.cs", "_records.Where(static r => r.IsBeingDeleted).ToArray()", "_records.Where(static r => r.Id == 0).ToArray()", "volumes"),
        new("new volume exists before its header is durable", "Blobstore/VolumeMount.cs", "        return await flush();", "        return Errno.None;", "volumes"),

        // ---- a pool that grows
        new("grown before both pairs of superblocks say so", "Blobstore/Pool.cs", "        PoolGeometry grown = Geometry.GrownTo(sizeBytes);\n", "        PoolGeometry before = Geometry, grown = before.GrownTo(sizeBytes);\n        _clusters.Grow(grown.ClusterCount);\n        Geometry = grown;\n        if (grown != before) { return Errno.None; }\n", "growth"),
        new("clusters of volume 0 given to others after a restart", "Blobstore/ClusterTable.cs", "        foreach (ClusterExtent extent in geometry.Nodes0Clusters) { Give(extent, ClusterKind.Node, 0); }\n", "", "growth"),

        // ---- names and files
        new("fsync of a file does nothing", "Blobfs/BlobfsSession.cs", "FsyncAsync(ulong node, ulong handle, bool dataOnly) => _state.Volume.SyncAsync();", "FsyncAsync(ulong node, ulong handle, bool dataOnly) => new(Errno.None);"),
        new("fdatasync does nothing", "Blobfs/BlobfsSession.cs", "FsyncAsync(ulong node, ulong handle, bool dataOnly) => _state.Volume.SyncAsync();", "FsyncAsync(ulong node, ulong handle, bool dataOnly) => dataOnly ? new(Errno.None) : _state.Volume.SyncAsync();"),
        new("fsync of a directory does nothing", "Blobfs/BlobfsSession.cs", "FsyncDirectoryAsync(ulong node, ulong handle, bool dataOnly) => _state.Volume.SyncAsync();", "FsyncDirectoryAsync(ulong node, ulong handle, bool dataOnly) => new(Errno.None);"),
        new("sync does nothing", "Blobfs/BlobfsSession.cs", "SyncFsAsync() => _state.Volume.SyncAsync();", "SyncFsAsync() => new(Errno.None);"),
        new("an operation on names does not wait for the log", "Blobfs/OperationLoop.cs", "            : LoggedAsync(lsn, result);", "            : new IoTask<FsResult<T>>(new FsResult<T>(done, result));"),
        new("unlinked file goes although it is open", "Blobfs/Orphans.cs", "kept = state.References.Contains(inode) || ", "kept = "),
        new("no orphan item for an unlinked file", "Blobfs/Orphans.cs", "return staged == Errno.None ? StageItem(tx, inode, OrphanKind.Nameless, 0) : staged;", "return staged;"),
        new("orphans left at mount", "Blobfs/Blobfs.cs", "Errno recovered = await state.Orphans.RecoverAsync(state.Truncation);", "Errno recovered = Errno.None;"),
        new("orphan item outlives its file", "Blobfs/Orphans.cs", "return deleted == Errno.None ? tx.Delete(BlobfsKeys.Orphan(inode)) : deleted;", "return deleted;"),
        new("blocks of a deleted file not freed", "Blobfs/Orphans.cs", "        if (record.Blocks != 0)\n", "        if (record.Blocks == long.MaxValue)\n"),
        new("linked temporary file keeps its orphan item", "Blobfs/Names.cs", ": tx.Delete(BlobfsKeys.Orphan(node));", ": Errno.None;"),
        new("link count not lowered", "Blobfs/Names.cs", "record.IsDirectory ? 0 : record.LinkCount - 1 };", "record.IsDirectory ? 0 : record.LinkCount };"),
        new("link count not raised", "Blobfs/Names.cs", "with { LinkCount = record.LinkCount + 1 };", "with { LinkCount = Math.Max(record.LinkCount, 1) };"),
        new("directory does not count a new name", "Blobfs/Names.cs", "            EntryCount = directory.EntryCount + 1,\n", ""),
        new("victim of a rename stays", "Blobfs/Renames.cs", "        if (staged == Errno.None && hasTarget)\n        {\n            staged = names", "        if (staged == Errno.None && hasTarget && ends.TargetRecord.LinkCount > 1)\n        {\n            staged = names"),
        new("old name of a rename stays", "Blobfs/Renames.cs", ": state.Entries.Remove(tx, change.Parent, change.Name.Span);", ": Errno.None;"),
        new("moved directory keeps its parent", "Blobfs/Renames.cs", "with { Parent = record.IsDirectory ? parent : 0 });", "with { Parent = record.Parent });"),
        new("exchange changes one name", "Blobfs/Renames.cs", "        if (staged == Errno.None) { staged = state.Entries.Replace(tx, change.NewParent, change.NewName.Span, ends.Source, ends.SourceRecord.EntryType); }\n", ""),
        new("cut file keeps the rest of its last block", "Blobfs/Truncation.cs", "size < record.SizeBytes && size % FileLimits.BlockBytes != 0)", "size < 0)"),
        new("write behind the end does not move it", "Blobfs/FileWrites.cs", "SizeBytes = Math.Max(record.SizeBytes, at + request.Length),", "SizeBytes = record.SizeBytes,"),
        new("inline content stays beside the block", "Blobfs/InlineContent.cs", "        if (staged == Errno.None) { staged = tx.Delete(BlobfsKeys.Inline(node)); }\n", ""),
        new("shared blocks not counted", "Blobfs/ShareRange.cs", "Blocks = to.Blocks + blocksDelta,", "Blocks = to.Blocks,"),
        new("share does not move the end", "Blobfs/ShareRange.cs", "SizeBytes = Math.Max(to.SizeBytes, request.TargetOffset + bytes),", "SizeBytes = to.SizeBytes,"),
        new("end of the source shared into the middle of a file", "Blobfs/ShareRange.cs", " && limit >= to.SizeBytes;", ";"),
        new("share does not wait for the log", "Blobfs/ShareRange.cs", "Errno logged = await state.Volume.LoggedAsync(lsn);", "Errno logged = Errno.None;"),
        new("punched blocks stay counted", "Blobfs/Allocation.cs", "(change.Edges?.BlocksDelta ?? 0) - freed };", "(change.Edges?.BlocksDelta ?? 0) };"),
    ];
}
