using VhostFs.Fuse;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobfs.Tests;

public sealed class FileTests : IDisposable
{
    private const ulong Root = BlobfsHarness.Root;
    private readonly BlobfsHarness _fs = new();
    private readonly ulong _file;

    public FileTests() => _file = _fs.MakeFile(Root, "f").Value.Inode;

    public void Dispose() => _fs.Dispose();

    [Theory]
    [InlineData(0, 2048)]
    [InlineData(0, 2049)]
    [InlineData(2047, 1)]
    [InlineData(2048, 1)]
    [InlineData(100_000, 5000)]
    public void What_is_written_is_read_with_zeroes_before_it(int offset, int length)
    {
        byte[] data = new byte[length];
        new Random(1).NextBytes(data);
        Assert.Equal(length, _fs.Write(_file, offset, data).Bytes);
        Assert.Equal(new byte[offset].Concat(data), _fs.Read(_file, 0, 200_000));
        Assert.Empty(_fs.Read(_file, offset + length, 10));
        InodeAttributes attributes = _fs.Stat(_file).Value;
        Assert.Equal(offset + length, attributes.SizeBytes);
        Assert.True(attributes.Blocks512 > 0);
    }

    [Fact]
    public void Growing_out_of_the_inode_keeps_the_content()
    {
        _fs.Write(_file, 10, "begin"u8);
        _fs.Write(_file, 5000, "end"u8);
        byte[] content = _fs.Read(_file, 0, 10_000);
        Assert.Equal(5003, content.Length);
        Assert.Equal("begin"u8.ToArray(), content[10..15]);
        Assert.Equal("end"u8.ToArray(), content[5000..]);
        Assert.True(content[15..5000].All(static b => b == 0));
    }

    [Theory]
    [InlineData(1000)]
    [InlineData(100_000)]
    public void A_file_cut_and_grown_again_reads_zeroes(int size)
    {
        _fs.Write(_file, 0, Enumerable.Repeat((byte)7, size).ToArray());
        Assert.Equal(Errno.None, _fs.Truncate(_file, size / 3));
        Assert.Equal(Errno.None, _fs.Truncate(_file, size));
        byte[] content = _fs.Read(_file, 0, size + 1);
        Assert.Equal(size, content.Length);
        Assert.True(content[..(size / 3)].All(static b => b == 7));
        Assert.True(content[(size / 3)..].All(static b => b == 0));
    }

    [Fact]
    public void Sizes_end_below_16_TiB()
    {
        Assert.Equal(Errno.None, _fs.Truncate(_file, FileLimits.MaxFileBytes));
        Assert.Equal(Errno.EFBIG, _fs.Truncate(_file, FileLimits.MaxFileBytes + 1));
        Assert.Equal(Errno.EINVAL, _fs.Truncate(_file, -1));
        Assert.Equal(1, _fs.Write(_file, FileLimits.MaxFileBytes - 1, "x"u8).Bytes);
        Assert.Equal(Errno.EFBIG, _fs.Write(_file, FileLimits.MaxFileBytes, "x"u8).Errno);
        Assert.Equal(Errno.EFBIG, _fs.Write(_file, 0, "x"u8, flags: 0x400).Errno);
        Assert.Equal("x"u8.ToArray(), _fs.Read(_file, FileLimits.MaxFileBytes - 1, 5));
        Assert.Equal(Errno.None, _fs.Truncate(_file, 0));
        Assert.Equal(0, _fs.Stat(_file).Value.Blocks512);
    }

    [Fact]
    public void Directories_and_special_files_have_no_content()
    {
        IoVecs room = _fs.Vecs(_fs.Room(10));
        Assert.Equal(Errno.EISDIR, _fs.Run(() => _fs.Session.ReadAsync(Root, 0, 0, room)).Errno);
        Assert.Equal(Errno.EISDIR, _fs.Write(Root, 0, "x"u8).Errno);
        Assert.Equal(Errno.EISDIR, _fs.Truncate(Root, 0));
        Assert.Equal(Errno.EISDIR, _fs.Open(Root));
        ulong link = _fs.Symlink(Root, "l", "t").Value.Inode;
        Assert.Equal(Errno.EINVAL, _fs.Write(link, 0, "x"u8).Errno);
        Assert.Equal(Errno.ELOOP, _fs.Open(link));
        Assert.Equal(Errno.ENOTDIR, _fs.Run(() => _fs.Session.OpenDirectoryAsync(_file, 0)).Errno);
        Assert.Equal(Errno.ESTALE, _fs.Write(999, 0, "x"u8).Errno);
    }

    [Fact]
    public void Appends_go_to_the_end_wherever_it_is()
    {
        BlobfsSession first = _fs.Session, second = _fs.Fs.OpenSession();
        for (int i = 0; i < 3000; i++)
        {
            _fs.Session = i % 2 == 0 ? first : second;
            Assert.Equal(3, _fs.Write(_file, 0, "abc"u8, flags: 0x400).Bytes);
        }
        byte[] content = _fs.Read(_file, 0, 10_000);
        Assert.Equal(9000, content.Length);
        Assert.True(content.Chunk(3).All(static c => c.AsSpan().SequenceEqual("abc"u8)));
        IoVecs source = _fs.Vecs(_fs.Bytes("X"));
        Assert.Equal(1, _fs.Run(() => _fs.Session.WriteAsync(_file, 0, 0, source, 0x400, fromCache: true, false)).Bytes);
        Assert.Equal((byte)'X', _fs.Read(_file, 0, 1)[0]);
    }

    [Fact]
    public void Writes_and_truncations_take_set_id_bits_and_capabilities_when_asked()
    {
        _fs.Set(_file, new SetAttributes(Mode: 0xDFF)); // 06777
        _fs.SetXattr(_file, "security.capability", "cap"u8);
        _fs.Write(_file, 0, "x"u8);
        Assert.Equal(Errno.ENODATA, _fs.GetXattr(_file, "security.capability").Errno);
        Assert.Equal(FileMode.S_IFREG | 0xDFFu, _fs.Stat(_file).Value.Mode);
        _fs.Write(_file, 0, "x"u8, kill: true);
        Assert.Equal(FileMode.S_IFREG | 0x1FFu, _fs.Stat(_file).Value.Mode);
        _fs.Set(_file, new SetAttributes(Mode: 0xDF7)); // no group execute: set-group-id stays
        _fs.Set(_file, new SetAttributes(SizeBytes: 0, KillPrivileges: true));
        Assert.Equal(FileMode.S_IFREG | 0x5F7u, _fs.Stat(_file).Value.Mode);
        _fs.Set(_file, new SetAttributes(Mode: 0xDFF));
        _fs.Set(_file, new SetAttributes(Uid: 5));
        Assert.Equal(FileMode.S_IFREG | 0x1FFu, _fs.Stat(_file).Value.Mode);
    }

    [Fact]
    public void Set_id_bits_and_capabilities_go_when_the_kernel_says_so_and_not_with_the_change_of_a_caller_it_does_not_tell()
    {
        var unknown = new FuseCaller(uint.MaxValue, uint.MaxValue, 1);
        _fs.Set(_file, new SetAttributes(Mode: 0xDFF)); // 06777
        Assert.Equal(Errno.None, _fs.Run(() => _fs.Session.FallocateAsync(unknown, _file, 0, 0, 0, 100)));
        Assert.Equal(FileMode.S_IFREG | 0xDFFu, _fs.Stat(_file).Value.Mode);
        _fs.SetXattr(_file, "security.capability", "cap"u8);
        _fs.AdvanceSeconds(1);
        InodeAttributes dropped = _fs.Set(_file, new SetAttributes(DropPrivileges: true)).Value;
        Assert.Equal((FileMode.S_IFREG | 0x1FFu, _fs.Now), (dropped.Mode, dropped.ChangeTime));
        Assert.Equal(Errno.ENODATA, _fs.GetXattr(_file, "security.capability").Errno);
        _fs.AdvanceSeconds(1);
        Assert.Equal(dropped, _fs.Set(_file, new SetAttributes(DropPrivileges: true)).Value); // nothing to drop: no change
        _fs.Set(_file, new SetAttributes(Mode: 0xDF7)); // set-group-id without group execute
        Assert.Equal(FileMode.S_IFREG | 0x5F7u, _fs.Set(_file, new SetAttributes(DropPrivileges: true)).Value.Mode);
        Assert.Equal(FileMode.S_IFREG | 0x5F7u, _fs.Set(_file, new SetAttributes(DropPrivileges: true)).Value.Mode);
        Assert.Equal(FileMode.S_IFREG | 0x1F7u, _fs.Set(_file, new SetAttributes(KillPrivileges: true, DropPrivileges: true)).Value.Mode);
        _fs.Set(_file, new SetAttributes(Mode: 0xDFF));
        Assert.Equal(Errno.None, _fs.Run(() => _fs.Session.FallocateAsync(new FuseCaller(1000, 1000, 1), _file, 0, 0, 0, 100)));
        Assert.Equal(FileMode.S_IFREG | 0x1FFu, _fs.Stat(_file).Value.Mode);
    }

    [Fact]
    public void Times_are_set_as_asked_and_move_with_changes()
    {
        InodeAttributes set = _fs.Set(_file, new SetAttributes(AccessTime: new FsTime(-5, 999_999_999), ModifyTime: new FsTime(1L << 40, 1))).Value;
        Assert.Equal((new FsTime(-5, 999_999_999), new FsTime(1L << 40, 1), _fs.Now), (set.AccessTime, set.ModifyTime, set.ChangeTime));
        Assert.Equal(new FsTime(7, 8), _fs.Set(_file, new SetAttributes(ChangeTime: new FsTime(7, 8))).Value.ChangeTime);
        Assert.Equal(Errno.EINVAL, _fs.Set(_file, new SetAttributes(AccessTime: new FsTime(0, 1_000_000_000))).Errno);
        set = _fs.Set(_file, new SetAttributes(AccessTimeNow: true, ModifyTimeNow: true)).Value;
        Assert.Equal((_fs.Now, _fs.Now), (set.AccessTime, set.ModifyTime));
        _fs.Write(_file, 0, "x"u8);
        InodeAttributes written = _fs.Stat(_file).Value;
        Assert.Equal((_fs.Now, _fs.Now, set.AccessTime, set.BirthTime), (written.ModifyTime, written.ChangeTime, written.AccessTime, written.BirthTime));
    }

    [Fact]
    public void Reading_sets_the_access_time_as_relatime_does()
    {
        _fs.Write(_file, 0, "x"u8);
        _fs.Read(_file, 0, 1);
        FsTime first = _fs.Stat(_file).Value.AccessTime;
        Assert.Equal(_fs.Now, first);
        _fs.Read(_file, 0, 1);
        Assert.Equal(first, _fs.Stat(_file).Value.AccessTime);
        _fs.AdvanceSeconds(86_401);
        _fs.Read(_file, 0, 1);
        Assert.Equal(_fs.Now, _fs.Stat(_file).Value.AccessTime);
    }

    [Fact]
    public void Fallocate_reserves_punches_and_zeroes()
    {
        Assert.Equal(Errno.None, _fs.Fallocate(_file, Allocation.KeepSize, 0, 100_000));
        Assert.Equal((0L, 200L), (_fs.Stat(_file).Value.SizeBytes, _fs.Stat(_file).Value.Blocks512));
        Assert.Equal(Errno.None, _fs.Fallocate(_file, 0, 0, 50_000));
        Assert.Equal(50_000, _fs.Stat(_file).Value.SizeBytes);
        _fs.Write(_file, 0, Enumerable.Repeat((byte)1, 50_000).ToArray());
        Assert.Equal(Errno.None, _fs.Fallocate(_file, Allocation.PunchHole | Allocation.KeepSize, 1000, 20_000));
        Assert.Equal(Errno.None, _fs.Fallocate(_file, Allocation.ZeroRange, 49_000, 3000));
        byte[] content = _fs.Read(_file, 0, 100_000);
        for (int i = 0; i < 52_000; i++) { Assert.Equal(i is (>= 1000 and < 21_000) or >= 49_000 ? 0 : 1, content[i]); }
        Assert.Equal(52_000, content.Length);
        Assert.Equal(Errno.EOPNOTSUPP, _fs.Fallocate(_file, Allocation.PunchHole, 0, 1));
        Assert.Equal(Errno.EOPNOTSUPP, _fs.Fallocate(_file, 8, 0, 1));
        Assert.Equal(Errno.EINVAL, _fs.Fallocate(_file, 0, 0, 0));
        Assert.Equal(Errno.EINVAL, _fs.Fallocate(_file, 0, -1, 1));
        Assert.Equal(Errno.EFBIG, _fs.Fallocate(_file, 0, FileLimits.MaxFileBytes, 1));
        Assert.Equal(Errno.EISDIR, _fs.Fallocate(Root, 0, 0, 1));
    }

    [Fact]
    public void Seeking_finds_data_and_holes()
    {
        _fs.Write(_file, 0, "x"u8);
        Assert.Equal((0L, 1L, Errno.ENXIO), (Seek(0, 3).Value, Seek(0, 4).Value, Seek(1, 3).Errno));
        _fs.Write(_file, 1 << 20, new byte[5000]);
        Assert.Equal((4096L, 1L << 20, (1L << 20) + 5000), (Seek(0, 4).Value, Seek(4096, 3).Value, Seek(1 << 20, 4).Value));
        Assert.Equal((Errno.ENXIO, Errno.EINVAL), (Seek(2 << 20, 4).Errno, Seek(0, 2).Errno));
    }

    [Fact]
    public void Copying_ranges_copies_up_to_the_end_and_refuses_overlap()
    {
        byte[] data = new byte[700_000];
        new Random(3).NextBytes(data);
        _fs.Write(_file, 0, data);
        ulong target = _fs.MakeFile(Root, "t").Value.Inode;
        Assert.Equal(699_000, Copy(_file, 1000, target, 77, 1 << 20).Value);
        Assert.Equal(data[1000..], _fs.Read(target, 77, 1 << 20));
        Assert.Equal(0, Copy(_file, 700_000, target, 0, 10).Value);
        Assert.Equal(Errno.EINVAL, Copy(_file, 0, _file, 100, 101).Errno);
        Assert.Equal(100, Copy(_file, 0, _file, 100, 100).Value);
        Assert.Equal(Errno.EISDIR, Copy(_file, 0, Root, 100, 100).Errno);
    }

    [Fact]
    public void Opening_with_truncation_empties_the_file()
    {
        _fs.Write(_file, 0, new byte[5000]);
        Assert.Equal(Errno.None, _fs.Open(_file, 0x200));
        Assert.Equal(0, _fs.Stat(_file).Value.SizeBytes);
    }

    [Fact]
    public void Large_files_lose_their_blocks_in_many_steps()
    {
        using var fs = new BlobfsHarness(512L << 20);
        ulong file = fs.MakeFile(Root, "f").Value.Inode;
        for (int i = 0; i < 400; i++) { Assert.Equal(4096, fs.Write(file, i * 300L * 4096 * 100, new byte[4096]).Bytes); }
        Assert.Equal(Errno.None, fs.Fallocate(file, Allocation.PunchHole | Allocation.KeepSize, 4096, 100L * 300 * 4096 * 100));
        Assert.Equal(300 * 8, fs.Stat(file).Value.Blocks512);
        Assert.Equal(Errno.None, fs.Truncate(file, 5));
        Assert.Equal((8L, 5L), (fs.Stat(file).Value.Blocks512, fs.Stat(file).Value.SizeBytes));
    }

    private FsResult<long> Seek(long offset, uint whence) => _fs.Run(() => _fs.Session.SeekAsync(_file, 0, offset, whence));

    private IoResult Copy(ulong source, long from, ulong target, long to, long length) =>
        _fs.Run(() => _fs.Session.CopyFileRangeAsync(source, 0, from, target, 0, to, length));
}
