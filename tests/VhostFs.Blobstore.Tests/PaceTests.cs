using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Blobstore.Tests;

/// <summary>Writers that are faster than the blocks get in place (on a simulated clock).</summary>
public sealed class PaceTests : VolumeFixture
{
    private const long InPlaceNs = 10_000_000;

    [Fact]
    public void Writers_wait_a_little_each_while_a_checkpoint_goes_on()
    {
        Load load = Write(writers: 16, writesEach: 300, logWriteNs: 1_000_000);
        Assert.InRange(load.Checkpoints, 2, 100);
        // At a steady pace each of them waits for its share: as many writes as there are writers, 32 at once.
        Assert.InRange(load.LongestNs, 1_000_000, 3 * InPlaceNs);
        Assert.True(load.DurationNs / load.Checkpoints > 8 * InPlaceNs, "a checkpoint is much longer than that");
        Assert.Equal(32, load.MostInPlace);
    }

    [Fact]
    public void A_checkpoint_that_nobody_waits_for_is_in_no_hurry()
    {
        Load load = Write(writers: 1, writesEach: 3000, logWriteNs: InPlaceNs);
        Assert.InRange(load.Checkpoints, 2, 100);
        Assert.InRange(load.LongestNs, InPlaceNs, 3 * InPlaceNs);
        Assert.InRange(load.MostInPlace, 1, 4);
    }

    /// <summary>The log fills in bursts that are large for its ring: who waits for the next batch finds it half full.</summary>
    [Theory]
    [InlineData(7, 20_000)]
    [InlineData(15, 100_000)]
    [InlineData(1, 50_000)]
    public void A_checkpoint_that_begins_within_a_commit_lets_nobody_begin_another_change(int seed, long delayNs) => Run(async () =>
    {
        var random = new Random(seed);
        var bdev = new DelayBdev(Disk, Reactor);
        Pool formatted = await FormatAsync(bdev);
        Assert.Equal(Errno.None, await formatted.CloseAsync());
        Pool pool = Value(await Pool.OpenAsync(bdev, new PoolOptions { Report = Reports.Add, LogMemory = new ProcessLogMemory() }));
        Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions { LogBytes = 1 << 20 }));
        bdev.WriteDelayNs = bdev.FlushDelayNs = delayNs;
        bdev.Jitter = _ => random.Next(200_000);
        var tasks = new IoTask<int>[8];
        for (int i = 0; i < tasks.Length; i++) { tasks[i] = WorkAsync(); }
        for (int i = 0; i < tasks.Length; i++) { await tasks[i]; }
        Assert.InRange(volume.Statistics.Checkpoints, 2, 2000);
        Assert.Equal(Errno.None, await pool.CloseAsync());
        Assert.Empty(Reports);
        return 0;

        async IoTask<int> WorkAsync()
        {
            using var content = new NativeBuffer(BlobData.BlockBytes);
            using var source = new IoVecList();
            source.Add(content.Vec);
            for (int i = 0; i < 1000; i++)
            {
                Assert.Equal(Errno.None, await TryWriteAsync(volume, random.NextInt64(256) * BlobData.BlockBytes, source.View()));
                if (random.Next(12) == 0) { await Reactor.DelayAsync(random.Next(3_000_000)); }
            }
            return 0;
        }
    });

    /// <summary>
    /// The ring is a third full, which is no reason for a checkpoint; a batch fills up while another one is being written; and it does not fit before the end of the ring. Then the hole that it
    /// leaves there fills the ring at a moment in which all wait for room, and nobody is left to begin one.
    /// </summary>
    [Fact]
    public void A_ring_that_is_full_all_at_once_is_emptied_though_everybody_waits() => Run(async () =>
    {
        const int Writers = 24, WriteBytes = 7 * BlobData.BlockBytes;
        var gate = new GateBdev(Disk);
        Pool formatted = await FormatAsync(gate);
        Assert.Equal(Errno.None, await formatted.CloseAsync());
        Pool pool = Value(await Pool.OpenAsync(gate, new PoolOptions { Report = Reports.Add, LogMemory = new ProcessLogMemory() }));
        Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions { LogBytes = 2 << 20 }));
        using var content = new NativeBuffer(Writers * WriteBytes);
        using var all = new IoVecList();
        all.Add(content.Vec);
        Assert.Equal(Errno.None, await TryWriteAsync(volume, 0, all.View()));
        // Batches of one block each: through the half of the ring that ends with a checkpoint, and a third of it further.
        for (long before = volume.Statistics.Checkpoints; volume.Statistics.Checkpoints == before || volume.Log.UsedBlocks < (volume.Log.RingBlocks / 3) - 4;)
        {
            await PutAsync(volume, 1, 10);
            Assert.Equal(Errno.None, await volume.SyncAsync());
        }
        gate.Holds = BdevOperations.Write;
        await PutAsync(volume, 1, 10);
        await Reactor.DelayAsync(1_000_000); // its batch is under way
        using var source = new IoVecList();
        source.Add(content.Slice(0, WriteBytes));
        int ended = 0;
        for (int i = 0; i < Writers; i++) { WriteAsync(i).Detach(); }
        Assert.InRange(ended, Writers / 2, Writers - 1);
        gate.LetGo();
        for (int waited = 0; ended < Writers; waited++)
        {
            Assert.True(waited < 100, "who waits for room waits for ever");
            await Reactor.DelayAsync(100_000_000);
        }
        Assert.Equal(Errno.None, await pool.CloseAsync());
        return 0;

        async IoTask<int> WriteAsync(int writer)
        {
            Assert.Equal(Errno.None, await TryWriteAsync(volume, (long)writer * WriteBytes, source.View()));
            return ++ended;
        }
    });

    /// <summary>Writers that overwrite blocks of a file, each one block at a time, never two neighbours: no two share a write.</summary>
    private Load Write(int writers, int writesEach, long logWriteNs)
    {
        long longestNs = 0, durationNs = 0, checkpoints = 0;
        int mostInPlace = 0;
        Run(async () =>
        {
            var bdev = new SlowInPlaceBdev(Disk) { LogWriteNs = logWriteNs };
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions { LogBytes = 8 << 20 }));
            using (var first = new NativeBuffer(1 << 20))
            using (var source = new IoVecList())
            {
                source.Add(first.Vec);
                for (long at = 0; at < 2L * writers * writesEach * BlobData.BlockBytes; at += source.LengthBytes) { Assert.Equal(Errno.None, await TryWriteAsync(volume, at, source.View())); }
            }
            long checkpointsBefore = volume.Statistics.Checkpoints, began = Reactor.NowNs;
            bdev.Log = volume.Record.Anchor;
            var tasks = new IoTask<int>[writers];
            for (int i = 0; i < writers; i++) { tasks[i] = WriteAsync(volume, i); }
            for (int i = 0; i < writers; i++) { await tasks[i]; }
            durationNs = Reactor.NowNs - began;
            checkpoints = volume.Statistics.Checkpoints - checkpointsBefore;
            mostInPlace = bdev.MostInPlace;
            bdev.Log = default;
            Assert.Equal(Errno.None, await volume.CloseAsync());
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
        return new Load(longestNs, durationNs, checkpoints, mostInPlace);

        async IoTask<int> WriteAsync(Volume volume, int writer)
        {
            using var content = new NativeBuffer(BlobData.BlockBytes);
            using var source = new IoVecList();
            source.Add(content.Vec);
            for (int i = 0; i < writesEach; i++)
            {
                long began = Reactor.NowNs;
                Assert.Equal(Errno.None, await TryWriteAsync(volume, 2L * ((i * writers) + writer) * BlobData.BlockBytes, source.View()));
                longestNs = Math.Max(longestNs, Reactor.NowNs - began);
            }
            return 0;
        }
    }

    private readonly record struct Load(long LongestNs, long DurationNs, long Checkpoints, int MostInPlace);

    /// <summary>Writes to the log of one volume are quick, all others slow: what a device with a write cache is at its limit.</summary>
    private sealed class SlowInPlaceBdev(IBdev inner) : BdevDecorator(inner, "slow")
    {
        private int _inPlace;

        public Anchor Log { get; set; }

        public long LogWriteNs { get; init; }

        public int MostInPlace { get; private set; }

        protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
        {
            ulong block = (ulong)(offsetBytes / BlobData.BlockBytes);
            if (Log.BlockCount > 0 && block >= Log.FirstBlock && block < Log.FirstBlock + (ulong)Log.BlockCount) { await IoReactor.Current.DelayAsync(LogWriteNs); }
            else if (Log.BlockCount > 0)
            {
                MostInPlace = Math.Max(MostInPlace, ++_inPlace);
                await IoReactor.Current.DelayAsync(InPlaceNs);
                _inPlace--;
            }
            return await Inner.WriteAsync(offsetBytes, source);
        }

        protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target) => Inner.ReadAsync(offsetBytes, target);

        protected override IoTask<Errno> FlushCoreAsync() => Inner.FlushAsync();

        protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes) => Inner.UnmapAsync(offsetBytes, lengthBytes);

        protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes) => Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
    }
}
