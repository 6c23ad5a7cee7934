using VhostFs.Bdev;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobstore.Tests;

/// <summary>What exists twice is used, said, and made whole again; what cannot be known is not guessed.</summary>
public sealed class DamagedCopyTests : VolumeFixture
{
    private ulong LastBlock => (ulong)(Disk.SizeBytes / BlobData.BlockBytes) - 1;

    [Fact]
    public void A_superblock_of_another_pool_that_lands_here_does_not_take_the_pool_with_it()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            Superblock good = (await SuperblockStore.ReadAsync(Disk))!;
            foreach (ulong generation in new[] { good.Generation, good.Generation + 100, good.Generation + 101 })
            {
                (good with { Uuid = Guid.NewGuid(), Generation = generation }).Write(DiskBytes(generation & 1));
                Reports.Clear();
                pool = await OpenPoolAsync(Disk);
                Assert.Equal(good.Uuid, pool.Uuid);
                Assert.Contains(Reports, line => line.Contains($"block {generation & 1} ", StringComparison.Ordinal));
                Assert.Equal(Errno.None, await pool.CloseAsync());
                Reports.Clear();
                pool = await OpenPoolAsync(Disk);
                Assert.Empty(Reports);
                Assert.Equal(Errno.None, await pool.CloseAsync());
            }
            return 0;
        });
    }

    [Fact]
    public void A_header_copy_that_is_bad_is_said_and_replaced()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            await PutAsync(volume, 1, 10);
            for (int slot = 0; slot < 4; slot++)
            {
                Assert.Equal(Errno.None, await volume.CloseAsync());
                DiskBytes(volume.Record.Anchor.HeaderSlot(slot))[100] ^= 1;
                Reports.Clear();
                volume = Value(await pool.OpenVolumeAsync("v"));
                Assert.Single(Reports);
                Assert.Equal(1, await GetAsync(volume, 1));
                Assert.Equal(Errno.None, await volume.CloseAsync());
                volume = Value(await pool.OpenVolumeAsync("v"));
                Assert.Single(Reports);
            }
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Fact]
    public void Both_copies_of_the_newest_superblock_lost_after_a_crash_is_said()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            pool = await OpenPoolAsync(Disk);
            ulong newest = (await SuperblockStore.ReadAsync(Disk))!.Generation & 1;
            DiskBytes(newest).Clear();
            DiskBytes(LastBlock - 1 + newest).Clear();
            Reports.Clear();
            pool = await ReopenAfterCrashAsync(Disk);
            Assert.Contains(Reports, static line => line.Contains("newer than the superblock", StringComparison.Ordinal));
            return 0;
        });
    }

    [Fact]
    public void An_empty_log_need_not_be_readable_and_any_other_must_be()
    {
        Run(async () =>
        {
            var bdev = new ErrorBdev(Disk);
            Pool pool = await FormatAsync(bdev);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            await PutAsync(volume, 1, 10);
            Assert.Equal(Errno.None, await volume.CloseAsync());
            long at = (long)(volume.Record.Anchor.RingFirst + 7) * BlobData.BlockBytes;
            bdev.Inject(new BdevFault(BdevOperations.Read, Errno.EIO, 0, BdevFault.Always) { FirstByte = at, LimitByte = at + 1 });
            volume = Value(await pool.OpenVolumeAsync("v"));
            Assert.Equal(1, await GetAsync(volume, 1));
            await PutAsync(volume, 2, 10);

            pool = await ReopenAfterCrashAsync(bdev);
            Assert.Contains("cannot be read", (await pool.OpenVolumeAsync("v")).Error);
            bdev.Clear();
            volume = Value(await pool.OpenVolumeAsync("v"));
            Assert.Equal(1, await GetAsync(volume, 2));
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    /// <summary>A device that loses headers it had flushed gives itself away by its log, of which only the start is read after a clean close.</summary>
    [Fact]
    public void A_clean_header_is_not_believed_when_the_log_knows_of_a_later_life()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            await PutAsync(volume, 1, 10);
            Assert.Equal(Errno.None, await volume.CloseAsync());
            Anchor anchor = volume.Record.Anchor;
            byte[][] clean = [.. Enumerable.Range(0, 4).Select(slot => DiskBytes(anchor.HeaderSlot(slot)).ToArray())];
            volume = Value(await pool.OpenVolumeAsync("v"));
            Assert.Equal(1, await GetAsync(volume, 1));
            for (ulong i = 2; i < 4; i++)
            {
                await PutAsync(volume, i, 10);
                Assert.Equal(Errno.None, await volume.SyncAsync());
            }

            pool = await ReopenAfterCrashAsync(Disk);
            for (int slot = 0; slot < clean.Length; slot++) { clean[slot].CopyTo(DiskBytes(anchor.HeaderSlot(slot))); }
            Assert.Contains("the device lost acknowledged data", (await pool.OpenVolumeAsync("v")).Error);
            return 0;
        });
    }

    /// <summary>Else a damaged block in the pool's log would look like a torn write, and clusters in use would be given away again.</summary>
    [Fact]
    public void A_grant_of_clusters_is_proven_at_once()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            await PutAsync(volume, 1, 10);
            Anchor anchor = pool.Geometry.Anchor0;
            OpenResult<LogScan> scan = await LogScan.ReadAsync(Disk, anchor, pool.Catalogue.Header, isKnownEmpty: false, new ScanMemory());
            Assert.True(scan.Value!.Records.Count > 0);
            Assert.Equal(scan.Value.EndLsn, scan.Value.ProvenLsn);
            scan.Value.Dispose();
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }
}
