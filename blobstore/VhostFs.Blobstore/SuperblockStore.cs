using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Reads and writes the four copies of the superblock.</summary>
internal static class SuperblockStore
{
    private const int BlockBytes = BlobData.BlockBytes;

    /// <summary>The valid copy with the highest generation; null when there is none.</summary>
    public static async IoTask<Superblock?> ReadAsync(IBdev bdev)
    {
        using var memory = new NativeBuffer(BlockBytes);
        using var list = new IoVecList(1);
        list.Add(memory.Vec);
        Superblock? newest = null;
        for (int i = 0; i < 4; i++)
        {
            // The copies at the end lie where the pool ended when it was formatted; the first valid one tells.
            ulong blocks = newest?.Geometry.DeviceBlocks ?? ((ulong)bdev.SizeBytes / BlockBytes);
            ulong block = i < 2 ? (ulong)i : blocks - 4 + (ulong)i;
            if (block >= (ulong)bdev.SizeBytes / BlockBytes) { continue; }
            IoResult read = await bdev.ReadAsync((long)block * BlockBytes, list.View());
            if (read.IsError) { continue; }
            if (Superblock.Read(memory.Span) is { } found && (newest is null || found.Generation > newest.Generation)) { newest = found; }
        }
        return newest;
    }

    /// <summary>Writes both copies of this generation, durably, after everything written before.</summary>
    public static async IoTask<Errno> WriteAsync(IBdev bdev, Superblock superblock)
    {
        using var memory = new NativeBuffer(BlockBytes);
        using var list = new IoVecList(1);
        list.Add(memory.Vec);
        superblock.Write(memory.Span);
        Errno flushed = await bdev.FlushAsync();
        if (flushed != Errno.None) { return flushed; }
        (ulong first, ulong second) = Superblock.Slots(superblock.Generation, superblock.Geometry.DeviceBlocks);
        IoResult one = await bdev.WriteAsync((long)first * BlockBytes, list.View());
        IoResult two = await bdev.WriteAsync((long)second * BlockBytes, list.View());
        if (one.IsError || two.IsError) { return one.IsError ? one.Errno : two.Errno; }
        return await bdev.FlushAsync();
    }

    /// <summary>Overwrites all copies: whatever was on the device is no pool any more.</summary>
    public static async IoTask<Errno> EraseAsync(IBdev bdev)
    {
        using var memory = new NativeBuffer(BlockBytes, zeroed: true);
        using var list = new IoVecList(1);
        list.Add(memory.Vec);
        ulong blocks = (ulong)bdev.SizeBytes / BlockBytes;
        foreach (ulong block in new[] { 0UL, 1UL, blocks - 2, blocks - 1 })
        {
            IoResult written = await bdev.WriteAsync((long)block * BlockBytes, list.View());
            if (written.IsError) { return written.Errno; }
        }
        return await bdev.FlushAsync();
    }
}
