using VhostFs.Fuse;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobfs.Tests;

/// <summary>A session goes on with another process: what it has open and has no name any more is still there.</summary>
public sealed class ResumeTests : IDisposable
{
    private const ulong Root = BlobfsHarness.Root;
    private readonly BlobfsHarness _fs = new(options: new BlobfsOptions { OrphanGrace = TimeSpan.FromSeconds(10) });

    public void Dispose() => _fs.Dispose();

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void An_open_file_without_a_name_outlives_the_process(bool orderly)
    {
        ulong file = _fs.Create(Root, "f").Value.Attributes.Inode, temporary = _fs.Temporary(Root).Value.Attributes.Inode;
        _fs.Write(file, 0, new byte[10_000]);
        Assert.Equal(Errno.None, _fs.Unlink(Root, "f"));
        GoOn(orderly);
        Assert.Equal(2, _fs.Fs.OrphanCount);
        WaitForGrace();
        Assert.Equal(10_000, _fs.Read(file, 0, 20_000).Length);
        Assert.Equal(3, _fs.Write(file, 0, [1, 2, 3]).Bytes);
        // O_TMPFILE may still get its name.
        Assert.Equal(Errno.None, _fs.Link(temporary, Root, "named").Errno);
        // The kernel releases what was opened before, and forgets: only the second counts, whatever number it says.
        _fs.Run(() => _fs.Session.ReleaseAsync(file, 0));
        Assert.Equal(Errno.None, _fs.Stat(file).Errno);
        _fs.Forget(file, 5);
        _fs.Settle();
        Assert.Equal(Errno.ESTALE, _fs.Stat(file).Errno);
        Assert.Equal(0, _fs.Fs.OrphanCount);
        Assert.Equal(Errno.None, _fs.Lookup(Root, "named").Errno);
    }

    [Fact]
    public void What_nobody_comes_for_is_deleted_after_a_while()
    {
        ulong file = _fs.Create(Root, "f").Value.Attributes.Inode;
        Assert.Equal(Errno.None, _fs.Unlink(Root, "f"));
        _fs.Remount(clean: false);
        Assert.Equal(1, _fs.Fs.OrphanCount);
        WaitForGrace();
        Assert.Equal(Errno.ESTALE, _fs.Stat(file).Errno);
    }

    [Fact]
    public void What_was_open_before_is_kept_when_its_name_goes_afterwards()
    {
        ulong file = _fs.Create(Root, "f").Value.Attributes.Inode, victim = _fs.Create(Root, "victim").Value.Attributes.Inode;
        _fs.MakeFile(Root, "other");
        _fs.Write(file, 0, [1, 2, 3]);
        GoOn(orderly: false);
        WaitForGrace();
        Assert.Equal(Errno.None, _fs.Unlink(Root, "f"));
        Assert.Equal(Errno.None, _fs.Rename(Root, "other", Root, "victim"));
        _fs.Settle();
        Assert.Equal(3, _fs.Read(file, 0, 10).Length);
        Assert.Equal(Errno.None, _fs.Stat(victim).Errno);
        foreach (ulong inode in new[] { file, victim }) { _fs.Forget(inode); }
        _fs.Settle();
        Assert.Equal((Errno.ESTALE, Errno.ESTALE), (_fs.Stat(file).Errno, _fs.Stat(victim).Errno));
    }

    [Fact]
    public void A_session_that_ends_lets_go_of_what_it_took_over()
    {
        ulong file = _fs.Create(Root, "f").Value.Attributes.Inode;
        Assert.Equal(Errno.None, _fs.Unlink(Root, "f"));
        GoOn(orderly: false);
        WaitForGrace();
        Assert.Equal(Errno.None, _fs.Stat(file).Errno);
        _fs.EndSession(_fs.Session);
        _fs.Settle();
        Assert.Equal(Errno.ESTALE, _fs.Stat(file).Errno);
    }

    private void GoOn(bool orderly)
    {
        if (orderly) { _fs.Do(_fs.Fs.LeaveOrphans); }
        _fs.Remount(clean: orderly);
        _fs.Do(_fs.Session.Resume);
    }

    private void WaitForGrace()
    {
        _fs.Run(async () => await Reactor.Reactor.Current.DelayAsync(11_000_000_000));
        _fs.Settle();
    }
}
