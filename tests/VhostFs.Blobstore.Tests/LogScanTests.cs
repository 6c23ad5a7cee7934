using System.Buffers.Binary;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobstore.Tests;

/// <summary>What recovery makes of rings that are torn, damaged or garbage.</summary>
public sealed class LogScanTests : VolumeFixture
{
    [Fact]
    public void The_chain_of_an_intact_log_is_found_whole_also_across_its_end()
    {
        Run(async () =>
        {
            (VolumeHeader header, Anchor anchor, ulong last) = await FilledAsync(puts: 400);
            using LogScan scan = VolumeTests.Value(await LogScan.ReadAsync(Disk, anchor, header, isKnownEmpty: false, new ScanMemory()));
            Assert.Equal(last, scan.EndLsn);
            Assert.InRange(scan.ProvenLsn, header.CheckpointLsn, last);
            Assert.Equal(last - header.CheckpointLsn, (ulong)scan.Records.Count);
            return 0;
        });
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void A_block_that_is_missing_or_torn_ends_the_chain_there_and_nowhere_else(int seed)
    {
        Run(async () =>
        {
            var random = new Random(seed);
            (VolumeHeader header, Anchor anchor, ulong last) = await FilledAsync(puts: 60);
            byte[] good = DiskBytes(anchor.RingFirst, anchor.RingBlocks).ToArray();
            var ends = new HashSet<ulong>();
            for (int i = 0; i < 300; i++)
            {
                good.CopyTo(DiskBytes(anchor.RingFirst, anchor.RingBlocks));
                Span<byte> block = DiskBytes(anchor.RingFirst + (ulong)random.Next(anchor.RingBlocks));
                if (random.Next(2) == 0) { block.Clear(); }
                else { random.NextBytes(block[(512 * random.Next(8))..]); }
                using LogScan scan = VolumeTests.Value(await LogScan.ReadAsync(Disk, anchor, header, isKnownEmpty: false, new ScanMemory()));
                Assert.InRange(scan.EndLsn, header.CheckpointLsn, last);
                Assert.Equal(scan.EndLsn - header.CheckpointLsn, (ulong)scan.Records.Count);
                for (int r = 0; r < scan.Records.Count; r++) { Assert.Equal(header.CheckpointLsn + 1 + (ulong)r, scan.Records[r].Lsn); }
                ends.Add(scan.EndLsn);
            }
            Assert.True(ends.Count > 3, "the damage was in different places");
            return 0;
        });
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Garbage_with_right_checksums_is_refused_or_read_without_leaving_the_ring(int seed)
    {
        Run(async () =>
        {
            var random = new Random(seed);
            (VolumeHeader header, Anchor anchor, _) = await FilledAsync(puts: 60);
            byte[] good = DiskBytes(anchor.RingFirst, anchor.RingBlocks).ToArray();
            for (int i = 0; i < 1500; i++)
            {
                good.CopyTo(DiskBytes(anchor.RingFirst, anchor.RingBlocks));
                int position = random.Next(anchor.RingBlocks);
                Span<byte> batch = DiskBytes(anchor.RingFirst + (ulong)position, anchor.RingBlocks - position);
                if (BinaryPrimitives.ReadUInt64LittleEndian(batch) != LogBatchHeader.Magic) { continue; }
                int field = random.Next(4) == 0 ? LogBatchHeader.Bytes + random.Next(300) : random.Next(LogBatchHeader.FirstLsn, LogBatchHeader.PreviousCrc);
                if (random.Next(2) == 0) { batch[field] ^= (byte)(1 << random.Next(8)); }
                else { BinaryPrimitives.WriteInt32LittleEndian(batch[(field & ~3)..], random.Next(3) switch { 0 => int.MaxValue, 1 => -1, _ => random.Next(70000) }); }
                int bytes = BinaryPrimitives.ReadInt32LittleEndian(batch[LogBatchHeader.RecordBytes..]);
                if (bytes < 0 || bytes > batch.Length - LogBatchHeader.Bytes) { bytes = 0; }
                BinaryPrimitives.WriteUInt32LittleEndian(batch[LogBatchHeader.Crc..], LogBatchHeader.ComputeCrc(batch, bytes));
                using LogScan scan = VolumeTests.Value(await LogScan.ReadAsync(Disk, anchor, header, isKnownEmpty: false, new ScanMemory()));
                foreach (ScannedRecord record in scan.Records)
                {
                    var reader = new RecordReader(scan.RecordBytes(record));
                    while (reader.MoveNext())
                    {
                        if (reader.Current.Code == RecordCode.Image) { _ = scan.Image(record, reader.Current.ImageIndex).Span[4095]; }
                    }
                    Assert.False(reader.IsBroken);
                }
            }
            return 0;
        });
    }

    /// <summary>A volume as a crash leaves it: records, small overwrites and syncs since its last checkpoint.</summary>
    private async IoTask<(VolumeHeader Header, Anchor Anchor, ulong LastLsn)> FilledAsync(int puts)
    {
        Pool pool = await FormatAsync(Disk);
        Volume volume = VolumeTests.Value(await pool.CreateVolumeAsync("v", new VolumeOptions { LogBytes = 1 << 20 }));
        using var buffer = new NativeBuffer(BlobData.BlockBytes, zeroed: true);
        using var list = new IoVecList();
        list.Add(buffer.Vec);
        for (int i = 0; i < puts; i++)
        {
            await PutAsync(volume, 1 + ((ulong)i % 50), 1500);
            if (i % 5 == 0) { Assert.Equal(Errno.None, await TryWriteAsync(volume, i % 4 * 4096, list.View())); }
            if (i % 20 == 0) { Assert.Equal(Errno.None, await volume.SyncAsync()); }
        }
        await volume.Checkpointer.IdleAsync();
        return (volume.Header, volume.Record.Anchor, volume.Log.LastLsn);
    }
}
