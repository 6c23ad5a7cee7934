using VhostFs.Fuse;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobfs.Tests;

public sealed class NameTests : IDisposable
{
    private const ulong Root = BlobfsHarness.Root;
    private readonly BlobfsHarness _fs = new();

    public void Dispose() => _fs.Dispose();

    /// <summary>The server refuses them, so only a disk that somebody made can hold them.</summary>
    [Theory]
    [InlineData("a/b")]
    [InlineData("..")]
    [InlineData(".")]
    [InlineData("a\0b")]
    public void A_name_on_the_disk_that_is_no_name_is_not_listed(string name)
    {
        Assert.Equal(Errno.None, _fs.MakeFile(Root, name).Errno);
        var writer = new ListWriter(100, plus: true);
        Assert.Equal(Errno.EIO, _fs.Run(() => _fs.Session.ReadDirectoryAsync(Root, 0, Directories.DotDotCookie, writer)));
        Assert.Empty(writer.Entries);
    }

    [Fact]
    public void A_new_volume_has_an_empty_root_directory()
    {
        InodeAttributes root = _fs.Stat(Root).Value;
        Assert.Equal((1UL, 1u, FileMode.S_IFDIR | 0x1EDu, 2u), (root.Inode, root.Generation, root.Mode, root.LinkCount));
        Assert.Equal(2, _fs.List(Root).Count);
        Assert.Equal(1UL, _fs.Lookup(Root, ".").Value.Inode);
        Assert.Equal(1UL, _fs.Lookup(Root, "..").Value.Inode);
    }

    [Fact]
    public void Creating_takes_owner_from_the_caller_and_mode_less_umask()
    {
        _fs.Caller = new FuseCaller(1000, 1001, 5);
        _fs.Umask = 0x12; // 022
        InodeAttributes file = _fs.MakeFile(Root, "f", 0x1B6).Value;
        Assert.Equal((FileMode.S_IFREG | 0x1A4u, 1000u, 1001u, 1u, 0L), (file.Mode, file.Uid, file.Gid, file.LinkCount, file.SizeBytes));
        Assert.Equal(file.ChangeTime, file.BirthTime);
        Assert.Equal(file, _fs.Lookup(Root, "f").Value);
        Assert.Equal(file.BirthTime, _fs.Stat(Root).Value.ModifyTime);
    }

    [Fact]
    public void Missing_names_parents_and_wrong_types_have_their_errors()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        Assert.Equal(Errno.ENOENT, _fs.Lookup(Root, "x").Errno);
        Assert.Equal(Errno.ENOTDIR, _fs.Lookup(file, "x").Errno);
        Assert.Equal(Errno.ESTALE, _fs.Lookup(999, "x").Errno);
        Assert.Equal(Errno.ESTALE, _fs.Stat(0).Errno);
        Assert.Equal(Errno.EEXIST, _fs.MakeDirectory(Root, "f").Errno);
        Assert.Equal(Errno.ENOTDIR, _fs.MakeFile(file, "x").Errno);
        Assert.Equal(Errno.ESTALE, _fs.MakeFile(999, "x").Errno);
        Assert.Equal(Errno.EPERM, _fs.Run(() => _fs.Session.MakeNodeAsync(_fs.Context, Root, _fs.Bytes("d"), FileMode.S_IFDIR, 0)).Errno);
        Assert.Equal(Errno.EINVAL, _fs.Run(() => _fs.Session.MakeNodeAsync(_fs.Context, Root, _fs.Bytes("d"), FileMode.S_IFLNK, 0)).Errno);
        Assert.Equal(Errno.ENOTDIR, _fs.RemoveDirectory(Root, "f"));
    }

    [Fact]
    public void Device_numbers_are_kept_for_devices_only()
    {
        InodeAttributes device = _fs.Run(() => _fs.Session.MakeNodeAsync(_fs.Context, Root, _fs.Bytes("d"), FileMode.S_IFBLK | 0x180, 0x801)).Value;
        InodeAttributes fifo = _fs.Run(() => _fs.Session.MakeNodeAsync(_fs.Context, Root, _fs.Bytes("p"), FileMode.S_IFIFO | 0x180, 0x801)).Value;
        Assert.Equal((FileMode.S_IFBLK | 0x180u, 0x801u), (device.Mode, device.DeviceNumber));
        Assert.Equal((FileMode.S_IFIFO | 0x180u, 0u), (fifo.Mode, fifo.DeviceNumber));
    }

    [Fact]
    public void Names_of_255_bytes_of_any_kind_work()
    {
        var name = new byte[255];
        for (int i = 0; i < 255; i++) { name[i] = (byte)(i + 1 == '/' ? 'x' : i + 1); }
        InodeAttributes made = _fs.Run(() => _fs.Session.MakeNodeAsync(_fs.Context, Root, _fs.Bytes(name), FileMode.S_IFREG, 0)).Value;
        Assert.Equal(made, _fs.Run(() => _fs.Session.LookupAsync(Root, _fs.Bytes(name))).Value);
    }

    [Fact]
    public void A_directory_counts_its_subdirectories_and_must_be_empty_to_go()
    {
        ulong directory = _fs.MakeDirectory(Root, "d").Value.Inode;
        ulong inner = _fs.MakeDirectory(directory, "e").Value.Inode;
        _fs.MakeFile(directory, "f");
        Assert.Equal(3u, _fs.Stat(Root).Value.LinkCount);
        Assert.Equal(3u, _fs.Stat(directory).Value.LinkCount);
        Assert.Equal(directory, _fs.Lookup(inner, "..").Value.Inode);
        Assert.Equal(Errno.ENOTEMPTY, _fs.RemoveDirectory(Root, "d"));
        Assert.Equal(Errno.EISDIR, _fs.Unlink(Root, "d"));
        Assert.Equal(Errno.None, _fs.RemoveDirectory(directory, "e"));
        Assert.Equal(Errno.None, _fs.Unlink(directory, "f"));
        Assert.Equal(Errno.None, _fs.RemoveDirectory(Root, "d"));
        Assert.Equal(2u, _fs.Stat(Root).Value.LinkCount);
        Assert.Equal(0u, _fs.Stat(directory).Value.LinkCount); // the session still looks at it
        Assert.Equal(Errno.ENOENT, _fs.MakeFile(directory, "x").Errno);
        Assert.Equal(Errno.ENOENT, _fs.Lookup(directory, "..").Errno);
    }

    [Fact]
    public void Hard_links_share_the_inode_up_to_the_limit()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        ulong directory = _fs.MakeDirectory(Root, "d").Value.Inode;
        Assert.Equal(2u, _fs.Link(file, directory, "g").Value.LinkCount);
        Assert.Equal(Errno.EEXIST, _fs.Link(file, directory, "g").Errno);
        Assert.Equal(Errno.EPERM, _fs.Link(directory, Root, "h").Errno);
        Assert.Equal(Errno.None, _fs.Unlink(Root, "f"));
        Assert.Equal(1u, _fs.Lookup(directory, "g").Value.LinkCount);
        for (uint i = 1; i < FileLimits.MaxLinks; i++) { Assert.Equal(Errno.None, _fs.Link(file, directory, $"l{i}").Errno); }
        Assert.Equal(Errno.EMLINK, _fs.Link(file, directory, "more").Errno);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3900)]
    [InlineData(3901)]
    [InlineData(4095)]
    public void Symbolic_links_of_any_length_are_read_back(int length)
    {
        string target = new string('a', length - 1) + "b";
        InodeAttributes link = _fs.Symlink(Root, "l", target).Value;
        Assert.Equal((FileMode.S_IFLNK | 0x1FFu, (long)length), (link.Mode, link.SizeBytes));
        IoVec room = _fs.Room(4096);
        Assert.Equal(length, _fs.Run(() => _fs.Session.ReadLinkAsync(link.Inode, room)).Bytes);
        Assert.Equal(target, System.Text.Encoding.UTF8.GetString(room.Span[..length]));
        _fs.Forget(link.Inode);
        Assert.Equal(Errno.None, _fs.Unlink(Root, "l"));
        Assert.Equal(Errno.ESTALE, _fs.Stat(link.Inode).Errno);
    }

    [Fact]
    public void Symbolic_links_have_a_length_limit_and_other_files_no_target()
    {
        Assert.Equal(Errno.ENAMETOOLONG, _fs.Symlink(Root, "l", new string('a', 4096)).Errno);
        Assert.Equal(Errno.ENOENT, _fs.Run(() => _fs.Session.SymlinkAsync(_fs.Context, Root, _fs.Bytes("l"), default)).Errno);
        IoVec room = _fs.Room(4096);
        Assert.Equal(Errno.EINVAL, _fs.Run(() => _fs.Session.ReadLinkAsync(Root, room)).Errno);
    }

    [Fact]
    public void Renaming_over_a_file_drops_its_link()
    {
        ulong source = _fs.MakeFile(Root, "a").Value.Inode;
        ulong victim = _fs.MakeFile(Root, "b").Value.Inode;
        _fs.Link(victim, Root, "c");
        Assert.Equal(Errno.None, _fs.Rename(Root, "a", Root, "b"));
        Assert.Equal(source, _fs.Lookup(Root, "b").Value.Inode);
        Assert.Equal(Errno.ENOENT, _fs.Lookup(Root, "a").Errno);
        Assert.Equal(1u, _fs.Stat(victim).Value.LinkCount);
        Assert.Equal(_fs.Now, _fs.Stat(source).Value.ChangeTime);
    }

    [Fact]
    public void Rename_flags_do_what_renameat2_says()
    {
        ulong a = _fs.MakeFile(Root, "a").Value.Inode;
        ulong directory = _fs.MakeDirectory(Root, "d").Value.Inode;
        ulong b = _fs.MakeDirectory(directory, "b").Value.Inode;
        Assert.Equal(Errno.EEXIST, _fs.Rename(Root, "a", directory, "b", Renames.NoReplace));
        Assert.Equal(Errno.ENOENT, _fs.Rename(Root, "a", directory, "x", Renames.Exchange));
        Assert.Equal(Errno.EINVAL, _fs.Rename(Root, "a", directory, "x", Renames.Exchange | Renames.Whiteout));
        Assert.Equal(Errno.EINVAL, _fs.Rename(Root, "a", directory, "x", Renames.Exchange | Renames.NoReplace));
        Assert.Equal(Errno.EINVAL, _fs.Rename(Root, "a", directory, "x", 8));
        Assert.Equal(Errno.None, _fs.Rename(Root, "a", directory, "b", Renames.Exchange));
        Assert.Equal((a, b), (_fs.Lookup(directory, "b").Value.Inode, _fs.Lookup(Root, "a").Value.Inode));
        Assert.Equal((4u, 2u), (_fs.Stat(Root).Value.LinkCount, _fs.Stat(directory).Value.LinkCount));
        Assert.Equal(1UL, _fs.Lookup(b, "..").Value.Inode);
        Assert.Equal(Errno.None, _fs.Rename(directory, "b", Root, "c", Renames.Whiteout));
        InodeAttributes whiteout = _fs.Lookup(directory, "b").Value;
        Assert.Equal((FileMode.S_IFCHR, 0u), (whiteout.Mode, whiteout.DeviceNumber));
        Assert.Equal(a, _fs.Lookup(Root, "c").Value.Inode);
    }

    [Fact]
    public void Renames_that_make_no_sense_are_refused()
    {
        ulong directory = _fs.MakeDirectory(Root, "d").Value.Inode;
        ulong inner = _fs.MakeDirectory(directory, "e").Value.Inode;
        _fs.MakeFile(Root, "f");
        _fs.MakeFile(inner, "g");
        Assert.Equal(Errno.EINVAL, _fs.Rename(Root, "d", inner, "x"));
        Assert.Equal(Errno.EINVAL, _fs.Rename(Root, "d", directory, "x"));
        Assert.Equal(Errno.EINVAL, _fs.Rename(inner, "g", Root, "d", Renames.Exchange));
        Assert.Equal(Errno.ENOTDIR, _fs.Rename(Root, "d", Root, "f"));
        Assert.Equal(Errno.EISDIR, _fs.Rename(Root, "f", Root, "d"));
        Assert.Equal(Errno.ENOTEMPTY, _fs.Rename(Root, _fs.MakeDirectory(Root, "h").IsError ? "" : "h", Root, "d"));
        Assert.Equal(Errno.ENOENT, _fs.Rename(Root, "x", Root, "y"));
        Assert.Equal(Errno.None, _fs.Rename(Root, "f", Root, "f"));
    }

    [Fact]
    public void Renaming_one_hard_link_over_another_changes_nothing()
    {
        ulong file = _fs.MakeFile(Root, "a").Value.Inode;
        _fs.Link(file, Root, "b");
        Assert.Equal(Errno.None, _fs.Rename(Root, "a", Root, "b"));
        Assert.Equal((file, file), (_fs.Lookup(Root, "a").Value.Inode, _fs.Lookup(Root, "b").Value.Inode));
        Assert.Equal(Errno.EEXIST, _fs.Rename(Root, "a", Root, "b", Renames.NoReplace));
    }

    [Fact]
    public void Creating_a_name_that_appeared_meanwhile_opens_it_unless_exclusive()
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        _fs.Write(file, 0, "content"u8);
        Assert.Equal(Errno.EEXIST, _fs.Create(Root, "f", openFlags: 0x80).Errno);
        FsResult<CreatedFile> opened = _fs.Create(Root, "f", openFlags: 0x200);
        Assert.Equal((file, 0L, 0x200UL), (opened.Value.Attributes.Inode, opened.Value.Attributes.SizeBytes, opened.Value.Handle & uint.MaxValue));
    }

    [Fact]
    public void A_set_group_id_directory_gives_its_group_and_strips_what_a_stranger_may_not_have()
    {
        ulong directory = _fs.MakeDirectory(Root, "d").Value.Inode;
        _fs.Set(directory, new SetAttributes(Gid: 50));
        _fs.Set(directory, new SetAttributes(Mode: 0x5FF)); // 02777
        _fs.Caller = new FuseCaller(1000, 1000, 1);
        InodeAttributes sub = _fs.MakeDirectory(directory, "s", 0x1C0).Value;
        Assert.Equal((50u, FileMode.S_IFDIR | 0x5C0u), (sub.Gid, sub.Mode));
        Assert.Equal((50u, FileMode.S_IFREG | 0x1F8u), (_fs.MakeFile(directory, "f", 0x5F8).Value.Gid, _fs.Lookup(directory, "f").Value.Mode));
        _fs.Caller = new FuseCaller(1000, 1000, 1, 50);
        Assert.Equal(FileMode.S_IFREG | 0x5F8u, _fs.MakeFile(directory, "g", 0x5F8).Value.Mode);
    }

    [Fact]
    public void Readdir_cookies_stay_valid_under_concurrent_change_even_when_names_collide()
    {
        using var fs = new BlobfsHarness(options: new BlobfsOptions { NameHash = static name => (ulong)(name.Length % 4) << 60 });
        var fixedNames = new List<string>();
        for (int i = 1; i <= 12; i++) { fixedNames.Add(new string('k', i)); }
        foreach (string name in fixedNames) { fs.MakeFile(Root, name); }
        var seen = new List<string>();
        ulong cookie = 0;
        for (int call = 0; ; call++)
        {
            var writer = new ListWriter(1, plus: call % 2 == 0);
            Assert.Equal(Errno.None, fs.Run(() => fs.Session.ReadDirectoryAsync(Root, 0, cookie, writer)));
            if (writer.Entries.Count == 0) { break; }
            cookie = writer.Entries[0].Cookie;
            seen.Add(writer.Entries[0].Name);
            fs.Unlink(Root, new string('t', call % 12 + 1));
            fs.MakeFile(Root, new string('t', (call + 1) % 12 + 1));
        }
        foreach (string name in fixedNames) { Assert.Single(seen, name); }
    }

    [Fact]
    public void Readdirplus_counts_a_lookup_for_each_entry_taken_and_none_for_the_one_refused()
    {
        for (int i = 0; i < 5; i++) { _fs.Forget(_fs.MakeFile(Root, $"f{i}").Value.Inode); }
        Assert.Equal(0, _fs.Session.ReferencedInodes);
        var writer = new ListWriter(2 + 3, plus: true);
        _fs.Run(() => _fs.Session.ReadDirectoryAsync(Root, 0, 0, writer));
        Assert.Equal(3, _fs.Session.ReferencedInodes);
        foreach (ListedEntry entry in writer.Entries.Skip(2)) { _fs.Forget(entry.Inode); }
        Assert.Equal(0, _fs.Session.ReferencedInodes);
    }

    [Fact]
    public void A_ninth_name_of_the_same_hash_has_no_room()
    {
        using var fs = new BlobfsHarness(options: new BlobfsOptions { NameHash = static _ => 42 });
        for (int i = 0; i < 8; i++) { Assert.Equal(Errno.None, fs.MakeFile(Root, $"f{i}").Errno); }
        Assert.Equal(Errno.ENOSPC, fs.MakeFile(Root, "f8").Errno);
        Assert.Equal(Errno.None, fs.Unlink(Root, "f3"));
        Assert.Equal(Errno.None, fs.MakeFile(Root, "f8").Errno);
    }

    [Fact]
    public void A_session_that_refers_to_too_much_is_told_so()
    {
        using var fs = new BlobfsHarness(options: new BlobfsOptions { MaxInodesPerSession = 3, MaxOpensPerSession = 2 });
        ulong[] files = [fs.MakeFile(Root, "a").Value.Inode, fs.MakeFile(Root, "b").Value.Inode, fs.MakeFile(Root, "c").Value.Inode];
        Assert.Equal(Errno.ENFILE, fs.MakeFile(Root, "d").Errno);
        Assert.Equal(Errno.ENOENT, fs.Lookup(Root, "d").Errno);
        Assert.Equal(Errno.None, fs.Lookup(Root, "a").Errno);
        Assert.Equal(Errno.None, fs.Open(files[0]));
        Assert.Equal(Errno.None, fs.Open(files[0]));
        Assert.Equal(Errno.ENFILE, fs.Open(files[1]));
        fs.Forget(files[2]);
        Assert.Equal(Errno.None, fs.MakeFile(Root, "d").Errno);
    }
}
