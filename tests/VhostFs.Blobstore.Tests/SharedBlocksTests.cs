using System.Buffers.Binary;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobstore.Tests;

/// <summary>Counts of owners in the tree, the mark in the superblock, and what a hostile count can do: cost space, or answer EIO.</summary>
public sealed class SharedBlocksTests : VolumeFixture
{
    private const ulong Clone = 10;

    [Fact]
    public void Both_pairs_of_superblocks_are_marked_before_the_first_share_and_stay_so()
    {
        Run(async () =>
        {
            (Pool pool, Volume volume) = await WithBlobAsync(checksums: true);
            Superblock before = (await SuperblockStore.ReadAsync(Disk))!;
            Assert.Equal(IncompatibleFeatures.None, before.Incompatible);
            Assert.Equal(Errno.None, await volume.AllowSharingAsync());
            foreach (ulong block in new ulong[] { 0, 1, before.Geometry.DeviceBlocks - 2, before.Geometry.DeviceBlocks - 1 })
            {
                Assert.Equal(IncompatibleFeatures.SharedBlocks, Superblock.Read(DiskBytes(block))!.Incompatible);
            }
            Assert.Equal(Errno.None, await volume.AllowSharingAsync());
            Assert.Equal(before.Generation + 2, (await SuperblockStore.ReadAsync(Disk))!.Generation);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            Assert.Equal(IncompatibleFeatures.SharedBlocks, (await SuperblockStore.ReadAsync(Disk))!.Incompatible);
            return 0;
        });
    }

    [Theory]
    [InlineData(1, 0, false)]
    [InlineData(3, 0, false)]
    [InlineData(4, 0, true)]
    [InlineData(5, 0, true)]
    [InlineData(0, 1, true)]
    public void Only_known_features_open_a_pool(ulong incompatible, ulong readOnlyCompatible, bool isRefused)
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            Superblock good = (await SuperblockStore.ReadAsync(Disk))!;
            (good with { Incompatible = (IncompatibleFeatures)incompatible, ReadOnlyCompatibleFeatures = readOnlyCompatible }).Write(DiskBytes(good.Generation & 1));
            (good with { Incompatible = (IncompatibleFeatures)incompatible, ReadOnlyCompatibleFeatures = readOnlyCompatible }).Write(DiskBytes(good.Geometry.DeviceBlocks - 2 + (good.Generation & 1)));
            OpenResult<Pool> opened = await Pool.OpenAsync(Disk, new PoolOptions());
            Assert.Equal(isRefused, opened.Value is null);
            if (isRefused) { Assert.Contains("features of a newer vhostfs", opened.Error); }
            else { Assert.Equal(Errno.None, await opened.Value!.CloseAsync()); }
            return 0;
        });
    }

    [Fact]
    public void A_count_is_there_from_two_owners_on_and_goes_with_the_last_but_one()
    {
        Run(async () =>
        {
            (Pool pool, Volume volume) = await WithBlobAsync(checksums: true);
            ulong block = BlockOf(volume, Blob);
            Assert.Equal(0, Count(volume, block));
            Assert.False(volume.Shared.Any);
            Assert.Equal(4, await ShareAsync(volume, Blob, 0, Clone, 0, 4));
            Assert.Equal(1, await ShareAsync(volume, Clone, 0, Clone, 100, 1));
            Assert.Equal((3, 2), (Count(volume, block), Count(volume, block + 1)));
            Assert.Equal(Errno.None, await TryUnmapAsync(volume, 0, 1));
            Assert.Equal(2, Count(volume, block));
            Assert.Equal(Errno.None, await TryUnmapAsync(volume, 0, 4, Clone));
            Assert.Equal((0, 0), (Count(volume, block), Count(volume, block + 1)));
            Assert.Equal(Errno.ENOENT, volume.TryGet(SharedBlocks.Key(block), out _));
            Assert.Equal(0, volume.Allocator.PendingBlocks);
            Assert.Equal(Errno.None, await TryUnmapAsync(volume, 0, 200, Clone));
            Assert.Equal(1, volume.Allocator.PendingBlocks);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Fact]
    public void Without_checksums_nothing_is_shared()
    {
        Run(async () =>
        {
            (Pool pool, Volume volume) = await WithBlobAsync(checksums: false);
            Assert.False(volume.Data.CanShare);
            Transaction transaction = volume.Begin();
            Assert.Equal(Errno.None, volume.Data.TryStageShare(transaction, Blob, 0, Clone, 0, 4, out long done, out _));
            transaction.Abort();
            Assert.Equal(0, done);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Fact]
    public void An_image_planned_before_a_share_is_refused_after_it()
    {
        Run(async () =>
        {
            (Pool pool, Volume volume) = await WithBlobAsync(checksums: true);
            using var buffer = new NativeBuffer(100, zeroed: true);
            using var list = new IoVecList(1);
            list.Add(buffer.Vec);
            BlobChange change = volume.Data.RentChange();
            Assert.Equal(Errno.None, await volume.Data.PrepareWriteAsync(change, Blob, 0, list.View()));
            Assert.Equal(4, await ShareAsync(volume, Blob, 0, Clone, 0, 4)); // without the lock that everybody takes
            Transaction transaction = volume.Begin();
            Assert.Equal(Errno.EIO, volume.Data.TryStage(transaction, change));
            transaction.Abort();
            volume.Data.End(change);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Theory]
    [InlineData("no count")]
    [InlineData("too high")]
    [InlineData("too short")]
    [InlineData("a free block")]
    public void A_forged_count_costs_space_or_an_error_and_never_gives_a_block_away_twice(string what)
    {
        Run(async () =>
        {
            (Pool pool, Volume volume) = await WithBlobAsync(checksums: true);
            Assert.Equal(4, await ShareAsync(volume, Blob, 0, Clone, 0, 4));
            ulong block = BlockOf(volume, Blob);
            TreeKey key = SharedBlocks.Key(block);
            byte[] forged = Item(volume, key);
            if (what == "too high") { BinaryPrimitives.WriteUInt16LittleEndian(forged.AsSpan((int)(block % 128) * 2), 9); }
            if (what == "too short") { forged = forged[..100]; }
            if (what == "a free block") { BinaryPrimitives.WriteUInt16LittleEndian(forged.AsSpan((int)((block + 20) % 128) * 2), 2); }
            Transaction transaction = volume.Begin();
            Assert.Equal(Errno.None, what == "no count" ? transaction.Delete(key) : transaction.Put(key, forged));
            transaction.Commit();
            Assert.Equal(Errno.None, await pool.CloseAsync());
            pool = await OpenPoolAsync(Disk);
            volume = Value(await pool.OpenVolumeAsync("v"));
            Errno first = await TryUnmapAsync(volume, 0, 4), second = await TryUnmapAsync(volume, 0, 4, Clone);
            Assert.Equal(what == "too short" ? Errno.EIO : Errno.None, first);
            // The block was freed with the first owner: the second does not free it again.
            Assert.Equal(what is "too short" or "no count" ? Errno.EIO : Errno.None, second);
            Assert.Equal(what == "too short" ? 0 : what == "too high" ? 3 : 4, volume.Allocator.PendingBlocks);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Fact]
    public void A_block_that_a_map_names_but_nobody_has_is_not_shared()
    {
        Run(async () =>
        {
            (Pool pool, Volume volume) = await WithBlobAsync(checksums: true);
            Transaction transaction = volume.Begin();
            Assert.Equal(Errno.None, transaction.Free(new BlockRun(BlockOf(volume, Blob), 1)));
            transaction.Commit();
            transaction = volume.Begin();
            Assert.Equal(Errno.EIO, volume.Data.TryStageShare(transaction, Blob, 0, Clone, 0, 4, out _, out _));
            transaction.Abort();
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    private async IoTask<(Pool, Volume)> WithBlobAsync(bool checksums)
    {
        Pool pool = await FormatAsync(Disk);
        Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions { DataChecksums = checksums }));
        using var buffer = new NativeBuffer(4 * BlobData.BlockBytes, zeroed: true);
        using var list = new IoVecList(1);
        list.Add(buffer.Vec);
        Assert.Equal(Errno.None, await TryWriteAsync(volume, 0, list.View()));
        return (pool, volume);
    }

    private static async IoTask<long> ShareAsync(Volume volume, ulong source, long sourceBlock, ulong target, long targetBlock, long count)
    {
        Assert.Equal(Errno.None, await volume.AllowSharingAsync());
        Assert.Equal(Errno.None, await volume.AdmitAsync(Admission.Grow));
        Transaction transaction = volume.Begin();
        Assert.Equal(Errno.None, volume.Data.TryStageShare(transaction, source, sourceBlock, target, targetBlock, count, out long done, out _));
        Assert.Equal(Errno.None, await volume.LoggedAsync(transaction.Commit()));
        return done;
    }

    private static ulong BlockOf(Volume volume, ulong blob)
    {
        Assert.Equal(Errno.None, volume.TryGet(ExtentGroup.Key(blob, 0), out ReadOnlySpan<byte> value));
        Assert.True(ExtentGroup.TryFind(value, 0, 1, volume.HasDataChecksums, out ExtentPart part));
        return part.Physical;
    }

    private static byte[] Item(Volume volume, TreeKey key)
    {
        Assert.Equal(Errno.None, volume.TryGet(key, out ReadOnlySpan<byte> value));
        return value.ToArray();
    }

    private static int Count(Volume volume, ulong block) =>
        volume.TryGet(SharedBlocks.Key(block), out ReadOnlySpan<byte> counts) == Errno.None ? BinaryPrimitives.ReadUInt16LittleEndian(counts[((int)(block % 128) * 2)..]) : 0;
}
