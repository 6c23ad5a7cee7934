using VhostFs.Fuse;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobfs.Tests;

public sealed class XattrTests : IDisposable
{
    private const ulong Root = BlobfsHarness.Root;
    private readonly BlobfsHarness _fs = new();
    private readonly ulong _file;

    public XattrTests() => _file = _fs.MakeFile(Root, "f", 0x1B4).Value.Inode;

    public void Dispose() => _fs.Dispose();

    [Theory]
    [InlineData(0)]
    [InlineData(3886)]
    [InlineData(3887)]
    [InlineData(40_960)]
    [InlineData(40_961)]
    [InlineData(65_536)]
    public void Values_of_every_length_are_kept_replaced_and_removed(int length)
    {
        byte[] value = new byte[length], other = new byte[65_536 - length];
        new Random(length).NextBytes(value);
        new Random(length + 1).NextBytes(other);
        Assert.Equal(Errno.None, _fs.SetXattr(_file, "user.a", value));
        Assert.Equal(value, _fs.GetXattr(_file, "user.a").Value);
        Assert.Equal(Errno.None, _fs.SetXattr(_file, "user.a", other));
        _fs.Remount(clean: false);
        Assert.Equal(other, _fs.GetXattr(_file, "user.a").Value);
        Assert.Equal(["user.a"], _fs.ListXattr(_file));
        Assert.Equal(Errno.None, _fs.RemoveXattr(_file, "user.a"));
        Assert.Empty(_fs.ListXattr(_file));
    }

    /// <summary>The counts are the disk's word. The reply is as long as what was written to the target: more would show the guest what somebody else's request left in it.</summary>
    [Theory]
    [InlineData(0u, 100u)]
    [InlineData(0u, uint.MaxValue)]
    [InlineData(1u, 0u)]
    [InlineData(1u, 65537u)]
    public void Counts_that_lie_are_an_error_and_not_somebody_elses_bytes(uint count, uint bytes)
    {
        _fs.Run(async () =>
        {
            Assert.Equal(Errno.None, await _fs.Volume.AdmitAsync(Blobstore.Admission.Grow));
            Assert.Equal(Errno.None, _fs.Volume.TryGetInode(_file, out InodeRecord record));
            Blobstore.Transaction change = _fs.Volume.Begin();
            Assert.Equal(Errno.None, change.PutInode(_file, record with { XattrCount = count, XattrNameBytes = bytes }));
            return await _fs.Volume.LoggedAsync(change.Commit());
        });
        foreach (int room in new[] { 0, 100, 65536 })
        {
            IoVec target = _fs.Room(65536).Slice(0, room);
            Assert.Equal(Errno.EIO, _fs.Run(() => _fs.Session.ListXattrAsync(default, _file, target)).Errno);
        }
        if (bytes > 65536) { Assert.NotEqual(Errno.None, _fs.SetXattr(_file, "user.a", [1])); }
    }

    [Fact]
    public void Flags_sizes_and_names_have_their_errors()
    {
        Assert.Equal(Errno.ENODATA, _fs.GetXattr(_file, "user.a").Errno);
        Assert.Equal(Errno.ENODATA, _fs.RemoveXattr(_file, "user.a"));
        Assert.Equal(Errno.ENODATA, _fs.SetXattr(_file, "user.a", "x"u8, 2));
        Assert.Equal(Errno.None, _fs.SetXattr(_file, "user.a", "xyz"u8, 1));
        Assert.Equal(Errno.EEXIST, _fs.SetXattr(_file, "user.a", "x"u8, 1));
        Assert.Equal(Errno.EEXIST, _fs.SetXattr(_file, "user.a", new byte[65_536], 1));
        Assert.Equal(Errno.EINVAL, _fs.SetXattr(_file, "user.a", "x"u8, 4));
        Assert.Equal(Errno.E2BIG, _fs.SetXattr(_file, "user.a", new byte[65_537]));
        Assert.Equal(Errno.EOPNOTSUPP, _fs.SetXattr(_file, "system.nfs4_acl", "x"u8));
        Assert.Equal(Errno.EOPNOTSUPP, _fs.GetXattr(_file, "other").Errno);
        Assert.Equal(Errno.EINVAL, _fs.SetXattr(_file, "user.", "x"u8));
        Assert.Equal(Errno.ERANGE, _fs.SetXattr(_file, "user." + new string('a', 251), "x"u8));
        Assert.Equal(Errno.ERANGE, _fs.GetXattr(_file, "user.a", room: 2).Errno);
        Assert.Equal(3, _fs.Run(() => _fs.Session.GetXattrAsync(_file, _fs.Bytes("user.a"), default)).Bytes);
        Assert.Equal(7, _fs.Run(() => _fs.Session.ListXattrAsync(default, _file, default)).Bytes);
        Assert.Equal(Errno.ERANGE, _fs.Run(() => _fs.Session.ListXattrAsync(default, _file, _fs.Room(6))).Errno);
        Assert.Equal(Errno.ESTALE, _fs.SetXattr(999, "user.a", "x"u8));
    }

    [Fact]
    public void Names_that_collide_are_kept_apart_up_to_eight()
    {
        using var fs = new BlobfsHarness(options: new BlobfsOptions { NameHash = static name => name[0] == 'f' ? 1UL << 40 : ulong.MaxValue });
        ulong file = fs.MakeFile(Root, "f").Value.Inode;
        for (byte i = 0; i < 8; i++) { Assert.Equal(Errno.None, fs.SetXattr(file, $"user.{i}", Enumerable.Repeat(i, 9000).ToArray())); }
        Assert.Equal(Errno.ENOSPC, fs.SetXattr(file, "user.8", "x"u8));
        Assert.Equal(Errno.None, fs.RemoveXattr(file, "user.0"));
        for (byte i = 1; i < 8; i++) { Assert.Equal(Enumerable.Repeat(i, 9000), fs.GetXattr(file, $"user.{i}").Value); }
        Assert.Equal(Errno.None, fs.SetXattr(file, "user.7", new byte[65_536])); // needs a free position
        Assert.Equal(new byte[65_536], fs.GetXattr(file, "user.7").Value);
        Assert.Equal(7, fs.ListXattr(file).Length);
    }

    [Fact]
    public void Names_beyond_one_list_have_no_room()
    {
        string name = "user." + new string('n', 246);
        int i = 0;
        for (; i < 300; i++)
        {
            Errno set = _fs.SetXattr(_file, name + $"{i:D4}", default);
            if (set != Errno.None) { Assert.Equal(Errno.ENOSPC, set); break; }
        }
        Assert.Equal(65_536 / 256, i);
        Assert.Equal(i, _fs.ListXattr(_file).Length);
        _fs.Forget(_file);
        Assert.Equal(Errno.None, _fs.Unlink(Root, "f"));
        _fs.Settle();
        Assert.Equal(Errno.ESTALE, _fs.Stat(_file).Errno);
    }

    [Fact]
    public void An_access_acl_sets_the_mode_and_chmod_sets_its_mask()
    {
        byte[] acl = AclOf((1, 7, 0), (2, 5, 1000), (4, 4, 0), (16, 6, 0), (32, 1, 0));
        Assert.Equal(Errno.None, _fs.SetXattr(_file, "system.posix_acl_access", acl));
        Assert.Equal(FileMode.S_IFREG | 0x1F1u, _fs.Stat(_file).Value.Mode); // 0761
        Assert.Equal(FileMode.S_IFREG | 0x1A2u, _fs.Set(_file, new SetAttributes(Mode: 0x1A2)).Value.Mode); // 0642
        Assert.Equal(AclOf((1, 6, 0), (2, 5, 1000), (4, 4, 0), (16, 4, 0), (32, 2, 0)), _fs.GetXattr(_file, "system.posix_acl_access").Value);
    }

    [Fact]
    public void An_acl_that_says_no_more_than_the_mode_is_not_stored()
    {
        Assert.Equal(Errno.None, _fs.SetXattr(_file, "system.posix_acl_access", AclOf((1, 7, 0), (2, 5, 1000), (4, 4, 0), (16, 6, 0), (32, 1, 0))));
        Assert.Equal(Errno.None, _fs.SetXattr(_file, "system.posix_acl_access", AclOf((1, 6, 0), (4, 4, 0), (32, 0, 0))));
        Assert.Equal(FileMode.S_IFREG | 0x1A0u, _fs.Stat(_file).Value.Mode);
        Assert.Empty(_fs.ListXattr(_file));
        Assert.Equal(Errno.ENODATA, _fs.GetXattr(_file, "system.posix_acl_access").Errno);
    }

    [Fact]
    public void Malformed_and_misplaced_acls_are_refused()
    {
        Assert.Equal(Errno.EINVAL, _fs.SetXattr(_file, "system.posix_acl_access", AclOf((1, 7, 0), (2, 5, 1000), (4, 4, 0), (32, 1, 0)))); // no mask
        Assert.Equal(Errno.EINVAL, _fs.SetXattr(_file, "system.posix_acl_access", AclOf((1, 8, 0), (4, 4, 0), (32, 1, 0))));
        Assert.Equal(Errno.EINVAL, _fs.SetXattr(_file, "system.posix_acl_access", AclOf((4, 4, 0), (1, 7, 0), (32, 1, 0))));
        Assert.Equal(Errno.EINVAL, _fs.SetXattr(_file, "system.posix_acl_access", new byte[3]));
        Assert.Equal(Errno.EOPNOTSUPP, _fs.SetXattr(_file, "system.posix_acl_access", new byte[4]));
        Assert.Equal(Errno.EACCES, _fs.SetXattr(_file, "system.posix_acl_default", AclOf((1, 7, 0), (4, 4, 0), (32, 1, 0))));
    }

    [Fact]
    public void A_default_acl_is_inherited_instead_of_the_umask()
    {
        ulong directory = _fs.MakeDirectory(Root, "d").Value.Inode;
        byte[] acl = AclOf((1, 7, 0), (2, 5, 1000), (4, 7, 0), (16, 7, 0), (32, 5, 0));
        Assert.Equal(Errno.None, _fs.SetXattr(directory, "system.posix_acl_default", acl));
        _fs.Umask = 0x3F; // 077
        InodeAttributes file = _fs.MakeFile(directory, "f", 0x1B4).Value; // 0664
        Assert.Equal(FileMode.S_IFREG | 0x1B4u, file.Mode);
        Assert.Equal(AclOf((1, 6, 0), (2, 5, 1000), (4, 7, 0), (16, 6, 0), (32, 4, 0)), _fs.GetXattr(file.Inode, "system.posix_acl_access").Value);
        InodeAttributes sub = _fs.MakeDirectory(directory, "s", 0x1FF).Value;
        Assert.Equal(FileMode.S_IFDIR | 0x1FDu, sub.Mode);
        Assert.Equal(acl, _fs.GetXattr(sub.Inode, "system.posix_acl_default").Value);
        Assert.Equal(2, _fs.ListXattr(sub.Inode).Length);
        Assert.Equal(FileMode.S_IFLNK | 0x1FFu, _fs.Symlink(directory, "l", "t").Value.Mode);
    }

    [Fact]
    public void The_security_context_is_set_by_the_creation_itself()
    {
        var context = new CreateContext(_fs.Caller, 0, _fs.Bytes("security.selinux"), _fs.Bytes("system_u:object_r:tmp_t"));
        InodeAttributes made = _fs.Run(() => _fs.Session.MakeDirectoryAsync(context, Root, _fs.Bytes("d"), 0x1FF)).Value;
        Assert.Equal("system_u:object_r:tmp_t"u8.ToArray(), _fs.GetXattr(made.Inode, "security.selinux").Value);
    }

    [Fact]
    public void Setting_an_acl_takes_set_group_id_when_asked()
    {
        _fs.Set(_file, new SetAttributes(Mode: 0x5F8));
        Assert.Equal(Errno.None, _fs.SetXattr(_file, "system.posix_acl_access", AclOf((1, 7, 0), (4, 7, 0), (32, 0, 0)), killSgid: true));
        Assert.Equal(FileMode.S_IFREG | 0x1F8u, _fs.Stat(_file).Value.Mode);
    }

    private static byte[] AclOf(params (int Tag, int Permissions, uint Id)[] entries)
    {
        var acl = new List<byte> { 2, 0, 0, 0 };
        foreach ((int tag, int permissions, uint id) in entries)
        {
            acl.AddRange([(byte)tag, 0, (byte)permissions, 0]);
            acl.AddRange(BitConverter.GetBytes(tag is 2 or 8 ? id : uint.MaxValue));
        }
        return [.. acl];
    }
}
