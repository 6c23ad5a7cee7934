using System.Runtime.InteropServices;
using System.Text;
using VhostFs.Linux;
using Xunit;
using static VhostFs.Fuse.Tests.FuseClient;

namespace VhostFs.Fuse.Tests;

/// <summary>Every opcode with arguments that cannot be mistaken for one another, and its reply.</summary>
public class FuseOpcodeTests
{
    private const string Caller = "1001:1002:1003";

    /// <summary>opcode, body, the call that must reach the file system.</summary>
    internal static readonly (FuseOpcode Opcode, byte[] Body, string Call)[] All =
    [
        (FuseOpcode.LOOKUP, Name("a b"), "Lookup 9 a b"),
        (FuseOpcode.GETATTR, Bytes(new FuseGetattrIn(1, 0, 2)), "GetAttributes 9"),
        (FuseOpcode.STATX, Bytes(new FuseStatxIn(1, 0, 2, 3, 4)), "GetAttributes 9"),
        (FuseOpcode.READLINK, [], "ReadLink 9 4096"),
        (FuseOpcode.SYMLINK, [.. Name("name"), .. Name("../target/x")], $"Symlink {Caller}: umask=0 ctx== 9 name -> ../target/x"),
        (FuseOpcode.MKNOD, [.. Bytes(new FuseMknodIn(0x21B6, 0x103, 18)), .. Name("dev")], $"MakeNode {Caller}: umask=18 ctx== 9 dev 21b6 103"),
        (FuseOpcode.MKDIR, [.. Bytes(new FuseMkdirIn(0x41ED, 18)), .. Name("dir")], $"MakeDirectory {Caller}: umask=18 ctx== 9 dir 1ed"),
        (FuseOpcode.UNLINK, Name("u"), "Unlink 9 u"),
        (FuseOpcode.RMDIR, Name("r"), "RemoveDirectory 9 r"),
        (FuseOpcode.RENAME, [.. Bytes(new FuseRenameIn(10)), .. Name("old"), .. Name("new")], $"Rename {Caller} 9 old 10 new 0"),
        (FuseOpcode.RENAME2, [.. Bytes(new FuseRename2In(10, 2)), .. Name("old"), .. Name("new")], $"Rename {Caller} 9 old 10 new 2"),
        (FuseOpcode.LINK, [.. Bytes(new FuseLinkIn(10)), .. Name("hard")], "Link 10 9 hard"),
        (FuseOpcode.OPEN, Bytes(new FuseOpenIn(0x8202, 1)), "Open 9 8202 True"),
        (FuseOpcode.READ, Bytes(new FuseReadIn(0xab, 4097, 100)), "Read 9 ab 4097 100"),
        (FuseOpcode.WRITE, [.. Bytes(new FuseWriteIn(0xab, 4097, 3, 4, 55, 0x401)), 1, 2, 3], "Write 9 ab 4097 3 401 False True"),
        (FuseOpcode.STATFS, [], "StatFs"),
        (FuseOpcode.RELEASE, Bytes(new FuseReleaseIn(0xab, 2, 1, 4)), "Release 9 ab"),
        (FuseOpcode.FSYNC, Bytes(new FuseFsyncIn(0xab, 1)), "Fsync 9 ab True"),
        (FuseOpcode.SETXATTR, [.. Bytes(new FuseSetxattrIn(3, 2, 1)), .. Name("user.a/b"), .. "xyz"u8], "SetXattr 9 user.a/b xyz 2 True"),
        (FuseOpcode.GETXATTR, [.. Bytes(new FuseGetxattrIn(100)), .. Name("user.x")], "GetXattr 9 user.x 100"),
        (FuseOpcode.LISTXATTR, Bytes(new FuseGetxattrIn(101)), "ListXattr 9 101"),
        (FuseOpcode.REMOVEXATTR, Name("user.x"), "RemoveXattr 9 user.x"),
        (FuseOpcode.FLUSH, Bytes(new FuseFlushIn(0xab, 0, 0, 77)), "Flush 9 ab 77"),
        (FuseOpcode.OPENDIR, Bytes(new FuseOpenIn(0x10000)), "OpenDirectory 9 10000"),
        (FuseOpcode.READDIR, Bytes(new FuseReadIn(0xab, 2, 4000)), "ReadDirectory 9 ab 2 False"),
        (FuseOpcode.READDIRPLUS, Bytes(new FuseReadIn(0xab, 2, 4000)), "ReadDirectory 9 ab 2 True"),
        (FuseOpcode.RELEASEDIR, Bytes(new FuseReleaseIn(0xab, 2, 1, 4)), "ReleaseDirectory 9 ab"),
        (FuseOpcode.FSYNCDIR, Bytes(new FuseFsyncIn(0xab, 0)), "FsyncDirectory 9 ab False"),
        (FuseOpcode.CREATE, [.. Bytes(new FuseCreateIn(0x8041, 0x81A4, 18, 1)), .. Name("f")], $"Create {Caller}: umask=18 ctx== 9 f 1a4 8041 True"),
        (FuseOpcode.TMPFILE, [.. Bytes(new FuseCreateIn(0x8002, 0x81A4, 18)), .. Name("/")], $"TemporaryFile {Caller}: umask=18 ctx== 9 1a4 8002"),
        (FuseOpcode.FALLOCATE, Bytes(new FuseFallocateIn(0xab, 10, 20, 3)), "Fallocate 9 ab 3 10 20"),
        (FuseOpcode.LSEEK, Bytes(new FuseLseekIn(0xab, 10, 4)), "Seek 9 ab 10 4"),
        (FuseOpcode.COPY_FILE_RANGE, Bytes(new FuseCopyFileRangeIn(1, 2, 3, 4, 5, 6)), "Copy 9 1 2 3 4 5 6"),
        (FuseOpcode.COPY_FILE_RANGE_64, Bytes(new FuseCopyFileRangeIn(1, 2, 3, 4, 5, 6)), "Copy 9 1 2 3 4 5 6"),
        (FuseOpcode.IOCTL, [.. Bytes(new FuseIoctlIn(0xab, 0x10, 0x40086602, 7, 4, 0)), .. Bytes(0x60u)], $"SetFlags {Caller} 9 60 of 100f8"),
        (FuseOpcode.SYNCFS, Bytes(new FuseSyncfsIn(0)), "SyncFs"),
        (FuseOpcode.SETATTR, Bytes(new FuseSetattrIn(SetAttrValid.MODE, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x81ED, 0, 9, 10)),
            $"SetAttributes {Caller} 9 {new SetAttributes(Mode: 0x1ED)}"),
    ];

    public static TheoryData<int> Indices => [.. Enumerable.Range(0, All.Length)];

    [Theory, MemberData(nameof(Indices))]
    public void Each_opcode_reaches_the_file_system_with_its_arguments(int index)
    {
        using var client = new FuseClient();
        Reply reply = client.Call(All[index].Opcode, 9, All[index].Body);
        Assert.Equal(Errno.None, reply.Errno);
        Assert.False(reply.IsNone);
        Assert.Equal([All[index].Call], client.FileSystem.Calls);
        Assert.Equal(1ul, client.Server.Counters.Requests(All[index].Opcode));
        Assert.Equal(0ul, client.Server.Counters.Errors(All[index].Opcode));
    }

    [Theory, MemberData(nameof(Indices))]
    public void Each_opcode_passes_on_an_error(int index)
    {
        using var client = new FuseClient();
        client.FileSystem.Error = Errno.EDQUOT;
        Assert.Equal(Errno.EDQUOT, client.Call(All[index].Opcode, 9, All[index].Body).Errno);
        Assert.Equal(1ul, client.Server.Counters.Errors(All[index].Opcode));
    }

    [Theory, MemberData(nameof(Indices))]
    public void An_ENOSYS_of_the_file_system_never_reaches_the_kernel(int index)
    {
        using var client = new FuseClient();
        client.FileSystem.Error = Errno.ENOSYS;
        Assert.Equal(Errno.EOPNOTSUPP, client.Call(All[index].Opcode, 9, All[index].Body).Errno);
    }

    [Theory, MemberData(nameof(Indices))]
    public void Any_split_into_segments_is_the_same_request(int index)
    {
        using var whole = new FuseClient();
        byte[] expected = whole.Call(All[index].Opcode, 9, All[index].Body).Body;
        foreach ((int input, int output) in new[] { (1, 1), (3, 5), (7, 9), (39, 15), (40, 16), (41, 17), (64, 1) })
        {
            using var split = new FuseClient { InputSegment = input, OutputSegment = output };
            Assert.Equal(expected, split.Call(All[index].Opcode, 9, All[index].Body).Body);
            Assert.Equal([All[index].Call], split.FileSystem.Calls);
        }
    }

    [Theory, MemberData(nameof(Indices))]
    public void Short_arguments_are_an_error_and_never_a_call(int index) // CVE-2026-86566, 86564, 2024-11614
    {
        using var client = new FuseClient();
        (FuseOpcode opcode, byte[] body, _) = All[index];
        for (int length = 0; length < body.Length; length++)
        {
            Reply reply = client.Call(opcode, 9, body[..length]);
            Assert.False(reply.IsNone);
            Assert.NotEqual(Errno.None, reply.Errno);
            Assert.NotEqual(Errno.ENOSYS, reply.Errno); // remembered for the life of the mount
        }
        Assert.Empty(client.FileSystem.Calls);
    }

    [Theory, MemberData(nameof(Indices))]
    public void Without_room_for_the_reply_nothing_is_opened_made_or_counted(int index) // CVE-2021-3545, 3546
    {
        using var client = new FuseClient();
        (FuseOpcode opcode, byte[] body, _) = All[index];
        int full = client.Call(opcode, 9, body).Body.Length;
        bool refers = full > 0 && opcode is not (FuseOpcode.READ or FuseOpcode.READDIR or FuseOpcode.READDIRPLUS or FuseOpcode.READLINK
            or FuseOpcode.GETXATTR or FuseOpcode.LISTXATTR);
        client.FileSystem.Calls.Clear();
        for (int room = 0; room < FuseOutHeader.Size; room++) { Assert.True(client.Call(opcode, 9, body, room).IsNone); }
        Assert.Empty(client.FileSystem.Calls);
        for (int room = FuseOutHeader.Size; room < FuseOutHeader.Size + full; room++)
        {
            Reply reply = client.Call(opcode, 9, body, room);
            Assert.False(reply.IsNone);
            if (refers) { Assert.Equal(Errno.EINVAL, reply.Errno); }
        }
        if (refers) { Assert.Empty(client.FileSystem.Calls); }
    }

    [Fact]
    public void A_read_only_export_refuses_every_change()
    {
        using var client = new FuseClient(options: new FuseServerOptions { ReadOnly = true });
        string[] reads = ["Lookup", "GetAttr", "ReadLink", "StatFs", "Read", "Release", "Fsync", "GetXattr", "ListXattr", "Flush", "OpenDir", "ReadDir", "Seek", "SyncFs"];
        foreach ((FuseOpcode opcode, byte[] body, string call) in All)
        {
            bool allowed = reads.Any(r => call.StartsWith(r, StringComparison.Ordinal));
            Assert.Equal(allowed ? Errno.None : Errno.EROFS, client.Call(opcode, 9, body).Errno);
        }
        Assert.Equal(Errno.None, client.Call(FuseOpcode.OPEN, 9, Bytes(new FuseOpenIn(0))).Errno);
        Assert.Equal(Errno.EROFS, client.Call(FuseOpcode.OPEN, 9, Bytes(new FuseOpenIn(1))).Errno);
    }

    [Fact]
    public void Forgets_get_no_reply()
    {
        using var client = new FuseClient();
        Assert.True(client.Call(FuseOpcode.FORGET, 9, Bytes(new FuseForgetIn(3)), room: 0).IsNone);
        Assert.True(client.Call(FuseOpcode.BATCH_FORGET, 0,
            [.. Bytes(new FuseBatchForgetIn(2)), .. Bytes(new FuseForgetOne(5, 6)), .. Bytes(new FuseForgetOne(7, 8))]).IsNone);
        Assert.Equal(["Forget 9 3", "Forget 5 6", "Forget 7 8"], client.FileSystem.Calls);
    }

    [Fact]
    public void A_batch_of_forgets_counts_no_more_entries_than_it_has()
    {
        using var client = new FuseClient { InputSegment = 13 };
        byte[] entries = Enumerable.Range(0, 200).SelectMany(i => Bytes(new FuseForgetOne((ulong)i, 1))).ToArray();
        client.Call(FuseOpcode.BATCH_FORGET, 0, [.. Bytes(new FuseBatchForgetIn(uint.MaxValue)), .. entries, 1, 2, 3], room: 0);
        Assert.Equal(Enumerable.Range(0, 200).Select(i => $"Forget {i} 1"), client.FileSystem.Calls);
    }

    [Theory]
    [InlineData(FuseOpcode.INTERRUPT)]
    [InlineData(FuseOpcode.NOTIFY_REPLY)]
    public void Notices_are_ignored(FuseOpcode opcode)
    {
        using var client = new FuseClient();
        Assert.True(client.Call(opcode, 0, new byte[8]).IsNone);
        Assert.True(client.Call(opcode, 0, [], room: 0).IsNone);
    }

    [Theory]
    [InlineData(FuseOpcode.GETLK, Errno.ENOSYS)]
    [InlineData(FuseOpcode.SETLK, Errno.ENOSYS)]
    [InlineData(FuseOpcode.SETLKW, Errno.ENOSYS)]
    [InlineData(FuseOpcode.ACCESS, Errno.ENOSYS)]
    [InlineData(FuseOpcode.BMAP, Errno.ENOSYS)]
    [InlineData(FuseOpcode.POLL, Errno.ENOSYS)]
    [InlineData(FuseOpcode.SETUPMAPPING, Errno.ENOSYS)]
    [InlineData(FuseOpcode.REMOVEMAPPING, Errno.ENOSYS)]
    [InlineData((FuseOpcode)0, Errno.ENOSYS)]
    [InlineData((FuseOpcode)7, Errno.ENOSYS)]
    [InlineData((FuseOpcode)54, Errno.ENOSYS)]
    [InlineData((FuseOpcode)4096, Errno.ENOSYS)]
    [InlineData((FuseOpcode)uint.MaxValue, Errno.ENOSYS)]
    public void Opcodes_not_served_say_so(FuseOpcode opcode, Errno expected)
    {
        using var client = new FuseClient();
        Assert.Equal(expected, client.Call(opcode, 9, new byte[64]).Errno);
    }

    [Theory]
    [InlineData(0x89EDu, 0ul)] // suid
    [InlineData(0x85E5u, 0ul)] // sgid
    [InlineData(0x81EDu, 3ul)]
    [InlineData(0x45EDu, 3ul)] // a directory's bits stay
    public void A_mode_that_a_write_may_change_is_not_cached(uint mode, ulong seconds)
    {
        using var client = new FuseClient(options: new FuseServerOptions { AttributeTimeout = TimeSpan.FromSeconds(3) });
        client.FileSystem.Mode = mode;
        Assert.Equal(seconds, client.Call(FuseOpcode.LOOKUP, 1, Name("x")).As<FuseEntryOut>().AttributeSeconds);
        Assert.Equal(seconds, client.Call(FuseOpcode.GETATTR, 1, new byte[16]).As<FuseAttrOut>().AttributeSeconds);
        Assert.Equal(seconds, client.Call(FuseOpcode.STATX, 1, new byte[24]).As<FuseStatxOut>().AttributeSeconds);
    }

    [Fact]
    public void Attributes_travel_field_by_field()
    {
        using var client = new FuseClient(options: new FuseServerOptions { EntryTimeout = TimeSpan.FromSeconds(7.25), AttributeTimeout = TimeSpan.FromSeconds(3.5) });
        var attr = new FuseAttr(77, 1234567, 99, unchecked((ulong)-100L), 200, 300, 101, 201, 301, 0x81A4, 3, 11, 12, 0x00512345, 4096, 0);
        var entry = new FuseEntryOut(77, 5, 7, 3, 250_000_000, 500_000_000, attr);
        Assert.Equal(entry, client.Call(FuseOpcode.LOOKUP, 1, Name("x")).As<FuseEntryOut>());
        Assert.Equal(new FuseAttrOut(3, 500_000_000, 0, attr), client.Call(FuseOpcode.GETATTR, 1, new byte[16]).As<FuseAttrOut>());
        Assert.Equal(new FuseCreateOut(entry, new FuseOpenOut(0xFEED, OpenReplyFlags.None)),
            client.Call(FuseOpcode.CREATE, 1, [.. new byte[16], .. Name("x")]).As<FuseCreateOut>());
        Assert.Equal(new FuseStatxOut(3, 500_000_000, 0, 0, 0, new FuseStatx(0xfff, 4096, 0x10, 3, 11, 12, 0x81A4, 0, 77, 1234567, 99, 0x70,
            new FuseStatxTime(-100, 101), new FuseStatxTime(400, 401), new FuseStatxTime(300, 301), new FuseStatxTime(200, 201), 0x123, 0x545)),
            client.Call(FuseOpcode.STATX, 1, new byte[24]).As<FuseStatxOut>());
        Assert.Equal(new FuseStatfsOut(1, 2, 3, 4, 5, 4096, 255, 4096), client.Call(FuseOpcode.STATFS, 1).As<FuseStatfsOut>());
    }

    [Fact]
    public void Setattr_decodes_every_bit()
    {
        using var client = new FuseClient();
        string Set(SetAttrValid valid)
        {
            client.FileSystem.Calls.Clear();
            Assert.Equal(Errno.None, client.Call(FuseOpcode.SETATTR, 9,
                Bytes(new FuseSetattrIn(valid, 0, 0xab, 1000, 66, 1, 2, 3, 4, 5, 6, 0x8FFF, 0, 7, 8))).Errno);
            return Assert.Single(client.FileSystem.Calls);
        }
        string Expect(SetAttributes changes) => $"SetAttributes {Caller} 9 {changes}";
        Assert.Equal(Expect(new(DropPrivileges: true)), Set(SetAttrValid.FH | SetAttrValid.LOCKOWNER));
        Assert.Equal(Expect(new(Mode: 0xFFF)), Set(SetAttrValid.MODE));
        Assert.Equal(Expect(new(Uid: 7)), Set(SetAttrValid.UID));
        Assert.Equal(Expect(new(Gid: 8)), Set(SetAttrValid.GID));
        Assert.Equal(Expect(new(SizeBytes: 1000)), Set(SetAttrValid.SIZE));
        Assert.Equal(Expect(new(AccessTime: new(1, 4))), Set(SetAttrValid.ATIME));
        Assert.Equal(Expect(new(ModifyTime: new(2, 5))), Set(SetAttrValid.MTIME));
        Assert.Equal(Expect(new(DropPrivileges: true)), Set(SetAttrValid.CTIME));
        Assert.Equal(Expect(new(ModifyTime: new(2, 5), ChangeTime: new(3, 6))), Set(SetAttrValid.MTIME | SetAttrValid.CTIME));
        Assert.Equal(Expect(new(AccessTimeNow: true)), Set(SetAttrValid.ATIME | SetAttrValid.ATIME_NOW));
        Assert.Equal(Expect(new(ModifyTimeNow: true)), Set(SetAttrValid.MTIME | SetAttrValid.MTIME_NOW));
        Assert.Equal(Expect(new(KillPrivileges: true)), Set(SetAttrValid.KILL_SUIDGID));
    }

    [Fact]
    public void A_fallocate_drops_privileges_again_if_the_setattr_before_did()
    {
        using var client = new FuseClient();
        byte[] Setattr(SetAttrValid valid, uint pid) => [.. Bytes(new FuseInHeader(128, 4, FuseClient.Unique, 9, uint.MaxValue, uint.MaxValue, pid)),
            .. Bytes(new FuseSetattrIn(valid, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x1FF, 0, 0, 0))];
        byte[] Fallocate(ulong node, uint pid) => [.. Bytes(new FuseInHeader(72, 43, FuseClient.Unique, node, uint.MaxValue, uint.MaxValue, pid)), .. Bytes(new FuseFallocateIn(1, 0, 4096, 0))];
        int Drops(params byte[][] requests)
        {
            client.FileSystem.Calls.Clear();
            foreach (byte[] request in requests) { Assert.Equal(Errno.None, client.Send(request).Errno); }
            return client.FileSystem.Calls.Count(c => c.Contains("DropPrivileges = True", StringComparison.Ordinal));
        }
        Assert.Equal(2, Drops(Setattr(0, 5), Fallocate(9, 5)));
        Assert.Equal(0, Drops(Fallocate(9, 5)));
        Assert.Equal(1, Drops(Setattr(0, 5), Fallocate(9, 6)));
        Assert.Equal(1, Drops(Setattr(0, 5), Fallocate(8, 5)));
        Assert.Equal(1, Drops(Setattr(0, 5), Setattr(SetAttrValid.MODE, 5), Fallocate(9, 5)));
    }

    [Fact]
    public void A_setattr_of_nothing_drops_privileges_only_when_that_was_left_to_us()
    {
        using var client = new FuseClient(options: new FuseServerOptions { KillPrivilegesV2 = false });
        client.Call(FuseOpcode.SETATTR, 9, Bytes(new FuseSetattrIn(SetAttrValid.FH, 0, 0xab, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)));
        Assert.Equal($"SetAttributes {Caller} 9 {new SetAttributes()}", Assert.Single(client.FileSystem.Calls));
    }

    [Fact]
    public void Directory_entries_are_packed_and_padded()
    {
        using var client = new FuseClient { OutputSegment = 10 };
        byte[] body = client.Call(FuseOpcode.READDIR, 9, Bytes(new FuseReadIn(1, 0, 4096))).Body;
        byte[] expected =
        [
            .. Bytes(new FuseDirent(1, 1, 1, 8)), .. "."u8, .. new byte[7],
            .. Bytes(new FuseDirent(1, 2, 2, 8)), .. ".."u8, .. new byte[6],
            .. Bytes(new FuseDirent(10, 3, 5, 8)), .. "first"u8, .. new byte[3],
            .. Bytes(new FuseDirent(11, 4, 11, 8)), .. "second-name"u8, .. new byte[5],
        ];
        Assert.Equal(expected, body);
    }

    [Fact]
    public void Readdirplus_entries_count_a_lookup_except_dots()
    {
        using var client = new FuseClient();
        byte[] body = client.Call(FuseOpcode.READDIRPLUS, 9, Bytes(new FuseReadIn(1, 0, 4096))).Body;
        Assert.Equal(160 * 3 + 168, body.Length);
        Assert.Equal(default, MemoryMarshal.Read<FuseDirentPlus>(body).Entry);
        Assert.Equal(default, MemoryMarshal.Read<FuseDirentPlus>(body.AsSpan(160)).Entry);
        FuseDirentPlus first = MemoryMarshal.Read<FuseDirentPlus>(body.AsSpan(320));
        Assert.Equal(10ul, first.Entry.NodeId);
        Assert.Equal(new FuseDirent(10, 3, 5, 8), first.Dirent);
        Assert.Equal("first", Encoding.UTF8.GetString(body.AsSpan(320 + FuseDirentPlus.Size, 5)));
    }

    [Theory]
    [InlineData(FuseOpcode.READDIR, 32, 4)]
    [InlineData(FuseOpcode.READDIRPLUS, 160, 4)]
    public void A_directory_larger_than_the_reply_is_read_in_pieces(FuseOpcode opcode, uint size, int expectedReads)
    {
        using var client = new FuseClient();
        client.FileSystem.Entries = [(".", 1), ("..", 1), ("first", 10), ("next", 11)];
        int reads = 0;
        for (ulong cookie = 0; ; reads++)
        {
            byte[] body = client.Call(opcode, 9, Bytes(new FuseReadIn(1, cookie, size))).Body;
            if (body.Length == 0) { break; }
            Assert.Equal((int)size, body.Length);
            cookie++;
        }
        Assert.Equal(expectedReads, reads);
        Assert.Equal(3, client.FileSystem.TakenBackEntries);
        // Not even one fits: an empty reply would end the directory.
        Assert.Equal(Errno.EINVAL, client.Call(opcode, 9, Bytes(new FuseReadIn(1, 0, size - 1))).Errno);
        Assert.Equal(Errno.EINVAL, client.Call(opcode, 9, Bytes(new FuseReadIn(1, 0, size)), room: 16 + (int)size - 1).Errno);
    }

    [Theory]
    [InlineData(FuseOpcode.GETXATTR)]
    [InlineData(FuseOpcode.LISTXATTR)]
    public void Xattr_sizes_are_queried_and_too_small_is_ERANGE(FuseOpcode opcode)
    {
        using var client = new FuseClient();
        byte[] Body(uint size) => opcode == FuseOpcode.GETXATTR ? [.. Bytes(new FuseGetxattrIn(size)), .. Name("user.x")] : Bytes(new FuseGetxattrIn(size));
        Assert.Equal(new FuseGetxattrOut(5), client.Call(opcode, 9, Body(0)).As<FuseGetxattrOut>());
        Assert.Equal("value"u8.ToArray(), client.Call(opcode, 9, Body(5)).Body);
        Assert.Equal(Errno.ERANGE, client.Call(opcode, 9, Body(4)).Errno);
        Assert.Equal(Errno.ERANGE, client.Call(opcode, 9, Body(5), room: 20).Errno);
        Assert.Equal(Errno.EINVAL, client.Call(opcode, 9, Body(5), room: 16).Errno);
        Assert.Equal("value"u8.ToArray(), client.Call(opcode, 9, Body(uint.MaxValue), room: 21).Body);
        client.FileSystem.Xattr = new byte[65536];
        Assert.Equal(65536, client.Call(opcode, 9, Body(65536), room: 70000).Body.Length);
    }

    [Fact]
    public void Xattrs_switched_off_are_not_supported()
    {
        using var client = new FuseClient(options: new FuseServerOptions { Xattr = false });
        foreach ((FuseOpcode opcode, byte[] body, _) in All.Where(a => a.Opcode is >= FuseOpcode.SETXATTR and <= FuseOpcode.REMOVEXATTR))
        {
            Assert.Equal(Errno.EOPNOTSUPP, client.Call(opcode, 9, body).Errno);
        }
        Assert.Equal(Errno.None, client.Call(FuseOpcode.LOOKUP, 9, Name("x")).Errno);
    }

    [Fact]
    public void A_whole_mebibyte_is_read_and_written()
    {
        using var client = new FuseClient { InputSegment = 4096, OutputSegment = 4096 };
        byte[] data = new byte[1 << 20];
        new Random(1).NextBytes(data);
        Assert.Equal(new FuseWriteOut(1 << 20), client.Call(FuseOpcode.WRITE, 9, [.. Bytes(new FuseWriteIn(1, 0, 1 << 20)), .. data]).As<FuseWriteOut>());
        Assert.Equal(data, client.FileSystem.Written);
        byte[] read = client.Call(FuseOpcode.READ, 9, Bytes(new FuseReadIn(1, 3, 1 << 20)), room: 16 + (1 << 20)).Body;
        Assert.Equal(Enumerable.Range(3, 1 << 20).Select(i => (byte)i), read);
    }
}
