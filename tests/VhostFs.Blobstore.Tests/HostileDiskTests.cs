using System.Buffers.Binary;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobstore.Tests;

/// <summary>Whoever wrote the disk had all checksums at hand: a volume is refused or answers EIO, and nothing else happens.</summary>
public sealed class HostileDiskTests : VolumeFixture
{
    [Theory]
    [InlineData("overlapping values")]
    [InlineData("entry outside of the page")]
    [InlineData("wrong level")]
    [InlineData("wrong volume")]
    public void A_forged_root_is_refused(string what)
    {
        Run(async () =>
        {
            (Pool pool, VolumeRecord record, VolumeHeader header) = await ClosedVolumeAsync(items: 20);
            ForgeRoot(record, header, node =>
            {
                switch (what)
                {
                    case "overlapping values":
                        // 20 entries of 3,900 bytes each, all over the same bytes: compacting them would need 78,000.
                        for (int i = 0; i < 20; i++)
                        {
                            BinaryPrimitives.WriteUInt16LittleEndian(node.AsSpan(64 + (20 * i) + 16), NodePage.HeapEnd - 3900);
                            BinaryPrimitives.WriteUInt16LittleEndian(node.AsSpan(64 + (20 * i) + 18), 3900);
                        }
                        BinaryPrimitives.WriteInt32LittleEndian(node.AsSpan(32), NodePage.HeapEnd - 3900);
                        BinaryPrimitives.WriteInt32LittleEndian(node.AsSpan(36), 3900 - (20 * 3900));
                        break;
                    case "entry outside of the page": BinaryPrimitives.WriteUInt16LittleEndian(node.AsSpan(64 + 18), 65000); break;
                    case "wrong level": node[4] = 3; break;
                    case "wrong volume": node[8]++; break;
                }
            });
            await RefusedAsync(pool, "root of its tree");
            return 0;
        });
    }

    [Fact]
    public void An_empty_leaf_below_the_root_is_an_error_for_the_cursor()
    {
        Run(async () =>
        {
            (Pool pool, VolumeRecord record, VolumeHeader header) = await ClosedVolumeAsync(items: 100, bytes: 1000);
            Assert.Equal(2, header.Height);
            ForgeRoot(record, header, root =>
            {
                // The second leaf: no entries, and where its first slot was, a value far outside of the page.
                int slot = 64 + 20, value = BinaryPrimitives.ReadUInt16LittleEndian(root.AsSpan(slot + 16));
                Span<byte> leaf = DiskBytes(BinaryPrimitives.ReadUInt64LittleEndian(root.AsSpan(value)), NodePage.Blocks);
                uint crc = Forge(leaf, static node =>
                {
                    BinaryPrimitives.WriteUInt16LittleEndian(node.AsSpan(6), 0);
                    BinaryPrimitives.WriteInt32LittleEndian(node.AsSpan(32), NodePage.HeapEnd);
                    BinaryPrimitives.WriteInt32LittleEndian(node.AsSpan(36), 0);
                    node.AsSpan(64, 20).Fill(0xFF);
                });
                BinaryPrimitives.WriteUInt32LittleEndian(root.AsSpan(value + 16), crc);
            });
            Volume volume = Value(await pool.OpenVolumeAsync("v"));
            TreeKey from = TreeKey.Min;
            Errno found;
            for (; ; )
            {
                found = volume.TryNext(from, TreeKey.Max, out TreeKey key, out _);
                if (found == Residency.NotResident) { found = await volume.LoadMissingAsync(); }
                else { from = key.Next(); }
                if (found != Errno.None) { break; }
            }
            Assert.Equal(Errno.EIO, found);
            return 0;
        });
    }

    [Fact]
    public void Keys_below_the_bound_of_the_parent_do_not_lead_a_cursor_round_for_ever()
    {
        Run(async () =>
        {
            (Pool pool, VolumeRecord record, VolumeHeader header) = await ClosedVolumeAsync(items: 100, bytes: 1000);
            // The second child's bound is raised above its first keys: they come after the keys of the first child, and before the key that led there.
            ForgeRoot(record, header, root =>
            {
                ulong bound = BinaryPrimitives.ReadUInt64LittleEndian(root.AsSpan(64 + 20));
                BinaryPrimitives.WriteUInt64LittleEndian(root.AsSpan(64 + 20), bound + 3);
            });
            Volume volume = Value(await pool.OpenVolumeAsync("v"));
            TreeKey from = TreeKey.Min;
            Errno found = Errno.None;
            for (int steps = 0; found == Errno.None && steps < 1000; steps++)
            {
                found = volume.TryNext(from, TreeKey.Max, out TreeKey key, out _);
                if (found == Residency.NotResident) { found = await volume.LoadMissingAsync(); }
                else if (found == Errno.None)
                {
                    Assert.True(key >= from, "a key before the one that was asked for");
                    from = key.Next();
                }
            }
            Assert.Equal(Errno.EIO, found);
            return 0;
        });
    }

    [Theory]
    [InlineData(0)]
    [InlineData(13)]
    [InlineData(int.MaxValue)]
    public void A_tree_of_impossible_height_is_refused(int height)
    {
        Run(async () =>
        {
            (Pool pool, VolumeRecord record, VolumeHeader header) = await ClosedVolumeAsync(items: 1);
            WriteHeader(record, header with { Height = height });
            await RefusedAsync(pool, "root of its tree");
            return 0;
        });
    }

    [Fact]
    public void Counters_about_to_wrap_are_refused()
    {
        Run(async () =>
        {
            (Pool pool, VolumeRecord record, VolumeHeader header) = await ClosedVolumeAsync(items: 1);
            foreach (VolumeHeader forged in new[]
            {
                header with { CheckpointLsn = ulong.MaxValue }, header with { Generation = ulong.MaxValue - 1 }, header with { NextInode = 0 },
                header with { NextInode = ulong.MaxValue }, header with { LogEpoch = ulong.MaxValue },
            })
            {
                // Both parities: the older header must not help.
                WriteHeader(record, forged with { Generation = forged.Generation & ~1UL });
                WriteHeader(record, forged with { Generation = forged.Generation | 1 });
                await RefusedAsync(pool, "no valid header");
            }
            return 0;
        });
    }

    [Fact]
    public void A_root_outside_of_the_volume_is_refused_although_it_verifies()
    {
        Run(async () =>
        {
            (Pool pool, VolumeRecord record, VolumeHeader header) = await ClosedVolumeAsync(items: 1);
            WriteHeader(record, header with { Root = header.Root with { Address = pool.Geometry.Nodes0First } });
            await RefusedAsync(pool, "root of its tree");
            WriteHeader(record, header with { Root = header.Root with { Address = ulong.MaxValue - 3 } });
            await RefusedAsync(pool, "root of its tree");
            return 0;
        });
    }

    [Theory]
    [InlineData(0UL, 512)]
    [InlineData(ulong.MaxValue, 512)]
    [InlineData(1UL << 62, 512)]
    [InlineData(10UL, int.MaxValue)]
    [InlineData(10UL, -5)]
    public void A_volume_record_with_a_foreign_anchor_is_refused(ulong firstBlock, int blocks)
    {
        Run(async () =>
        {
            (Pool pool, VolumeRecord record, _) = await ClosedVolumeAsync(items: 1);
            VolumeRecord forged = record with { Anchor = new Anchor(firstBlock, blocks) };
            await PutCatalogueAsync(pool, VolumeRecord.Key(record.Id), forged.ToBytes());
            pool = await OpenPoolAsync(Disk);
            await RefusedAsync(pool, "anchor");

            // Another volume's anchor would be overwritten by two.
            Volume other = Value(await pool.CreateVolumeAsync("other", new VolumeOptions()));
            forged = record with { Anchor = other.Record.Anchor };
            await PutCatalogueAsync(pool, VolumeRecord.Key(record.Id), forged.ToBytes());
            pool = await OpenPoolAsync(Disk);
            await RefusedAsync(pool, "anchor");
            return 0;
        });
    }

    [Theory]
    [InlineData(ulong.MaxValue)]
    [InlineData(1UL << 62)]
    public void A_superblock_whose_epoch_is_about_to_wrap_is_not_used(ulong epoch)
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            Superblock good = (await SuperblockStore.ReadAsync(Disk))!;
            (good with { Epoch = epoch, Generation = good.Generation + 2 }).Write(DiskBytes(good.Generation & 1));
            pool = await OpenPoolAsync(Disk);
            Assert.Equal(good.Epoch + 1, pool.Epoch);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Fact]
    public void A_pool_that_cannot_be_opened_gives_its_memory_back()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            await PutCatalogueAsync(pool, ClusterTable.Key(0), new byte[3]);
            var nodes = new NodeCache(1 << 20);
            for (int i = 0; i < 3; i++)
            {
                OpenResult<Pool> opened = await Pool.OpenAsync(Disk, new PoolOptions { NodeCache = nodes });
                Assert.Contains("impossible ClusterRun item", opened.Error);
                Assert.Equal(0, nodes.UsedBytes);
            }
            return 0;
        });
    }

    [Fact]
    public void A_volume_made_at_a_time_that_no_calendar_has_can_be_listed()
    {
        Run(async () =>
        {
            (Pool pool, VolumeRecord record, _) = await ClosedVolumeAsync(items: 1);
            await PutCatalogueAsync(pool, VolumeRecord.Key(record.Id), (record with { CreatedSeconds = long.MaxValue }).ToBytes());
            pool = await OpenPoolAsync(Disk);
            Assert.Single(pool.Volumes);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Theory]
    [InlineData("device")]
    [InlineData("clusters")]
    [InlineData("anchor")]
    [InlineData("anchor wraps")]
    [InlineData("nodes")]
    [InlineData("data start")]
    [InlineData("cluster size")]
    [InlineData("no node cluster")]
    [InlineData("node clusters behind the end")]
    [InlineData("node clusters that wrap")]
    [InlineData("node clusters twice")]
    public void An_impossible_superblock_is_refused(string what)
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            Superblock good = (await SuperblockStore.ReadAsync(Disk))!;
            PoolGeometry geometry = good.Geometry;
            geometry = what switch
            {
                "device" => geometry with { DeviceBlocks = (1UL << 52) + geometry.DeviceBlocks, ClusterCount = uint.MaxValue },
                "clusters" => geometry with { ClusterCount = geometry.ClusterCount + 100 },
                "anchor" => geometry with { Anchor0 = new Anchor(0, 256) },
                "anchor wraps" => geometry with { Anchor0 = new Anchor(ulong.MaxValue, 256) },
                "nodes" => geometry with { Nodes0First = ulong.MaxValue - 3, Nodes0Blocks = 8 },
                "data start" => geometry with { DataStart = 0 },
                "no node cluster" => geometry with { Nodes0Clusters = [new ClusterExtent(1, 0)] },
                "node clusters behind the end" => geometry with { Nodes0Clusters = [new ClusterExtent(geometry.ClusterCount, 1)] },
                "node clusters that wrap" => geometry with { Nodes0Clusters = [new ClusterExtent(1, uint.MaxValue)] },
                "node clusters twice" => geometry with { Nodes0Clusters = [new ClusterExtent(1, 2), new ClusterExtent(2, 1)] },
                _ => geometry with { ClusterBlocks = 48 },
            };
            for (ulong generation = 100; generation < 102; generation++)
            {
                (good with { Geometry = geometry, Generation = generation, Incompatible = IncompatibleFeatures.Nodes0Clusters }).Write(DiskBytes(generation & 1));
            }
            OpenResult<Pool> opened = await Pool.OpenAsync(Disk, new PoolOptions());
            Assert.True(opened.IsError);
            return 0;
        });
    }

    [Fact]
    public void Two_files_that_name_the_same_block_get_an_error_when_the_second_lets_go_of_it()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            using var buffer = new NativeBuffer(64 << 10, zeroed: true);
            using var list = new IoVecList();
            list.Add(buffer.Vec);
            Assert.Equal(Errno.None, await TryWriteAsync(volume, 0, list.View()));

            // What a disk may hold: the map of blob 9 once more as that of blob 10, and twice within one group for blob 11.
            Assert.Equal(Errno.None, volume.TryGet(ExtentGroup.Key(Blob, 0), out ReadOnlySpan<byte> value));
            byte[] map = value.ToArray();
            var twice = new ExtentGroupEditor();
            twice.TryLoad(map, hasCrcs: true);
            ulong physical = twice.Physical(0);
            for (int i = 0; i < 16; i++) { twice.Set(i + 64, physical + (ulong)i, false, 0, 1); }
            byte[] doubled = twice.Encode(hasCrcs: true).ToArray();
            Assert.Equal(Errno.None, await volume.AdmitAsync(Admission.Grow));
            Transaction transaction = volume.Begin();
            transaction.Put(ExtentGroup.Key(10, 0), map);
            transaction.Put(ExtentGroup.Key(11, 0), doubled);
            transaction.Commit();

            Assert.Equal(Errno.EIO, await TryUnmapAsync(volume, 0, 128, blob: 11));
            Assert.Equal(Errno.None, await TryUnmapAsync(volume, 0, 128));
            Assert.Equal(Errno.EIO, await TryUnmapAsync(volume, 0, 128, blob: 10));
            Assert.Equal(Errno.None, await volume.SyncAsync());
            Assert.Equal(Errno.EIO, await TryUnmapAsync(volume, 0, 128, blob: 10));
            Assert.False(volume.Failed);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Fact]
    public void Deleting_what_is_not_there_is_an_error_and_not_the_end()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            Assert.Equal(Errno.EIO, await TryDeleteAsync(volume, 5));
            await PutAsync(volume, 5, 10);
            Assert.Equal(Errno.None, await TryDeleteAsync(volume, 5));
            return 0;
        });
    }

    [Fact]
    public void A_run_that_passes_over_somebody_elses_cluster_is_not_read()
    {
        Run(async () =>
        {
            // Fewer than 128 clusters: they are granted one by one, so that those of two volumes lie in turns.
            var small = new VhostFs.Bdev.MallocBdev("small", 16L << 20); // left to its finalizer: a failing test stops the reactor after this scope
            Pool pool = await FormatAsync(small);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions { DataChecksums = false }));
            Volume other = Value(await pool.CreateVolumeAsync("w", new VolumeOptions { DataChecksums = false }));
            using var buffer = new NativeBuffer(128 << 10, zeroed: true);
            using var list = new IoVecList();
            list.Add(buffer.Vec);
            // In turns, so that the clusters of the two lie between each other.
            for (int i = 0; i < 4; i++)
            {
                Assert.Equal(Errno.None, await TryWriteAsync(volume, (long)i << 17, list.View()));
                Assert.Equal(Errno.None, await TryWriteAsync(other, (long)i << 17, list.View()));
            }
            // A cluster of ours, then somebody else's, then one of ours again, near enough for one run of at most 128 blocks.
            int clusterBlocks = pool.Geometry.ClusterBlocks;
            ulong cluster = 0, back = 0;
            for (ulong at = 0; at + 2 < pool.Geometry.ClusterCount && back == 0; at++)
            {
                if (!pool.IsDataCluster(volume, at) || !pool.IsDataCluster(other, at + 1)) { continue; }
                for (ulong next = at + 2; next < pool.Geometry.ClusterCount && (next - at) * (ulong)clusterBlocks <= 120; next++)
                {
                    if (pool.IsDataCluster(volume, next)) { cluster = at; back = next; break; }
                }
            }
            Assert.True(back > 0, "the test needs two volumes whose clusters lie between each other");

            var editor = new ExtentGroupEditor();
            editor.TryLoad([], hasCrcs: false);
            ulong first = pool.Geometry.FirstBlock((uint)cluster) + (ulong)clusterBlocks - 1;
            int count = (int)(pool.Geometry.FirstBlock((uint)back) - first) + 1;
            for (int i = 0; i < count; i++) { editor.Set(i, first + (ulong)i, false, 0, 1); }
            Assert.Equal(Errno.None, await volume.AdmitAsync(Admission.Grow));
            Transaction transaction = volume.Begin();
            transaction.Put(ExtentGroup.Key(77, 0), editor.Encode(hasCrcs: false));
            transaction.Commit();
            // To the end: only then both ends of what is read are ours, and nothing but the middle is not.
            using var target = new NativeBuffer(count * BlobData.BlockBytes);
            using var targets = new IoVecList();
            targets.Add(target.Vec);
            IoResult read = await volume.Data.ReadAsync(77, count * 4096L, 0, targets.View());
            Assert.Equal(Errno.EIO, read.Errno);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Random_damage_anywhere_in_the_metadata_never_ends_in_an_exception(int seed)
    {
        Run(async () =>
        {
            var random = new Random(seed);
            Pool pool = await FormatAsync(Disk);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            for (ulong i = 1; i < 300; i++) { await PutAsync(volume, i, random.Next(600)); }
            Assert.Equal(Errno.None, await volume.SyncAsync());
            await volume.Checkpointer.RunAsync(VolumeFlags.None);
            for (ulong i = 1; i < 100; i++) { await PutAsync(volume, i, random.Next(600)); }
            Assert.Equal(Errno.None, await volume.SyncAsync());
            Disk.ReleaseClaim();
            Anchor anchor = volume.Record.Anchor;
            var areas = new List<(ulong First, ulong Count)> { (0, 2), (2, 2), (4, 20), (anchor.FirstBlock, 2), (anchor.FirstBlock + 2, 40), (volume.Header.Root.Address & ~31UL, 64) };
            byte[] good = DiskBytes(0, (int)(Disk.SizeBytes / 4096)).ToArray();
            for (int round = 0; round < 60; round++)
            {
                good.CopyTo(DiskBytes(0, (int)(Disk.SizeBytes / 4096)));
                for (int i = random.Next(1, 6); i > 0; i--)
                {
                    (ulong first, ulong count) = areas[random.Next(areas.Count)];
                    Span<byte> block = DiskBytes(first + (ulong)random.NextInt64((long)count));
                    int at = random.Next(4) == 0 ? random.Next(4096) : random.Next(160);
                    block[at] ^= (byte)(1 << random.Next(8));
                    if (random.Next(2) == 0) { BinaryPrimitives.WriteUInt32LittleEndian(block[4092..], Crc32C.Compute(block[..4092])); }
                }
                OpenResult<Pool> opened = await Pool.OpenAsync(Disk, new PoolOptions());
                if (opened.Value is not { } again) { continue; }
                OpenResult<Volume> mounted = await again.OpenVolumeAsync("v");
                if (mounted.Value is { } usable) { await UseAsync(usable, random); }
                await again.CloseAsync();
            }
            return 0;
        });
    }

    private static async VhostFs.Reactor.IoTask<int> UseAsync(Volume volume, Random random)
    {
        for (ulong i = 1; i < 320; i += 7) { await TryPutAsync(volume, i, random.Next(600)); }
        for (ulong i = 1; i < 320; i += 5) { await TryDeleteAsync(volume, i); }
        await volume.SyncAsync();
        return 0;
    }

    private async VhostFs.Reactor.IoTask<(Pool Pool, VolumeRecord Record, VolumeHeader Header)> ClosedVolumeAsync(int items, int bytes = 50)
    {
        Pool pool = await FormatAsync(Disk);
        Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
        for (ulong i = 1; i <= (ulong)items; i++) { await PutAsync(volume, i, bytes); }
        VolumeRecord record = volume.Record;
        Assert.Equal(Errno.None, await volume.CloseAsync());
        return (pool, record, volume.Header);
    }

    private static async VhostFs.Reactor.IoTask<int> PutCatalogueAsync(Pool pool, TreeKey key, byte[] value)
    {
        Assert.Equal(Errno.None, await pool.Catalogue.AdmitAsync(Admission.Release));
        Transaction transaction = pool.Catalogue.Begin();
        Assert.Equal(Errno.None, transaction.Put(key, value));
        transaction.Commit();
        Assert.Equal(Errno.None, await pool.CloseAsync());
        return 0;
    }

    private static async VhostFs.Reactor.IoTask<int> RefusedAsync(Pool pool, string why)
    {
        OpenResult<Volume> opened = await pool.OpenVolumeAsync("v");
        Assert.Contains(why, opened.Error);
        return 0;
    }
}
