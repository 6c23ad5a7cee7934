using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>What the four copies of a superblock say together.</summary>
/// <param name="Newest">The valid one with the highest generation.</param>
/// <param name="Behind">Blocks with copies of the same pool that name another end than the newest: growing it was interrupted.</param>
internal sealed record SuperblockCopies(Superblock Newest, IReadOnlyList<ulong> Behind);

/// <summary>Reads and writes the four copies of the superblock.</summary>
internal static class SuperblockStore
{
    private const int BlockBytes = BlobData.BlockBytes;

    /// <summary>The valid copy with the highest generation; null when there is none.</summary>
    public static async IoTask<Superblock?> ReadAsync(IBdev bdev) => (await FindAsync(bdev))?.Newest;

    /// <summary>Null: there is no valid copy.</summary>
    /// <param name="report">Told when a copy is missing: opening for writing makes new ones, but somebody should look at the device.</param>
    public static async IoTask<SuperblockCopies?> FindAsync(IBdev bdev, Action<string>? report = null)
    {
        using var memory = new NativeBuffer(BlockBytes);
        using var list = new IoVecList(1);
        list.Add(memory.Vec);
        var found = new List<(ulong Block, Superblock Superblock)>(4);
        // The copies at the end lie where the pool ends: the ones at the start tell, or it is the end of the device. Nowhere else: within the pool there are the bytes of its users.
        var ends = new List<ulong>(3) { (ulong)bdev.SizeBytes / BlockBytes };
        for (int i = 0; i < 2 + (2 * ends.Count); i++)
        {
            ulong blocks = ends[Math.Max(i - 2, 0) / 2], block = i < 2 ? (ulong)i : blocks - 2 + ((ulong)i & 1);
            if (blocks < 4 || block >= (ulong)bdev.SizeBytes / BlockBytes) { continue; }
            IoResult read = await bdev.ReadAsync((long)block * BlockBytes, list.View());
            if (read.IsError || Superblock.Read(memory.Span) is not { } copy || !copy.BelongsTo(block)) { continue; }
            found.Add((block, copy));
            if (i < 2 && !ends.Contains(copy.Geometry.DeviceBlocks)) { ends.Add(copy.Geometry.DeviceBlocks); }
        }
        if (found.Count == 0) { return null; }
        // A write that was meant for another disk can put a sound superblock of another pool here, with any generation; the other copies outvote it.
        Superblock newest = found.GroupBy(static copy => copy.Superblock.Uuid)
            .OrderByDescending(static pool => pool.Count()).ThenByDescending(static pool => pool.Max(static copy => copy.Superblock.Generation))
            .First().Select(static copy => copy.Superblock).MaxBy(static copy => copy.Generation)!;
        ulong[] behind = [.. found.Where(copy => copy.Superblock.Uuid == newest.Uuid && copy.Superblock.Geometry.DeviceBlocks != newest.Geometry.DeviceBlocks).Select(static copy => copy.Block)];
        if (behind.Length == 0) { ReportMissing(found, newest, bdev, report); }
        else { report?.Invoke($"{bdev.Name}: growing the pool was interrupted; it has {newest.Geometry.DeviceBlocks * BlockBytes} bytes now"); }
        return new SuperblockCopies(newest, behind);
    }

    /// <summary>Writes both copies of this generation, durably, after everything written before.</summary>
    public static IoTask<Errno> WriteAsync(IBdev bdev, Superblock superblock) => WriteAsync(bdev, superblock, bdev.FlushAsync);

    /// <param name="flush">In a pool with open volumes: the one of all of them, since a flush that fails is a failure of each.</param>
    public static async IoTask<Errno> WriteAsync(IBdev bdev, Superblock superblock, Func<IoTask<Errno>> flush)
    {
        using var copy = new BlockWriter(bdev, superblock);
        (ulong first, ulong second) = Superblock.Slots(superblock.Generation, superblock.Geometry.DeviceBlocks);
        Errno written = await flush();
        if (written == Errno.None) { written = await copy.WriteAsync(first); }
        if (written == Errno.None) { written = await copy.WriteAsync(second); }
        return written == Errno.None ? await flush() : written;
    }

    /// <summary>The same for a pool that grows, whose pair of this generation has been at another end until now.</summary>
    /// <param name="old">Where copies lie at that end that nothing needs any more.</param>
    public static async IoTask<Errno> MoveAsync(IBdev bdev, Superblock superblock, IEnumerable<ulong> old, Func<IoTask<Errno>> flush)
    {
        using var none = new BlockWriter(bdev, null);
        using var copy = new BlockWriter(bdev, superblock);
        (ulong first, ulong second) = Superblock.Slots(superblock.Generation, superblock.Geometry.DeviceBlocks);
        Errno written = Errno.None;
        // The old end is erased before the copy at the start, which alone leads there, names the new one: an opening finds and finishes whatever is interrupted, and no old copy is left
        // where there will be somebody's data. The new end is durable before that copy, too: while the one is torn, the other, or the end of the device, leads to a whole superblock.
        foreach (ulong block in old)
        {
            if (written == Errno.None) { written = await none.WriteAsync(block); }
        }
        if (written == Errno.None) { written = await copy.WriteAsync(second); }
        if (written == Errno.None) { written = await flush(); }
        if (written == Errno.None) { written = await copy.WriteAsync(first); }
        return written == Errno.None ? await flush() : written;
    }

    /// <summary>Overwrites all copies: whatever was on the device is no pool any more.</summary>
    public static async IoTask<Errno> EraseAsync(IBdev bdev)
    {
        using var none = new BlockWriter(bdev, null);
        ulong blocks = (ulong)bdev.SizeBytes / BlockBytes;
        var copies = new HashSet<ulong> { 0, 1, blocks - 2, blocks - 1 };
        if (await FindAsync(bdev) is { } found)
        {
            copies.UnionWith(found.Behind);
            // A pool that is smaller than its device has the last two where it ends.
            if (found.Newest.Geometry.DeviceBlocks is var ends && ends >= 4 && ends < blocks) { copies.UnionWith([ends - 2, ends - 1]); }
        }
        foreach (ulong block in copies)
        {
            Errno written = await none.WriteAsync(block);
            if (written != Errno.None) { return written; }
        }
        return await bdev.FlushAsync();
    }

    private static void ReportMissing(List<(ulong Block, Superblock Superblock)> found, Superblock newest, IBdev bdev, Action<string>? report)
    {
        for (ulong back = 0; back < 2 && newest.Generation - back >= 2; back++)
        {
            // The other pair is not written before the second generation, and may be any older one.
            (ulong first, ulong second) = Superblock.Slots(newest.Generation - back, newest.Geometry.DeviceBlocks);
            foreach (ulong block in new[] { first, second })
            {
                if (found.Any(copy => copy.Block == block && copy.Superblock.Uuid == newest.Uuid && (back > 0 || copy.Superblock.Generation == newest.Generation))) { continue; }
                report?.Invoke($"{bdev.Name}: the superblock copy at block {block} is damaged, out of date or cannot be read; generation {newest.Generation} is used");
            }
        }
    }

    /// <summary>Puts a superblock, or zeroes, into blocks.</summary>
    private sealed class BlockWriter : IDisposable
    {
        private readonly IBdev _bdev;
        private readonly NativeBuffer _memory = new(BlockBytes, zeroed: true);
        private readonly IoVecList _list = new(1);

        public BlockWriter(IBdev bdev, Superblock? content)
        {
            _bdev = bdev;
            content?.Write(_memory.Span);
            _list.Add(_memory.Vec);
        }

        public async IoTask<Errno> WriteAsync(ulong block) => (await _bdev.WriteAsync((long)block * BlockBytes, _list.View())).Errno;

        public void Dispose()
        {
            _list.Dispose();
            _memory.Dispose();
        }
    }
}
