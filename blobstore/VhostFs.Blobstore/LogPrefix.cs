using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Decides how much of a crashed log counts: everything proven, and beyond that the longest prefix whose still-live new blocks verify.</summary>
/// <remarks>"Cut at the first record whose data does not verify" would be wrong: a block may be freed, that free made durable by an fsync, and the block used again before any batch
/// on disk says so; the old record then fails its check although it was acknowledged. Hence a block counts only by its last definition within the prefix.</remarks>
internal sealed class LogPrefix(IBdev bdev, LogScan scan, Func<ulong, bool> isDataBlock)
{
    private const int MaxBlocksPerRead = 64;
    private readonly Dictionary<ulong, Definition> _definitions = [];
    private int _liveMismatches;

    /// <summary>The last LSN that counts.</summary>
    public ulong CutLsn { get; private set; }

    /// <summary>Blocks whose last definition is an image, with where it is: to be written in place.</summary>
    public IEnumerable<(ulong Block, IoVec Image)> Images
    {
        get
        {
            foreach ((ulong block, Definition definition) in _definitions)
            {
                if (definition.Image is { } image) { yield return (block, scan.Image(image.Record, image.Index)); }
            }
        }
    }

    public async IoTask<Errno> FindAsync(ulong checkpointLsn)
    {
        CutLsn = Math.Max(checkpointLsn, Math.Min(scan.ProvenLsn, scan.EndLsn));
        Errno walked = await WalkAsync(ulong.MaxValue, verify: true);
        if (walked != Errno.None) { return walked; }
        // The definitions now are those of the whole chain; those of the prefix are wanted.
        _definitions.Clear();
        return await WalkAsync(CutLsn, verify: false);
    }

    private async IoTask<Errno> WalkAsync(ulong lastLsn, bool verify)
    {
        using var memory = new NativeBuffer(MaxBlocksPerRead * BlobData.BlockBytes);
        using var list = new IoVecList(1);
        var written = new List<(ulong Block, uint Crc)>();
        foreach (ScannedRecord record in scan.Records)
        {
            if (record.Lsn > lastLsn) { break; }
            written.Clear();
            Define(record, written);
            bool isChecked = verify && record.Lsn > scan.ProvenLsn;
            for (int i = 0; i < written.Count;)
            {
                ulong first = written[i].Block;
                int count = 1;
                while (count < MaxBlocksPerRead && i + count < written.Count && written[i + count].Block == first + (ulong)count) { count++; }
                bool areOurs = true;
                for (int k = 0; isChecked && k < count; k++) { areOurs &= isDataBlock(first + (ulong)k); }
                if (isChecked && areOurs)
                {
                    list.Clear();
                    list.Add(memory.Slice(0, count * BlobData.BlockBytes));
                    IoResult read = await bdev.ReadAsync((long)first * BlobData.BlockBytes, list.View());
                    if (read.IsError) { return read.Errno; }
                }
                for (int k = 0; k < count; k++)
                {
                    bool matches = !isChecked || (areOurs && Crc32C.Compute(memory.Span.Slice(k * BlobData.BlockBytes, BlobData.BlockBytes)) == written[i + k].Crc);
                    Set(first + (ulong)k, new Definition(null, matches));
                }
                i += count;
            }
            if (verify && record.Lsn > CutLsn && _liveMismatches == 0) { CutLsn = record.Lsn; }
        }
        return Errno.None;
    }

    private void Define(ScannedRecord record, List<(ulong Block, uint Crc)> written)
    {
        var reader = new RecordReader(scan.RecordBytes(record));
        while (reader.MoveNext())
        {
            RecordOperation operation = reader.Current;
            switch (operation.Code)
            {
                case RecordCode.Free:
                    for (int i = 0; i < operation.Blocks.Count && _definitions.Count > 0; i++) { Remove(operation.Blocks.First + (ulong)i); }
                    break;
                case RecordCode.Data:
                    for (int i = 0; i < operation.Blocks.Count; i++) { written.Add((operation.Blocks.First + (ulong)i, operation.CrcAt(i))); }
                    break;
                case RecordCode.Image:
                    Set(operation.Blocks.First, new Definition(new ImagePlace(record, operation.ImageIndex), true));
                    break;
            }
        }
    }

    private void Set(ulong block, Definition definition)
    {
        Remove(block);
        _definitions.Add(block, definition);
        if (!definition.Matches) { _liveMismatches++; }
    }

    private void Remove(ulong block)
    {
        if (_definitions.Remove(block, out Definition old) && !old.Matches) { _liveMismatches--; }
    }

    private readonly record struct ImagePlace(ScannedRecord Record, int Index);

    private readonly record struct Definition(ImagePlace? Image, bool Matches);
}
