using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Lvol;
using VhostFs.Reactor;
using Xunit;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Blobfs.Tests;

/// <summary>Logical volumes: disks in a store, with everything else that may be in it. Each closing runs the checker.</summary>
public sealed class LvolTests : IDisposable
{
    private const long MiB = 1 << 20;
    private readonly MallocBdev _disk = new("disk", 64 * MiB, blockSize: 512);
    private readonly NativeBuffer _memory = new(8 << 20);
    private readonly IoVecList _list = new();
    private IoReactor _reactor = new(new SimulatedDriver(), "test");
    private IBdev _bdev;
    private LvolStore _store;

    public LvolTests()
    {
        _bdev = _disk;
        OpenResult<LvolStore> made = Run(() => LvolStore.FormatAsync(_bdev, "lvs0", 0, new PoolOptions()));
        Assert.True(made.Value is not null, made.Error);
        _store = made.Value;
    }

    public void Dispose()
    {
        _reactor.Dispose();
        _memory.Dispose();
        _list.Dispose();
        _disk.Dispose();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void A_volume_holds_what_was_written_across_restarts(int seed)
    {
        const int steps = 400;
        var random = new Random(seed);
        Lvol.Lvol lvol = Create("a", 8 * MiB);
        byte[] model = new byte[8 * MiB];
        for (int step = 0; step < steps; step++)
        {
            long offset = random.Next(model.Length / 512) * 512L;
            int most = random.Next(10) == 0 ? 4 << 20 : 64 << 10, length = (int)Math.Min(random.Next(1, most / 512) * 512L, model.Length - offset);
            switch (random.Next(8))
            {
                case < 3:
                    byte[] data = new byte[length];
                    random.NextBytes(data);
                    Assert.Equal(length, Write(lvol, offset, data).Value);
                    data.CopyTo(model, offset);
                    break;
                case 3:
                    Assert.Equal(Errno.None, Run(() => lvol.Bdev.UnmapAsync(offset, length)));
                    model.AsSpan((int)offset, length).Clear();
                    break;
                case 4:
                    Assert.Equal(Errno.None, Run(() => lvol.Bdev.WriteZeroesAsync(offset, length)));
                    model.AsSpan((int)offset, length).Clear();
                    break;
                case 5 when step % 20 == 0:
                    lvol = Restart(clean: random.Next(2) == 0).Lvols.Single();
                    break;
                default:
                    Assert.Equal(model.AsSpan((int)offset, length).ToArray(), Read(lvol, offset, length));
                    break;
            }
        }
        for (int offset = 0; offset < model.Length; offset += 4 << 20) { Assert.Equal(model.AsSpan(offset, 4 << 20).ToArray(), Read(lvol, offset, 4 << 20)); }
        Restart(clean: true);
    }

    [Fact]
    public void Requests_outside_of_it_are_refused()
    {
        Lvol.Lvol lvol = Create("a", MiB);
        Assert.Equal(Errno.ENOSPC, Write(lvol, MiB, new byte[512]).Errno);
        Assert.Equal(Errno.ENOSPC, Write(lvol, MiB - 512, new byte[1024]).Errno);
        Assert.Equal(Errno.EINVAL, Write(lvol, 100, new byte[512]).Errno);
        Assert.Equal(Errno.EINVAL, Run(() => lvol.Bdev.UnmapAsync(0, 100)));
        Assert.Equal(Errno.ENOSPC, Run(() => lvol.Bdev.UnmapAsync(0, 2 * MiB)));
        Assert.Equal(5, lvol.Bdev.Statistics.IoErrors);
        Assert.Equal(Errno.None, Run(() => lvol.Bdev.UnmapAsync(0, 0)));
    }

    [Fact]
    public void Its_size_changes_and_what_comes_back_is_zero()
    {
        Lvol.Lvol lvol = Create("a", 2 * MiB);
        long announced = 0;
        lvol.Bdev.Resized += size => announced = size;
        Write(lvol, MiB, Filled(MiB, 7));
        Assert.Equal(Errno.None, Run(() => lvol.Bdev.ResizeAsync(MiB)));
        Assert.Equal(MiB, announced);
        Assert.Equal(Errno.None, Run(() => lvol.Bdev.ResizeAsync(3 * MiB)));
        lvol = Restart(clean: false).Lvols.Single();
        Assert.Equal(3 * MiB, lvol.Bdev.SizeBytes);
        Assert.Equal(new byte[MiB], Read(lvol, MiB, (int)MiB));
        Assert.Equal(Errno.EINVAL, Run(() => lvol.Bdev.ResizeAsync(0)));
        Assert.Equal(Errno.EINVAL, Run(() => lvol.Bdev.ResizeAsync(MiB + 1)));
    }

    [Fact]
    public void A_thin_one_takes_what_is_written_and_gives_back_what_is_unmapped()
    {
        long free = _store.FreeBytes;
        Lvol.Lvol lvol = Create("a", 1L << 40); // more than there is
        Assert.True(free - _store.FreeBytes < MiB);
        Write(lvol, 1L << 39, Filled(2 * MiB, 1));
        Assert.Equal(2 * MiB, Run(() => _store.AllocatedBytesAsync(lvol)));
        Assert.Equal(Errno.None, Run(() => lvol.Bdev.UnmapAsync(0, lvol.Bdev.SizeBytes)));
        Assert.Equal(0, Run(() => _store.AllocatedBytesAsync(lvol)));
    }

    [Fact]
    public void A_thick_one_has_its_space_or_is_not_made()
    {
        Lvol.Lvol lvol = Create("a", 8 * MiB, isThin: false);
        Assert.Equal(8 * MiB, Run(() => _store.AllocatedBytesAsync(lvol)));
        Assert.Equal(Errno.ENOSPC, Run(() => _store.CreateAsync("b", 1L << 30, isThin: false)).Errno);
        Assert.Single(_store.Lvols);
        Assert.Single(Restart(clean: false).Lvols);
        Assert.NotEqual(Errno.None, Run(() => _store.CreateAsync("c", 1L << 50, isThin: true)).Errno);
        Assert.Equal("lvs0/b", Create("b", MiB).Bdev.Alias); // nothing is left of the one that failed
    }

    [Fact]
    public void A_full_store_is_an_error_and_nothing_is_lost()
    {
        Lvol.Lvol lvol = Create("a", 1L << 30);
        long offset = 0;
        IoResult written;
        while (!(written = Write(lvol, offset, Filled(MiB, (byte)(offset / MiB + 1)))).IsError) { offset += MiB; }
        Assert.Equal(Errno.ENOSPC, written.Errno);
        Assert.True(offset > 30 * MiB);
        lvol = Restart(clean: false).Lvols.Single();
        for (long at = 0; at < offset; at += MiB) { Assert.Equal(Filled(MiB, (byte)(at / MiB + 1)), Read(lvol, at, (int)MiB)); }
        Assert.Equal(Errno.None, Run(() => lvol.Bdev.UnmapAsync(0, offset / 2)));
        Assert.False(Write(lvol, 0, Filled(MiB, 9)).IsError);
    }

    [Fact]
    public void Names_change_and_are_kept_with_the_UUIDs()
    {
        Lvol.Lvol first = Create("a", MiB), second = Create("b", MiB);
        Write(first, 0, Filled(4096, 1));
        Assert.Equal(Errno.EEXIST, Run(() => _store.RenameAsync(first, "b")));
        Assert.Equal(Errno.None, Run(() => _store.RenameAsync(first, "c")));
        Assert.Equal(Errno.None, Run(() => _store.RenameAsync("other")));
        Assert.Equal("other/c", first.Bdev.Alias);
        (string, string)[] expected = [("other/b", second.Bdev.Name), ("other/c", first.Bdev.Name)];
        Restart(clean: false);
        Assert.Equal(expected, _store.Lvols.Select(l => (l.Bdev.Alias, l.Bdev.Name)).Order());
        Lvol.Lvol renamed = _store.Lvols.Single(l => l.Name == "c");
        Assert.Equal(Filled(4096, 1), Read(renamed, 0, 4096));
        Assert.Equal(Errno.None, Run(() => _store.DeleteAsync(renamed)));
        Assert.Equal("b", Restart(clean: false).Lvols.Single().Name);
    }

    [Fact]
    public void Read_only_is_for_good()
    {
        Lvol.Lvol lvol = Create("a", MiB);
        Write(lvol, 0, Filled(4096, 1));
        Assert.Equal(Errno.None, Run(() => _store.SetReadOnlyAsync(lvol)));
        lvol = Restart(clean: false).Lvols.Single();
        Assert.True(lvol.Bdev.IsReadOnly);
        Assert.Equal(Errno.EROFS, Write(lvol, 0, Filled(4096, 2)).Errno);
        Assert.Equal(Errno.EROFS, Run(() => lvol.Bdev.UnmapAsync(0, 4096)));
        Assert.Equal(Errno.EROFS, Run(() => lvol.Bdev.WriteZeroesAsync(0, 4096)));
        Assert.Equal(Filled(4096, 1), Read(lvol, 0, 4096));
    }

    [Theory]
    [InlineData("")]
    [InlineData(".hidden")]
    [InlineData("a/b")]
    [InlineData("a\0b")]
    [InlineData("0123456789012345678901234567890123456789012345678901234567890123")]
    public void Such_a_name_is_refused(string name) => Assert.NotNull(LvolStore.NameError(name));

    // A disk with a write cache loses what was not flushed; what was promised is there all the same.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void A_power_cut_takes_nothing_that_was_flushed_and_no_volume_that_was_made(int seed)
    {
        Restart(clean: true, seed);
        var random = new Random(seed);
        byte[] durable = Filled(2 * MiB, 1), news = Filled(64 * 1024, 2);
        Lvol.Lvol lvol = Create("a", 4 * MiB);
        Write(lvol, 0, durable);
        Assert.Equal(Errno.None, Run(lvol.Bdev.FlushAsync));
        long at = random.Next(16) * 4096L;
        Write(lvol, at, news); // may be there, in pieces of blocks
        Create("b", 4 * MiB, isThin: random.Next(2) == 0);
        if (random.Next(2) == 0) { Assert.Equal(Errno.None, Run(() => _store.DeleteAsync(lvol))); }
        string[] expected = [.. _store.Lvols.Select(l => l.Name).Order()];
        Restart(clean: false, seed + 100);
        Assert.Equal(expected, _store.Lvols.Select(l => l.Name).Order());
        if (_store.Lvols.FirstOrDefault(l => l.Name == "a") is not { } found) { return; }
        byte[] now = Read(found, 0, (int)(2 * MiB));
        for (int block = 0; block < now.Length; block += 4096)
        {
            bool isOverwritten = block >= at && block < at + news.Length;
            byte value = now[block];
            Assert.True(value == 1 || (isOverwritten && value == 2), $"block at {block}: {value}");
            Assert.Equal(Filled(4096, value), now.AsSpan(block, 4096).ToArray());
        }
    }

    [Fact]
    public void What_was_being_made_goes_and_what_others_keep_there_stays()
    {
        Create("a", MiB);
        Close();
        InFileSystem(session =>
        {
            Make(session, ".lvol-being-made-b");
            Make(session, "notes");
            Make(session, "false");
            Mark(session, "false", [1, 2, 3]);
        });
        Open(clean: true);
        Assert.Equal("a", _store.Lvols.Single().Name);
        Assert.Equal(Errno.EEXIST, Run(() => _store.CreateAsync("notes", MiB, isThin: true)).Errno);
        Close();
        InFileSystem(session =>
        {
            Assert.Equal(Errno.ENOENT, Run(() => session.LookupAsync(1, Bytes(".lvol-being-made-b"))).Errno);
            Assert.Equal(Errno.None, Run(() => session.LookupAsync(1, Bytes("notes"))).Errno);
        });
        Open(clean: true);
    }

    [Fact]
    public void A_pool_of_file_systems_is_no_store_and_stays_as_it_is()
    {
        Assert.Equal(Errno.None, Run(_store.DestroyAsync));
        OpenResult<LvolStore> none = Run(() => LvolStore.OpenAsync(_bdev, new PoolOptions()));
        Assert.Equal((null, null), (none.Value, none.Error));
        foreach (bool isForLogicalVolumes in new[] { true, false })
        {
            Pool pool = Run(() => Pool.FormatAsync(_bdev, new FormatOptions { ForLogicalVolumes = isForLogicalVolumes, Force = true })).Value!;
            Assert.NotNull(Run(() => pool.CreateVolumeAsync(LvolStore.VolumeName, new VolumeOptions())).Value);
            Assert.Equal(Errno.None, Run(pool.CloseAsync));
            long writes = _disk.Statistics.WriteOperations;
            none = Run(() => LvolStore.OpenAsync(_bdev, new PoolOptions())); // a store whose making was not finished; a pool of file systems
            Assert.Equal((null, null), (none.Value, none.Error));
            Assert.True(isForLogicalVolumes || _disk.Statistics.WriteOperations == writes);
        }
        Assert.Contains("already holds a pool", Run(() => LvolStore.FormatAsync(_bdev, "x", 0, new PoolOptions())).Error, StringComparison.Ordinal);
        Assert.True(_bdev.TryClaim("me", out _));
    }

    private Lvol.Lvol Create(string name, long sizeBytes, bool isThin = true)
    {
        FsResult<Lvol.Lvol> made = Run(() => _store.CreateAsync(name, sizeBytes, isThin));
        Assert.Equal(Errno.None, made.Errno);
        return made.Value;
    }

    /// <param name="seed">Not 0: the disk has a write cache from now on.</param>
    private LvolStore Restart(bool clean, int seed = 0)
    {
        if (clean) { Close(); }
        else
        {
            // The process dies, or the power goes: nothing else happens any more.
            _reactor.Dispose();
            _reactor = new IoReactor(new SimulatedDriver(), "test");
            _disk.ReleaseClaim();
        }
        Open(clean, seed);
        return _store;
    }

    private void Close() => Assert.Equal(Errno.None, Run(_store.CloseAsync));

    private void Open(bool clean, int seed = 0)
    {
        CheckReport report = Run(() => PoolChecker.CheckAsync(_disk, CheckOptions.Default));
        Assert.True(report.IsClean, string.Join("\n", report.Findings.Take(10)));
        Assert.True(!clean || _disk.TryClaim("nobody", out _));
        _disk.ReleaseClaim();
        _bdev = seed == 0 ? _disk : new VolatileBdev(_disk, seed) { OwnsInner = false };
        OpenResult<LvolStore> opened = Run(() => LvolStore.OpenAsync(_bdev, new PoolOptions()));
        Assert.True(opened.Value is not null, opened.Error);
        _store = opened.Value;
    }

    private void InFileSystem(Action<BlobfsSession> work)
    {
        Pool pool = Run(() => Pool.OpenAsync(_bdev, new PoolOptions())).Value!;
        Volume volume = Run(() => pool.OpenVolumeAsync(LvolStore.VolumeName)).Value!;
        Blobfs fileSystem = Run(() => Blobfs.MountAsync(volume, new BlobfsOptions())).Value;
        BlobfsSession session = fileSystem.OpenSession();
        work(session);
        session.EndSession();
        Assert.Equal(Errno.None, Run(fileSystem.CloseAsync));
        Assert.Equal(Errno.None, Run(pool.CloseAsync));
    }

    private void Make(BlobfsSession session, string name) =>
        Assert.Equal(Errno.None, Run(() => session.MakeNodeAsync(new CreateContext(new FuseCaller(0, 0, 1), 0), 1, Bytes(name), FileMode.S_IFREG | 0x1A4, 0)).Errno);

    private void Mark(BlobfsSession session, string name, byte[] value)
    {
        ulong node = Run(() => session.LookupAsync(1, Bytes(name))).Value.Inode;
        IoVec mark = Bytes("trusted.lvol"), content = _memory.Slice(1024, value.Length);
        value.CopyTo(content.Span);
        Assert.Equal(Errno.None, Run(() => session.SetXattrAsync(node, mark, content, 0, killSgid: false)));
    }

    private IoVec Bytes(string text)
    {
        byte[] bytes = System.Text.Encoding.UTF8.GetBytes(text);
        bytes.CopyTo(_memory.Span);
        return _memory.Slice(0, bytes.Length);
    }

    private IoResult Write(Lvol.Lvol lvol, long offset, byte[] data)
    {
        data.CopyTo(_memory.Span);
        return Run(() => lvol.Bdev.WriteAsync(offset, Pieces(data.Length)));
    }

    private byte[] Read(Lvol.Lvol lvol, long offset, int length)
    {
        _memory.Span[..length].Fill(0xAA);
        Assert.Equal(length, Run(() => lvol.Bdev.ReadAsync(offset, Pieces(length))).Value);
        return _memory.Span[..length].ToArray();
    }

    // In segments that end anywhere.
    private IoVecs Pieces(int length)
    {
        _list.Clear();
        for (int done = 0, piece; done < length; done += piece) { _list.Add(_memory.Slice(done, piece = Math.Min(length - done, 100_003))); }
        return _list.View();
    }

    private static byte[] Filled(long length, byte value)
    {
        byte[] bytes = new byte[length];
        bytes.AsSpan().Fill(value);
        return bytes;
    }

    private T Run<T>(Func<IoTask<T>> work) => _reactor.RunUntilComplete(work);
}
