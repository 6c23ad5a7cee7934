using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Blobstore.Tests;

/// <summary>Steady state allocates nothing on the managed heap: counted exactly, checkpoints included.</summary>
public sealed class AllocationTests : IDisposable
{
    private const ulong Blob = 9;
    private const int BlobBlocks = 1024;
    private readonly IoReactor _reactor = new(new SimulatedDriver(), "test");
    private readonly MallocBdev _bdev = new("malloc0", 128L << 20);
    private readonly NativeBuffer _buffer = new(1 << 20, zeroed: true);
    private readonly IoVecList _block = new();

    public void Dispose()
    {
        _block.Dispose();
        _buffer.Dispose();
        _bdev.Dispose();
        _reactor.Dispose();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Steady_reads_overwrites_and_puts_allocate_nothing(bool isMemory)
    {
        _block.Add(_buffer.Slice(0, BlobData.BlockBytes));
        _reactor.RunUntilComplete(async () =>
        {
            // Without TryGetMemory the general way to a device is taken.
            IBdev bdev = isMemory ? _bdev : new DelayBdev(_bdev, IoReactor.Current);
            Pool pool = VolumeTests.Value(await Pool.FormatAsync(bdev, new FormatOptions()));
            Volume volume = VolumeTests.Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            for (int block = 0; block < BlobBlocks; block++) { await WriteAsync(volume, block); }
            for (int i = 0; i < 6; i++) { await RoundAsync(volume); }
            // Pools grow to the largest need once; what an operation or a checkpoint itself allocates shows in every stretch.
            long least = long.MaxValue;
            for (int stretch = 0; stretch < 10 && least > 0; stretch++)
            {
                long checkpoints = volume.Statistics.Checkpoints;
                long before = GC.GetAllocatedBytesForCurrentThread();
                for (int i = 0; i < 3; i++) { await RoundAsync(volume); }
                least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
                Must(volume.Statistics.Checkpoints > checkpoints);
            }
            Assert.Equal(0, least);
            return 0;
        });
    }

    private async IoTask<int> RoundAsync(Volume volume)
    {
        for (int i = 0; i < 1000; i++)
        {
            int block = i * 7 % BlobBlocks;
            await WriteAsync(volume, block);
            IoResult read = await volume.Data.ReadAsync(Blob, (long)BlobBlocks * BlobData.BlockBytes, (long)block * BlobData.BlockBytes, _block.View());
            Must(read.Value == BlobData.BlockBytes);
            await volume.AdmitAsync(Admission.Grow);
            Transaction transaction = volume.Begin();
            transaction.Put(new TreeKey(10 + (ulong)block, ItemType.Inode, 0), _buffer.Span[..160]);
            await volume.LoggedAsync(transaction.Commit());
            if (i % 100 == 0) { Must(await volume.SyncAsync() == Errno.None); }
        }
        return 0;
    }

    private async IoTask<int> WriteAsync(Volume volume, int block)
    {
        long offset = (long)block * BlobData.BlockBytes;
        BlobLock held = await volume.Data.LockAsync(Blob, offset, offset + BlobData.BlockBytes);
        BlobChange change = volume.Data.RentChange();
        Must(await volume.Data.PrepareWriteAsync(change, Blob, offset, _block.View()) == Errno.None);
        await volume.AdmitAsync(Admission.Grow);
        Transaction transaction = volume.Begin();
        Must(volume.Data.TryStage(transaction, change) == Errno.None);
        ulong lsn = transaction.Commit();
        volume.Data.End(change);
        volume.Data.Unlock(held);
        await volume.LoggedAsync(lsn);
        return 0;
    }

    /// <summary>Assert.Equal itself allocates.</summary>
    private static void Must(bool condition)
    {
        if (!condition) { Assert.Fail("an operation failed"); }
    }
}
