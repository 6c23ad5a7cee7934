using System.Runtime.InteropServices;
using System.Text;
using VhostFs.Linux;
using Xunit;
using static VhostFs.Fuse.Tests.FuseClient;

namespace VhostFs.Fuse.Tests;

/// <summary>Input that no honest kernel sends; each from a public bug (docs/fuse-and-virtio.md).</summary>
public class FuseHostileTests
{
    private static byte[] Header(uint length, FuseOpcode opcode = FuseOpcode.LOOKUP, ushort extLen = 0) =>
        Bytes(new FuseInHeader(length, (uint)opcode, Unique, 9, Uid, Gid, Pid, extLen));

    [Fact]
    public void A_runt_header_is_returned_without_a_reply() // CVE-2026-86566
    {
        using var client = new FuseClient();
        for (int length = 0; length < FuseInHeader.Size; length++) { Assert.True(client.Send(Header(40)[..length]).IsNone); }
    }

    [Theory]
    [InlineData(0u, Errno.EINVAL)]
    [InlineData(39u, Errno.EINVAL)]
    [InlineData(43u, Errno.EINVAL)]
    [InlineData((1u << 20) + 4096, Errno.EINVAL)]
    [InlineData((1u << 20) + 4097, Errno.ENOMEM)]
    [InlineData(uint.MaxValue, Errno.ENOMEM)]
    public void A_header_that_lies_about_its_length_is_an_error(uint length, Errno expected)
    {
        using var client = new FuseClient();
        Assert.Equal(expected, client.Send([.. Header(length), .. Name("x")]).Errno);
        Assert.True(client.Send([.. Header(length, FuseOpcode.FORGET), 1, 2]).IsNone);
        Assert.Empty(client.FileSystem.Calls);
    }

    [Fact]
    public void The_headers_length_bounds_the_request_not_the_segments()
    {
        using var client = new FuseClient();
        Assert.Equal(Errno.EINVAL, client.Send([.. Header(42), .. Name("xyz")]).Errno); // the NUL lies beyond
        Assert.Equal(Errno.None, client.Send([.. Header(44), .. Name("xyz"), 1, 2, 3]).Errno);
    }

    public static TheoryData<string, Errno> BadNames => new()
    {
        { "", Errno.EINVAL }, { "/", Errno.EINVAL }, { "a/b", Errno.EINVAL }, { "/etc/passwd", Errno.EINVAL }, { "../x", Errno.EINVAL },
        { ".", Errno.EINVAL }, { "..", Errno.EINVAL }, { new string('n', 256), Errno.ENAMETOOLONG }, { new string('n', 5000), Errno.ENAMETOOLONG },
        { new string('n', 200_000), Errno.ENAMETOOLONG },
    };

    [Theory, MemberData(nameof(BadNames))]
    public void Names_are_checked_by_every_opcode_that_takes_one(string name, Errno expected) // libkrun #329, arcbox #474, CVE-2026-47243
    {
        using var client = new FuseClient();
        (FuseOpcode Opcode, byte[] Before, byte[] After)[] takers =
        [
            (FuseOpcode.LOOKUP, [], []), (FuseOpcode.SYMLINK, [], Name("t")), (FuseOpcode.MKNOD, Bytes(new FuseMknodIn(0x81A4, 0, 0)), []),
            (FuseOpcode.MKDIR, new byte[8], []), (FuseOpcode.UNLINK, [], []), (FuseOpcode.RMDIR, [], []), (FuseOpcode.LINK, new byte[8], []),
            (FuseOpcode.RENAME, new byte[8], Name("ok")), (FuseOpcode.RENAME, [.. new byte[8], .. Name("ok")], []),
            (FuseOpcode.RENAME2, new byte[16], Name("ok")), (FuseOpcode.RENAME2, [.. new byte[16], .. Name("ok")], []), (FuseOpcode.CREATE, new byte[16], []),
        ];
        foreach ((FuseOpcode opcode, byte[] before, byte[] after) in takers)
        {
            bool dots = opcode == FuseOpcode.LOOKUP && (name is "." or "..");
            client.FileSystem.Calls.Clear();
            Assert.Equal(dots ? Errno.None : expected, client.Call(opcode, 9, [.. before, .. Name(name), .. after]).Errno);
            Assert.Equal(dots ? 1 : 0, client.FileSystem.Calls.Count);
        }
    }

    [Fact]
    public void Names_of_255_bytes_pass_and_unterminated_ones_do_not()
    {
        using var client = new FuseClient();
        byte[] name = Encoding.UTF8.GetBytes(new string('n', 255));
        Assert.Equal(Errno.None, client.Call(FuseOpcode.LOOKUP, 9, [.. name, 0]).Errno);
        Assert.Equal(Errno.EINVAL, client.Call(FuseOpcode.LOOKUP, 9, name).Errno);
        Assert.Equal(Errno.EINVAL, client.Call(FuseOpcode.LOOKUP, 9, []).Errno);
        Assert.Equal(Errno.ENAMETOOLONG, client.Call(FuseOpcode.LOOKUP, 9, [.. name, 1]).Errno);
        Assert.Equal(Errno.ERANGE, client.Call(FuseOpcode.REMOVEXATTR, 9, [.. name, 1, 0]).Errno);
        Assert.Equal(Errno.EINVAL, client.Call(FuseOpcode.REMOVEXATTR, 9, [0]).Errno);
        Assert.Equal(Errno.ENAMETOOLONG, client.Call(FuseOpcode.SYMLINK, 9, [.. Name("n"), .. Name(new string('t', 4096))]).Errno);
        Assert.Equal(Errno.None, client.Call(FuseOpcode.SYMLINK, 9, [.. Name("n"), .. Name(new string('t', 4095))]).Errno);
        Assert.Equal(Errno.ENOENT, client.Call(FuseOpcode.SYMLINK, 9, [.. Name("n"), 0]).Errno);
    }

    [Fact]
    public void Sizes_of_4_GiB_are_clamped_to_the_room() // mvm #1969
    {
        using var client = new FuseClient();
        Assert.Equal(100, client.Call(FuseOpcode.READ, 9, Bytes(new FuseReadIn(1, 0, uint.MaxValue)), room: 116).Body.Length);
        Assert.Equal(1 << 20, client.Call(FuseOpcode.READ, 9, Bytes(new FuseReadIn(1, 0, uint.MaxValue)), room: 2 << 20).Body.Length);
        Assert.Equal("value"u8.ToArray(), client.Call(FuseOpcode.GETXATTR, 9, [.. Bytes(new FuseGetxattrIn(uint.MaxValue)), .. Name("user.x")]).Body);
        Assert.Equal("value"u8.ToArray(), client.Call(FuseOpcode.LISTXATTR, 9, Bytes(new FuseGetxattrIn(uint.MaxValue))).Body);
        Assert.NotEmpty(client.Call(FuseOpcode.READDIR, 9, Bytes(new FuseReadIn(1, 0, uint.MaxValue)), room: 2 << 20).Body);
        Assert.Empty(client.Call(FuseOpcode.READDIR, 9, Bytes(new FuseReadIn(1, ulong.MaxValue, 4096))).Body);
    }

    [Fact]
    public void A_write_or_setxattr_must_carry_what_it_announces() // arcbox #474
    {
        using var client = new FuseClient();
        foreach (uint size in new[] { 0u, 9u, 11u, 1u << 20, (1u << 20) + 1, uint.MaxValue })
        {
            Assert.Equal(Errno.EINVAL, client.Call(FuseOpcode.WRITE, 9, [.. Bytes(new FuseWriteIn(1, 0, size)), .. new byte[10]]).Errno);
            Errno expected = size > 65536 ? Errno.E2BIG : Errno.EINVAL;
            Assert.Equal(expected, client.Call(FuseOpcode.SETXATTR, 9, [.. Bytes(new FuseSetxattrIn(size, 0, 0)), .. Name("user.x"), .. new byte[10]]).Errno);
        }
        Assert.Equal(Errno.E2BIG, client.Call(FuseOpcode.SETXATTR, 9, [.. Bytes(new FuseSetxattrIn(65537, 0, 0)), .. Name("user.x"), .. new byte[65537]]).Errno);
        Assert.Empty(client.FileSystem.Calls);
        Assert.Equal(Errno.None, client.Call(FuseOpcode.SETXATTR, 9, [.. Bytes(new FuseSetxattrIn(65536, 0, 0)), .. Name("user.x"), .. new byte[65536]]).Errno);
        Assert.Equal(["SetXattr 9 user.x 65536 0 False"], client.FileSystem.Calls);
    }

    [Fact]
    public void Offsets_and_lengths_do_not_overflow()
    {
        using var client = new FuseClient();
        const ulong max = long.MaxValue;
        Errno Call<T>(FuseOpcode opcode, T arguments, params byte[] rest)
            where T : unmanaged => client.Call(opcode, 9, [.. Bytes(arguments), .. rest]).Errno;
        Assert.Equal(Errno.EINVAL, Call(FuseOpcode.READ, new FuseReadIn(1, max + 1, 1)));
        Assert.Equal(Errno.EFBIG, Call(FuseOpcode.WRITE, new FuseWriteIn(1, max, 1), 7));
        Assert.Equal(Errno.EFBIG, Call(FuseOpcode.WRITE, new FuseWriteIn(1, ulong.MaxValue, 1), 7));
        Assert.Equal(Errno.EFBIG, Call(FuseOpcode.FALLOCATE, new FuseFallocateIn(1, max, 1, 0)));
        Assert.Equal(Errno.EINVAL, Call(FuseOpcode.FALLOCATE, new FuseFallocateIn(1, 0, 0, 0)));
        Assert.Equal(Errno.EINVAL, Call(FuseOpcode.FALLOCATE, new FuseFallocateIn(1, ulong.MaxValue, 2, 0)));
        Assert.Equal(Errno.EINVAL, Call(FuseOpcode.FALLOCATE, new FuseFallocateIn(1, 0, ulong.MaxValue, 0)));
        Assert.Equal(Errno.EOPNOTSUPP, Call(FuseOpcode.FALLOCATE, new FuseFallocateIn(1, 0, 1, 8)));
        Assert.Equal(Errno.ENXIO, Call(FuseOpcode.LSEEK, new FuseLseekIn(1, max + 1, 3)));
        Assert.Equal(Errno.EINVAL, Call(FuseOpcode.LSEEK, new FuseLseekIn(1, 0, 0)));
        Assert.Equal(Errno.EFBIG, Call(FuseOpcode.SETATTR, new FuseSetattrIn(SetAttrValid.SIZE, 0, 0, max + 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)));
        Assert.Equal(Errno.EINVAL, Call(FuseOpcode.SETATTR, new FuseSetattrIn(SetAttrValid.MTIME, 0, 0, 0, 0, 0, 0, 0, 0, 1_000_000_000, 0, 0, 0, 0, 0)));
        Assert.Equal(Errno.EINVAL, Call(FuseOpcode.SETATTR, new FuseSetattrIn(SetAttrValid.UID, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, uint.MaxValue, 0)));
        Assert.Equal(Errno.EINVAL, Call(FuseOpcode.COPY_FILE_RANGE, new FuseCopyFileRangeIn(1, 0, 2, 3, 0, 1, Flags: 1)));
        Assert.Equal(Errno.EINVAL, Call(FuseOpcode.COPY_FILE_RANGE, new FuseCopyFileRangeIn(1, max + 1, 2, 3, 0, 1)));
        Assert.Equal(Errno.EOVERFLOW, Call(FuseOpcode.COPY_FILE_RANGE, new FuseCopyFileRangeIn(1, max, 2, 3, 0, 1)));
        Assert.Equal(Errno.EFBIG, Call(FuseOpcode.COPY_FILE_RANGE, new FuseCopyFileRangeIn(1, 0, 2, 3, max, 1)));
        Assert.Equal(Errno.EINVAL, Call(FuseOpcode.RENAME2, new FuseRename2In(1, 8), [.. Name("a"), .. Name("b")]));
        Assert.Equal(Errno.EINVAL, Call(FuseOpcode.RENAME2, new FuseRename2In(1, 3), [.. Name("a"), .. Name("b")]));
        Assert.Equal(Errno.EINVAL, Call(FuseOpcode.MKNOD, new FuseMknodIn(0x41ED, 0, 0), Name("a")));
        Assert.Empty(client.FileSystem.Calls);
        Assert.Equal(Errno.None, Call(FuseOpcode.COPY_FILE_RANGE_64, new FuseCopyFileRangeIn(1, 0, 2, 3, 0, ulong.MaxValue)));
        Assert.Equal(["Copy 9 1 0 2 3 0 2147479552"], client.FileSystem.Calls);
    }

    [Fact]
    public void A_creator_without_an_id_is_refused() // ALLOW_IDMAP
    {
        using var client = new FuseClient();
        byte[] Create(uint uid, uint gid) => [.. Bytes(new FuseInHeader(50, 9, Unique, 9, uid, gid, Pid)), .. new byte[8], .. Name("x")];
        Assert.Equal(Errno.EOVERFLOW, client.Send(Create(uint.MaxValue, 0)).Errno);
        Assert.Equal(Errno.EOVERFLOW, client.Send(Create(0, uint.MaxValue)).Errno);
        Assert.Equal(Errno.None, client.Send(Create(0, 0)).Errno);
        Assert.Equal(Errno.None, client.Send([.. Bytes(new FuseInHeader(42, 1, Unique, 9, uint.MaxValue, uint.MaxValue, 0)), .. Name("x")]).Errno);
    }

    private static byte[] Pad(byte[] bytes) => [.. bytes, .. new byte[-bytes.Length & 7]];

    private static byte[] Security(uint count, string name, string value) => Pad([.. Bytes(new FuseExtHeader(
        (uint)Pad([.. new byte[16], .. Name(name), .. Encoding.UTF8.GetBytes(value)]).Length, count)),
        .. Bytes(new FuseSecctx((uint)value.Length)), .. Name(name), .. Encoding.UTF8.GetBytes(value)]);

    private static byte[] Group(uint group, uint count = 1) => [.. Bytes(new FuseExtHeader(16, 32)), .. Bytes(count), .. Bytes(group)];

    [Fact]
    public void Extensions_carry_the_label_and_the_group()
    {
        using var client = new FuseClient(options: new FuseServerOptions { SecurityLabel = true });
        byte[] label = Security(1, "security.selinux", "label_t"), group = Group(4242);
        const string with = "1001:1002:1003:4242 umask=2 ctx=security.selinux=label_t";
        (FuseOpcode Opcode, byte[] Body, string Call)[] creations =
        [
            (FuseOpcode.CREATE, [.. Bytes(new FuseCreateIn(2, 0x1A4, 2)), .. Name("n")], $"Create {with} 9 n 1a4 2 False"),
            (FuseOpcode.TMPFILE, [.. Bytes(new FuseCreateIn(2, 0x1A4, 2)), .. Name("/")], $"TemporaryFile {with} 9 1a4 2"),
            (FuseOpcode.MKNOD, [.. Bytes(new FuseMknodIn(0x11A4, 0, 2)), .. Name("n")], $"MakeNode {with} 9 n 11a4 0"),
            (FuseOpcode.MKDIR, [.. Bytes(new FuseMkdirIn(0x1ED, 2)), .. Name("n")], $"MakeDirectory {with} 9 n 1ed"),
            (FuseOpcode.SYMLINK, [.. Name("n"), .. Name("t")], $"Symlink {with.Replace("umask=2", "umask=0", StringComparison.Ordinal)} 9 n -> t"),
        ];
        foreach ((FuseOpcode opcode, byte[] body, string call) in creations)
        {
            foreach (byte[] extensions in new byte[][] { [.. label, .. group], [.. group, .. label] })
            {
                client.FileSystem.Calls.Clear();
                Assert.Equal(Errno.None, client.Call(opcode, 9, [.. body, .. extensions], extensionBytes: extensions.Length).Errno);
                Assert.Equal([call], client.FileSystem.Calls);
            }
            client.FileSystem.Calls.Clear(); // 6.1 has no total_extlen: the label follows all the same
            Assert.Equal(Errno.None, client.Call(opcode, 9, [.. body, .. label]).Errno);
            Assert.Equal([call.Replace(":4242", ":", StringComparison.Ordinal)], client.FileSystem.Calls);
        }
    }

    [Fact]
    public void Malformed_extensions_are_refused()
    {
        using var client = new FuseClient(options: new FuseServerOptions { SecurityLabel = true });
        Errno Make(params byte[] extensions) => client.Call(FuseOpcode.MKDIR, 9, [.. new byte[8], .. Name("n"), .. extensions], extensionBytes: extensions.Length).Errno;
        byte[] label = Security(1, "security.selinux", "label_t");
        Assert.Equal(Errno.EINVAL, Make([.. label, .. label]));
        Assert.Equal(Errno.EINVAL, Make([.. Group(1), .. Group(2)]));
        Assert.Equal(Errno.EINVAL, Make(Group(1, count: 2)));
        Assert.Equal(Errno.EINVAL, Make(Group(1, count: uint.MaxValue)));
        Assert.Equal(Errno.EOPNOTSUPP, Make(Security(2, "security.selinux", "x")));
        Assert.Equal(Errno.EINVAL, Make(Security(1, "", "x")));
        Assert.Equal(Errno.EINVAL, Make(Bytes(new FuseExtHeader(8, 33))));
        Assert.Equal(Errno.EINVAL, Make(Bytes(new FuseExtHeader(8, 32))));
        Assert.Equal(Errno.EINVAL, Make(Bytes(new FuseExtHeader(8, 1))));
        Assert.Equal(Errno.None, Make(Bytes(new FuseExtHeader(8, 0))));
        foreach (uint size in new[] { 0u, 7u, 9u, 1000u, uint.MaxValue }) { Assert.Equal(Errno.EINVAL, Make(Bytes(new FuseExtHeader(size, 0)))); }
        byte[] tooLong = [.. label];
        MemoryMarshal.Write(tooLong.AsSpan(8), uint.MaxValue);
        Assert.Equal(Errno.EINVAL, Make(tooLong));
        // More than the request holds; and a name must not run into them.
        Assert.Equal(Errno.EINVAL, client.Call(FuseOpcode.MKDIR, 9, [.. new byte[8], .. Name("n")], extensionBytes: 8 * 65535).Errno);
        Assert.Equal(Errno.EINVAL, client.Call(FuseOpcode.MKDIR, 9, [.. new byte[8], 65, .. Group(1)], extensionBytes: 16).Errno);

        using var without = new FuseClient(options: new FuseServerOptions());
        Assert.Equal(Errno.EINVAL, without.Call(FuseOpcode.MKDIR, 9, [.. new byte[8], .. Name("n"), .. label], extensionBytes: label.Length).Errno);
    }

    [Fact]
    public void Header_and_arguments_are_fetched_once() // CVE-2026-86562, 86848, 93683
    {
        using var client = new FuseClient();
        var held = client.FileSystem.HeldOpen = new VhostFs.Reactor.IoCompletion<FsResult<ulong>>();
        client.Request.Fill([.. Header(48, FuseOpcode.OPEN), .. new byte[8]], 32);
        client.Server.Handle(client.Request);
        client.Request.Input.Fill(0xFF); // the guest changes its request while it is served
        held.Complete(5ul);
        Assert.Equal(5ul, client.Finished().As<FuseOpenOut>().Handle);
        Assert.Equal(Unique, MemoryMarshal.Read<FuseOutHeader>(client.Request.Output).Unique);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Random_requests_complete_once_with_a_sound_reply(int seed)
    {
        using var client = new FuseClient(options: new FuseServerOptions { SecurityLabel = true });
        client.FileSystem.Records = false;
        var random = new Random(seed);
        uint[] interesting = [0, 1, 7, 8, 39, 40, 41, 255, 256, 4096, 65536, 65537, 1 << 20, (1 << 20) + 4097, int.MaxValue, 1u << 31, uint.MaxValue];
        for (int turn = 0; turn < 50_000; turn++)
        {
            (FuseOpcode opcode, byte[] body, _) = FuseOpcodeTests.All[random.Next(FuseOpcodeTests.All.Length)];
            if (random.Next(10) == 0) { opcode = (FuseOpcode)random.Next(64); }
            body = [.. body, .. new byte[random.Next(4) == 0 ? random.Next(64) : 0]];
            byte[] bytes = [.. Bytes(new FuseInHeader((uint)(40 + body.Length), (uint)opcode, Unique, 9, Uid, Gid, Pid)), .. body];
            for (int mutations = random.Next(4); mutations > 0; mutations--)
            {
                int at = random.Next(3) == 0 ? random.Next(bytes.Length) : random.Next(40, bytes.Length + 1);
                if (random.Next(2) == 0 && at + 4 <= bytes.Length) { MemoryMarshal.Write(bytes.AsSpan(at & ~3), interesting[random.Next(interesting.Length)]); }
                else if (at < bytes.Length) { bytes[at] = (byte)random.Next(256); }
            }
            if (random.Next(8) == 0) { bytes = bytes[..random.Next(bytes.Length + 1)]; }
            client.InputSegment = random.Next(3) == 0 ? random.Next(1, 60) : 0;
            client.OutputSegment = random.Next(3) == 0 ? random.Next(1, 60) : 0;
            int room = random.Next(4) switch { 0 => random.Next(40), 1 => random.Next(400), _ => 4096 };
            try
            {
                client.Send(bytes, room);
            }
            catch (Exception error)
            {
                Assert.Fail($"seed {seed} turn {turn} {opcode} {Convert.ToHexString(bytes)} room {room}: {error}");
            }
            // DESTROY, or an INIT we refused.
            if (client.Server.Negotiated is null)
            {
                client.InputSegment = client.OutputSegment = 0;
                client.Initialize();
            }
        }
    }
}
