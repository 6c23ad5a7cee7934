using VhostFs.Bdev;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobfs.Tests;

public sealed class OrphanTests : IDisposable
{
    private const ulong Root = BlobfsHarness.Root;
    private readonly BlobfsHarness _fs = new();

    public void Dispose() => _fs.Dispose();

    [Fact]
    public void An_unlinked_file_lives_until_the_last_session_lets_go_of_it()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        _fs.Write(file, 0, new byte[10_000]);
        BlobfsSession first = _fs.Session, second = _fs.Fs.OpenSession();
        _fs.Session = second;
        Assert.Equal(Errno.None, _fs.Open(file));
        Assert.Equal(Errno.None, _fs.Unlink(Root, "f"));
        _fs.Session = first;
        _fs.Forget(file);
        Assert.Equal(10_000, _fs.Read(file, 0, 20_000).Length);
        Assert.Equal((0u, 1), (_fs.Stat(file).Value.LinkCount, _fs.Fs.OrphanCount));
        Assert.Equal(Errno.ENOENT, _fs.Link(file, Root, "g").Errno);
        _fs.EndSession(second);
        _fs.Settle();
        Assert.Equal(Errno.ESTALE, _fs.Stat(file).Errno);
        Assert.Equal(Errno.ESTALE, _fs.Open(file));
        Assert.Equal(0, _fs.Fs.OrphanCount);
    }

    [Fact]
    public void Hostile_forgets_and_releases_free_nothing_in_use()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        Assert.Equal(Errno.None, _fs.Open(file));
        _fs.Forget(file, ulong.MaxValue);
        _fs.Forget(12345, 7);
        _fs.Run(() => _fs.Session.ReleaseAsync(777, 0));
        Assert.Equal(Errno.None, _fs.Unlink(Root, "f"));
        _fs.Settle();
        Assert.Equal(Errno.None, _fs.Stat(file).Errno);
        for (int i = 0; i < 3; i++) { _fs.Run(() => _fs.Session.ReleaseAsync(file, 0)); }
        _fs.Settle();
        Assert.Equal(Errno.ESTALE, _fs.Stat(file).Errno);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_mount_deletes_what_was_left_without_a_name(bool clean)
    {
        long before = _fs.Volume.Space.FreeBlocks;
        ulong big = _fs.MakeFile(Root, "big").Value.Inode, temporary = _fs.Temporary(Root).Value.Attributes.Inode;
        for (int i = 0; i < 24; i++) { _fs.Write(big, i << 20, new byte[1 << 20]); }
        for (int i = 0; i < 100; i++) { Assert.Equal(Errno.None, _fs.SetXattr(big, $"user.{i}", new byte[3000])); }
        Assert.Equal(Errno.None, _fs.Unlink(Root, "big"));
        Assert.Equal(24L << 20, _fs.Stat(big).Value.SizeBytes);
        _fs.Remount(clean);
        Assert.Equal((Errno.ESTALE, Errno.ESTALE), (_fs.Stat(big).Errno, _fs.Stat(temporary).Errno));
        _fs.Run(() => _fs.Session.SyncFsAsync());
        Assert.True(_fs.Volume.Space.FreeBlocks > before - 512, $"{before} blocks were free, {_fs.Volume.Space.FreeBlocks} are now");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(5)]
    [InlineData(8)]
    public void A_truncation_cut_short_by_a_crash_is_finished_by_the_mount(int turns)
    {
        const long Stride = 4L << 20;
        const int Pieces = 200;
        using var fs = new BlobfsHarness(256L << 20, delayNs: 100_000);
        ulong file = fs.MakeFile(Root, "f").Value.Inode;
        byte[] piece = Enumerable.Repeat((byte)9, 4096).ToArray();
        for (int i = 0; i < Pieces; i++) { fs.Write(file, i * Stride, piece); }
        IoTask<FsResult<InodeAttributes>> cutting = default;
        fs.Do(() => cutting = fs.Session.SetAttributesAsync(fs.Caller, file, new SetAttributes(SizeBytes: 100)));
        Assert.False(cutting.IsCompleted);
        for (int i = 0; i < turns; i++) { fs.Turn(); }
        fs.Remount(clean: false); // the checker runs in between: half cut is a legal state
        InodeAttributes after = fs.Stat(file).Value;
        Assert.True(after.SizeBytes == 100 ? after.Blocks512 == 8 : after.Blocks512 == 8 * Pieces, after.ToString());
        Assert.Equal(Errno.None, fs.Truncate(file, Pieces * Stride));
        if (after.SizeBytes == 100)
        {
            for (int i = 1; i < Pieces; i++) { Assert.Equal(new byte[4096], fs.Read(file, i * Stride, 4096)); }
        }
        fs.Remount(clean: true);
    }

    [Fact]
    public void A_truncation_stopped_by_an_unreadable_node_is_finished_before_the_file_grows()
    {
        const int Pieces = 400;
        const long Stride = 512 << 10;
        byte[] piece = Enumerable.Repeat((byte)9, 4096).ToArray();
        int stopped = 0;
        for (int way = 0; way < 3; way++)
        {
            for (int skip = 0; ; skip++)
            {
                using var fs = new BlobfsHarness(256L << 20, canFail: true);
                ulong file = fs.MakeFile(Root, "f").Value.Inode;
                for (int i = 0; i < Pieces; i++) { fs.Write(file, i * Stride, piece); }
                fs.Remount(clean: true); // the nodes are on the disk only
                fs.Faults!.Inject(new BdevFault(BdevOperations.Read, Skip: skip));
                Errno cut = fs.Truncate(file, 100);
                fs.Faults.Clear();
                if (cut == Errno.None) { break; }
                bool isCut = fs.Stat(file).Value.SizeBytes == 100;
                stopped += isCut ? 1 : 0;
                Errno grown = way switch
                {
                    0 => fs.Truncate(file, Pieces * Stride),
                    1 => fs.Write(file, (Pieces * Stride) - 1, "x"u8).Errno,
                    _ => fs.Fallocate(file, 0, (Pieces * Stride) - 4096, 4096),
                };
                Assert.Equal(Errno.None, grown);
                for (int i = 1; i < Pieces; i++) { Assert.Equal(isCut ? new byte[4096] : piece, fs.Read(file, i * Stride, 4096)); }
                fs.Remount(clean: true);
            }
        }
        Assert.True(stopped >= 3, $"stopped {stopped} times half way");
    }

    [Fact]
    public void A_deletion_stopped_by_an_unreadable_node_is_tried_again_with_the_next_one()
    {
        using var fs = new BlobfsHarness(256L << 20, canFail: true);
        foreach (string name in new[] { "large", "small" }) { fs.MakeFile(Root, name); }
        ulong file = fs.Lookup(Root, "large").Value.Inode;
        for (int i = 0; i < 400; i++) { fs.Write(file, (long)i << 19, new byte[4096]); }
        fs.Write(fs.Lookup(Root, "small").Value.Inode, 0, new byte[4096]); // content in blocks: it is deleted in steps, too
        fs.Remount(clean: true);
        fs.Lookup(Root, "large"); // keeps it for the moment
        Assert.Equal(Errno.None, fs.Unlink(Root, "large"));
        fs.Faults!.Inject(new BdevFault(BdevOperations.Read));
        fs.Forget(file);
        fs.Settle();
        Assert.Equal(1, fs.Faults.InjectedErrors);
        Assert.Equal(1, fs.Fs.OrphanCount);
        Assert.Equal(Errno.None, fs.Unlink(Root, "small"));
        fs.Settle();
        fs.Settle();
        Assert.Equal(0, fs.Fs.OrphanCount);
    }

    [Fact]
    public void A_temporary_file_can_get_a_name_once()
    {
        ulong file = _fs.Temporary(Root).Value.Attributes.Inode;
        Assert.Equal(0u, _fs.Stat(file).Value.LinkCount);
        _fs.Write(file, 0, "hello"u8);
        Assert.Equal(1u, _fs.Link(file, Root, "f").Value.LinkCount);
        _fs.Remount(clean: false);
        Assert.Equal("hello"u8.ToArray(), _fs.Read(_fs.Lookup(Root, "f").Value.Inode, 0, 10));
        Assert.Equal(Errno.None, _fs.Unlink(Root, "f"));
        Assert.Equal(Errno.ENOENT, _fs.Link(file, Root, "g").Errno);
    }

    [Fact]
    public void A_session_that_ends_drops_all_its_references_and_may_begin_anew()
    {
        for (int i = 0; i < 300; i++)
        {
            _fs.Create(Root, $"f{i}");
            _fs.Unlink(Root, $"f{i}");
        }
        Assert.Equal(300, _fs.Fs.OrphanCount);
        _fs.EndSession(_fs.Session);
        for (int i = 0; i < 20; i++) { _fs.Settle(); }
        Assert.Equal((0, 0), (_fs.Fs.OrphanCount, _fs.Session.ReferencedInodes));
        Assert.Equal(Errno.None, _fs.MakeFile(Root, "f").Errno);
    }
}
