using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Gives freed blocks back to the device before they are used again; small runs are not worth a command.</summary>
internal sealed class Unmapper(IBdev bdev, bool isEnabled)
{
    private const int MinBlocks = 16;
    private const int MaxInFlight = 64;
    private int _inFlight;

    /// <summary>Makes the run usable, after an unmap if it is large. A failed unmap only costs space on the device.</summary>
    public void Release(BlockAllocator allocator, BlockRun run)
    {
        if (!isEnabled || !bdev.SupportsUnmap || run.Count < MinBlocks || _inFlight >= MaxInFlight) { allocator.Release(run); }
        else { UnmapAsync(allocator, run).Detach(); }
    }

    private async IoTask<Errno> UnmapAsync(BlockAllocator allocator, BlockRun run)
    {
        _inFlight++;
        // Usable only afterwards: an unmap that came late would take new data with it.
        Errno unmapped = await bdev.UnmapAsync((long)run.First * BlobData.BlockBytes, (long)run.Count * BlobData.BlockBytes);
        _inFlight--;
        allocator.Release(run);
        return unmapped;
    }
}
