using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobstore.Tests;

/// <summary>Reading from a view of the device that may not be what the device holds.</summary>
public sealed class ViewTests : VolumeFixture
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_view_that_shows_zeroes_is_not_believed(bool checksums)
    {
        using var memory = new NativeBuffer(128 * 1024, zeroed: true);
        using var source = new IoVecList();
        using var target = new IoVecList();
        var bdev = new ViewedBdev(Disk);
        source.Add(memory.Slice(0, 64 * 1024));
        target.Add(memory.Slice(64 * 1024, 64 * 1024));
        new Random(3).NextBytes(memory.Slice(0, 64 * 1024).Span);
        Run(async () =>
        {
            Pool pool = Value(await Pool.FormatAsync(bdev, new FormatOptions()));
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions { DataChecksums = checksums }));
            Assert.Equal(Errno.None, await TryWriteAsync(volume, 0, source.View()));
            int before = bdev.Views;
            foreach (bool isLost in new[] { false, true })
            {
                bdev.IsLost = isLost;
                memory.Slice(64 * 1024, 64 * 1024).Span.Clear();
                Assert.Equal(64 * 1024, (await volume.Data.ReadAsync(Blob, 64 * 1024, 0, target.View())).Value);
                Assert.True(memory.Slice(0, 64 * 1024).Span.SequenceEqual(memory.Slice(64 * 1024, 64 * 1024).Span));
            }
            // Without checksums a view is not even looked at.
            Assert.Equal(checksums, bdev.Views > before);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    private sealed class ViewedBdev(MallocBdev inner) : BdevDecorator(inner, "viewed"), IBdev
    {
        private readonly NativeBuffer _zeroes = new(BlobData.BlockBytes, zeroed: true);

        public bool IsLost { get; set; }

        public int Views { get; private set; }

        bool IBdev.TryView(long offsetBytes, int lengthBytes, out IoVec memory)
        {
            Views++;
            if (!IsLost) { return Inner.TryGetMemory(offsetBytes, lengthBytes, out memory); }
            memory = _zeroes.Slice(0, lengthBytes);
            return true;
        }

        protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target) => Inner.ReadAsync(offsetBytes, target);

        protected override IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source) => Inner.WriteAsync(offsetBytes, source);

        protected override IoTask<Errno> FlushCoreAsync() => Inner.FlushAsync();

        protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes) => Inner.UnmapAsync(offsetBytes, lengthBytes);

        protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes) => Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
    }
}
