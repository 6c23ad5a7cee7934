using VhostFs.Linux;
using Xunit;
using static VhostFs.Fuse.Tests.FuseClient;

namespace VhostFs.Fuse.Tests;

/// <summary>The flags of chattr(1), as kernels ask for them.</summary>
public sealed class FuseIoctlTests : IDisposable
{
    private const uint GetFlags = 0x80086601, SetFlags = 0x40086602, GetFlags32 = 0x80046601, SetFlags32 = 0x40046602, GetXattr = 0x801C581F, SetXattr = 0x401C5820;
    private const uint Told = 0x10018; // IMMUTABLE, SYNC, DIRSYNC
    private readonly FuseClient _client = new();

    public void Dispose() => _client.Dispose();

    [Theory]
    [InlineData(GetFlags)]
    [InlineData(GetFlags32)]
    public void Flags_are_told_as_one_word(uint command) =>
        Assert.Equal(new FuseFlagsOut(default, Told), Call(new FuseIoctlIn(1, 0, command, 0, 0, 4)).As<FuseFlagsOut>());

    [Fact]
    public void Flags_are_told_as_fsxattr() =>
        Assert.Equal(new FuseFsXattrOut(default, new FsXattr(0x28)), Call(new FuseIoctlIn(1, 0, GetXattr, 0, 0, 28)).As<FuseFsXattrOut>());

    [Theory]
    [InlineData(SetFlags)]
    [InlineData(SetFlags32)]
    public void Setting_flags_names_all_that_are_served(uint command)
    {
        Assert.Equal(Errno.None, Call(new FuseIoctlIn(1, 0, command, 0, 4, 0), Bytes(0x100F8u)).Errno);
        Assert.Equal(Errno.EOPNOTSUPP, Call(new FuseIoctlIn(1, 0, command, 0, 4, 0), Bytes(0x14u)).Errno); // compressed
        Assert.Equal(["SetFlags 1001:1002:1003 9 100f8 of 100f8"], _client.FileSystem.Calls);
    }

    [Fact]
    public void Fsxattr_cannot_say_dirsync_and_leaves_it()
    {
        Assert.Equal(Errno.None, Set(new FsXattr(0x8 | 0x10 | 0x20 | 0x40 | 0x80)));
        Assert.Equal(Errno.EOPNOTSUPP, Set(new FsXattr(0x200)));
        Assert.Equal(Errno.EOPNOTSUPP, Set(new FsXattr(0, ProjectId: 1)));
        Assert.Equal(Errno.EOPNOTSUPP, Set(new FsXattr(0, ExtentSize: 4096)));
        Assert.Equal(Errno.EOPNOTSUPP, Set(new FsXattr(0, CopyExtentSize: 4096)));
        Assert.Equal(["SetFlags 1001:1002:1003 9 f8 of f8"], _client.FileSystem.Calls);
    }

    [Fact]
    public void Anything_else_is_no_ioctl_of_ours()
    {
        Assert.Equal(Errno.ENOTTY, Call(new FuseIoctlIn(1, 0, 0x5413, 0, 0, 8)).Errno);
        Assert.Equal(Errno.ENOTTY, Call(new FuseIoctlIn(1, 2, GetFlags, 0, 0, 4)).Errno); // unrestricted
        Assert.Empty(_client.FileSystem.Calls);
    }

    [Fact]
    public void Sizes_that_lie_are_refused()
    {
        Assert.Equal(Errno.EINVAL, Call(new FuseIoctlIn(1, 0, GetFlags, 0, 0, 3)).Errno);
        Assert.Equal(Errno.EINVAL, Call(new FuseIoctlIn(1, 0, GetXattr, 0, 0, 27)).Errno);
        Assert.Equal(Errno.EINVAL, Call(new FuseIoctlIn(1, 0, SetFlags, 0, 3, 0), Bytes(0u)).Errno);
        Assert.Equal(Errno.EINVAL, Call(new FuseIoctlIn(1, 0, SetFlags, 0, 5, 0), Bytes(0u)).Errno);
        Assert.Equal(Errno.EINVAL, Call(new FuseIoctlIn(1, 0, SetFlags, 0, uint.MaxValue, 0), Bytes(0u)).Errno);
        Assert.Equal(Errno.EINVAL, Call(new FuseIoctlIn(1, 0, SetXattr, 0, 28, 0), new byte[27]).Errno);
        Assert.Empty(_client.FileSystem.Calls);
    }

    [Fact]
    public void A_read_only_export_tells_flags_and_sets_none()
    {
        using var client = new FuseClient(options: new FuseServerOptions { ReadOnly = true });
        Assert.Equal(Errno.None, client.Call(FuseOpcode.IOCTL, 9, Bytes(new FuseIoctlIn(1, 0, GetFlags, 0, 0, 4))).Errno);
        Assert.Equal(Errno.EROFS, client.Call(FuseOpcode.IOCTL, 9, [.. Bytes(new FuseIoctlIn(1, 0, SetFlags, 0, 4, 0)), .. Bytes(0u)]).Errno);
    }

    private Reply Call(FuseIoctlIn ioctl, byte[]? input = null) => _client.Call(FuseOpcode.IOCTL, 9, [.. Bytes(ioctl), .. input ?? []]);

    private Errno Set(FsXattr attributes) => Call(new FuseIoctlIn(1, 0, SetXattr, 0, 28, 0), Bytes(attributes)).Errno;
}
