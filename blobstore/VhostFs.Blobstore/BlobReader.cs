using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Reads blobs: straight from the device into the caller's segments, then the checksums are verified there.</summary>
/// <remarks>The target may be guest memory, which its guest can change under the verification: a mismatch is believed only after a second read into private memory.</remarks>
internal sealed class BlobReader(Volume volume, Pool pool)
{
    private const int BlockBytes = BlobData.BlockBytes;

    /// <summary>A map may change between the look-up and the end of the device's read; then the read starts over.</summary>
    private const int MaxAttempts = 4;

    private readonly bool _isMemory = pool.IsMemory;
    private readonly bool _hasView = pool.Bdev.TryView(0, BlockBytes, out _);

    public IoTask<IoResult> ReadAsync(ulong blob, long sizeBytes, long offsetBytes, IoVecs target)
    {
        if (offsetBytes < 0) { return new IoTask<IoResult>(Errno.EINVAL); }
        long length = Math.Min(target.LengthBytes, sizeBytes - offsetBytes);
        if (length <= 0) { return new IoTask<IoResult>(new IoResult(0)); }
        length = Math.Min(length, int.MaxValue);
        // A view can be wrong: without checksums nobody would notice.
        if (_hasView && (_isMemory || volume.HasDataChecksums) && TryReadMemory(blob, offsetBytes, (int)length, target)) { return new IoTask<IoResult>(new IoResult((int)length)); }
        return ReadDeviceAsync(blob, offsetBytes, (int)length, target);
    }

    /// <summary>Reads one mapped block into a page of ours. The caller holds the range lock, so the block stays what it is.</summary>
    public async IoTask<Errno> ReadBlockAsync(ulong physical, uint crc, Page target)
    {
        if (volume.Overlay.TryGet(physical, out Page image))
        {
            image.Span.CopyTo(target.Span);
            return Errno.None;
        }
        BlobRead read = Rent();
        read.Vecs.Add(target.Memory);
        IoResult done = await pool.Bdev.ReadAsync((long)physical * BlockBytes, read.Vecs.View());
        Return(read);
        if (done.IsError) { return Errno.EIO; }
        if (!volume.HasDataChecksums || Crc32C.Compute(target.Span) == crc) { return Errno.None; }
        return ReportMismatch(physical);
    }

    /// <summary>Devices whose bytes can be looked at: one copy, verified on our side before it. False: a node is missing, or something is wrong; the general way finds out.</summary>
    private bool TryReadMemory(ulong blob, long offset, int length, IoVecs target)
    {
        var cursor = new IoVecsCursor(target);
        for (int done = 0; done < length;)
        {
            if (TryFind(blob, offset + done, offset + length, out ReadOnlySpan<byte> value, out ExtentPart part) != Errno.None) { return false; }
            int inBlock = (int)((offset + done) % BlockBytes);
            int take = (int)Math.Min(((long)part.Count * BlockBytes) - inBlock, length - done);
            if (!part.IsWritten) { cursor.Clear(take); }
            else if (!OwnsRun(part)) { return false; }
            for (int copied = 0, i = 0; part.IsWritten && copied < take; i++)
            {
                Span<byte> block;
                if (volume.Overlay.Count > 0 && volume.Overlay.TryGet(part.Physical + (ulong)i, out Page image)) { block = image.Span; }
                else
                {
                    if (!pool.Bdev.TryView((long)(part.Physical + (ulong)i) * BlockBytes, BlockBytes, out IoVec memory)) { return false; }
                    block = memory.Span;
                    if (volume.HasDataChecksums && Crc32C.Compute(block) != ExtentGroup.Crc(value, part.CrcIndex + i)) { return false; }
                }
                int from = i == 0 ? inBlock : 0, count = Math.Min(BlockBytes - from, take - copied);
                cursor.CopyFrom(block.Slice(from, count));
                copied += count;
            }
            done += take;
        }
        return true;
    }

    private async IoTask<IoResult> ReadDeviceAsync(ulong blob, long offset, int length, IoVecs target)
    {
        ulong mismatch = 0;
        for (int attempt = 0; attempt < MaxAttempts;)
        {
            BlobRead read = Rent();
            ulong epoch = volume.Reads.Begin();
            Errno result = TryPlan(read, blob, offset, length, target, isPrivate: attempt > 0);
            if (result == Errno.None)
            {
                result = await TransferAsync(read, target);
                if (result == Errno.None) { result = Verify(read, target, out mismatch); }
            }
            volume.Reads.End(epoch);
            // Somebody may wait for blocks that only this read still held.
            if (!volume.SpaceFreed.IsEmpty) { volume.ReleaseFreedBlocks(); }
            Return(read);
            if (result == Errno.None) { return new IoResult(length); }
            if (result == Residency.NotResident) { result = await volume.LoadMissingAsync(); }
            else if (result == Errno.EBADMSG) { attempt++; result = Errno.None; }
            if (result != Errno.None) { return result; }
        }
        return ReportMismatch(mismatch);
    }

    private Errno ReportMismatch(ulong block)
    {
        volume.Statistics.ChecksumErrors++;
        pool.Report($"volume '{volume.Name}': data block {block} does not match its checksum");
        return Errno.EIO;
    }

    /// <summary>Finds how the blob is mapped from a byte on, up to the end of its extent group.</summary>
    private Errno TryFind(ulong blob, long offset, long limit, out ReadOnlySpan<byte> value, out ExtentPart part)
    {
        part = default;
        ulong block = (ulong)offset / BlockBytes, lastBlock = (ulong)(limit - 1) / BlockBytes;
        ulong group = block / ExtentGroup.Blocks;
        int first = (int)(block % ExtentGroup.Blocks);
        int groupLimit = lastBlock / ExtentGroup.Blocks == group ? (int)(lastBlock % ExtentGroup.Blocks) + 1 : ExtentGroup.Blocks;
        Errno found = volume.TryGet(ExtentGroup.Key(blob, group), out value);
        if (found is not (Errno.None or Errno.ENOENT)) { return found; }
        return ExtentGroup.TryFind(value, first, groupLimit, volume.HasDataChecksums, out part) ? Errno.None : Errno.EIO;
    }

    /// <summary>All blocks lie in data clusters of this volume; also those in the middle: a run of 128 blocks can span a cluster of somebody else.</summary>
    private bool OwnsRun(in ExtentPart part)
    {
        int clusterBlocks = pool.Geometry.ClusterBlocks;
        for (int done = 0; done < part.Count;)
        {
            ulong block = part.Physical + (ulong)done;
            if (!volume.Allocator.Owns(block, 1)) { return false; }
            done += clusterBlocks - (int)((block - pool.Geometry.DataStart) % (ulong)clusterBlocks);
        }
        return true;
    }

    /// <summary>Answers holes and logged blocks at once, and lists the rest as device reads.</summary>
    private Errno TryPlan(BlobRead read, ulong blob, long offset, int length, IoVecs target, bool isPrivate)
    {
        for (int done = 0; done < length;)
        {
            Errno found = TryFind(blob, offset + done, offset + length, out ReadOnlySpan<byte> value, out ExtentPart part);
            if (found != Errno.None) { return found; }
            int inBlock = (int)((offset + done) % BlockBytes);
            int take = (int)Math.Min(((long)part.Count * BlockBytes) - inBlock, length - done);
            if (!part.IsWritten) { target.Clear(done, take); }
            else if (!OwnsRun(part)) { return Errno.EIO; }
            for (int i = 0, at = 0; part.IsWritten && at < take; i++)
            {
                ulong physical = part.Physical + (ulong)i;
                int from = i == 0 ? inBlock : 0, count = Math.Min(BlockBytes - from, take - at);
                if (volume.Overlay.Count > 0 && volume.Overlay.TryGet(physical, out Page image)) { target.CopyFrom(done + at, image.Span.Slice(from, count)); }
                else
                {
                    uint crc = volume.HasDataChecksums ? ExtentGroup.Crc(value, part.CrcIndex + i) : 0;
                    Page? page = isPrivate || count < BlockBytes ? pool.DataPages.Rent() : null;
                    read.Blocks.Add(new BlobReadBlock(physical, crc, done + at, from, count, page));
                }
                at += count;
            }
            done += take;
        }
        return Errno.None;
    }

    /// <summary>One device read per run of neighbouring blocks, all under way at once. None or EIO, whatever the device calls it.</summary>
    private async IoTask<Errno> TransferAsync(BlobRead read, IoVecs target)
    {
        read.BuildRuns(target);
        for (int i = 0; i < read.Runs.Count; i++)
        {
            BlobReadRun run = read.Runs[i];
            read.Tasks.Add(pool.Bdev.ReadAsync((long)run.Physical * BlockBytes, read.Vecs.View(run.FirstVec, run.VecCount)));
        }
        Errno result = Errno.None;
        for (int i = 0; i < read.Tasks.Count; i++)
        {
            IoResult done = await read.Tasks[i];
            if (done.IsError) { result = Errno.EIO; }
        }
        return result;
    }

    /// <summary>EBADMSG: a block is not what its checksum says.</summary>
    private Errno Verify(BlobRead read, IoVecs target, out ulong mismatch)
    {
        var cursor = new IoVecsCursor(target);
        int at = 0;
        mismatch = 0;
        for (int i = 0; i < read.Blocks.Count; i++)
        {
            BlobReadBlock block = read.Blocks[i];
            if (volume.HasDataChecksums)
            {
                uint crc;
                if (block.Page is not null) { crc = Crc32C.Compute(block.Page.Span); }
                else
                {
                    cursor.Skip(block.TargetOffset - at);
                    at = block.TargetOffset + BlockBytes;
                    uint state = uint.MaxValue;
                    for (int left = BlockBytes; left > 0;)
                    {
                        Span<byte> piece = cursor.Next(left);
                        state = Crc32C.Append(state, piece);
                        left -= piece.Length;
                    }
                    crc = ~state;
                }
                if (crc != block.Crc) { mismatch = block.Physical; return Errno.EBADMSG; }
            }
            if (block.Page is not null) { target.CopyFrom(block.TargetOffset, block.Page.Span.Slice(block.InBlock, block.Count)); }
        }
        return Errno.None;
    }

    private BlobRead Rent() => pool.BlobReads.TryPop(out BlobRead? read) ? read : new BlobRead();

    private void Return(BlobRead read)
    {
        foreach (BlobReadBlock block in read.Blocks)
        {
            if (block.Page is not null) { PagePool.Release(block.Page); }
        }
        read.Clear();
        pool.BlobReads.Push(read);
    }
}
