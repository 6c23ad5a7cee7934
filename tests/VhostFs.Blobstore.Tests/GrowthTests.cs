using VhostFs.Bdev;
using VhostFs.Blobstore.Check;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobstore.Tests;

/// <summary>A pool takes the space that its bdev got, while its volumes are used. Power cuts in between: VhostFs.Crash.Tests.</summary>
public sealed class GrowthTests : VolumeFixture
{
    private const long SmallBytes = 64L << 20, LargeBytes = 256L << 20;
    private const int ChunkBytes = 1 << 20;

    [Fact]
    public void A_full_pool_that_grows_takes_more_and_keeps_what_it_has()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            int before = await FillAsync(volume, 0);
            (long free, VolumeSpace space) = (pool.FreeBytes, volume.Space);
            Assert.Equal(Errno.None, await Disk.ResizeAsync(LargeBytes));
            Assert.Equal(Errno.None, await pool.GrowAsync());
            Assert.Equal(LargeBytes, pool.SizeBytes);
            long nodes = pool.Geometry.Nodes0Clusters.Sum(static extent => (long)extent.Count) * pool.ClusterBytes;
            Assert.InRange(nodes, pool.ClusterBytes, 1 << 20);
            Assert.Equal(free + LargeBytes - SmallBytes - nodes, pool.FreeBytes);
            Assert.Equal((pool.FreeBytes - free) / BlobData.BlockBytes, volume.Space.TotalBlocks - space.TotalBlocks);
            Assert.True(volume.Space.AvailableBlocks > space.AvailableBlocks + ((LargeBytes - SmallBytes) / BlobData.BlockBytes * 9 / 10));
            int after = await FillAsync(volume, before);
            Assert.InRange(after - before, 180, 192);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            await AssertCleanAsync(warnings: 0);

            pool = await OpenPoolAsync(Disk);
            volume = Value(await pool.OpenVolumeAsync("v"));
            for (int chunk = 0; chunk < after; chunk++) { await AssertChunkAsync(volume, chunk); }
            Assert.Equal(LargeBytes, pool.SizeBytes);
            Assert.Empty(Reports);
            Assert.Equal(Errno.None, await volume.CloseAsync());
            Assert.Equal(Errno.None, await pool.DeleteVolumeAsync("v"));
            Assert.Equal(Errno.None, await pool.CloseAsync());
            await AssertCleanAsync(warnings: 0);
            return 0;
        });
    }

    [Fact]
    public void It_can_grow_again_and_after_it_was_opened_on_a_larger_device()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            for (long sizeBytes = SmallBytes * 2; sizeBytes <= SmallBytes * 8; sizeBytes *= 2)
            {
                Assert.Equal(Errno.None, await pool.CloseAsync());
                Assert.Equal(Errno.None, await Disk.ResizeAsync(sizeBytes));
                pool = await OpenPoolAsync(Disk);
                Assert.Equal(sizeBytes / 2, pool.SizeBytes);
                Assert.Equal(Errno.None, await pool.GrowAsync());
                Assert.Equal(sizeBytes, pool.SizeBytes);
                Assert.All(Enumerable.Range(0, 2), block => Assert.Equal((ulong)sizeBytes / 4096, Superblock.Read(DiskBytes((ulong)block))!.Geometry.DeviceBlocks));
                await AssertCleanAsync(warnings: 0);
            }
            Assert.Equal(2, pool.Geometry.Nodes0Clusters.Count); // the second time it got enough for the third
            Assert.Equal(Errno.None, await pool.CloseAsync());
            Assert.Empty(Reports);
            return 0;
        });
    }

    [Fact]
    public void A_bdev_that_did_not_grow_by_a_cluster_changes_nothing_and_one_that_shrank_is_refused()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            long writes = Disk.Statistics.WriteOperations;
            Assert.Equal(Errno.None, await pool.GrowAsync());
            Assert.Equal(Errno.None, await Disk.ResizeAsync(SmallBytes + 4096));
            Assert.Equal(Errno.None, await pool.GrowAsync());
            Assert.Equal((writes, SmallBytes), (Disk.Statistics.WriteOperations, pool.SizeBytes));
            Assert.Equal(Errno.None, await Disk.ResizeAsync(LargeBytes));
            Assert.Equal(Errno.None, await pool.GrowAsync());
            writes = Disk.Statistics.WriteOperations;
            Assert.Equal(Errno.None, await Disk.ResizeAsync(LargeBytes - 4096));
            Assert.Equal(Errno.EINVAL, await pool.GrowAsync());
            Assert.Contains($"needs {LargeBytes} bytes, the device has {LargeBytes - 4096}", Assert.Single(Reports), StringComparison.Ordinal);
            Assert.Equal((writes, LargeBytes), (Disk.Statistics.WriteOperations, pool.SizeBytes));
            Disk.ReleaseClaim();
            Assert.Contains($"needs {LargeBytes} bytes", (await Pool.OpenAsync(Disk, new PoolOptions())).Error, StringComparison.Ordinal);
            // As if it had been written to where the end was: not this pool.
            Assert.Equal(Errno.None, await Disk.ResizeAsync(SmallBytes));
            Assert.True((await Pool.OpenAsync(Disk, new PoolOptions())).IsError);
            return 0;
        });
    }

    [Fact]
    public void A_pool_that_has_been_closed_leaves_the_bdev_alone()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Assert.Equal(Errno.None, await Disk.ResizeAsync(LargeBytes));
            Assert.Equal(Errno.None, await pool.CloseAsync());
            long written = Disk.Statistics.BytesWritten;
            Assert.Equal(Errno.ENODEV, await pool.GrowAsync());
            Assert.Equal(written, Disk.Statistics.BytesWritten);
            return 0;
        });
    }

    [Fact]
    public void The_old_end_is_erased_and_a_superblock_that_somebody_writes_there_is_data()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Superblock old = (await SuperblockStore.ReadAsync(Disk))!;
            Assert.Equal(Errno.None, await Disk.ResizeAsync(LargeBytes));
            Assert.Equal(Errno.None, await pool.GrowAsync());
            Assert.Equal(Errno.None, await pool.CloseAsync());
            ulong end = old.Geometry.DeviceBlocks;
            for (ulong block = end - 2; block < end; block++) { Assert.False(DiskBytes(block).ContainsAnyExcept((byte)0)); }
            byte[][] forged = new byte[2][];
            for (ulong generation = 100; generation < 102; generation++)
            {
                (old with { Generation = generation, Epoch = 100 }).Write(DiskBytes(end - 2 + (generation & 1)));
                forged[generation & 1] = DiskBytes(end - 2 + (generation & 1)).ToArray();
            }
            pool = await OpenPoolAsync(Disk);
            Assert.Equal((LargeBytes, true), (pool.SizeBytes, pool.Epoch < 100));
            Assert.Equal(Errno.None, await pool.CloseAsync());
            // Nor when a copy is lost.
            DiskBytes(0)[100] ^= 1;
            pool = await OpenPoolAsync(Disk);
            Assert.Equal((LargeBytes, true), (pool.SizeBytes, pool.Epoch < 100));
            Assert.Equal(Errno.None, await pool.CloseAsync());
            Assert.All(new ulong[] { 0, 1 }, block => Assert.Equal(forged[block], DiskBytes(end - 2 + block).ToArray()));
            CheckReport report = await PoolChecker.CheckAsync(Disk, new CheckOptions { VerifyBlobfs = false });
            Assert.Empty(report.Findings);
            return 0;
        });
    }

    [Fact]
    public void A_growth_that_fails_leaves_the_pool_at_work_and_can_be_tried_again()
    {
        Run(async () =>
        {
            // Which write fails, and the size that is found then after a crash, and after a clean close. Of each pair: erased at the old end, written at the new one, written at the start.
            foreach ((int passes, long afterCrash, long afterClose) in new[]
            {
                (0, SmallBytes, SmallBytes), (1, SmallBytes, SmallBytes), (2, LargeBytes, SmallBytes),
                (3, LargeBytes, LargeBytes), (4, LargeBytes, LargeBytes), (5, LargeBytes, LargeBytes),
            })
            {
                Assert.Equal(Errno.None, await Disk.ResizeAsync(SmallBytes));
                var bdev = new ErrorBdev(Disk) { OwnsInner = false };
                Pool pool = await FormatAsync(bdev);
                Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
                Assert.Equal(Errno.None, await volume.SyncAsync());
                Assert.Equal(Errno.None, await Disk.ResizeAsync(LargeBytes));
                bdev.Inject(new BdevFault(BdevOperations.Write, Errno.ENOSPC, passes));
                Assert.Equal(Errno.ENOSPC, await pool.GrowAsync());
                Assert.Contains("failed: ENOSPC; it is used up to 67108864 bytes", Reports[^1], StringComparison.Ordinal);
                Assert.Equal(SmallBytes, pool.SizeBytes);
                await PutAsync(volume, 1, 10);
                Assert.Equal(Errno.None, await volume.SyncAsync());

                Pool again = await ReopenAfterCrashAsync(bdev);
                Assert.Equal(afterCrash, again.SizeBytes);
                Assert.Equal(1, await GetAsync(Value(await again.OpenVolumeAsync("v")), 1));
                Assert.Equal(Errno.None, await again.GrowAsync());
                Assert.Equal(LargeBytes, again.SizeBytes);
                Assert.Equal(Errno.None, await again.CloseAsync());
                await AssertCleanAsync(warnings: 0);

                // And without a crash: in the same life, or after it.
                foreach (bool closes in new[] { false, true })
                {
                    Assert.Equal(Errno.None, await Disk.ResizeAsync(SmallBytes));
                    pool = await FormatAsync(bdev);
                    Assert.Equal(Errno.None, await Disk.ResizeAsync(LargeBytes));
                    bdev.Inject(new BdevFault(BdevOperations.Write, Errno.ENOSPC, passes));
                    Assert.Equal(Errno.ENOSPC, await pool.GrowAsync());
                    if (closes)
                    {
                        Assert.Equal(Errno.None, await pool.CloseAsync());
                        pool = await OpenPoolAsync(bdev);
                        Assert.Equal(afterClose, pool.SizeBytes);
                    }
                    Assert.Equal(Errno.None, await pool.GrowAsync());
                    Assert.Equal(LargeBytes, pool.SizeBytes);
                    Assert.Equal(Errno.None, await pool.CloseAsync());
                    await AssertCleanAsync(warnings: 0, freeSpace: false);
                }
            }
            return 0;
        });
    }

    [Fact]
    public void Growing_and_sharing_of_blocks_change_the_superblock_one_after_the_other()
    {
        Run(async () =>
        {
            var gate = new GateBdev(Disk) { OwnsInner = false };
            Pool pool = await FormatAsync(gate);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            Assert.Equal(Errno.None, await Disk.ResizeAsync(LargeBytes));
            gate.Holds = BdevOperations.Write;
            IoTask<Errno> growing = pool.GrowAsync(), sharing = volume.AllowSharingAsync(), twice = volume.AllowSharingAsync(), closing = pool.CloseAsync();
            Assert.Equal(1, gate.HeldCount);
            gate.LetGo();
            foreach (IoTask<Errno> task in new[] { growing, sharing, twice, closing }) { Assert.Equal(Errno.None, await task); }
            Superblock newest = (await SuperblockStore.ReadAsync(Disk))!;
            foreach (ulong block in new ulong[] { 0, 1, newest.Geometry.DeviceBlocks - 2, newest.Geometry.DeviceBlocks - 1 })
            {
                Superblock copy = Superblock.Read(DiskBytes(block))!;
                Assert.Equal((IncompatibleFeatures.Known, (ulong)LargeBytes / 4096), (copy.Incompatible, copy.Geometry.DeviceBlocks));
            }
            Assert.Equal(2UL + 1 + 1 + 1 + 4 + 1, newest.Generation); // formatted, opened, closed, opened, both changes, closed
            await AssertCleanAsync(warnings: 0);
            return 0;
        });
    }

    [Fact]
    public void Volume_0_has_nodes_for_the_clusters_that_came()
    {
        Run(async () =>
        {
            const ulong items = 1200;
            const int itemBytes = 3000;
            Pool pool = await FormatAsync(Disk);
            Assert.Equal(Errno.None, await Disk.ResizeAsync(4L << 30));
            Assert.Equal(Errno.None, await pool.GrowAsync());
            int small = pool.Geometry.Nodes0Blocks / NodePage.Blocks;
            Assert.True(pool.Catalogue.Nodes.TotalCount > small * 3);
            for (ulong i = 1; i <= items; i++) { await PutAsync(pool.Catalogue, i, itemBytes, (byte)i); }
            Assert.True(pool.Catalogue.Nodes.TotalCount - pool.Catalogue.Nodes.FreeCount > small);
            Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            Assert.Equal(Errno.None, await pool.CloseAsync());
            CheckReport report = await PoolChecker.CheckAsync(Disk, new CheckOptions { VerifyBlobfs = false, MaxFindings = 10_000 });
            Assert.Equal((int)items, report.Findings.Count(static finding => finding.Sentence.Contains("does not belong into volume 0", StringComparison.Ordinal)));
            Assert.Equal((int)items, report.Findings.Count);
            pool = await OpenPoolAsync(Disk);
            for (ulong i = 1; i <= items; i++) { Assert.Equal((byte)i, await GetAsync(pool.Catalogue, i)); }
            Value(await pool.OpenVolumeAsync("v"));
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Fact]
    public void A_volume_that_claims_a_cluster_of_volume_0_is_no_pool()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Assert.Equal(Errno.None, await Disk.ResizeAsync(LargeBytes));
            Assert.Equal(Errno.None, await pool.GrowAsync());
            Assert.Equal(Errno.None, await pool.Catalogue.AdmitAsync(Admission.Grow));
            Transaction transaction = pool.Catalogue.Begin();
            byte[] run = new byte[ClusterTable.ValueBytes];
            ClusterTable.WriteValue(run, 1, ClusterKind.Data, 7);
            Assert.Equal(Errno.None, transaction.Put(ClusterTable.Key(pool.Geometry.Nodes0Clusters[0].First), run));
            transaction.Commit();
            Assert.Equal(Errno.None, await pool.CloseAsync());
            Assert.Contains("impossible ClusterRun item", (await Pool.OpenAsync(Disk, new PoolOptions())).Error, StringComparison.Ordinal);
            CheckReport report = await PoolChecker.CheckAsync(Disk, new CheckOptions { VerifyBlobfs = false });
            Assert.Contains(report.Findings, static finding => finding.Sentence.Contains("belongs to volume 0 and to volume 7", StringComparison.Ordinal));
            return 0;
        });
    }

    /// <summary>However a pool grows, its superblock has room for the list of volume 0's clusters, and volume 0 the nodes of a pool that was made so large.</summary>
    [Theory]
    [InlineData(8L << 20, 0, 1.003)]
    [InlineData(8L << 20, 0, 1.1)]
    [InlineData(8L << 20, 16 << 20, 1.2)]
    [InlineData(1L << 40, 128 << 10, 1.001)]
    [InlineData(64L << 20, 0, 100.0)]
    public void Steps_of_any_size_lead_there(long sizeBytes, int clusterBytes, double step)
    {
        PoolGeometry geometry = PoolGeometry.For(Math.Max(sizeBytes, clusterBytes * 16L), new FormatOptions { ClusterBytes = clusterBytes });
        Assert.True(geometry.IsPlausible);
        for (double size = sizeBytes; size < 1L << 47; size = Math.Max(size * step, size + 4096))
        {
            PoolGeometry grown = geometry.GrownTo((long)size);
            if (grown == geometry) { continue; }
            Assert.True(grown.IsPlausible);
            Assert.True(grown.ClusterCount > geometry.ClusterCount && grown.Nodes0Clusters.Count <= PoolGeometry.MaxNodes0Clusters);
            long nodeBlocks = grown.Nodes0Blocks + grown.Nodes0Clusters.Sum(extent => (long)extent.Count * grown.ClusterBlocks);
            Assert.InRange(nodeBlocks, PoolGeometry.For((long)size, new FormatOptions { ClusterBytes = grown.ClusterBlocks * BlobData.BlockBytes }).Nodes0Blocks, (long)grown.DeviceBlocks / 2);
            geometry = grown;
        }
    }

    private async IoTask<int> AssertCleanAsync(int warnings, bool freeSpace = true)
    {
        CheckReport report = await PoolChecker.CheckAsync(Disk, new CheckOptions { VerifyBlobfs = false, VerifyFreeClusters = freeSpace });
        Assert.True(report.IsClean && report.WarningCount == warnings, string.Join('\n', report.Findings));
        return 0;
    }

    /// <summary>Until it is full; returns the number of chunks then.</summary>
    private static async IoTask<int> FillAsync(Volume volume, int chunk)
    {
        using var buffer = new NativeBuffer(ChunkBytes);
        using var list = new IoVecList();
        list.Add(buffer.Vec);
        for (; ; chunk++)
        {
            buffer.Span.Fill((byte)(chunk + 1));
            Errno written = await TryWriteAsync(volume, (long)chunk * ChunkBytes, list.View());
            if (written == Errno.ENOSPC) { return chunk; }
            Assert.Equal(Errno.None, written);
        }
    }

    private static async IoTask<int> AssertChunkAsync(Volume volume, int chunk)
    {
        using var buffer = new NativeBuffer(ChunkBytes);
        using var list = new IoVecList();
        list.Add(buffer.Vec);
        IoResult read = await volume.Data.ReadAsync(Blob, long.MaxValue, (long)chunk * ChunkBytes, list.View());
        Assert.Equal(ChunkBytes, read.Bytes);
        Assert.False(buffer.Span.ContainsAnyExcept((byte)(chunk + 1)));
        return 0;
    }
}
