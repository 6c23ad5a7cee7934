using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobstore.Tests;

/// <summary>Where blobs lie that grow at the same time.</summary>
public sealed class GrowingBlobsTests : VolumeFixture
{
    private const int Blobs = 8, Blocks = 64;

    [Theory]
    [InlineData(1, 16)] // a window is 16 blocks
    [InlineData(4, 16)]
    [InlineData(32, 32)] // what is large lies as it came
    public void Blobs_that_grow_by_turns_lie_in_long_runs(int blocksAtOnce, int runBlocks)
    {
        using var memory = new NativeBuffer(blocksAtOnce * BlobData.BlockBytes, zeroed: true);
        using var source = new IoVecList();
        source.Add(memory.Slice(0, memory.Length));
        Run(async () =>
        {
            Pool pool = Value(await Pool.FormatAsync(Disk, new FormatOptions { ClusterBytes = 4 << 20 }));
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            for (int block = 0; block < Blocks; block += blocksAtOnce)
            {
                for (ulong blob = 100; blob < 100 + Blobs; blob++)
                {
                    memory.Span.Fill((byte)(blob + (ulong)block));
                    Assert.Equal(Errno.None, await TryWriteAsync(volume, (long)block * BlobData.BlockBytes, source.View(), blob));
                }
            }
            for (ulong blob = 100; blob < 100 + Blobs; blob++)
            {
                Assert.Equal(Errno.None, volume.TryGet(ExtentGroup.Key(blob, 0), out ReadOnlySpan<byte> value));
                Assert.InRange(ExtentGroup.RunCount(value), 1, Blocks / runBlocks + 1);
            }
            using var target = new IoVecList();
            target.Add(memory.Slice(0, BlobData.BlockBytes));
            Assert.Equal(BlobData.BlockBytes, (await volume.Data.ReadAsync(103, Blocks * BlobData.BlockBytes, (Blocks - 1) * BlobData.BlockBytes, target.View())).Value);
            Assert.Equal((byte)(103 + Blocks - blocksAtOnce), memory.Span[0]);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }
}
