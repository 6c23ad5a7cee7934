using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Prepares changes of blobs: decides per block how it will be stored, reserves space, writes new blocks.</summary>
/// <remarks>
/// A small write goes through the log (the images of its blocks are written in place later): nothing waits for the device twice, with log memory not even once, and an overwritten block
/// stays where it is, so that the map does not fragment. A large write is written to blocks that nothing refers to yet: those writes complete before the record is committed,
/// because a record must never name data that is not there (after a crash the map would show old bytes). So is, on a device that is done at once, whatever is new. A device that
/// is memory of this process ends with it, and no crash comes between a record and its content: small overwrites go to their place with the record.
/// Blocks with several owners are never overwritten: the others keep the old block.
/// </remarks>
internal sealed class BlobWriter(Volume volume, Pool pool, BlobReader reader)
{
    private const int BlockBytes = BlobData.BlockBytes;

    /// <summary>Writes below this go through the log: more would be written twice at length, while a device takes it in one go.</summary>
    private const int MaxImageBytes = 32 * 1024;

    /// <summary>128 KiB: much less than a second-level cache.</summary>
    private const int PieceBlocks = 32;

    private readonly bool _isMemory = pool.IsMemory;
    private readonly bool _isAtOnce = pool.IsMemory || pool.Bdev.CompletesAtOnce;

    public BlobChange Rent() => pool.BlobChanges.TryPop(out BlobChange? change) ? change : new BlobChange();

    public async IoTask<Errno> PrepareWriteAsync(BlobChange change, ulong blob, long offset, IoVecs source)
    {
        long length = source.LengthBytes;
        if (length is <= 0 or > BlobData.MaxWriteBytes || offset < 0 || offset > long.MaxValue - length) { return Errno.EINVAL; }
        for (;;)
        {
            Errno planned = TryPlanWrite(change, blob, offset, offset + length);
            if (planned == Errno.None) { break; }
            if (planned == Residency.NotResident) { planned = await volume.LoadMissingAsync(); }
            if (planned != Errno.None) { return planned; }
        }
        return await CompleteAsync(change, offset, offset + length, source);
    }

    public async IoTask<Errno> PrepareZeroAsync(BlobChange change, ulong blob, long offset, long length)
    {
        if (length <= 0) { return Errno.None; }
        long limit = offset + length;
        for (;;)
        {
            change.Clear();
            change.Blob = blob;
            Errno planned = TryPlanZero(change, blob, offset, limit);
            if (planned == Errno.None) { break; }
            if (planned == Residency.NotResident) { planned = await volume.LoadMissingAsync(); }
            if (planned != Errno.None) { return planned; }
        }
        return await CompleteAsync(change, offset, limit, IoVecs.Empty);
    }

    public async IoTask<Errno> PrepareAllocateAsync(BlobChange change, ulong blob, long firstBlock, long limitBlock)
    {
        const int MaxBlocks = 128;
        for (;;)
        {
            change.Clear();
            change.Blob = blob;
            Errno planned = TryPlanAllocate(change, firstBlock, Math.Min(limitBlock, firstBlock + MaxBlocks));
            if (planned == Errno.None) { break; }
            if (planned == Residency.NotResident) { planned = await volume.LoadMissingAsync(); }
            if (planned != Errno.None) { return planned; }
        }
        return await ReserveAsync(change);
    }

    public void End(BlobChange change)
    {
        for (int i = 0; i < change.Count; i++)
        {
            ref BlockChange block = ref change[i];
            if (block.Page is not null) { PagePool.Release(block.Page); }
            bool isReserved = block.Kind is BlockChangeKind.New or BlockChangeKind.Preallocate && block.Physical != 0;
            if (isReserved && !change.IsCommitted) { volume.Allocator.Release(new BlockRun(block.Physical, 1)); }
        }
        change.Clear();
        pool.BlobChanges.Push(change);
    }

    private Errno TryPlanWrite(BlobChange change, ulong blob, long offset, long limit)
    {
        change.Clear();
        change.Blob = blob;
        bool isSmall = limit - offset < MaxImageBytes;
        ulong firstBlock = (ulong)offset / BlockBytes, lastBlock = (ulong)(limit - 1) / BlockBytes;
        for (ulong block = firstBlock; block <= lastBlock; block++)
        {
            Errno found = TryFind(blob, block, out ReadOnlySpan<byte> value, out ExtentPart part);
            if (found != Errno.None) { return found; }
            found = volume.Shared.TryIsShared(part.Physical, out bool isShared);
            if (found != Errno.None) { return found; }
            ref BlockChange added = ref change.Add(block);
            bool isPartial = (long)(block * BlockBytes) < offset || (long)((block + 1) * BlockBytes) > limit;
            if (part.IsWritten)
            {
                bool isOverwrite = isSmall && !isShared;
                added.Kind = isOverwrite ? BlockChangeKind.Overwrite : BlockChangeKind.New;
                added.IsLogged = isOverwrite ? !_isMemory : isSmall && !_isAtOnce;
                added.Physical = isOverwrite ? part.Physical : 0;
                if (isPartial) { SetOld(ref added, value, part); }
            }
            else
            {
                bool isNew = part.IsHole || isShared; // a preallocated block that is shared: a damaged map
                added.Kind = isNew ? BlockChangeKind.New : BlockChangeKind.FillUnwritten;
                added.IsLogged = isSmall && !_isAtOnce;
                added.Physical = isNew ? 0 : part.Physical;
            }
        }
        return firstBlock > 0 && NeedsBlock(change[0]) ? TryFindNear(change, firstBlock) : Errno.None;
    }

    // Only a hint: what is wrong with that block is nothing to this write.
    private Errno TryFindNear(BlobChange change, ulong firstBlock)
    {
        Errno found = TryFind(change.Blob, firstBlock - 1, out _, out ExtentPart before);
        if (found == Residency.NotResident) { return found; }
        if (found == Errno.None && !before.IsHole) { change.Near = before.Physical + 1; }
        return Errno.None;
    }

    private Errno TryPlanZero(BlobChange change, ulong blob, long offset, long limit)
    {
        ulong first = (ulong)offset / BlockBytes, last = (ulong)(limit - 1) / BlockBytes;
        for (ulong block = first; ; block = last)
        {
            bool isPartial = (long)(block * BlockBytes) < offset || (long)((block + 1) * BlockBytes) > limit;
            if (isPartial)
            {
                Errno found = TryFind(blob, block, out ReadOnlySpan<byte> value, out ExtentPart part);
                if (found != Errno.None) { return found; }
                if (part.IsWritten)
                {
                    found = volume.Shared.TryIsShared(part.Physical, out bool isShared);
                    if (found != Errno.None) { return found; }
                    ref BlockChange added = ref change.Add(block);
                    added.Kind = isShared ? BlockChangeKind.New : BlockChangeKind.Overwrite;
                    added.Physical = isShared ? 0 : part.Physical;
                    added.IsLogged = isShared ? !_isAtOnce : !_isMemory;
                    SetOld(ref added, value, part);
                }
            }
            if (block == last) { return Errno.None; }
        }
    }

    private Errno TryPlanAllocate(BlobChange change, long firstBlock, long limitBlock)
    {
        for (long block = firstBlock; block < limitBlock; block++)
        {
            Errno found = TryFind(change.Blob, (ulong)block, out _, out ExtentPart part);
            if (found != Errno.None) { return found; }
            if (part.IsHole) { change.Add((ulong)block).Kind = BlockChangeKind.Preallocate; }
        }
        change.LimitBlock = limitBlock;
        return Errno.None;
    }

    private Errno TryFind(ulong blob, ulong block, out ReadOnlySpan<byte> value, out ExtentPart part)
    {
        part = default;
        int index = (int)(block % ExtentGroup.Blocks);
        Errno found = volume.TryGet(ExtentGroup.Key(blob, block / ExtentGroup.Blocks), out value);
        if (found is not (Errno.None or Errno.ENOENT)) { return found; }
        if (!ExtentGroup.TryFind(value, index, index + 1, volume.HasDataChecksums, out part)) { return Errno.EIO; }
        return part.IsHole || volume.Allocator.Owns(part.Physical, 1) ? Errno.None : Errno.EIO;
    }

    private void SetOld(ref BlockChange block, ReadOnlySpan<byte> value, ExtentPart part)
    {
        block.OldPhysical = part.Physical;
        block.OldCrc = volume.HasDataChecksums ? ExtentGroup.Crc(value, part.CrcIndex) : 0;
    }

    private async IoTask<Errno> CompleteAsync(BlobChange change, long offset, long limit, IoVecs source)
    {
        Errno result = await ReserveAsync(change);
        if (result == Errno.None) { result = await ReadOldAsync(change); }
        return result == Errno.None ? await WrittenAsync(change, FillAndWrite(change, offset, limit, source)) : result;
    }

    /// <summary>Finds blocks for everything new, in as few runs as there are, and where the blob would go on.</summary>
    private async IoTask<Errno> ReserveAsync(BlobChange change)
    {
        ulong near = change.Near;
        for (int i = 0; i < change.Count;)
        {
            if (!NeedsBlock(change[i]))
            {
                near = change[i].Physical + 1;
                i++;
                continue;
            }
            int wanted = 1;
            while (i + wanted < change.Count && NeedsBlock(change[i + wanted])) { wanted++; }
            if (volume.Allocator.TryReserve(wanted, near, change[i].Logical, out BlockRun run))
            {
                for (int k = 0; k < run.Count; k++) { change[i + k].Physical = run.First + (ulong)k; }
                near = run.First + (ulong)run.Count;
                i += run.Count;
                continue;
            }
            Errno granted = await pool.GrantDataAsync(volume);
            if (granted == Errno.None) { continue; }
            if (volume.Failed) { return Errno.EIO; }
            if (!volume.HasSpaceOnTheWay) { return granted; }
            // Freed blocks become usable once it is durable that they are free, the reads that may still look at them have ended, and no image is on its way to them.
            Errno done = await volume.SyncAsync();
            if (done != Errno.None) { return done; }
            volume.ReleaseFreedBlocks();
            if (volume.Allocator.FreeBlocks == 0 && volume.HasSpaceOnTheWay) { await volume.SpaceFreed.WaitAsync(); }
        }
        return Errno.None;
    }

    private static bool NeedsBlock(in BlockChange block) => block.Kind is BlockChangeKind.New or BlockChangeKind.Preallocate && block.Physical == 0;

    /// <summary>What blocks keep that change in part.</summary>
    private async IoTask<Errno> ReadOldAsync(BlobChange change)
    {
        for (int i = 0; i < change.Count; i++)
        {
            if (change[i].OldPhysical == 0) { continue; }
            Page page = PagesFor(change[i]).Rent();
            change[i].Page = page;
            Errno read = await reader.ReadBlockAsync(change[i].OldPhysical, change[i].OldCrc, page);
            if (read != Errno.None) { return read; }
        }
        return Errno.None;
    }

    /// <summary>Puts the new content of each block together and starts to write it; returns how many writes there are. Piece by piece on a device that is done at once: the
    /// same few pages then serve all of a large write, and are still in the processor's cache when the device copies them.</summary>
    private int FillAndWrite(BlobChange change, long offset, long limit, IoVecs source)
    {
        int piece = pool.Bdev.CompletesAtOnce ? PieceBlocks : BlobChange.MaxBlocks, tasks = 0;
        long inPlace = 0;
        var content = new IoVecsCursor(source);
        for (int first = 0; first < change.Count; first += piece)
        {
            int end = Math.Min(first + piece, change.Count);
            for (int i = first; i < end; i++) { inPlace += Fill(ref change[i], offset, limit, ref content, isZero: source.Count == 0); }
            tasks = StartWrites(change, first, end, tasks);
            for (int i = first; i < end && pool.Bdev.CompletesAtOnce; i++)
            {
                if (!IsToBeWritten(change[i])) { continue; }
                PagePool.Release(change[i].Page!);
                change[i].Page = null;
            }
        }
        if (inPlace > 0)
        {
            StreamingCopy.Order();
            change.Tasks[tasks++] = new(pool.Bdev.EndInPlace(inPlace));
        }
        return tasks;
    }

    /// <summary>Puts the new content of a block together and sums it, in private memory, or at its place; returns how many bytes are at their place.</summary>
    private int Fill(ref BlockChange block, long offset, long limit, ref IoVecsCursor source, bool isZero)
    {
        long start = (long)block.Logical * BlockBytes;
        int from = (int)Math.Max(offset - start, 0), to = (int)Math.Min(limit - start, BlockBytes);
        // Nobody refers to the block yet: where a device lets us, its final place is the only copy.
        IoVec place = default;
        bool isInPlace = block.Page is null && !block.IsLogged && block.Kind != BlockChangeKind.Overwrite && pool.Bdev.TryGetPlace((long)block.Physical * BlockBytes, BlockBytes, out place);
        Span<byte> memory = isInPlace ? place.Span : (block.Page ??= PagesFor(block).Rent()).Span;
        if (!isZero && to - from == BlockBytes)
        {
            block.Crc = CopyAndSum(ref source, memory, isInPlace);
            return isInPlace ? BlockBytes : 0;
        }
        if (block.OldPhysical == 0)
        {
            memory[..from].Clear();
            memory[to..].Clear();
        }
        if (isZero) { memory[from..to].Clear(); }
        else { source.CopyTo(memory[from..to]); }
        block.Crc = Crc32C.Compute(memory);
        return isInPlace ? BlockBytes : 0;
    }

    private static uint CopyAndSum(ref IoVecsCursor source, Span<byte> target, bool isStreaming)
    {
        uint state = uint.MaxValue;
        for (Span<byte> piece = source.Next(target.Length); !piece.IsEmpty; piece = source.Next(target.Length))
        {
            state = Crc32C.AppendCopy(state, piece, target, isStreaming);
            target = target[piece.Length..];
        }
        return ~state;
    }

    private PagePool PagesFor(in BlockChange block) => block.IsLogged ? pool.Pages : pool.DataPages;

    private int StartWrites(BlobChange change, int first, int end, int tasks)
    {
        int vec = change.Vecs.Count;
        for (int i = first; i < end; i++)
        {
            if (IsToBeWritten(change[i])) { change.Vecs.Add(change[i].Page!.Memory); }
        }
        for (int i = first; i < end;)
        {
            if (!IsToBeWritten(change[i])) { i++; continue; }
            int count = 1;
            while (i + count < end && IsToBeWritten(change[i + count]) && change[i + count].Physical == change[i].Physical + (ulong)count) { count++; }
            change.Tasks[tasks++] = pool.Bdev.WriteAsync((long)change[i].Physical * BlockBytes, change.Vecs.View(vec, count));
            vec += count;
            i += count;
        }
        return tasks;
    }

    private static async IoTask<Errno> WrittenAsync(BlobChange change, int tasks)
    {
        Errno result = Errno.None;
        for (int i = 0; i < tasks; i++)
        {
            IoResult written = await change.Tasks[i];
            // A device that has less space than it says is full; anything else is EIO, whatever it calls it.
            if (written.IsError && result != Errno.EIO) { result = written.Errno == Errno.ENOSPC ? Errno.ENOSPC : Errno.EIO; }
        }
        return result;
    }

    private static bool IsToBeWritten(in BlockChange block) => !block.IsLogged && block.Kind is BlockChangeKind.New or BlockChangeKind.FillUnwritten && block.Page is not null;
}
