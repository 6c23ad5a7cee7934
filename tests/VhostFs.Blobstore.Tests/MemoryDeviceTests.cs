using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobstore.Tests;

/// <summary>Overwriting on a bdev that is memory of the process: once, in place, when the record is there.</summary>
public sealed class MemoryDeviceTests : VolumeFixture
{
    private const int BlockBytes = BlobData.BlockBytes;
    private readonly NativeBuffer _memory = new(128 * 1024, zeroed: true);
    private readonly IoVecList _source = new();
    private readonly IoVecList _target = new();

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Overwritten_content_is_on_the_device_once(bool checksums)
    {
        Run(async () =>
        {
            Pool pool = Value(await Pool.FormatAsync(Disk, new FormatOptions()));
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions { DataChecksums = checksums }));
            byte[] content = new byte[64 * 1024];
            await WriteAsync(volume, content, 0, content.Length, seed: 1);
            long written = Disk.Statistics.BytesWritten;
            await OverwriteAsync(volume, content);
            Assert.Equal(1, Places(content.AsSpan(2 * BlockBytes, BlockBytes)));
            Assert.Equal(1, Places(content.AsSpan(4 * BlockBytes, BlockBytes)));
            Assert.Equal(1, Places(content.AsSpan(5 * BlockBytes, BlockBytes)));
            Assert.Equal(0, volume.Overlay.Count);
            await AssertReadsAsync(volume, content);
            Assert.Equal(Errno.None, await volume.SyncAsync());
            Assert.True(Disk.Statistics.BytesWritten - written <= 2 * BlockBytes, "the log holds records, and no content");
            return await AssertReadsAfterCrashAsync(Disk, content);
        });
    }

    [Fact]
    public void Images_of_a_file_in_memory_are_in_place_as_soon_as_the_log_has_them()
    {
        var file = new RecordingBdev(Disk) { OwnsInner = false, IsFileInMemory = true };
        Run(async () =>
        {
            Pool pool = Value(await Pool.FormatAsync(file, new FormatOptions()));
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            byte[] content = new byte[64 * 1024];
            await WriteAsync(volume, content, 0, content.Length, seed: 1);
            await OverwriteAsync(volume, content);
            Assert.Equal(0, volume.Overlay.Count);
            Assert.Equal(2, Places(content.AsSpan(2 * BlockBytes, BlockBytes))); // in the log, and where it belongs
            await AssertReadsAsync(volume, content);
            long written = Disk.Statistics.BytesWritten;
            Assert.Equal(Errno.None, await volume.Checkpointer.RunAsync(VolumeFlags.None));
            Assert.True(Disk.Statistics.BytesWritten - written <= 40 * BlockBytes, "a checkpoint writes nodes and headers, and no image a second time");
            return await AssertReadsAfterCrashAsync(file, content);
        });
    }

    [Fact]
    public void A_file_in_memory_that_is_cut_under_us_ends_the_volume_and_what_the_log_has_is_not_lost()
    {
        var file = new LostMemory(Disk) { OwnsInner = false, IsFile = true };
        Run(async () =>
        {
            Pool pool = Value(await Pool.FormatAsync(file, new FormatOptions()));
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            byte[] content = new byte[64 * 1024];
            await WriteAsync(volume, content, 0, content.Length, seed: 1);
            file.EndsWith = Errno.EIO;
            Span<byte> changed = content.AsSpan(2 * BlockBytes, BlockBytes);
            new Random(2).NextBytes(changed);
            changed.CopyTo(_memory.Span);
            _source.Clear();
            _source.Add(_memory.Slice(0, BlockBytes));
            Assert.Equal(Errno.EIO, await TryWriteAsync(volume, 2 * BlockBytes, _source.View()));
            Assert.True(volume.Failed);
            file.EndsWith = Errno.None;
            return await AssertReadsAfterCrashAsync(file, content);
        });
    }

    [Fact]
    public void What_is_prepared_shows_when_it_is_committed()
    {
        Run(async () =>
        {
            Pool pool = Value(await Pool.FormatAsync(Disk, new FormatOptions()));
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            byte[] content = new byte[64 * 1024];
            await WriteAsync(volume, content, 0, content.Length, seed: 1);

            _source.Clear();
            _source.Add(_memory.Slice(0, BlockBytes));
            new Random(2).NextBytes(_memory.Slice(0, BlockBytes).Span);
            BlobChange change = volume.Data.RentChange();
            Assert.Equal(Errno.None, await volume.Data.PrepareWriteAsync(change, Blob, 0, _source.View()));
            await AssertReadsAsync(volume, content);
            Assert.Equal(Errno.None, await volume.AdmitAsync(Admission.Grow));
            Transaction transaction = volume.Begin();
            Assert.Equal(Errno.None, volume.Data.TryStage(transaction, change));
            transaction.Abort();
            await AssertReadsAsync(volume, content);
            transaction = volume.Begin();
            Assert.Equal(Errno.None, volume.Data.TryStage(transaction, change));
            transaction.Commit();
            volume.Data.End(change);
            _memory.Slice(0, BlockBytes).Span.CopyTo(content);
            await AssertReadsAsync(volume, content);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Fact]
    public void A_device_that_is_gone_ends_the_volume()
    {
        var bdev = new LostMemory(Disk);
        Run(async () =>
        {
            Pool pool = Value(await Pool.FormatAsync(bdev, new FormatOptions()));
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            byte[] content = new byte[64 * 1024];
            await WriteAsync(volume, content, 0, content.Length, seed: 1);
            bdev.IsLost = true;
            _source.Clear();
            _source.Add(_memory.Slice(0, BlockBytes));
            Assert.Equal(Errno.EIO, await TryWriteAsync(volume, 0, _source.View()));
            Assert.True(volume.Failed);
            await pool.CloseAsync();
            return 0;
        });
    }

    [Fact]
    public void Content_that_got_nowhere_is_an_error_and_the_old_content_stays()
    {
        var bdev = new LostMemory(Disk);
        Run(async () =>
        {
            Pool pool = Value(await Pool.FormatAsync(bdev, new FormatOptions()));
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            byte[] content = new byte[64 * 1024];
            await WriteAsync(volume, content, 0, content.Length, seed: 1);
            bdev.EndsWith = Errno.EIO;
            new Random(2).NextBytes(_memory.Slice(0, content.Length).Span);
            Assert.Equal(Errno.EIO, await TryWriteAsync(volume, 0, _source.View()));
            Assert.False(volume.Failed);
            await AssertReadsAsync(volume, content);
            bdev.EndsWith = Errno.None;
            await WriteAsync(volume, content, 0, content.Length, seed: 3);
            await AssertReadsAsync(volume, content);
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    protected override void OnDisposed()
    {
        _source.Dispose();
        _target.Dispose();
        _memory.Dispose();
    }

    private async IoTask<int> WriteAsync(Volume volume, byte[] content, int offset, int length, int seed)
    {
        new Random(seed).NextBytes(content.AsSpan(offset, length));
        content.AsSpan(offset, length).CopyTo(_memory.Span);
        _source.Clear();
        _source.Add(_memory.Slice(0, length));
        Assert.Equal(Errno.None, await TryWriteAsync(volume, offset, _source.View()));
        return 0;
    }

    /// <summary>A block, and parts of two.</summary>
    private async IoTask<int> OverwriteAsync(Volume volume, byte[] content)
    {
        await WriteAsync(volume, content, 2 * BlockBytes, BlockBytes, seed: 2);
        return await WriteAsync(volume, content, (5 * BlockBytes) - 10, 100, seed: 3);
    }

    private async IoTask<int> AssertReadsAfterCrashAsync(IBdev bdev, byte[] content)
    {
        Pool pool = await ReopenAfterCrashAsync(bdev);
        await AssertReadsAsync(Value(await pool.OpenVolumeAsync("v")), content);
        Assert.Equal(Errno.None, await pool.CloseAsync());
        return 0;
    }

    private async IoTask<int> AssertReadsAsync(Volume volume, byte[] content)
    {
        IoVec read = _memory.Slice(64 * 1024, content.Length);
        read.Span.Clear();
        _target.Clear();
        _target.Add(read);
        Assert.Equal(content.Length, (await volume.Data.ReadAsync(Blob, content.Length, 0, _target.View())).Value);
        Assert.True(read.Span.SequenceEqual(content));
        return 0;
    }

    private int Places(ReadOnlySpan<byte> block)
    {
        int places = 0;
        for (ulong at = 0; at < (ulong)(Disk.SizeBytes / BlockBytes); at++)
        {
            if (DiskBytes(at).SequenceEqual(block)) { places++; }
        }
        return places;
    }

    /// <summary>Memory until somebody takes it away.</summary>
    private sealed class LostMemory(MallocBdev inner) : BdevDecorator(inner, "lost"), IBdev
    {
        public bool IsLost { get; set; }

        public Errno EndsWith { get; set; }

        /// <summary>It outlives the process: content is where it belongs only with its record in the log.</summary>
        public bool IsFile { get; init; }

        bool IBdev.CompletesAtOnce => IsFile;

        Errno IBdev.EndInPlace(long lengthBytes) => EndsWith;

        bool IBdev.TryGetMemory(long offsetBytes, int lengthBytes, out IoVec memory)
        {
            memory = default;
            return !IsFile && !IsLost && Inner.TryGetMemory(offsetBytes, lengthBytes, out memory);
        }

        bool IBdev.TryGetPlace(long offsetBytes, int lengthBytes, out IoVec place)
        {
            place = default;
            return !IsLost && Inner.TryGetMemory(offsetBytes, lengthBytes, out place);
        }

        protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target) => Inner.ReadAsync(offsetBytes, target);

        protected override IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source) => Inner.WriteAsync(offsetBytes, source);

        protected override IoTask<Errno> FlushCoreAsync() => Inner.FlushAsync();

        protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes) => Inner.UnmapAsync(offsetBytes, lengthBytes);

        protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes) => Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
    }
}
