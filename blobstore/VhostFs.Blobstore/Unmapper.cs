using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Gives freed blocks back to the device when the volume has time for it: an unmap on every free would be paid for again by the next write of the same blocks.</summary>
internal sealed class Unmapper(IBdev bdev, bool isEnabled)
{
    /// <summary>Smaller runs are not worth a command.</summary>
    private const int MinBlocks = 16;

    private const int MaxRunsPerCall = 256;

    private bool IsActive => isEnabled && bdev.SupportsUnmap;

    /// <summary>Makes the run usable.</summary>
    public void Release(BlockAllocator allocator, BlockRun run)
    {
        if (IsActive) { allocator.ReleaseMapped(run); }
        else { allocator.Release(run); }
    }

    /// <summary>Unmaps a bounded number of free runs; true when there may be more. A failed unmap only costs space on the device.</summary>
    public async IoTask<bool> UnmapSomeAsync(BlockAllocator allocator)
    {
        for (int i = 0; i < MaxRunsPerCall; i++)
        {
            if (!IsActive || !allocator.TryTakeUnmappable(MinBlocks, out BlockRun run)) { return false; }
            // Reserved meanwhile: an unmap that came late would take new data with it.
            await bdev.UnmapAsync((long)run.First * BlobData.BlockBytes, (long)run.Count * BlobData.BlockBytes);
            allocator.Release(run);
        }
        return true;
    }
}
