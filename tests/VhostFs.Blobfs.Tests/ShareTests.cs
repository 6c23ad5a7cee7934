using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobfs.Tests;

/// <summary>copy_file_range that shares blocks: two files with the same blocks, and each of them its own content for ever after. Each remount runs the checker.</summary>
public sealed class ShareTests : IDisposable
{
    private const ulong Root = BlobfsHarness.Root;
    private const int Block = 4096;
    private readonly BlobfsHarness _fs = new();
    private readonly Random _random = new(7);
    private readonly ulong _source;
    private readonly ulong _target;

    public ShareTests()
    {
        _source = _fs.MakeFile(Root, "source").Value.Inode;
        _target = _fs.MakeFile(Root, "target").Value.Inode;
    }

    public void Dispose() => _fs.Dispose();

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_clone_takes_no_space_and_the_last_owner_gives_it_back(bool clean)
    {
        byte[] data = Write(_source, 5_000_001);
        Assert.Equal(Errno.None, _fs.Run(_fs.Volume.SyncAsync));
        long free = _fs.Volume.Space.FreeBlocks;
        Assert.Equal(data.Length, Copy(_source, 0, _target, 0, 1L << 40));
        Assert.Equal(free, _fs.Volume.Space.FreeBlocks);
        Assert.Equal(_fs.Stat(_source).Value.Blocks512, _fs.Stat(_target).Value.Blocks512);
        _fs.Remount(clean);
        Assert.Equal(data, ReadAll(_target));
        Assert.Equal(Errno.None, _fs.Unlink(Root, "source"));
        if (clean) { _fs.Forget(_source); }
        _fs.Settle();
        Assert.Equal(Errno.None, _fs.Run(_fs.Volume.SyncAsync));
        Assert.Equal(free, _fs.Volume.Space.FreeBlocks);
        Assert.Equal(data, ReadAll(_target));
        Assert.Equal(Errno.None, _fs.Truncate(_target, 0));
        Assert.Equal(Errno.None, _fs.Run(_fs.Volume.SyncAsync));
        Assert.True(_fs.Volume.Space.FreeBlocks > free + 1200);
        _fs.Remount(clean: true);
    }

    [Theory]
    [InlineData(0, 1)] // through the log, if the block were its own
    [InlineData(5000, 300)]
    [InlineData(4096, 8192)]
    [InlineData(0, 31 * 1024)]
    [InlineData(3, 200_000)]
    public void An_overwrite_is_seen_by_its_own_file_only(int offset, int length)
    {
        byte[] data = Write(_source, 300_000);
        Assert.Equal(data.Length, Copy(_source, 0, _target, 0, data.Length));
        byte[] news = Bytes(length);
        byte[] changed = Patched(data, offset, news);
        Assert.Equal(length, _fs.Write(_target, offset, news).Bytes);
        AssertContents(data, changed);
        _fs.Remount(clean: false);
        AssertContents(data, changed);
        // Now the source is the only owner of the block again, and overwrites it in place.
        byte[] last = Bytes(length);
        Assert.Equal(length, _fs.Write(_source, offset, last).Bytes);
        _fs.Remount(clean: true);
        AssertContents(Patched(data, offset, last), changed);
    }

    [Fact]
    public void What_is_only_in_the_log_yet_is_shared_as_well()
    {
        byte[] data = Write(_source, 100_000);
        Assert.Equal(Errno.None, _fs.Run(_fs.Session.SyncFsAsync));
        byte[] news = Bytes(100);
        Assert.Equal(100, _fs.Write(_source, 9000, news).Bytes);
        Assert.Equal(data.Length, Copy(_source, 0, _target, 0, data.Length));
        data = Patched(data, 9000, news);
        AssertContents(data, data);
        Assert.Equal(100, _fs.Write(_source, 9050, news).Bytes);
        _fs.Remount(clean: false);
        AssertContents(Patched(data, 9050, news), data);
    }

    [Fact]
    public void Cutting_punching_and_zeroing_leave_the_other_file_alone()
    {
        byte[] data = Write(_source, 100_000);
        Assert.Equal(data.Length, Copy(_source, 0, _target, 0, data.Length));
        Assert.Equal(Errno.None, _fs.Truncate(_target, 50_001));
        Assert.Equal(Errno.None, _fs.Fallocate(_target, Allocation.PunchHole | Allocation.KeepSize, 5000, 20_000));
        Assert.Equal(Errno.None, _fs.Fallocate(_target, Allocation.ZeroRange, 30_000, 100));
        byte[] cut = data[..50_001];
        cut.AsSpan(5000, 20_000).Clear();
        cut.AsSpan(30_000, 100).Clear();
        AssertContents(data, cut);
        Assert.Equal(Errno.None, _fs.Truncate(_target, 60_000));
        _fs.Remount(clean: false);
        AssertContents(data, [.. cut, .. new byte[9999]]);
    }

    [Fact]
    public void Ragged_ends_are_copied_and_what_lies_behind_them_stays()
    {
        byte[] data = Write(_source, 100_000), old = Write(_target, 200_000);
        Assert.Equal(60_000, Copy(_source, 1000, _target, 1000 + (3 * Block), 60_000));
        byte[] expected = Patched(old, 1000 + (3 * Block), data[1000..61_000]);
        Assert.Equal(expected, ReadAll(_target));
        // The end of the source is not the end of the target.
        Assert.Equal(data.Length, Copy(_source, 0, _target, 0, data.Length));
        expected = Patched(expected, 0, data);
        Assert.Equal(expected, ReadAll(_target));
        _fs.Remount(clean: false);
        AssertContents(data, expected);
    }

    [Fact]
    public void Holes_and_reserved_blocks_become_holes()
    {
        Write(_target, 20 * Block);
        byte[] data = Bytes(Block);
        Assert.Equal(Errno.None, _fs.Truncate(_source, 10 * Block));
        Assert.Equal(Errno.None, _fs.Fallocate(_source, 0, 4 * Block, 2 * Block));
        Assert.Equal(Block, _fs.Write(_source, 8 * Block, data).Bytes);
        Assert.Equal(10 * Block, Copy(_source, 0, _target, 5 * Block, 10 * Block));
        Assert.Equal(11 * 8, _fs.Stat(_target).Value.Blocks512);
        byte[] expected = new byte[10 * Block];
        data.CopyTo(expected, 8 * Block);
        Assert.Equal(expected, _fs.Read(_target, 5 * Block, 10 * Block));
        Assert.Equal(3 * 8, _fs.Stat(_source).Value.Blocks512);
        _fs.Remount(clean: true);
    }

    [Fact]
    public void Parts_of_one_file_share_blocks_and_nothing_is_written_twice_for_a_clone_of_a_clone()
    {
        byte[] data = Write(_source, 8 * Block);
        Assert.Equal(4 * Block, Copy(_source, 0, _source, 4 * Block, 4 * Block));
        Assert.Equal(8 * Block, Copy(_source, 0, _source, 8 * Block, 8 * Block));
        Assert.Equal(16 * Block, Copy(_source, 0, _target, 0, 16 * Block));
        Assert.Equal(16 * Block, Copy(_source, 0, _target, 0, 16 * Block)); // the same blocks already
        byte[] quarter = data[..(4 * Block)];
        byte[] expected = [.. quarter, .. quarter, .. quarter, .. quarter];
        _fs.Remount(clean: false);
        AssertContents(expected, expected);
        Assert.Equal(Errno.None, _fs.Fallocate(_source, Allocation.PunchHole | Allocation.KeepSize, 0, 15 * Block));
        Assert.Equal(Errno.None, _fs.Truncate(_target, Block));
        _fs.Remount(clean: true);
        Assert.Equal(quarter[..Block], ReadAll(_target));
    }

    [Fact]
    public void Inline_content_is_copied_into_and_out_of()
    {
        byte[] small = Write(_target, 1500), data = Write(_source, 3 * Block);
        Assert.Equal(2 * Block, Copy(_source, 0, _target, 2 * Block, 2 * Block));
        Assert.Equal([.. small, .. new byte[(2 * Block) - 1500], .. data[..(2 * Block)]], ReadAll(_target));
        ulong third = _fs.MakeFile(Root, "third").Value.Inode, fourth = _fs.MakeFile(Root, "fourth").Value.Inode;
        byte[] little = Write(third, 2000);
        Assert.Equal(2000, Copy(third, 0, fourth, 0, 1 << 20));
        Assert.Equal(little, ReadAll(fourth));
        _fs.Remount(clean: true);
    }

    [Fact]
    public void A_full_pool_can_clone_but_not_overwrite_what_is_shared()
    {
        using var fs = new BlobfsHarness(16L << 20);
        ulong source = fs.MakeFile(Root, "source").Value.Inode, target = fs.MakeFile(Root, "target").Value.Inode;
        byte[] data = Bytes(1 << 20);
        long size = 0;
        while (fs.Write(source, size, data) is { IsError: false } written) { size += written.Bytes; }
        while (fs.Write(source, size, data.AsSpan(0, Block)) is { IsError: false } written) { size += written.Bytes; }
        Assert.Equal(size, fs.Run(() => fs.Session.CopyFileRangeAsync(source, 0, 0, target, 0, 0, size)).Value);
        Assert.Equal(Errno.ENOSPC, fs.Write(target, 100, [1, 2, 3]).Errno);
        Assert.Equal(Errno.ENOSPC, fs.Truncate(target, size - 1));
        Assert.Equal(data[..Block], fs.Read(target, 0, Block));
        Assert.Equal(Errno.None, fs.Unlink(Root, "source"));
        fs.Forget(source);
        fs.Settle();
        Assert.Equal(3, fs.Write(target, 100, [1, 2, 3]).Bytes);
        fs.Remount(clean: true);
        Assert.Equal([.. data[..100], 1, 2, 3, .. data[103..Block]], fs.Read(target, 0, Block));
    }

    [Fact]
    public void A_block_with_as_many_owners_as_it_can_have_is_copied()
    {
        byte[] data = Write(_source, Block);
        long blocks = 1;
        for (; blocks < 65_536; blocks *= 2) { Assert.Equal(blocks * Block, CopyAll(_source, 0, blocks * Block, blocks * Block)); }
        // The last one is not the block of all others.
        Assert.Equal(data, _fs.Read(_source, 0, Block));
        Assert.Equal(data, _fs.Read(_source, 65_535L * Block, Block));
        _fs.Remount(clean: false);
        Assert.Equal(Errno.None, _fs.Truncate(_source, 0));
        _fs.Remount(clean: true);
    }

    [Fact]
    public void Sharing_is_a_change_of_content()
    {
        Write(_source, 2 * Block);
        Assert.Equal(Errno.None, _fs.Set(_target, new Fuse.SetAttributes(Mode: 0x9FF)).Errno); // set-user-id
        Fuse.InodeAttributes before = _fs.Stat(_target).Value;
        Assert.Equal(2 * Block, Copy(_source, 0, _target, 0, 2 * Block));
        Fuse.InodeAttributes after = _fs.Stat(_target).Value;
        Assert.NotEqual(before.ModifyTime, after.ModifyTime);
        Assert.NotEqual(before.ChangeTime, after.ChangeTime);
        Assert.Equal(before.Mode, after.Mode); // set-id bits are the kernel's to take away, before it copies
    }

    private void AssertContents(byte[] source, byte[] target)
    {
        Assert.Equal(source, ReadAll(_source));
        Assert.Equal(target, ReadAll(_target));
    }

    private long CopyAll(ulong file, long from, long to, long length)
    {
        long done = 0;
        while (done < length) { done += Copy(file, from + done, file, to + done, length - done); }
        return done;
    }

    private long Copy(ulong source, long from, ulong target, long to, long length)
    {
        IoResult copied = _fs.Run(() => _fs.Session.CopyFileRangeAsync(source, 0, from, target, 0, to, length));
        Assert.False(copied.IsError, copied.ToString());
        return copied.Bytes;
    }

    private byte[] Write(ulong file, int length)
    {
        byte[] data = Bytes(length);
        for (int at = 0; at < length; at += 1 << 20) { Assert.False(_fs.Write(file, at, data.AsSpan(at, Math.Min(1 << 20, length - at))).IsError); }
        return data;
    }

    private byte[] ReadAll(ulong file) => _fs.Read(file, 0, (int)_fs.Stat(file).Value.SizeBytes);

    private byte[] Bytes(int length)
    {
        byte[] data = new byte[length];
        _random.NextBytes(data);
        return data;
    }

    private static byte[] Patched(byte[] data, int offset, byte[] news)
    {
        byte[] changed = new byte[Math.Max(data.Length, offset + news.Length)];
        data.CopyTo(changed, 0);
        news.CopyTo(changed, offset);
        return changed;
    }
}
