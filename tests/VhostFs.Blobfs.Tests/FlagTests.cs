using VhostFs.Fuse;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobfs.Tests;

/// <summary>What chattr's flags mean: every operation, on ext4's terms.</summary>
public sealed class FlagTests : IDisposable
{
    private const ulong Root = BlobfsHarness.Root;
    private const uint O_WRONLY = 1, O_RDWR = 2, O_TRUNC = 0x200, O_APPEND = 0x400;
    private const FsFlags All = FsFlags.SYNC | FsFlags.IMMUTABLE | FsFlags.APPEND | FsFlags.NODUMP | FsFlags.NOATIME | FsFlags.DIRSYNC;
    private static readonly SetAttributes s_touch = new(AccessTimeNow: true, ModifyTimeNow: true);
    private readonly BlobfsHarness _fs = new();

    public void Dispose() => _fs.Dispose();

    [Fact]
    public void Flags_are_told_counted_as_a_change_and_survive_a_mount()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode, directory = _fs.MakeDirectory(Root, "d").Value.Inode;
        FsTime before = _fs.Stat(file).Value.ChangeTime;
        Assert.Equal(Errno.None, Set(file, All & ~FsFlags.DIRSYNC));
        Assert.Equal(Errno.None, Set(directory, All));
        Assert.NotEqual(before, _fs.Stat(file).Value.ChangeTime);
        _fs.Remount(clean: false);
        Assert.Equal(All & ~FsFlags.DIRSYNC, _fs.Stat(file).Value.Flags);
        Assert.Equal(All, _fs.Stat(directory).Value.Flags);
        Assert.Equal(Errno.None, Set(file, FsFlags.None));
        Assert.Equal(FsFlags.None, _fs.Stat(file).Value.Flags);
    }

    [Fact]
    public void Only_what_a_request_can_say_is_changed()
    {
        ulong directory = _fs.MakeDirectory(Root, "d").Value.Inode;
        Set(directory, FsFlags.DIRSYNC | FsFlags.NODUMP);
        Assert.Equal(Errno.None, _fs.Run(() => _fs.Session.SetFlagsAsync(_fs.Caller, directory, FsFlags.NOATIME, FsFlags.NOATIME | FsFlags.NODUMP)));
        Assert.Equal(FsFlags.DIRSYNC | FsFlags.NOATIME, _fs.Stat(directory).Value.Flags);
    }

    [Fact]
    public void Special_files_have_no_flags_and_files_no_dirsync()
    {
        ulong link = _fs.Symlink(Root, "l", "to").Value.Inode, file = _fs.MakeFile(Root, "f").Value.Inode;
        Assert.Equal(Errno.ENOTTY, Set(link, FsFlags.NODUMP));
        Assert.Equal(Errno.EOPNOTSUPP, Set(file, FsFlags.DIRSYNC));
        Assert.Equal(Errno.ESTALE, Set(999, FsFlags.NODUMP));
    }

    [Fact]
    public void A_caller_that_is_known_must_be_the_owner_and_for_protection_root()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        _fs.Set(file, new SetAttributes(Uid: 1000));
        _fs.Caller = new FuseCaller(1001, 1001, 1);
        Assert.Equal(Errno.EPERM, Set(file, FsFlags.NODUMP));
        _fs.Caller = new FuseCaller(1000, 1000, 1);
        Assert.Equal(Errno.None, Set(file, FsFlags.NODUMP));
        Assert.Equal(Errno.EPERM, Set(file, FsFlags.NODUMP | FsFlags.APPEND));
        _fs.Caller = new FuseCaller(uint.MaxValue, uint.MaxValue, 1); // an id-mapping kernel, which has checked
        Assert.Equal(Errno.None, Set(file, FsFlags.NODUMP | FsFlags.APPEND));
    }

    [Fact]
    public void An_immutable_file_must_become_mutable_before_anything_else_of_it_changes()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        Set(file, FsFlags.IMMUTABLE);
        Assert.Equal(Errno.None, Set(file, FsFlags.IMMUTABLE));
        Assert.Equal(Errno.EPERM, Set(file, FsFlags.IMMUTABLE | FsFlags.NODUMP));
        Assert.Equal(Errno.None, Set(file, FsFlags.NODUMP));
    }

    [Fact]
    public void An_immutable_file_is_read_and_nothing_else()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode, other = _fs.MakeFile(Root, "other").Value.Inode;
        _fs.Write(file, 0, new byte[5000]);
        _fs.Write(other, 0, new byte[5000]);
        _fs.SetXattr(file, "user.a", [1]);
        Set(file, FsFlags.IMMUTABLE);
        Assert.Equal(Errno.None, _fs.Open(file));
        Assert.Equal(5000, _fs.Read(file, 0, 6000).Length);
        foreach (uint flags in new[] { O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_TRUNC }) { Assert.Equal(Errno.EPERM, _fs.Open(file, flags)); }
        Assert.Equal(Errno.EPERM, _fs.Write(file, 0, [1]).Errno);
        Assert.Equal(Errno.EPERM, _fs.Truncate(file, 0));
        Assert.Equal(Errno.EPERM, _fs.Truncate(file, 10_000));
        Assert.Equal(Errno.EPERM, _fs.Set(file, new SetAttributes(Mode: 0x180)).Errno);
        Assert.Equal(Errno.EPERM, _fs.Set(file, new SetAttributes(Uid: 5)).Errno);
        Assert.Equal(Errno.EPERM, _fs.Set(file, new SetAttributes(ModifyTime: new FsTime(1, 0))).Errno);
        Assert.Equal(Errno.EPERM, _fs.Set(file, s_touch).Errno);
        foreach (uint mode in new uint[] { 0, 1, 3, 0x10 }) { Assert.Equal(Errno.EPERM, _fs.Fallocate(file, mode, 0, 4096)); }
        Assert.Equal(Errno.EPERM, _fs.Run(() => _fs.Session.CopyFileRangeAsync(other, 0, 0, file, 0, 0, 5000)).Errno);
        Assert.Equal(Errno.EPERM, _fs.SetXattr(file, "user.a", [2]));
        Assert.Equal(Errno.EPERM, _fs.SetXattr(file, "user.b", new byte[60_000]));
        Assert.Equal(Errno.EPERM, _fs.RemoveXattr(file, "user.a"));
        Assert.Equal(Errno.EPERM, _fs.Link(file, Root, "g").Errno);
        Assert.Equal(Errno.EPERM, _fs.Unlink(Root, "f"));
        Assert.Equal(Errno.EPERM, _fs.Rename(Root, "f", Root, "g"));
        Assert.Equal(Errno.EPERM, _fs.Rename(Root, "other", Root, "f"));
        Assert.Equal(Errno.EPERM, _fs.Rename(Root, "other", Root, "f", Renames.Exchange));
        Assert.Equal(Errno.EEXIST, _fs.Rename(Root, "other", Root, "f", Renames.NoReplace));
        Assert.Equal(5000, _fs.Stat(file).Value.SizeBytes);
    }

    [Fact]
    public void What_a_cache_had_taken_before_the_flag_is_not_lost()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        Set(file, FsFlags.IMMUTABLE);
        IoVecs source = _fs.Vecs(_fs.Bytes("late"));
        Assert.Equal(4, _fs.Run(() => _fs.Session.WriteAsync(file, 0, 0, source, 2, fromCache: true, killPrivileges: false)).Bytes);
        Assert.Equal(Errno.None, _fs.Set(file, new SetAttributes(ModifyTime: new FsTime(5, 6), ChangeTime: new FsTime(7, 8))).Errno);
        Assert.Equal("late"u8.ToArray(), _fs.Read(file, 0, 10));
    }

    [Fact]
    public void An_append_only_file_grows_at_its_end_alone()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        _fs.Write(file, 0, "one"u8);
        Set(file, FsFlags.APPEND);
        Assert.Equal(Errno.EPERM, _fs.Open(file, O_WRONLY));
        Assert.Equal(Errno.EPERM, _fs.Open(file, O_RDWR | O_TRUNC | O_APPEND));
        Assert.Equal(Errno.None, _fs.Open(file, O_RDWR | O_APPEND));
        Assert.Equal(3, _fs.Write(file, 0, "two"u8, O_APPEND).Bytes);
        Assert.Equal("onetwo"u8.ToArray(), _fs.Read(file, 0, 10));
        Assert.Equal(Errno.EPERM, _fs.Truncate(file, 100));
        Assert.Equal(Errno.EPERM, _fs.Set(file, new SetAttributes(Mode: 0x180)).Errno);
        Assert.Equal(Errno.EPERM, _fs.Set(file, new SetAttributes(ModifyTimeNow: true)).Errno);
        Assert.Equal(Errno.None, _fs.Set(file, s_touch).Errno);
        Assert.Equal(Errno.None, _fs.Fallocate(file, 1, 0, 100_000));
        Assert.Equal(Errno.EPERM, _fs.Fallocate(file, 3, 0, 4096));
        Assert.Equal(Errno.EPERM, _fs.SetXattr(file, "user.a", [1]));
        Assert.Equal(Errno.EPERM, _fs.Link(file, Root, "g").Errno);
        Assert.Equal(Errno.EPERM, _fs.Unlink(Root, "f"));
        Assert.Equal(Errno.EPERM, _fs.Rename(Root, "f", Root, "g"));
    }

    [Fact]
    public void An_immutable_directory_keeps_its_names()
    {
        ulong directory = _fs.MakeDirectory(Root, "d").Value.Inode, file = _fs.MakeFile(directory, "f").Value.Inode;
        _fs.MakeDirectory(directory, "sub");
        _fs.MakeFile(Root, "outside");
        Set(directory, FsFlags.IMMUTABLE);
        Assert.Equal(Errno.EEXIST, _fs.MakeFile(directory, "f").Errno);
        Assert.Equal(Errno.EPERM, _fs.MakeFile(directory, "new").Errno);
        Assert.Equal(Errno.EPERM, _fs.MakeDirectory(directory, "new").Errno);
        Assert.Equal(Errno.EPERM, _fs.Symlink(directory, "new", "x").Errno);
        Assert.Equal(Errno.EPERM, _fs.Create(directory, "new").Errno);
        Assert.Equal(Errno.EPERM, _fs.Temporary(directory).Errno);
        Assert.Equal(Errno.EPERM, _fs.Link(file, directory, "new").Errno);
        Assert.Equal(Errno.ENOENT, _fs.Unlink(directory, "new"));
        Assert.Equal(Errno.EPERM, _fs.Unlink(directory, "f"));
        Assert.Equal(Errno.EPERM, _fs.RemoveDirectory(directory, "sub"));
        Assert.Equal(Errno.EPERM, _fs.Rename(directory, "f", Root, "f"));
        Assert.Equal(Errno.EPERM, _fs.Rename(Root, "outside", directory, "outside"));
        Assert.Equal(Errno.None, _fs.Write(file, 0, [1]).Errno); // it protects names, not what they name
        Assert.Equal(Errno.None, _fs.Link(file, Root, "linked").Errno);
    }

    [Fact]
    public void An_append_only_directory_takes_names_and_gives_none()
    {
        ulong directory = _fs.MakeDirectory(Root, "d").Value.Inode;
        Set(directory, FsFlags.APPEND);
        Assert.Equal(Errno.None, _fs.MakeFile(directory, "f").Errno);
        Assert.Equal(Errno.None, _fs.MakeFile(Root, "g").Errno);
        Assert.Equal(Errno.None, _fs.Rename(Root, "g", directory, "g"));
        Assert.Equal(Errno.EPERM, _fs.Rename(directory, "f", directory, "g"));
        Assert.Equal(Errno.EPERM, _fs.Rename(directory, "f", Root, "f"));
        Assert.Equal(Errno.EPERM, _fs.Unlink(directory, "f"));
        Assert.Equal(Errno.EPERM, _fs.RemoveDirectory(Root, "d"));
    }

    [Fact]
    public void New_inodes_take_over_what_ext4_hands_down()
    {
        ulong directory = _fs.MakeDirectory(Root, "d").Value.Inode;
        Set(directory, All & ~FsFlags.IMMUTABLE);
        const FsFlags handedDown = FsFlags.SYNC | FsFlags.NODUMP | FsFlags.NOATIME | FsFlags.DIRSYNC;
        Assert.Equal(handedDown, _fs.MakeDirectory(directory, "sub").Value.Flags);
        Assert.Equal(handedDown & ~FsFlags.DIRSYNC, _fs.MakeFile(directory, "f").Value.Flags);
        Assert.Equal(FsFlags.NODUMP | FsFlags.NOATIME, _fs.Symlink(directory, "l", "x").Value.Flags);
    }

    [Fact]
    public void Access_times_stand_still_with_noatime()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        _fs.Write(file, 0, [1]);
        Set(file, FsFlags.NOATIME);
        FsTime before = _fs.Stat(file).Value.AccessTime;
        _fs.Read(file, 0, 1);
        Assert.Equal(before, _fs.Stat(file).Value.AccessTime);
        Set(file, FsFlags.None);
        _fs.Read(file, 0, 1);
        Assert.NotEqual(before, _fs.Stat(file).Value.AccessTime);
    }

    [Fact]
    public void Changes_of_synchronous_files_and_directories_are_durable_when_they_are_replied_to()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode, directory = _fs.MakeDirectory(Root, "d").Value.Inode;
        Assert.Equal(0, Flushes(() => _fs.Write(file, 0, new byte[5000])));
        Set(file, FsFlags.SYNC);
        Set(directory, FsFlags.DIRSYNC);
        Assert.Equal(1, Flushes(() => _fs.Write(file, 0, [2])));
        Assert.Equal(1, Flushes(() => _fs.Write(file, 0, new byte[100_000])));
        Assert.Equal(1, Flushes(() => _fs.MakeFile(directory, "x")));
        Assert.Equal(1, Flushes(() => _fs.Rename(directory, "x", Root, "x")));
        Assert.Equal(0, Flushes(() => _fs.MakeFile(Root, "y")));
        Assert.Equal(0, Flushes(() => _fs.Read(file, 0, 10)));
    }

    private long Flushes(Action work)
    {
        long before = _fs.Volume.Statistics.Syncs;
        work();
        return _fs.Volume.Statistics.Syncs - before;
    }

    private Errno Set(ulong node, FsFlags flags) => _fs.Run(() => _fs.Session.SetFlagsAsync(_fs.Caller, node, flags, All));
}
