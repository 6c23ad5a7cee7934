namespace VhostFs.Crash.Tests.Mutation;

/// <summary>The mistakes that the explorer must notice.</summary>
public static class EngineMutations
{
    public static IReadOnlyList<EngineMutation> All { get; } =
    [
        // ---- order of writes and flushes in a checkpoint
        new("no flush between nodes and header", "Checkpointer.cs",
            "        if (result == Errno.None) { result = await FlushAsync(); }\n        if (result != Errno.None) { return result; }\n        VolumeHeader header",
            "        if (result != Errno.None) { return result; }\n        VolumeHeader header"),
        new("no flush after the header", "Checkpointer.cs",
            "        result = await WriteHeaderAsync(header);\n        if (result == Errno.None) { result = await FlushAsync(); }",
            "        result = await WriteHeaderAsync(header);"),
        new("images in place before their records are durable", "Checkpointer.cs",
            "            result = await FlushAsync();\n            if (result == Errno.None) { result = await WriteImagesAsync(); }",
            "            result = await WriteImagesAsync();"),
        new("images not written in place", "Checkpointer.cs", "if (result == Errno.None) { result = await WriteImagesAsync(); }", ""),
        new("header before its records are logged", "Checkpointer.cs", "Errno result = await volume.LoggedAsync(checkpointLsn);", "Errno result = Errno.None;"),
        new("header names a later LSN than its tree", "Checkpointer.cs", "CheckpointLsn = checkpointLsn,", "CheckpointLsn = volume.Log.LastLsn,"),
        new("header names the old root", "Checkpointer.cs", "Root = root,", "Root = volume.Header.Root,"),
        new("both headers in the same slots", "Checkpointer.cs", "ulong generation = volume.Header.Generation + 1;", "ulong generation = volume.Header.Generation + 2;"),
        new("checkpoint's flush covers what was logged after it began", "Checkpointer.cs",
            "ulong covered = volume.Log.LoggedLsn;\n        Errno flushed = await pool.Flusher.FlushAsync();",
            "Errno flushed = await pool.Flusher.FlushAsync();\n        ulong covered = volume.Log.LoggedLsn;"),

        // ---- what fsync and a reply promise
        new("fsync without a flush", "Volume.cs", "Errno flushed = await _pool.Flusher.FlushAsync();", "Errno flushed = Errno.None;"),
        new("fsync promises what was logged during its flush", "Volume.cs", "Log.SetDurable(covered);", "Log.SetDurable(Log.LoggedLsn);"),
        new("a reply does not wait for the log", "Log.cs", "LoggedAsync(ulong lsn) => lsn <= LoggedLsn ?", "LoggedAsync(ulong lsn) => lsn <= LastLsn ?"),
        new("a flush under way serves who comes late", "FlushCoalescer.cs", "_inFlight.CompleteAll(last);", "_inFlight.CompleteAll(last); _waiting.CompleteAll(last);"),
        new("grant of clusters not durable", "SpaceGranter.cs", "transaction.Commit(); return await catalogue.SyncAsync();", "transaction.Commit(); return Errno.None;"),

        // ---- the log
        new("tail of a checkpoint skips the open batch", "Log.cs", "_open.IsEmpty ? LastLsn + 1 : _open.FirstLsn", "LastLsn + 1"),
        new("a batch claims more durability than there is", "LogBatch.cs", "batch[LogBatchHeader.DurableLsn..], durableLsn)", "batch[LogBatchHeader.DurableLsn..], FirstLsn - 1)"),
        new("batch checksum not verified", "LogScan.cs", "if (LogBatchHeader.ComputeCrc(bytes, recordBytes) != crc) { return false; }", ""),
        new("image checksum not verified", "LogScan.cs", "if (Crc32C.Compute(images.Slice(operation.ImageIndex * BlockBytes, BlockBytes)) != operation.CrcAt(0)) { return false; }", ""),

        // ---- which prefix, and what it means
        new("tail data not verified", "LogPrefix.cs", "bool isChecked = verify && record.Lsn > scan.ProvenLsn;", "bool isChecked = verify && record.Lsn == ulong.MaxValue;"),
        new("cut at the first mismatch", "LogPrefix.cs", "if (verify && record.Lsn > CutLsn && _liveMismatches == 0) { CutLsn = record.Lsn; }",
            "if (verify && record.Lsn > scan.ProvenLsn) { if (_liveMismatches > 0) { return Errno.None; } CutLsn = record.Lsn; }"),
        new("images of freed blocks are written", "LogPrefix.cs", "for (int i = 0; i < operation.Blocks.Count && _definitions.Count > 0; i++) { Remove(operation.Blocks.First + (ulong)i); }", ""),
        new("rejected records are applied", "VolumeMount.cs", "if (record.Lsn > prefix.CutLsn) { break; }", ""),
        new("images of the log are not written in place", "VolumeMount.cs", "await writes.AddAsync(block, image);", ""),
        new("no checkpoint after recovery", "VolumeMount.cs", "Errno checkpointed = await volume.Checkpointer.RunAsync(VolumeFlags.None);", "Errno checkpointed = Errno.None;"),

        // ---- blocks
        new("freed blocks used again before the free is durable", "BlockAllocator.cs", "next.Lsn > durableLsn || ", ""),
        new("old image of a freed block is written later", "Volume.cs", "Overlay.Forget(operation.Blocks.First + (ulong)i);", ""),
        new("record before its data is written", "BlobWriter.cs", "return result == Errno.None ? await WriteNewAsync(change) : result;",
            "if (result == Errno.None) { _ = WriteNewAsync(change); } return result;"),
        new("data written nowhere", "BlobWriter.cs", "return result == Errno.None ? await WriteNewAsync(change) : result;", "return result;"),
        new("new data not named in the log", "BlobMap.cs", "        StageData(transaction, change);\n", ""),
        new("checksum of an overwritten block not updated", "BlobMap.cs", "BinaryPrimitives.WriteUInt32LittleEndian(crc, change[i].Crc);", "BinaryPrimitives.WriteUInt32LittleEndian(crc, change[i].OldCrc);"),
        new("replaced blocks are not freed", "BlobMap.cs", "if (added == Errno.None && old != 0) { added = freed.Add(old, transaction, isFree: true); }", ""),
    ];
}
