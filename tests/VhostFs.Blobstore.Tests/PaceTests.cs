using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Blobstore.Tests;

/// <summary>Writers that are faster than the blocks get in place (on a simulated clock).</summary>
public sealed class PaceTests : VolumeFixture
{
    private const int Writers = 16;
    private const int WritesEach = 300;
    private const long LogWriteNs = 1_000_000;
    private const long InPlaceNs = 10_000_000;

    [Fact]
    public void Writers_wait_a_little_each_while_a_checkpoint_goes_on()
    {
        long longestNs = 0, beganNs = 0, endedNs = 0;
        long checkpoints = 0;
        Run(async () =>
        {
            var bdev = new SlowInPlaceBdev(Disk);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions { LogBytes = 8 << 20 }));
            using (var first = new NativeBuffer(1 << 20))
            using (var source = new IoVecList())
            {
                source.Add(first.Vec);
                for (long at = 0; at < 2L * Writers * WritesEach * BlobData.BlockBytes; at += source.LengthBytes) { Assert.Equal(Errno.None, await TryWriteAsync(volume, at, source.View())); }
            }
            long checkpointsBefore = volume.Statistics.Checkpoints;
            bdev.Log = volume.Record.Anchor;
            beganNs = Reactor.NowNs;
            var tasks = new IoTask<int>[Writers];
            for (int i = 0; i < Writers; i++) { tasks[i] = WriteAsync(volume, i); }
            for (int i = 0; i < Writers; i++) { await tasks[i]; }
            endedNs = Reactor.NowNs;
            checkpoints = volume.Statistics.Checkpoints - checkpointsBefore;
            bdev.Log = default;
            Assert.Equal(Errno.None, await volume.CloseAsync());
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
        Assert.InRange(checkpoints, 4, 100);
        // At a steady pace each of them waits for its share: as many writes as there are writers, 32 at once.
        Assert.InRange(longestNs, LogWriteNs, 3 * InPlaceNs);
        Assert.True((endedNs - beganNs) / checkpoints > 8 * InPlaceNs, "a checkpoint is much longer than that");

        async IoTask<int> WriteAsync(Volume volume, int writer)
        {
            using var content = new NativeBuffer(BlobData.BlockBytes);
            using var source = new IoVecList();
            source.Add(content.Vec);
            for (int i = 0; i < WritesEach; i++)
            {
                long began = Reactor.NowNs;
                // Every second block, so that none of them share a write.
                Assert.Equal(Errno.None, await TryWriteAsync(volume, 2L * ((i * Writers) + writer) * BlobData.BlockBytes, source.View()));
                longestNs = Math.Max(longestNs, Reactor.NowNs - began);
            }
            return 0;
        }
    }

    /// <summary>Writes to the log of one volume are quick, all others slow: what a device with a write cache is at its limit.</summary>
    private sealed class SlowInPlaceBdev(IBdev inner) : BdevDecorator(inner, "slow")
    {
        public Anchor Log { get; set; }

        protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
        {
            ulong block = (ulong)(offsetBytes / BlobData.BlockBytes);
            if (Log.BlockCount > 0)
            {
                bool isLog = block >= Log.FirstBlock && block < Log.FirstBlock + (ulong)Log.BlockCount;
                await IoReactor.Current.DelayAsync(isLog ? LogWriteNs : InPlaceNs);
            }
            return await Inner.WriteAsync(offsetBytes, source);
        }

        protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target) => Inner.ReadAsync(offsetBytes, target);

        protected override IoTask<Errno> FlushCoreAsync() => Inner.FlushAsync();

        protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes) => Inner.UnmapAsync(offsetBytes, lengthBytes);

        protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes) => Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
    }
}
