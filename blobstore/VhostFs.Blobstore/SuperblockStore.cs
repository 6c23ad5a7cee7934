using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Reads and writes the four copies of the superblock.</summary>
internal static class SuperblockStore
{
    private const int BlockBytes = BlobData.BlockBytes;

    /// <summary>The valid copy with the highest generation; null when there is none.</summary>
    /// <param name="report">Told when a copy of it is missing: opening for writing makes new ones, but somebody should look at the device.</param>
    public static async IoTask<Superblock?> ReadAsync(IBdev bdev, Action<string>? report = null)
    {
        using var memory = new NativeBuffer(BlockBytes);
        using var list = new IoVecList(1);
        list.Add(memory.Vec);
        var found = new List<(ulong Block, Superblock Superblock)>(4);
        // The copies at the end lie where the pool ended when it was formatted: the ones at the start tell, or it is the end of the device.
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
        ReportMissing(found, newest, bdev, report);
        return newest;
    }

    /// <summary>Writes both copies of this generation, durably, after everything written before.</summary>
    public static IoTask<Errno> WriteAsync(IBdev bdev, Superblock superblock) => WriteAsync(bdev, superblock, bdev.FlushAsync);

    /// <param name="flush">In a pool with open volumes: the one of all of them, since a flush that fails is a failure of each.</param>
    public static async IoTask<Errno> WriteAsync(IBdev bdev, Superblock superblock, Func<IoTask<Errno>> flush)
    {
        using var memory = new NativeBuffer(BlockBytes);
        using var list = new IoVecList(1);
        list.Add(memory.Vec);
        superblock.Write(memory.Span);
        Errno flushed = await flush();
        if (flushed != Errno.None) { return flushed; }
        (ulong first, ulong second) = Superblock.Slots(superblock.Generation, superblock.Geometry.DeviceBlocks);
        IoResult one = await bdev.WriteAsync((long)first * BlockBytes, list.View());
        IoResult two = await bdev.WriteAsync((long)second * BlockBytes, list.View());
        if (one.IsError || two.IsError) { return one.IsError ? one.Errno : two.Errno; }
        return await flush();
    }

    /// <summary>Overwrites all copies: whatever was on the device is no pool any more.</summary>
    public static async IoTask<Errno> EraseAsync(IBdev bdev)
    {
        using var memory = new NativeBuffer(BlockBytes, zeroed: true);
        using var list = new IoVecList(1);
        list.Add(memory.Vec);
        ulong blocks = (ulong)bdev.SizeBytes / BlockBytes;
        var copies = new HashSet<ulong> { 0, 1, blocks - 2, blocks - 1 };
        // A pool that is smaller than its device has the last two where it ends.
        if (await ReadAsync(bdev) is { Geometry.DeviceBlocks: var ends } && ends >= 4 && ends < blocks) { copies.UnionWith([ends - 2, ends - 1]); }
        foreach (ulong block in copies)
        {
            IoResult written = await bdev.WriteAsync((long)block * BlockBytes, list.View());
            if (written.IsError) { return written.Errno; }
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
}
