using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Blobstore.Tests;

/// <summary>Devices that fail or are slow, and operations that meet each other half way.</summary>
public sealed class FailureTests : VolumeFixture
{
    [Fact]
    public void A_failed_log_write_ends_the_changes_of_that_volume_and_of_no_other()
    {
        Run(async () =>
        {
            var bdev = new ErrorBdev(Disk);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            Volume other = Value(await pool.CreateVolumeAsync("w", new VolumeOptions()));
            await PutAsync(volume, 1, 10);
            FailRing(bdev, volume);
            Assert.Equal(Errno.EIO, await TryPutAsync(volume, 2, 10));
            Assert.True(volume.Failed);
            Assert.Equal(Errno.EIO, await TryPutAsync(volume, 3, 10));
            Assert.Equal(Errno.EIO, await volume.SyncAsync());
            Assert.Equal(1, await GetAsync(volume, 1));
            await PutAsync(other, 1, 10);
            Assert.Equal(Errno.None, await other.SyncAsync());
            Assert.Equal(Errno.EIO, await volume.CloseAsync());

            // Opened again, it is what was logged.
            bdev.Clear();
            volume = Value(await pool.OpenVolumeAsync("v"));
            Assert.Equal(1, await GetAsync(volume, 1));
            Assert.Equal(-1, await GetAsync(volume, 2));
            await PutAsync(volume, 2, 10);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Fact]
    public void After_a_failed_flush_nothing_is_called_durable_even_if_the_next_flush_succeeds()
    {
        Run(async () =>
        {
            var bdev = new ErrorBdev(Disk);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            Volume other = Value(await pool.CreateVolumeAsync("w", new VolumeOptions()));
            await PutAsync(volume, 1, 10);
            await PutAsync(other, 1, 10); // written before the flush that fails: what it was is unknown
            bdev.Inject(new BdevFault(BdevOperations.Flush));
            Assert.Equal(Errno.EIO, await volume.SyncAsync());
            Assert.True(volume.Failed);
            Assert.Equal(Errno.EIO, await other.SyncAsync());
            Assert.Equal(1, await GetAsync(other, 1));
            Assert.Equal(Errno.EIO, await pool.CloseAsync());
            pool = await OpenPoolAsync(bdev);
            volume = Value(await pool.OpenVolumeAsync("v"));
            await PutAsync(volume, 2, 10);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    public void A_checkpoint_that_fails_at_any_write_ends_the_changes_and_nothing_hangs(int skip)
    {
        Run(async () =>
        {
            var bdev = new ErrorBdev(Disk);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            for (ulong i = 1; i < 200; i++) { await PutAsync(volume, i, 500); }
            bdev.Inject(new BdevFault(BdevOperations.Write, Skip: skip));
            Errno result = await volume.Checkpointer.RunAsync(VolumeFlags.None);
            if (result == Errno.None) { return 0; } // fewer writes than that
            Assert.True(volume.Failed);
            Assert.Equal(Errno.EIO, await TryPutAsync(volume, 1, 10));
            Assert.NotEqual(Errno.None, await volume.CloseAsync());
            bdev.Clear();
            volume = Value(await pool.OpenVolumeAsync("v"));
            for (ulong i = 1; i < 200; i++) { Assert.Equal(1, await GetAsync(volume, i)); }
            return 0;
        });
    }

    [Fact]
    public void A_grant_of_space_that_cannot_be_made_durable_is_an_error_and_not_a_full_disk()
    {
        Run(async () =>
        {
            var bdev = new ErrorBdev(Disk);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            using var buffer = new NativeBuffer(4096, zeroed: true);
            using var list = new IoVecList();
            list.Add(buffer.Vec);
            bdev.Inject(new BdevFault(BdevOperations.Flush));
            Assert.Equal(Errno.EIO, await TryWriteAsync(volume, 0, list.View())); // the first one: it needs its first cluster
            return 0;
        });
    }

    [Fact]
    public void A_pool_that_is_closed_has_no_flush_under_way()
    {
        Run(async () =>
        {
            var delay = new DelayBdev(Disk, Reactor);
            var bdev = new ErrorBdev(delay);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            await PutAsync(volume, 1, 10);
            delay.FlushDelayNs = 5_000_000_000;
            volume.SyncAsync().Detach();
            await Reactor.DelayAsync(1_000_000); // the flush is under way
            FailRing(bdev, volume);
            Assert.Equal(Errno.EIO, await TryPutAsync(volume, 2, 10));
            long before = Reactor.NowNs;
            Assert.NotEqual(Errno.None, await pool.CloseAsync());
            Assert.True(Reactor.NowNs - before > 4_000_000_000, "closing did not wait for the flush");
            return 0;
        });
    }

    [Fact]
    public void A_data_write_that_fails_is_the_error_of_that_write_alone()
    {
        Run(async () =>
        {
            var bdev = new ErrorBdev(Disk);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            using var buffer = new NativeBuffer(64 << 10, zeroed: true);
            using var list = new IoVecList();
            list.Add(buffer.Vec);
            Assert.Equal(Errno.None, await TryWriteAsync(volume, 0, list.View()));
            long free = volume.Allocator.FreeBlocks;
            bdev.Inject(new BdevFault(BdevOperations.Write) { FirstByte = (long)pool.Geometry.FirstBlock(0) * 4096 });
            Assert.Equal(Errno.EIO, await TryWriteAsync(volume, 1 << 20, list.View()));
            Assert.Equal(free, volume.Allocator.FreeBlocks);
            Assert.Equal(Errno.None, await TryWriteAsync(volume, 1 << 20, list.View()));
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Fact]
    public void A_grant_that_the_pools_own_metadata_refuses_is_an_error_and_not_a_lack_of_space()
    {
        Run(async () =>
        {
            var bdev = new ErrorBdev(Disk);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            using var buffer = new NativeBuffer(64 << 10, zeroed: true);
            using var list = new IoVecList();
            list.Add(buffer.Vec);
            FailRing(bdev, pool.Catalogue);
            Assert.Equal(Errno.EIO, await TryWriteAsync(volume, 0, list.View()));
            Assert.False(volume.Failed);
            await PutAsync(volume, 1, 10);
            return 0;
        });
    }

    [Fact]
    public void A_flush_that_fails_while_a_volume_is_made_is_a_failure_of_all_volumes()
    {
        Run(async () =>
        {
            var bdev = new ErrorBdev(Disk);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            await PutAsync(volume, 1, 10); // written before the flush that fails: it may be lost
            bdev.Inject(new BdevFault(BdevOperations.Flush));
            Assert.True((await pool.CreateVolumeAsync("w", new VolumeOptions())).IsError);
            Assert.Equal(Errno.EIO, await volume.SyncAsync());
            return 0;
        });
    }

    [Theory]
    [InlineData(Errno.ENODATA)]
    [InlineData(Errno.ENOENT)]
    [InlineData(Errno.EBADMSG)]
    [InlineData(Residency.NotResident)]
    public void What_a_device_calls_its_error_never_becomes_the_answer_of_an_operation(Errno errno)
    {
        Run(async () =>
        {
            var bdev = new ErrorBdev(Disk);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            using var buffer = new NativeBuffer(64 << 10, zeroed: true);
            using var list = new IoVecList();
            list.Add(buffer.Vec);
            Assert.Equal(Errno.None, await TryWriteAsync(volume, 0, list.View()));
            bdev.Inject(new BdevFault(BdevOperations.Write, errno));
            Assert.Equal(Errno.EIO, await TryWriteAsync(volume, 1 << 20, list.View()));
            bdev.Inject(new BdevFault(BdevOperations.Read, errno));
            Assert.Equal(Errno.EIO, (await volume.Data.ReadAsync(Blob, 64 << 10, 0, list.View())).Errno);
            for (ulong i = 1; i < 300; i++) { await PutAsync(volume, i, 500); }
            Assert.Equal(Errno.None, await volume.CloseAsync());
            volume = Value(await pool.OpenVolumeAsync("v")); // its leaves are on the disk only
            Assert.Equal(Residency.NotResident, volume.TryGet(Key(299), out _));
            bdev.Inject(new BdevFault(BdevOperations.Read, errno));
            Assert.Equal(Errno.EIO, await volume.LoadMissingAsync());
            bdev.Inject(new BdevFault(BdevOperations.Flush, errno));
            await PutAsync(volume, 1, 10);
            Assert.Equal(Errno.EIO, await volume.SyncAsync());
            return 0;
        });
    }

    [Fact]
    public void A_marker_that_is_still_being_written_is_waited_for_at_closing()
    {
        Run(async () =>
        {
            var bdev = new GateBdev(Disk);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            await PutAsync(volume, 1, 10);
            Assert.Equal(Errno.None, await volume.SyncAsync());
            bdev.Holds = BdevOperations.Write;
            for (int i = 0; i < 20 && bdev.HeldCount == 0; i++) { await IoReactor.Current.DelayAsync(50_000_000); }
            Assert.InRange(bdev.HeldCount, 1, 2); // the catalogue writes one too
            bdev.Holds = BdevOperations.None;
            IoTask<Errno> closing = volume.CloseAsync();
            await IoReactor.Current.DelayAsync(1_000_000);
            Assert.False(closing.IsCompleted, "a batch is still on its way to the ring");
            bdev.LetGo();
            Assert.Equal(Errno.None, await closing);
            volume = Value(await pool.OpenVolumeAsync("v"));
            Assert.Equal(1, await GetAsync(volume, 1));
            return 0;
        });
    }

    [Fact]
    public void A_full_volume_waits_for_blocks_that_a_slow_read_still_holds_instead_of_refusing()
    {
        Run(async () =>
        {
            var bdev = new GateBdev(Disk);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            using var buffer = new NativeBuffer(1 << 20, zeroed: true);
            using var target = new NativeBuffer(1 << 20);
            using var list = new IoVecList();
            using var targets = new IoVecList();
            list.Add(buffer.Vec);
            targets.Add(target.Vec);
            long size = 0;
            while (await TryWriteAsync(volume, size, list.View()) == Errno.None) { size += 1 << 20; }
            bdev.Holds = BdevOperations.Read;
            IoTask<IoResult> reading = volume.Data.ReadAsync(Blob, size, 0, targets.View());
            bdev.Holds = BdevOperations.None;
            Assert.Equal(Errno.None, await TryUnmapAsync(volume, 0, long.MaxValue));
            IoTask<Errno> writing = TryWriteAsync(volume, 0, list.View());
            await IoReactor.Current.DelayAsync(5_000_000_000);
            Assert.False(writing.IsCompleted, "the read still looks at the old blocks");
            bdev.LetGo();
            Assert.Equal(1 << 20, (await reading).Value);
            Assert.Equal(Errno.None, await writing);
            return 0;
        });
    }

    [Fact]
    public void Space_comes_back_although_unmaps_are_slow()
    {
        Run(async () =>
        {
            var bdev = new DelayBdev(Disk, IoReactor.Current) { UnmapDelayNs = 50_000_000 };
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            using var buffer = new NativeBuffer(1 << 20, zeroed: true);
            using var list = new IoVecList();
            list.Add(buffer.Vec);
            long full = 0;
            for (int round = 0; round < 3; round++)
            {
                long size = 0;
                while (await TryWriteAsync(volume, size, list.View()) == Errno.None) { size += 1 << 20; }
                if (round == 0) { full = size; }
                Assert.Equal(full, size);
                Assert.Equal(Errno.None, await TryUnmapAsync(volume, 0, long.MaxValue));
                if (round == 1) { await IoReactor.Current.DelayAsync(1_500_000_000); } // unmapping has begun
            }
            return 0;
        });
    }

    [Fact]
    public void A_pool_formatted_anew_with_the_same_uuid_does_not_replay_the_old_log()
    {
        Run(async () =>
        {
            var uuid = Guid.NewGuid();
            for (int round = 0; round < 2; round++)
            {
                Pool pool = Value(await Pool.FormatAsync(Disk, new FormatOptions { Force = true, Uuid = uuid }));
                Assert.Empty(pool.Volumes);
                Value(await pool.CreateVolumeAsync($"v{round}", new VolumeOptions()));
                Disk.ReleaseClaim();
            }
            Assert.Equal("v1", Assert.Single((await OpenPoolAsync(Disk)).Volumes).Name);
            return 0;
        });
    }

    [Fact]
    public void A_volume_opened_twice_at_once_is_one_volume()
    {
        Run(async () =>
        {
            var bdev = new DelayBdev(Disk, IoReactor.Current);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            await PutAsync(volume, 1, 10);
            await volume.CloseAsync();
            bdev.ReadDelayNs = bdev.WriteDelayNs = bdev.FlushDelayNs = 1_000_000;
            IoTask<OpenResult<Volume>> one = pool.OpenVolumeAsync("v"), two = pool.OpenVolumeAsync("v");
            IoTask<Errno> deleted = pool.DeleteVolumeAsync("v");
            Volume first = Value(await one), second = Value(await two);
            Assert.Same(first, second);
            Assert.Equal(Errno.EBUSY, await deleted);
            IoTask<Errno> closing = first.CloseAsync(), again = first.CloseAsync();
            IoTask<OpenResult<Volume>> reopening = pool.OpenVolumeAsync("v");
            Assert.Equal(Errno.None, await closing);
            Assert.Equal(Errno.None, await again);
            Volume third = Value(await reopening);
            Assert.NotSame(first, third);
            await PutAsync(third, 2, 10);
            Assert.Equal(1, await GetAsync(third, 1));
            return 0;
        });
    }

    [Fact]
    public void One_name_is_given_once()
    {
        Run(async () =>
        {
            var bdev = new DelayBdev(Disk, IoReactor.Current) { WriteDelayNs = 1_000_000, FlushDelayNs = 1_000_000 };
            Pool pool = await FormatAsync(bdev);
            IoTask<OpenResult<Volume>> one = pool.CreateVolumeAsync("v", new VolumeOptions()), two = pool.CreateVolumeAsync("v", new VolumeOptions());
            Value(await one);
            Assert.Contains("exists already", (await two).Error);
            Assert.Single(pool.Volumes);
            return 0;
        });
    }

    [Fact]
    public void Deleting_two_volumes_at_once_leaves_the_third()
    {
        Run(async () =>
        {
            var bdev = new DelayBdev(Disk, IoReactor.Current);
            Pool pool = await FormatAsync(bdev);
            for (int laterNs = 0; laterNs < 12_000_000; laterNs += 500_000)
            {
                foreach (string name in new[] { "u", "v", "w" }) { Assert.Equal(Errno.None, await Value(await pool.CreateVolumeAsync(name, new VolumeOptions())).CloseAsync()); }
                bdev.WriteDelayNs = bdev.FlushDelayNs = 1_000_000;
                IoTask<Errno> first = pool.DeleteVolumeAsync("u");
                await IoReactor.Current.DelayAsync(laterNs);
                IoTask<Errno> second = pool.DeleteVolumeAsync("v");
                Assert.Equal(Errno.None, await first);
                Assert.Equal(Errno.None, await second);
                Assert.Equal("w", Assert.Single(pool.Volumes).Name);
                Assert.Equal(Errno.None, await pool.DeleteVolumeAsync("w"));
                bdev.WriteDelayNs = bdev.FlushDelayNs = 0;
            }
            return 0;
        });
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Changes_under_way_while_checkpoints_run_all_arrive(int seed)
    {
        Run(async () =>
        {
            var random = new Random(seed);
            var bdev = new DelayBdev(Disk, IoReactor.Current) { WriteDelayNs = 20_000, FlushDelayNs = 200_000, Jitter = _ => random.Next(100_000) };
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions { LogBytes = 1 << 20 }));
            var tasks = new IoTask<int>[32];
            for (int i = 0; i < tasks.Length; i++) { tasks[i] = WorkAsync(volume, (ulong)(i + 1), new Random((seed * 100) + i)); }
            var expected = new int[tasks.Length];
            for (int i = 0; i < tasks.Length; i++) { expected[i] = await tasks[i]; }
            Assert.True(volume.Statistics.Checkpoints > 3, $"only {volume.Statistics.Checkpoints} checkpoints");
            if (seed == 1) { Assert.Equal(Errno.None, await volume.CloseAsync()); Assert.Equal(Errno.None, await pool.CloseAsync()); pool = await OpenPoolAsync(bdev); }
            else { pool = await ReopenAfterCrashAsync(bdev); }
            volume = Value(await pool.OpenVolumeAsync("v"));
            for (int i = 0; i < tasks.Length; i++)
            {
                for (int k = 0; k < 10; k++) { Assert.Equal(expected[i], await GetAsync(volume, ((ulong)(i + 1) * 1000) + (ulong)k)); }
            }
            return 0;
        });
    }

    [Fact]
    public void What_one_volume_had_is_gone_before_another_gets_it()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            using var buffer = new NativeBuffer(1 << 20);
            buffer.Span.Fill(0xA5);
            using var list = new IoVecList();
            list.Add(buffer.Vec);
            for (int round = 0; round < 4; round++)
            {
                Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
                for (int i = 0; i < 8; i++) { Assert.Equal(Errno.None, await TryWriteAsync(volume, (long)i << 20, list.View())); }
                Assert.Equal(Errno.EBUSY, await pool.DeleteVolumeAsync("v"));
                Assert.Equal(Errno.None, await volume.CloseAsync());
                Assert.Equal(Errno.None, await pool.DeleteVolumeAsync("v"));
                ulong dataStart = pool.Geometry.DataStart;
                int dataBlocks = (int)(pool.Geometry.ClusterCount * pool.Geometry.ClusterBlocks);
                Assert.Equal(-1, DiskBytes(dataStart, dataBlocks).IndexOf((byte)0xA5));
                Assert.Equal((long)pool.Geometry.ClusterCount * pool.ClusterBytes, pool.FreeBytes);
                if (round == 1) { Assert.Equal(Errno.None, await pool.CloseAsync()); pool = await OpenPoolAsync(Disk); }
                if (round == 2) { pool = await ReopenAfterCrashAsync(Disk); }
                Assert.Empty(pool.Volumes);
            }
            return 0;
        });
    }

    [Fact]
    public void A_pool_can_be_opened_a_hundred_times()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            ulong epoch = pool.Epoch;
            for (int i = 0; i < 100; i++)
            {
                if (i % 3 == 0) { pool = await ReopenAfterCrashAsync(Disk); }
                else { Assert.Equal(Errno.None, await pool.CloseAsync()); pool = await OpenPoolAsync(Disk); }
                Assert.Equal(++epoch, pool.Epoch);
                Volume volume = Value(await pool.OpenVolumeAsync("v"));
                for (ulong k = 0; k < (ulong)i; k++) { Assert.Equal(1, await GetAsync(volume, k + 1)); }
                await PutAsync(volume, (ulong)i + 1, 300);
                Assert.Contains("in use", (await Pool.OpenAsync(Disk, new PoolOptions())).Error);
                Assert.Contains("in use", (await Pool.FormatAsync(Disk, new FormatOptions { Force = true })).Error);
            }
            return 0;
        });
    }

    private static void FailRing(ErrorBdev bdev, Volume volume)
    {
        Anchor anchor = volume.Record.Anchor;
        bdev.Inject(new BdevFault(BdevOperations.Write, Count: BdevFault.Always)
        {
            FirstByte = (long)anchor.RingFirst * 4096, LimitByte = ((long)anchor.RingFirst + anchor.RingBlocks) * 4096,
        });
    }

    private static async IoTask<int> WorkAsync(Volume volume, ulong worker, Random random)
    {
        int last = 0;
        for (int round = 0; round < 20; round++)
        {
            last = random.Next(1, 256);
            for (ulong k = 0; k < 10; k++) { await PutAsync(volume, (worker * 1000) + k, random.Next(1, 2000), (byte)last); }
            if (random.Next(4) == 0) { Assert.Equal(Errno.None, await volume.SyncAsync()); }
        }
        return last;
    }
}
