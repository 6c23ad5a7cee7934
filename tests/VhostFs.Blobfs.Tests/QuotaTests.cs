using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobfs.Tests;

/// <summary>Limits of bytes and inodes per volume: EDQUOT at them, room by deleting, usage that is exact whatever happened.</summary>
public sealed class QuotaTests : IDisposable
{
    private const ulong Root = BlobfsHarness.Root;
    private const int Block = 4096;
    private readonly BlobfsHarness _fs = new();

    public void Dispose() => _fs.Dispose();

    [Fact]
    public void Blocks_are_refused_at_the_limit_and_given_back_by_deleting_and_truncating()
    {
        _fs.SetQuota(blocks: 10);
        ulong a = _fs.MakeFile(Root, "a").Value.Inode, b = _fs.MakeFile(Root, "b").Value.Inode;
        Assert.Equal(8 * Block, _fs.Write(a, 0, new byte[8 * Block]).Bytes);
        Assert.Equal(Errno.EDQUOT, _fs.Write(b, 0, new byte[3 * Block]).Errno);
        Assert.Equal(2 * Block, _fs.Write(b, 0, new byte[2 * Block]).Bytes);
        Assert.Equal(Errno.EDQUOT, _fs.Write(b, 2 * Block, [1]).Errno);
        Assert.Equal(Errno.EDQUOT, _fs.Fallocate(b, Allocation.KeepSize, 1 << 20, Block));
        Assert.Equal(10, _fs.Volume.UsedBlocks);
        Assert.Equal(Errno.None, _fs.Truncate(a, 7 * Block));
        Assert.Equal(1, _fs.Write(b, 2 * Block, [1]).Bytes);
        Assert.Equal(Errno.None, _fs.Fallocate(a, Allocation.PunchHole | Allocation.KeepSize, 0, 3 * Block));
        Assert.Equal(7, _fs.Volume.UsedBlocks);
        _fs.Forget(b);
        Assert.Equal(Errno.None, _fs.Unlink(Root, "b"));
        _fs.Settle();
        Assert.Equal(Errno.None, _fs.Fallocate(a, 0, 0, 10 * Block));
        Assert.Equal(Errno.EDQUOT, _fs.Fallocate(a, 0, 0, 11 * Block));
    }

    [Fact]
    public void What_is_there_may_be_overwritten_at_the_limit()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        _fs.Write(file, 0, new byte[64 * Block]);
        _fs.SetQuota(blocks: 64);
        Assert.Equal(10, _fs.Write(file, 100, new byte[10]).Bytes); // through the log
        Assert.Equal(64 * Block, _fs.Write(file, 0, new byte[64 * Block]).Bytes); // to new blocks, which replace old ones
        Assert.Equal(64, _fs.Volume.UsedBlocks);
        ulong small = _fs.MakeFile(Root, "small").Value.Inode; // a file in the tree takes no block
        Assert.Equal(2000, _fs.Write(small, 0, new byte[2000]).Bytes);
        Assert.Equal(Errno.EDQUOT, _fs.Write(small, 2000, new byte[2000]).Errno);
        Assert.Equal(2000, _fs.Stat(small).Value.SizeBytes);
    }

    [Fact]
    public void A_limit_below_what_is_there_takes_nothing_away()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        _fs.Write(file, 0, new byte[20 * Block]);
        _fs.SetQuota(blocks: 5, inodes: 1);
        Assert.Equal(20 * Block, _fs.Read(file, 0, 30 * Block).Length);
        Assert.Equal(Errno.EDQUOT, _fs.Write(file, 20 * Block, [1]).Errno);
        Assert.Equal(Errno.EDQUOT, _fs.MakeFile(Root, "g").Errno);
        FsStatistics full = Statistics();
        Assert.Equal((5UL, 0UL, 0UL, 1UL, 0UL), (full.Blocks, full.FreeBlocks, full.AvailableBlocks, full.Files, full.FreeFiles));
        Assert.Equal(Errno.None, _fs.Truncate(file, 4 * Block));
        Assert.Equal(1, _fs.Write(file, 4 * Block, [1]).Bytes);
        _fs.SetQuota();
        Assert.Equal(20 * Block, _fs.Write(file, 0, new byte[20 * Block]).Bytes);
    }

    [Fact]
    public void Inodes_are_refused_at_the_limit_whatever_they_are()
    {
        _fs.SetQuota(inodes: 4); // the root directory is one of them
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        Assert.Equal(Errno.None, _fs.MakeDirectory(Root, "d").Errno);
        ulong link = _fs.Symlink(Root, "l", "x").Value.Inode;
        Assert.Equal(Errno.EDQUOT, _fs.MakeFile(Root, "more").Errno);
        Assert.Equal(Errno.EDQUOT, _fs.MakeDirectory(Root, "more").Errno);
        Assert.Equal(Errno.EDQUOT, _fs.Symlink(Root, "more", "x").Errno);
        Assert.Equal(Errno.EDQUOT, _fs.Create(Root, "more").Errno);
        Assert.Equal(Errno.EDQUOT, _fs.Temporary(Root).Errno);
        Assert.Equal(Errno.EDQUOT, _fs.Rename(Root, "f", Root, "g", Renames.Whiteout));
        Assert.Equal(Errno.None, _fs.Link(file, Root, "hard").Errno); // a name, not an inode
        Assert.Equal(Errno.None, _fs.Rename(Root, "f", Root, "g"));
        Assert.Equal((4UL, 0UL), (Statistics().Files, Statistics().FreeFiles));
        _fs.Forget(link);
        Assert.Equal(Errno.None, _fs.Unlink(Root, "l"));
        _fs.Settle();
        Assert.Equal(1UL, Statistics().FreeFiles);
        Assert.Equal(Errno.None, _fs.MakeFile(Root, "more").Errno);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Limits_and_usage_survive_a_mount(bool clean)
    {
        _fs.SetQuota(blocks: 100, inodes: 50);
        ulong kept = _fs.MakeFile(Root, "kept").Value.Inode;
        for (int i = 0; i < 20; i++)
        {
            ulong file = _fs.MakeFile(Root, $"f{i}").Value.Inode;
            _fs.Write(file, 0, new byte[2 * Block]);
            if (i == 10) { _fs.Run(_fs.Session.SyncFsAsync); }
            _fs.Forget(file);
            if (i % 3 == 0) { _fs.Unlink(Root, $"f{i}"); }
        }
        _fs.Write(kept, 0, new byte[40 * Block]);
        _fs.Write(kept, 0, new byte[40 * Block]);
        _fs.Truncate(kept, 33 * Block);
        _fs.Settle();
        (long blocks, long inodes) = (_fs.Volume.UsedBlocks, _fs.Volume.InodeCount);
        Assert.Equal((33 + (13 * 2), 2 + 13), (blocks, inodes));
        _fs.Remount(clean); // "vhostfs check" counts, too
        Assert.Equal((blocks, inodes), (_fs.Volume.UsedBlocks, _fs.Volume.InodeCount));
        Assert.Equal(new VolumeQuota(100, 50), _fs.Volume.Quota);
        FsStatistics told = Statistics();
        Assert.Equal((100UL, 100 - (ulong)blocks, 50UL, 50 - (ulong)inodes), (told.Blocks, told.FreeBlocks, told.Files, told.FreeFiles));
    }

    [Fact]
    public void A_pool_with_less_than_the_limit_says_what_it_really_has()
    {
        _fs.SetQuota(blocks: 1 << 30);
        FsStatistics all = Statistics();
        Assert.Equal(1UL << 30, all.Blocks);
        Assert.True(all.AvailableBlocks < 64 << 20 >> 12);
    }

    [Fact]
    public void Metadata_beside_the_blocks_is_bounded_as_well()
    {
        _fs.SetQuota(blocks: 10);
        Errno refused = Errno.None;
        for (int made = 0; refused == Errno.None && made < 30_000; made++)
        {
            FsResult<InodeAttributes> file = _fs.MakeFile(Root, $"a file with a name of some length {made}");
            refused = file.Errno;
            if (refused == Errno.None) { refused = _fs.Write(file.Value.Inode, 0, new byte[2000]).Errno; }
            if (refused == Errno.None) { _fs.Forget(file.Value.Inode); }
        }
        Assert.Equal(Errno.EDQUOT, refused);
        Assert.Equal(Errno.None, _fs.Unlink(Root, "a file with a name of some length 0"));
        Assert.Equal(Errno.None, _fs.Unlink(Root, "a file with a name of some length 1"));
    }

    private FsStatistics Statistics() => _fs.Run(_fs.Session.StatFsAsync).Value;
}
