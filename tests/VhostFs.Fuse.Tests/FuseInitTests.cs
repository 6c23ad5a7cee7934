using VhostFs.Linux;
using Xunit;
using static VhostFs.Fuse.FuseInitFlags;
using static VhostFs.Fuse.Tests.FuseClient;

namespace VhostFs.Fuse.Tests;

/// <summary>INIT with what real guests offer, and with each option.</summary>
public class FuseInitTests
{
    private const FuseInitFlags Usual = ASYNC_READ | ATOMIC_O_TRUNC | EXPORT_SUPPORT | BIG_WRITES | DONT_MASK | HAS_IOCTL_DIR | AUTO_INVAL_DATA
        | DO_READDIRPLUS | READDIRPLUS_AUTO | ASYNC_DIO | PARALLEL_DIROPS | POSIX_ACL | MAX_PAGES | CACHE_SYMLINKS | HANDLE_KILLPRIV_V2 | SETXATTR_EXT | INIT_EXT;

    private static FuseInitFlags FlagsOf(FuseInitOut init) => (FuseInitFlags)(init.Flags | ((ulong)init.Flags2 << 32));

    private static FuseInitFlags Negotiate(FuseServerOptions options, uint flags = Flags61, uint flags2 = Flags2Of612)
    {
        using var client = new FuseClient(options: options, initialize: false);
        FuseInitFlags chosen = FlagsOf(client.Initialize(41, flags, flags2).As<FuseInitOut>());
        Assert.Equal(chosen, client.Server.Negotiated!.Value.Flags);
        Assert.Equal(FuseInitFlags.None, chosen & ~(FuseInitFlags)(flags | ((ulong)flags2 << 32)));
        return chosen;
    }

    [Theory]
    [InlineData(38u, Flags2Of61, 38u, Usual)]
    [InlineData(41u, Flags2Of612, 41u, Usual | CREATE_SUPP_GROUP | ALLOW_IDMAP)]
    [InlineData(45u, 0x7ffu, 45u, Usual | CREATE_SUPP_GROUP | ALLOW_IDMAP)]
    [InlineData(99u, 0xffffffffu, 45u, Usual | CREATE_SUPP_GROUP | ALLOW_IDMAP)]
    public void Guests_get_what_they_offer_and_we_serve(uint minor, uint flags2, uint expectedMinor, FuseInitFlags expected)
    {
        using var client = new FuseClient(initialize: false);
        FuseInitOut reply = client.Initialize(minor, Flags61, flags2).As<FuseInitOut>();
        Assert.Equal(expected, FlagsOf(reply));
        Assert.Equal(new FuseInitOut(7, expectedMinor, 0x20000, (uint)expected, 65535, 49149, 1 << 20, 1, 256, 0, (uint)((ulong)expected >> 32)), reply);
    }

    [Fact]
    public void Io_uring_is_settled_on_only_for_a_transport_that_has_it()
    {
        Assert.Equal(FuseInitFlags.None, Negotiate(new(), flags2: 0x3ff) & OVER_IO_URING);
        Assert.Equal(OVER_IO_URING, Negotiate(new() { OverUring = true }, flags2: 0x3ff) & OVER_IO_URING);
        Assert.Equal(FuseInitFlags.None, Negotiate(new() { OverUring = true }, flags2: 0x1ff) & OVER_IO_URING);
    }

    [Fact]
    public void An_old_client_sends_sixteen_bytes()
    {
        using var client = new FuseClient(initialize: false);
        FuseInitOut reply = client.Call(FuseOpcode.INIT, 0, Bytes(new FuseInitIn(7, 27, 0x10000, 0x3fffffff))).As<FuseInitOut>();
        Assert.Equal(27u, reply.Minor);
        Assert.Equal(Usual & ~INIT_EXT, FlagsOf(reply));
        Assert.Equal(0x10000u, reply.MaxReadahead);
    }

    [Fact]
    public void A_windows_client_offers_two_flags()
    {
        Assert.Equal(DO_READDIRPLUS | MAX_PAGES, Negotiate(new(), (uint)(DO_READDIRPLUS | MAX_PAGES), 0));
        using var client = new FuseClient(initialize: false);
        Assert.Equal(0, client.Initialize(31, 0, 0).As<FuseInitOut>().MaxPages);
        // Without SETXATTR_EXT its fixed part is 8 bytes.
        Assert.Equal(Errno.None, client.Call(FuseOpcode.SETXATTR, 9, [.. Bytes(new FuseSetxattrCompatIn(2, 1)), .. Name("user.x"), 1, 2]).Errno);
    }

    [Theory]
    [InlineData(6u, 40u)]
    [InlineData(7u, 26u)]
    [InlineData(0u, 0u)]
    public void Too_old_is_EPROTO(uint major, uint minor)
    {
        using var client = new FuseClient(initialize: false);
        Assert.Equal(Errno.EPROTO, client.Call(FuseOpcode.INIT, 0, Bytes(new FuseInitIn(major, minor, 0, 0))).Errno);
        Assert.Equal(Errno.EIO, client.Call(FuseOpcode.LOOKUP, 1, Name("x")).Errno);
    }

    [Fact]
    public void A_newer_major_is_told_ours_and_asks_again()
    {
        using var client = new FuseClient(initialize: false);
        Assert.Equal(new FuseInitOut(7, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0), client.Call(FuseOpcode.INIT, 0, Bytes(new FuseInitIn(8, 3, 1, 2))).As<FuseInitOut>());
        Assert.Null(client.Server.Negotiated);
        Assert.Equal(Errno.None, client.Initialize().Errno);
    }

    [Fact]
    public void Short_init_is_refused()
    {
        using var client = new FuseClient(initialize: false);
        byte[] body = [.. Bytes(new FuseInitIn(7, 41, 0, Flags61)), .. Bytes(new FuseInitExtIn(0))];
        for (int length = 0; length < body.Length; length++) { Assert.Equal(Errno.EINVAL, client.Call(FuseOpcode.INIT, 0, body[..length]).Errno); }
        Assert.Equal(Errno.EINVAL, client.Call(FuseOpcode.INIT, 0, body, room: 79).Errno);
        Assert.Null(client.Server.Negotiated);
    }

    [Fact]
    public void Holes_are_not_told_to_a_kernel_that_may_have_data_for_them()
    {
        using var client = new FuseClient(options: new FuseServerOptions { Writeback = true });
        Assert.Equal(Errno.ENOSYS, client.Call(FuseOpcode.LSEEK, 9, Bytes(new FuseLseekIn(1, 0, 3))).Errno);
        Assert.Empty(client.FileSystem.Calls);
    }

    [Fact]
    public void Options_decide()
    {
        Assert.True(Negotiate(new() { Writeback = true }).HasFlag(WRITEBACK_CACHE));
        Assert.False(Negotiate(new() { Writeback = true, ReadOnly = true }).HasFlag(WRITEBACK_CACHE));
        Assert.Equal(default, Negotiate(new() { PosixAcl = false }) & (POSIX_ACL | DONT_MASK));
        Assert.Equal(default, Negotiate(new() { Xattr = false, SecurityLabel = true }) & (POSIX_ACL | DONT_MASK | SECURITY_CTX));
        Assert.Equal(default, Negotiate(new(), Flags61 & ~(uint)DONT_MASK) & (POSIX_ACL | DONT_MASK));
        Assert.True(Negotiate(new() { SecurityLabel = true }).HasFlag(SECURITY_CTX));
        Assert.False(Negotiate(new() { KillPrivilegesV2 = false }).HasFlag(HANDLE_KILLPRIV_V2));
        Assert.False(Negotiate(new() { Cache = FuseCacheMode.Never }).HasFlag(DO_READDIRPLUS));
        Assert.False(Negotiate(new() { ReadDirectoryPlus = false }).HasFlag(READDIRPLUS_AUTO));
        Assert.True(Negotiate(new() { AnnounceSubmounts = true }).HasFlag(SUBMOUNTS));
        Assert.True(Negotiate(new() { AllowMmap = true }).HasFlag(DIRECT_IO_ALLOW_MMAP));
        Assert.Equal(ALLOW_IDMAP, Negotiate(new(), flags2: 0x1ff) & ALLOW_IDMAP);
        Assert.Equal(EXPLICIT_INVAL_DATA, Negotiate(new() { ExplicitInvalidation = true }) & (EXPLICIT_INVAL_DATA | AUTO_INVAL_DATA));
        Assert.Equal(NO_OPEN_SUPPORT | NO_OPENDIR_SUPPORT,
            Negotiate(new() { NoOpen = true, NoOpenDirectory = true }) & (NO_OPEN_SUPPORT | NO_OPENDIR_SUPPORT | ATOMIC_O_TRUNC));
        Assert.Equal(default, Negotiate(new(), uint.MaxValue, uint.MaxValue)
            & (POSIX_LOCKS | FLOCK_LOCKS | FILE_OPS | SUBMOUNTS | MAP_ALIGNMENT | HAS_INODE_DAX | PASSTHROUGH | OVER_IO_URING | INIT_RESERVED | HANDLE_KILLPRIV));
    }

    [Theory]
    [InlineData(true, true, false, true, POSIX_LOCKS | FLOCK_LOCKS)]
    [InlineData(true, false, false, true, POSIX_LOCKS)]
    [InlineData(false, true, false, true, FLOCK_LOCKS)]
    [InlineData(false, false, false, true, None)]
    [InlineData(true, true, true, true, None)] // no RELEASE would end what a file has locked
    [InlineData(true, true, false, false, None)]
    public void Locks_are_ours_when_asked_for_and_the_file_system_has_them(bool posix, bool flock, bool noOpen, bool has, FuseInitFlags expected)
    {
        var fileSystem = new FakeFileSystem();
        if (has) { fileSystem.Locks = fileSystem; }
        using var client = new FuseClient(fileSystem, new() { PosixLocks = posix, FlockLocks = flock, NoOpen = noOpen }, initialize: false);
        Assert.Equal(expected, FlagsOf(client.Initialize().As<FuseInitOut>()) & (POSIX_LOCKS | FLOCK_LOCKS));
    }

    [Theory]
    [InlineData(0x3ffu, None)] // a request that waits for a lock would hold a place of its core's queue
    [InlineData(0x1ffu, POSIX_LOCKS | FLOCK_LOCKS)]
    public void Locks_stay_in_the_kernel_when_requests_come_through_io_uring(uint flags2, FuseInitFlags expected)
    {
        var fileSystem = new FakeFileSystem();
        fileSystem.Locks = fileSystem;
        using var client = new FuseClient(fileSystem, new() { OverUring = true, PosixLocks = true, FlockLocks = true }, initialize: false);
        Assert.Equal(expected, FlagsOf(client.Initialize(flags2: flags2).As<FuseInitOut>()) & (POSIX_LOCKS | FLOCK_LOCKS));
    }

    [Fact]
    public void No_open_is_answered_with_ENOSYS_only_when_agreed()
    {
        var options = new FuseServerOptions { NoOpen = true, NoOpenDirectory = true };
        using var client = new FuseClient(options: options);
        Assert.Equal(Errno.ENOSYS, client.Call(FuseOpcode.OPEN, 9, new byte[8]).Errno);
        Assert.Equal(Errno.ENOSYS, client.Call(FuseOpcode.OPENDIR, 9, new byte[8]).Errno);
        client.Initialize(31, (uint)ATOMIC_O_TRUNC, 0);
        Assert.Equal(Errno.None, client.Call(FuseOpcode.OPEN, 9, new byte[8]).Errno);
        Assert.Equal(Errno.None, client.Call(FuseOpcode.OPENDIR, 9, new byte[8]).Errno);
    }

    [Theory]
    [InlineData(FuseCacheMode.Auto, 1ul, OpenReplyFlags.None, OpenReplyFlags.None)]
    [InlineData(FuseCacheMode.Always, 86400ul, OpenReplyFlags.KEEP_CACHE, OpenReplyFlags.KEEP_CACHE | OpenReplyFlags.CACHE_DIR)]
    [InlineData(FuseCacheMode.Never, 0ul, OpenReplyFlags.DIRECT_IO | OpenReplyFlags.PARALLEL_DIRECT_WRITES, OpenReplyFlags.None)]
    [InlineData(FuseCacheMode.Metadata, 86400ul, OpenReplyFlags.DIRECT_IO | OpenReplyFlags.PARALLEL_DIRECT_WRITES, OpenReplyFlags.KEEP_CACHE | OpenReplyFlags.CACHE_DIR)]
    public void The_cache_mode_sets_timeouts_and_open_flags(FuseCacheMode mode, ulong seconds, OpenReplyFlags file, OpenReplyFlags directory)
    {
        using var client = new FuseClient(options: new FuseServerOptions { Cache = mode });
        FuseEntryOut entry = client.Call(FuseOpcode.LOOKUP, 1, Name("x")).As<FuseEntryOut>();
        Assert.Equal((seconds, seconds), (entry.EntrySeconds, entry.AttributeSeconds));
        Assert.Equal(new FuseOpenOut(0xBEEF, file), client.Call(FuseOpcode.OPEN, 9, new byte[8]).As<FuseOpenOut>());
        Assert.Equal(new FuseOpenOut(0xD1D, directory), client.Call(FuseOpcode.OPENDIR, 9, new byte[8]).As<FuseOpenOut>());
    }

    [Fact]
    public void Absent_names_are_cached_when_asked()
    {
        using var without = new FuseClient();
        without.FileSystem.Error = Errno.ENOENT;
        Assert.Equal(Errno.ENOENT, without.Call(FuseOpcode.LOOKUP, 1, Name("x")).Errno);
        using var with = new FuseClient(options: new FuseServerOptions { NegativeTimeout = TimeSpan.FromSeconds(2.5) });
        with.FileSystem.Error = Errno.ENOENT;
        Assert.Equal(new FuseEntryOut(0, 0, 2, 0, 500_000_000, 0, default), with.Call(FuseOpcode.LOOKUP, 1, Name("x")).As<FuseEntryOut>());
    }

    [Fact]
    public void With_write_back_files_are_opened_readable_and_writes_never_append()
    {
        using var client = new FuseClient(options: new FuseServerOptions { Writeback = true });
        client.Call(FuseOpcode.OPEN, 9, Bytes(new FuseOpenIn(0x8401)));
        client.Call(FuseOpcode.WRITE, 9, [.. Bytes(new FuseWriteIn(1, 2, 1, 1, 0, 0x401)), 7]);
        Assert.Equal(["Open 9 8402 False", "Write 9 1 2 1 1 True False"], client.FileSystem.Calls);
    }
}
