using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobstore.Tests;

/// <summary>Memory that outlives the process: what is promised from it, and what comes back. That a crash at any moment keeps the promises is the crash explorer's.</summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed class LogMemoryTests : VolumeFixture
{
    private readonly string _directory = Directory.CreateDirectory($"/dev/shm/vhostfs-test-{Guid.NewGuid():N}").FullName;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_change_is_logged_when_it_is_committed_whatever_the_disk_does_and_a_sync_waits_for_the_disk(bool ofProcess) => Run(async () =>
    {
        var gate = new GateBdev(Disk);
        Pool pool = await FormatAsync(gate, ofProcess ? new ProcessLogMemory() : new KeptLogMemory());
        Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
        gate.Holds = BdevOperations.Write;
        for (ulong i = 1; i <= 20; i++) { Assert.Equal(Errno.None, Completed(TryPutAsync(volume, i, 100))); }
        IoTask<Errno> syncing = volume.SyncAsync();
        await VhostFs.Reactor.Reactor.Current.DelayAsync(1_000_000);
        Assert.False(syncing.IsCompleted);
        Assert.True(gate.HeldCount > 0);
        gate.LetGo();
        Assert.Equal(Errno.None, await syncing);
        Assert.Equal(Errno.None, await pool.CloseAsync());
        return 0;
    });

    [Fact]
    public void Small_writes_to_new_and_old_blocks_do_not_wait_for_the_disk_either() => Run(async () =>
    {
        var gate = new GateBdev(Disk);
        var memory = new KeptLogMemory();
        Pool pool = await FormatAsync(gate, memory);
        Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
        using var content = new Pattern(20_000);
        Assert.Equal(Errno.None, await TryWriteAsync(volume, 0, content.Fill(1))); // the first of a volume waits for a grant of space
        gate.Holds = BdevOperations.Write;
        Assert.Equal(Errno.None, Completed(TryWriteAsync(volume, 0, content.Fill(2))));
        Assert.Equal(Errno.None, Completed(TryWriteAsync(volume, 20_000, content.Fill(3))));
        Assert.Equal(Errno.None, Completed(TryWriteAsync(volume, 10_000, content.Fill(4))));
        IReadOnlyList<StagedBatch> left = memory.Staged();
        gate.ReleaseClaim();

        // The process ends: nothing of it has reached the disk.
        Pool after = Value(await Pool.OpenAsync(Disk, new PoolOptions { LogMemory = new KeptLogMemory { Left = left }, Report = Reports.Add }));
        volume = Value(await after.OpenVolumeAsync("v"));
        using var read = new Pattern(40_000);
        IoResult done = await volume.Data.ReadAsync(Blob, 40_000, 0, read.Vecs);
        Assert.Equal(40_000, done.Value);
        Assert.Equal((2, 4, 4, 3), (read[0], read[10_000], read[29_999], read[39_999]));
        Assert.Equal(Errno.None, await after.CloseAsync());
        gate.LetGo();
        return 0;
    });

    [Fact]
    public void With_too_little_memory_changes_wait_for_the_disk_and_nothing_is_promised_early() => Run(async () =>
    {
        var gate = new GateBdev(Disk);
        Pool pool = await FormatAsync(gate, new KeptLogMemory { Chunks = 1 }); // one batch, and none for images
        Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
        using var content = new Pattern(4096);
        Assert.Equal(Errno.None, await TryWriteAsync(volume, 0, content.Fill(1)));
        gate.Holds = BdevOperations.Write;
        IoTask<Errno> writing = TryWriteAsync(volume, 0, content.Fill(2));
        IoTask<Errno> putting = TryPutAsync(volume, 1, 10);
        await VhostFs.Reactor.Reactor.Current.DelayAsync(1_000_000);
        Assert.False(writing.IsCompleted);
        Assert.False(putting.IsCompleted); // it comes after one that may be lost
        gate.LetGo();
        Assert.Equal((Errno.None, Errno.None), (await writing, await putting));
        Assert.Equal(Errno.None, await pool.CloseAsync());
        return 0;
    });

    [Fact]
    public void What_a_failed_disk_did_not_take_is_there_when_the_volume_is_opened_again() => Run(async () =>
    {
        var bdev = new ErrorBdev(Disk);
        var memory = new KeptLogMemory();
        Pool pool = await FormatAsync(bdev, memory);
        Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
        await PutAsync(volume, 1, 10);
        Assert.Equal(Errno.None, await volume.SyncAsync());
        Anchor anchor = volume.Record.Anchor;
        bdev.Inject(new BdevFault(BdevOperations.Write) { FirstByte = (long)anchor.RingFirst * BlobData.BlockBytes, LimitByte = (long)(anchor.RingFirst + (ulong)anchor.RingBlocks) * BlobData.BlockBytes });
        Assert.Equal(Errno.None, Completed(TryPutAsync(volume, 2, 10))); // promised before the disk was asked
        await VhostFs.Reactor.Reactor.Current.DelayAsync(1_000_000);
        Assert.True(volume.Failed);
        Assert.Equal(Errno.EIO, await TryPutAsync(volume, 3, 10));
        Assert.Equal(Errno.EIO, await volume.CloseAsync());
        volume = Value(await pool.OpenVolumeAsync("v"));
        Assert.Equal((1, 1, -1), (await GetAsync(volume, 1), await GetAsync(volume, 2), await GetAsync(volume, 3)));
        Assert.Equal(Errno.None, await pool.CloseAsync());
        Assert.Empty(memory.Staged());
        return 0;
    });

    [Fact]
    public void Batches_of_another_life_or_volume_are_not_taken() => Run(async () =>
    {
        var gate = new GateBdev(Disk);
        var memory = new KeptLogMemory();
        Pool pool = await FormatAsync(gate, memory);
        Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
        await PutAsync(volume, 1, 10);
        Assert.Equal(Errno.None, await volume.SyncAsync());
        gate.Holds = BdevOperations.Write;
        Assert.Equal(Errno.None, Completed(TryPutAsync(volume, 2, 10)));
        IReadOnlyList<StagedBatch> left = memory.Staged();
        Assert.NotEmpty(left);
        gate.ReleaseClaim();

        // A life without this memory goes on from what the disk has; what was left belongs to a past that did not happen.
        Pool between = Value(await Pool.OpenAsync(Disk, new PoolOptions { LogMemory = null }));
        volume = Value(await between.OpenVolumeAsync("v"));
        Assert.Equal(-1, await GetAsync(volume, 2));
        Assert.Equal(Errno.None, await between.CloseAsync());
        Pool after = Value(await Pool.OpenAsync(Disk, new PoolOptions { LogMemory = new KeptLogMemory { Left = left } }));
        volume = Value(await after.OpenVolumeAsync("v"));
        Assert.Equal((1, -1), (await GetAsync(volume, 1), await GetAsync(volume, 2)));
        Assert.Equal(Errno.None, await after.CloseAsync());
        gate.LetGo();
        return 0;
    });

    [Fact]
    public void A_file_in_memory_keeps_it_for_the_next_process_and_goes_when_it_is_not_needed_any_more() => Run(async () =>
    {
        GateBdev gate = await LeaveOneChangeAsync();
        string file = Assert.Single(Directory.GetFiles(_directory));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));

        // Another disk with a copy of the pool has nothing to do with it.
        using var copy = new MallocBdev("copy", Disk.SizeBytes);
        DiskBytes(0, (int)(Disk.SizeBytes / BlobData.BlockBytes)).CopyTo(copy.TryGetMemory(0, (int)copy.SizeBytes, out IoVec all) ? all.Span : default);
        Assert.Equal(-1, await LookIntoAsync(new GateBdev(copy) { KnownAs = "disk8" }));
        Assert.Equal([file], Directory.GetFiles(_directory));

        Assert.Equal(1, await LookIntoAsync(new GateBdev(Disk) { KnownAs = "disk7" }));
        Assert.Empty(Directory.GetFiles(_directory));
        Assert.Empty(Reports);
        gate.LetGo();
        return 0;
    });

    [Fact]
    public void What_was_left_is_taken_also_when_there_can_be_no_memory_for_what_comes_next() => Run(async () =>
    {
        GateBdev gate = await LeaveOneChangeAsync();
        string file = Assert.Single(Directory.GetFiles(_directory));
        int epoch = file.LastIndexOf('-') + 1;
        Directory.CreateDirectory($"{file[..epoch]}{int.Parse(file[epoch..]) + 1}");
        Assert.Equal(1, await LookIntoAsync(new GateBdev(Disk) { KnownAs = "disk7" }));
        Assert.Contains(Reports, report => report.Contains("cannot be made", StringComparison.Ordinal));
        Assert.Empty(Directory.GetFiles(_directory));
        gate.LetGo();
        return 0;
    });

    [Fact]
    public void A_file_that_others_can_write_is_not_believed() => Run(async () =>
    {
        GateBdev gate = await LeaveOneChangeAsync();
        string file = Assert.Single(Directory.GetFiles(_directory));
        File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.OtherWrite);
        Assert.Equal(-1, await LookIntoAsync(new GateBdev(Disk) { KnownAs = "disk7" }));
        Assert.Contains(Reports, report => report.Contains("not this user's", StringComparison.Ordinal));
        Assert.True(File.Exists(file));
        gate.LetGo();
        return 0;
    });

    [Fact]
    public void A_file_of_another_version_is_left_alone_and_named() => Run(async () =>
    {
        GateBdev gate = await LeaveOneChangeAsync();
        string file = Assert.Single(Directory.GetFiles(_directory));
        using (FileStream stream = File.OpenWrite(file))
        {
            stream.Position = 8;
            stream.WriteByte(2);
        }
        Assert.Equal(-1, await LookIntoAsync(new GateBdev(Disk) { KnownAs = "disk7" }));
        Assert.Contains(Reports, report => report.Contains("another version", StringComparison.Ordinal));
        Assert.True(File.Exists(file));
        gate.LetGo();
        return 0;
    });

    [Fact]
    public void A_directory_that_is_not_in_memory_is_named_and_done_without() => Run(async () =>
    {
        string missing = Path.Combine(_directory, "missing");
        Pool pool = await FormatAsync(new GateBdev(Disk) { KnownAs = "disk7" }, new LogMemoryDirectory(missing));
        Assert.Contains(Reports, report => report.Contains(missing, StringComparison.Ordinal));
        Assert.Equal(Errno.None, await pool.CloseAsync());
        return 0;
    });

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Damaged_memory_is_refused_or_read_without_leaving_it(int seed) => Run(async () =>
    {
        var random = new Random(seed);
        var gate = new GateBdev(Disk) { KnownAs = "disk7" };
        Pool pool = await FormatAsync(gate, new LogMemoryDirectory(_directory));
        Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
        using var content = new Pattern(4096);
        Assert.Equal(Errno.None, await TryWriteAsync(volume, 0, content.Fill(1)));
        gate.Holds = BdevOperations.Write;
        for (int i = 0; i < 10; i++) { Assert.Equal(Errno.None, Completed(TryWriteAsync(volume, i * 4096, content.Fill(2)))); }
        byte[] good = ReadStart(Assert.Single(Directory.GetFiles(_directory)));
        Assert.NotEmpty(LogMemory.ReadAll(good, out _));
        int changed = 0;
        for (int i = 0; i < 3000; i++)
        {
            byte[] bad = [.. good];
            int chunk = LogMemory.HeaderBytes + (random.Next((good.Length - LogMemory.HeaderBytes) / LogMemory.ChunkBytes) * LogMemory.ChunkBytes);
            int at = random.Next(4) switch { 0 => random.Next(64), 1 => chunk + random.Next(BatchDescriptor.ImagesOffset + 64), _ => chunk + BatchDescriptor.Bytes + random.Next(2000) };
            if (random.Next(2) == 0) { bad[at] ^= (byte)(1 << random.Next(8)); }
            else { BitConverter.TryWriteBytes(bad.AsSpan(at), random.Next(3) switch { 0 => int.MaxValue, 1 => int.MinValue, _ => random.Next() }); }
            if (random.Next(8) == 0) { bad = bad[..random.Next(bad.Length)]; }
            changed += LogMemory.ReadAll(bad, out _).Count == LogMemory.ReadAll(good, out _).Count ? 0 : 1;
        }
        Assert.True(changed > 10, "the damage was where something is");
        gate.LetGo();
        Assert.Equal(Errno.None, await pool.CloseAsync());
        return 0;
    });

    protected override void OnDisposed() => Directory.Delete(_directory, recursive: true);

    private static T Completed<T>(IoTask<T> task)
    {
        Assert.True(task.IsCompleted, "it does not wait for anything");
        return task.GetAwaiter().GetResult();
    }

    private static byte[] ReadStart(string file)
    {
        using FileStream stream = File.OpenRead(file);
        byte[] header = new byte[LogMemory.HeaderBytes];
        stream.ReadExactly(header);
        byte[] all = new byte[LogMemory.UsedBytes(header)];
        header.CopyTo(all, 0);
        stream.ReadExactly(all.AsSpan(header.Length));
        return all;
    }

    /// <summary>A process that was killed when a change of item 2 was in log memory alone; what it had under way is let go with the gate.</summary>
    private async IoTask<GateBdev> LeaveOneChangeAsync()
    {
        var gate = new GateBdev(Disk) { KnownAs = "disk7" };
        Pool pool = await FormatAsync(gate, new LogMemoryDirectory(_directory));
        Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
        gate.Holds = BdevOperations.Write;
        Assert.Equal(Errno.None, Completed(TryPutAsync(volume, 2, 10)));
        gate.ReleaseClaim();
        return gate;
    }

    private async IoTask<int> LookIntoAsync(IBdev bdev)
    {
        Pool pool = Value(await Pool.OpenAsync(bdev, new PoolOptions { LogMemory = new LogMemoryDirectory(_directory), Report = Reports.Add }));
        int found = await GetAsync(Value(await pool.OpenVolumeAsync("v")), 2);
        Assert.Equal(Errno.None, await pool.CloseAsync());
        return found;
    }

    private async IoTask<Pool> FormatAsync(IBdev bdev, ILogMemoryStore memory)
    {
        Pool pool = await FormatAsync(bdev);
        Assert.Equal(Errno.None, await pool.CloseAsync());
        return Value(await Pool.OpenAsync(bdev, new PoolOptions { LogMemory = memory, Report = Reports.Add }));
    }

    /// <summary>Log memory of this process, as another one would find it.</summary>
    private sealed class KeptLogMemory : ILogMemoryStore
    {
        private LogMemory? _open;

        public int Chunks { get; init; } = 16;

        public IReadOnlyList<StagedBatch> Left { get; init; } = [];

        public LogMemory Open(Guid pool, string? bdev, ulong epoch, Action<string> report) => _open = LogMemory.InProcess(pool, epoch, Chunks, Left, static () => { });

        public List<StagedBatch> Staged() => _open!.Staged();
    }

    private sealed class Pattern : IDisposable
    {
        private readonly NativeBuffer _buffer;
        private readonly IoVecList _vecs = new(1);

        public Pattern(int bytes)
        {
            _buffer = new NativeBuffer(bytes, zeroed: true);
            _vecs.Add(_buffer.Vec);
        }

        public IoVecs Vecs => _vecs.View();

        public byte this[int at] => _buffer.Span[at];

        public IoVecs Fill(byte value)
        {
            _buffer.Span.Fill(value);
            return Vecs;
        }

        public void Dispose()
        {
            _vecs.Dispose();
            _buffer.Dispose();
        }
    }
}
