using System.Buffers.Binary;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>Stages changes of the extent groups of blobs, and answers questions about them. All synchronous.</summary>
internal sealed class BlobMap(Volume volume, ExtentGroupEditor editor)
{
    /// <summary>Groups that one transaction unmaps: keeps its record within the bound even when every block lies alone.</summary>
    private const int MaxGroupsPerUnmap = 8;

    /// <summary>Nodes that one transaction of an unmap touches: the blocks of an aged file lie in clusters whose bitmaps are spread over many leaves.</summary>
    private const int MaxNodesPerUnmap = 12;

    /// <summary>No file has blocks beyond this: 2^60 sub-keys would allow more than 64-bit offsets do.</summary>
    private const long MaxBlock = long.MaxValue / BlobData.BlockBytes;

    private readonly uint[] _crcs = new uint[BlobChange.MaxBlocks];

    public Errno TryStage(Transaction transaction, BlobChange change)
    {
        change.BlocksDelta = 0;
        for (int i = 0; i < change.Count;)
        {
            ulong group = change[i].Logical / ExtentGroup.Blocks;
            int limit = i + 1;
            bool onlyOverwrites = change[i].Kind == BlockChangeKind.Overwrite;
            while (limit < change.Count && change[limit].Logical / ExtentGroup.Blocks == group)
            {
                onlyOverwrites &= change[limit].Kind == BlockChangeKind.Overwrite;
                limit++;
            }
            Errno staged = onlyOverwrites ? StageOverwrites(transaction, change, group, i, limit) : StageGroup(transaction, change, group, i, limit);
            if (staged != Errno.None) { return staged; }
            i = limit;
        }
        StageData(transaction, change);
        transaction.Add(change);
        return Errno.None;
    }

    public Errno TryStageUnmap(Transaction transaction, ulong blob, long firstBlock, long limitBlock, out long blocksFreed, out bool complete)
    {
        blocksFreed = 0;
        complete = true;
        limitBlock = Math.Min(limitBlock, MaxBlock);
        if (firstBlock >= limitBlock) { return Errno.None; }
        TreeKey from = ExtentGroup.Key(blob, (ulong)firstBlock / ExtentGroup.Blocks);
        TreeKey limit = ExtentGroup.Key(blob, (ulong)((limitBlock - 1) / ExtentGroup.Blocks) + 1);
        for (int groups = 0; ; groups++)
        {
            Errno found = volume.TryNext(from, limit, out TreeKey key, out _);
            if (found == Errno.ENOENT) { return Errno.None; }
            if (found != Errno.None) { return found; }
            if (groups == MaxGroupsPerUnmap || (blocksFreed > 0 && transaction.TouchedNodes >= MaxNodesPerUnmap))
            {
                complete = false;
                return Errno.None;
            }
            long groupFirst = (long)key.Sub * ExtentGroup.Blocks;
            Errno staged = StageUnmapGroup(transaction, key, (int)Math.Max(firstBlock - groupFirst, 0), (int)Math.Min(limitBlock - groupFirst, ExtentGroup.Blocks), ref blocksFreed, ref complete);
            if (staged != Errno.None || !complete) { return staged; }
            from = key.Next();
        }
    }

    public Errno TrySeek(ulong blob, long sizeBytes, long offsetBytes, bool data, out long result)
    {
        result = 0;
        if (offsetBytes < 0 || offsetBytes >= sizeBytes) { return Errno.ENXIO; }
        long block = offsetBytes / BlobData.BlockBytes, lastBlock = (sizeBytes - 1) / BlobData.BlockBytes;
        while (block <= lastBlock)
        {
            TreeKey limit = ExtentGroup.Key(blob, (ulong)(lastBlock / ExtentGroup.Blocks) + 1);
            Errno found = volume.TryNext(ExtentGroup.Key(blob, (ulong)block / ExtentGroup.Blocks), limit, out TreeKey key, out ReadOnlySpan<byte> value);
            if (found is not (Errno.None or Errno.ENOENT)) { return found; }
            long groupFirst = found == Errno.None ? (long)key.Sub * ExtentGroup.Blocks : lastBlock + 1;
            if (groupFirst > block)
            {
                // Nothing is mapped from here up to the group.
                if (!data) { break; }
                block = groupFirst;
                continue;
            }
            if (!ExtentGroup.TryFind(value, (int)(block - groupFirst), ExtentGroup.Blocks, volume.HasDataChecksums, out ExtentPart part)) { return Errno.EIO; }
            if (part.IsWritten == data) { break; }
            block += part.Count;
        }
        if (block > lastBlock && data) { return Errno.ENXIO; }
        // The end of the file counts as a hole.
        result = Math.Min(Math.Max(offsetBytes, block * BlobData.BlockBytes), sizeBytes);
        return Errno.None;
    }

    private Errno StageOverwrites(Transaction transaction, BlobChange change, ulong group, int first, int limit)
    {
        TreeKey key = ExtentGroup.Key(change.Blob, group);
        Span<byte> crc = stackalloc byte[4];
        for (int i = first; i < limit; i++)
        {
            Errno alone = CheckAlone(change[i].Physical);
            if (alone != Errno.None) { return alone; }
            if (volume.HasDataChecksums)
            {
                Errno found = transaction.TryGet(key, out ReadOnlySpan<byte> value);
                if (found != Errno.None) { return found == Errno.ENOENT ? Errno.EIO : found; }
                int block = (int)(change[i].Logical % ExtentGroup.Blocks);
                if (!ExtentGroup.TryFind(value, block, block + 1, hasCrcs: true, out ExtentPart part) || part.Physical != change[i].Physical) { return Errno.EIO; }
                BinaryPrimitives.WriteUInt32LittleEndian(crc, change[i].Crc);
                Errno patched = transaction.Patch(key, ExtentGroup.CrcOffset(value, part.CrcIndex), crc);
                if (patched != Errno.None) { return patched; }
            }
            StageContent(transaction, change[i]);
        }
        return Errno.None;
    }

    private Errno StageGroup(Transaction transaction, BlobChange change, ulong group, int first, int limit)
    {
        TreeKey key = ExtentGroup.Key(change.Blob, group);
        Errno loaded = editor.Load(transaction, key, volume.HasDataChecksums);
        if (loaded != Errno.None) { return loaded; }
        var freed = new BlockRunBuilder(volume);
        var allocated = new BlockRunBuilder(volume);
        for (int i = first; i < limit; i++)
        {
            ref BlockChange block = ref change[i];
            int index = (int)(block.Logical % ExtentGroup.Blocks);
            ulong old = editor.Physical(index);
            Errno added = Errno.None;
            switch (block.Kind)
            {
                case BlockChangeKind.Overwrite:
                    added = old == block.Physical ? CheckAlone(old) : Errno.EIO;
                    break;
                case BlockChangeKind.FillUnwritten:
                    if (old != block.Physical) { return Errno.EIO; }
                    break;
                default:
                    added = allocated.Add(block.Physical, transaction, isFree: false);
                    if (added == Errno.None && old != 0) { added = freed.Add(old, transaction, isFree: true); }
                    if (old == 0) { change.BlocksDelta++; }
                    break;
            }
            if (added != Errno.None) { return added; }
            StageContent(transaction, block);
            editor.Set(index, block.Physical, block.Kind == BlockChangeKind.Preallocate, block.Crc, volume.Header.SnapshotEpoch);
        }
        Errno ended = allocated.Finish(transaction, isFree: false);
        if (ended == Errno.None) { ended = freed.Finish(transaction, isFree: true); }
        return ended == Errno.None ? transaction.Put(key, editor.Encode(volume.HasDataChecksums)) : ended;
    }

    private static void StageContent(Transaction transaction, in BlockChange block)
    {
        if (block.IsLogged) { transaction.Image(block.Physical, block.Page!, block.Crc); }
        else if (block.Kind == BlockChangeKind.Overwrite) { transaction.Overwrite(block.Physical, block.Page!, block.Crc); }
    }

    /// <summary>Whoever overwrites it would change the block of every owner. The locks keep a plan from meeting a share that came after it; this is for whoever forgets one.</summary>
    private Errno CheckAlone(ulong block)
    {
        Errno found = volume.Shared.TryIsShared(block, out bool isShared);
        return isShared ? Errno.EIO : found;
    }

    /// <summary>Names the blocks that were written before this record, so that recovery can verify them.</summary>
    private void StageData(Transaction transaction, BlobChange change)
    {
        int count = 0;
        ulong first = 0;
        for (int i = 0; i < change.Count; i++)
        {
            if (change[i].IsLogged || change[i].Kind is not (BlockChangeKind.New or BlockChangeKind.FillUnwritten)) { continue; }
            if (count > 0 && change[i].Physical != first + (ulong)count)
            {
                transaction.Data(first, _crcs.AsSpan(0, count));
                count = 0;
            }
            if (count == 0) { first = change[i].Physical; }
            _crcs[count++] = change[i].Crc;
        }
        if (count > 0) { transaction.Data(first, _crcs.AsSpan(0, count)); }
    }

    private Errno StageUnmapGroup(Transaction transaction, TreeKey key, int first, int limit, ref long blocksFreed, ref bool complete)
    {
        Errno loaded = editor.Load(transaction, key, volume.HasDataChecksums);
        if (loaded != Errno.None) { return loaded; }
        var freed = new BlockRunBuilder(volume);
        long count = 0;
        for (int block = first; block < limit; block++)
        {
            ulong physical = editor.Physical(block);
            if (physical == 0) { continue; }
            if (blocksFreed + count > 0 && transaction.TouchedNodes >= MaxNodesPerUnmap)
            {
                complete = false;
                break;
            }
            Errno added = freed.Add(physical, transaction, isFree: true);
            if (added != Errno.None) { return added; }
            editor.Clear(block);
            count++;
        }
        if (count == 0) { return Errno.None; }
        Errno ended = freed.Finish(transaction, isFree: true);
        if (ended != Errno.None) { return ended; }
        blocksFreed += count;
        return editor.IsEmpty ? transaction.Delete(key) : transaction.Put(key, editor.Encode(volume.HasDataChecksums));
    }
}
