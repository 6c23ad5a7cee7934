using VhostFs.Reactor;

namespace VhostFs.Blobstore.Check;

/// <summary>Section 7, steps 5 and 6: which records recovery takes, and what they make of the items and of the data blocks.</summary>
internal sealed class LogReplay
{
    private readonly BlockReader _reader;
    private readonly CheckReport _report;
    private readonly string _volume;
    private readonly ulong _volumeId;
    private readonly ClusterMap? _clusters;
    private readonly Dictionary<ulong, ReadOnlyMemory<byte>> _images = [];
    private readonly byte[] _block = new byte[BlockReader.BlockBytes];

    /// <param name="reader">The device.</param>
    /// <param name="report">Takes the findings.</param>
    /// <param name="volume">How findings name the volume.</param>
    /// <param name="volumeId">Owner of the data clusters that records may name.</param>
    /// <param name="clusters">Null for volume 0, which has no data.</param>
    public LogReplay(BlockReader reader, CheckReport report, string volume, ulong volumeId, ClusterMap? clusters)
    {
        _reader = reader;
        _report = report;
        _volume = volume;
        _volumeId = volumeId;
        _clusters = clusters;
    }

    /// <summary>The next inode number after the records that are taken.</summary>
    public ulong NextInode { get; private set; }

    /// <summary>Content that recovery would write to data blocks.</summary>
    public IReadOnlyDictionary<ulong, ReadOnlyMemory<byte>> Images => _images;

    public async IoTask<bool> RunAsync(Header header, LogRing ring, ItemTable items)
    {
        NextInode = header.NextInode;
        ulong end = await ChooseEndAsync(header.CheckpointLsn, ring);
        _report.Counts.LogRecordsDropped += (long)(Math.Max(ring.EndLsn, end) - end);
        foreach ((ulong lsn, IReadOnlyList<LogOperation> record, LogBatch batch) in Records(ring, header.CheckpointLsn))
        {
            if (lsn > end) { break; }
            NextInode = Math.Max(NextInode, batch.NextInode);
            _report.Counts.LogRecords++;
            foreach (LogOperation operation in record) { Apply(operation, lsn, items); }
        }
        return true;
    }

    private static IEnumerable<(ulong Lsn, IReadOnlyList<LogOperation> Record, LogBatch Batch)> Records(LogRing ring, ulong checkpointLsn)
    {
        foreach (LogBatch batch in ring.Chain)
        {
            for (int i = 0; i < batch.Records.Count; i++)
            {
                ulong lsn = batch.FirstLsn + (ulong)i;
                if (lsn > checkpointLsn) { yield return (lsn, batch.Records[i], batch); }
            }
        }
    }

    // The longest prefix that has no bad block: a block is bad while its last definition is a Data operation beyond P whose checksum does not match.
    private async IoTask<ulong> ChooseEndAsync(ulong checkpointLsn, LogRing ring)
    {
        var bad = new HashSet<ulong>();
        ulong end = ring.ProvenLsn;
        foreach ((ulong lsn, IReadOnlyList<LogOperation> record, LogBatch _) in Records(ring, checkpointLsn))
        {
            if (lsn <= ring.ProvenLsn) { continue; }
            foreach (LogOperation operation in record)
            {
                switch (operation.Kind)
                {
                    case LogOperationKind.Free:
                        for (uint i = 0; i < operation.Number; i++) { bad.Remove(operation.Block + i); }
                        break;
                    case LogOperationKind.Image:
                        bad.Remove(operation.Block);
                        break;
                    case LogOperationKind.Data when IsMine(operation.Block, operation.Number):
                        for (int i = 0; i < operation.Number; i++)
                        {
                            ulong block = operation.Block + (ulong)i;
                            bool isRead = await _reader.ReadAsync(block, _block);
                            // Torn is legal, unreadable is not: recovery cannot tell whether the record counts.
                            if (!isRead) { Error(lsn, $"block {block}, which it names, cannot be read"); }
                            bool matches = isRead && Checksum.Of(_block) == operation.CrcOf(i);
                            if (matches) { bad.Remove(block); }
                            else { bad.Add(block); }
                        }
                        break;
                    default:
                        break;
                }
            }
            if (bad.Count == 0) { end = lsn; }
        }
        return end;
    }

    private void Apply(LogOperation operation, ulong lsn, ItemTable items)
    {
        switch (operation.Kind)
        {
            case LogOperationKind.Put:
                items.Put(operation.Key, operation.Bytes.ToArray());
                break;
            case LogOperationKind.Delete:
                if (!items.TryGet(operation.Key, out _)) { Error(lsn, $"deletes {operation.Key}, which does not exist"); }
                items.Delete(operation.Key);
                break;
            case LogOperationKind.Patch:
                Patch(operation, lsn, items);
                break;
            case LogOperationKind.Allocate:
            case LogOperationKind.Free:
                ChangeAllocation(operation, lsn, items);
                break;
            case LogOperationKind.Data:
                if (!IsMine(operation.Block, operation.Number)) { Error(lsn, $"blocks from {operation.Block} are not the volume's"); }
                CheckAlone(operation.Block, operation.Number, lsn, items);
                for (uint i = 0; i < operation.Number; i++) { _images.Remove(operation.Block + i); }
                break;
            case LogOperationKind.Image:
                if (!IsMine(operation.Block, 1)) { Error(lsn, $"block {operation.Block} is not the volume's"); }
                CheckAlone(operation.Block, 1, lsn, items);
                _images[operation.Block] = operation.Bytes;
                break;
            default:
                break;
        }
    }

    // Each owner of a shared block has its checksum: it never gets a new content.
    private void CheckAlone(ulong first, uint count, ulong lsn, ItemTable items)
    {
        for (ulong block = first; block < first + count; block++)
        {
            if (items.TryGet(SharedBlockChecker.KeyOf(block), out ReadOnlyMemory<byte> counts) && SharedBlockChecker.CountOf(counts.Span, block) > 1) { Error(lsn, $"writes to block {block}, which is shared"); }
        }
    }

    private void Patch(LogOperation operation, ulong lsn, ItemTable items)
    {
        if (!items.TryGetForChange(operation.Key, out byte[] value)) { Error(lsn, $"patches {operation.Key}, which does not exist"); }
        else if (operation.Number > value.Length || operation.Bytes.Length > value.Length - operation.Number) { Error(lsn, $"patches {operation.Key} outside of its value"); }
        else { operation.Bytes.Span.CopyTo(value.AsSpan((int)operation.Number)); }
    }

    private void ChangeAllocation(LogOperation operation, ulong lsn, ItemTable items)
    {
        bool allocate = operation.Kind == LogOperationKind.Allocate;
        for (uint i = 0; !allocate && i < operation.Number; i++) { _images.Remove(operation.Block + i); }
        if (_clusters is null || !IsMine(operation.Block, operation.Number) || !_clusters.TryClusterOf(operation.Block, out uint cluster, out uint first)
            || operation.Number > _clusters.ClusterBlocks - first)
        {
            Error(lsn, $"{operation.Kind} of {operation.Number} blocks from {operation.Block} is not within one data cluster of the volume");
            return;
        }
        var key = new ItemKey(0, ItemKey.Allocation, cluster);
        if (!items.TryGetForChange(key, out byte[] bitmap))
        {
            bitmap = new byte[_clusters.ClusterBlocks / 8];
            items.Put(key, bitmap);
        }
        if (bitmap.Length != _clusters.ClusterBlocks / 8) { return; } // reported with the other Allocation items
        for (uint bit = first; bit < first + operation.Number; bit++)
        {
            bool wasSet = (bitmap[bit / 8] & (1 << (int)(bit % 8))) != 0;
            if (wasSet == allocate) { Error(lsn, $"{operation.Kind} of block {operation.Block - first + bit}, which is {(wasSet ? "allocated" : "free")} already"); }
            if (allocate) { bitmap[bit / 8] |= (byte)(1 << (int)(bit % 8)); }
            else { bitmap[bit / 8] &= (byte)~(1 << (int)(bit % 8)); }
        }
    }

    private bool IsMine(ulong block, uint count) => _clusters is not null && _clusters.Holds(block, count, ClusterKind.Data, _volumeId);

    private void Error(ulong lsn, string sentence) => _report.Error("log", $"{_volume}, LSN {lsn}", sentence);
}
