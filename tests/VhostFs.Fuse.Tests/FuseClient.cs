using System.Runtime.InteropServices;
using System.Text;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Fuse.Tests;

/// <summary>What a guest's kernel would send, built from parts, and the reply taken apart.</summary>
internal sealed class FuseClient : IDisposable
{
    public const ulong Unique = 0x1122334455667788;
    public const uint Uid = 1001, Gid = 1002, Pid = 1003;

    public FuseClient(FakeFileSystem? fileSystem = null, FuseServerOptions? options = null, bool initialize = true)
    {
        FileSystem = fileSystem ?? new FakeFileSystem();
        Server = new FuseServer(FileSystem, options ?? new FuseServerOptions());
        if (initialize) { Assert.Equal(Errno.None, Initialize().Errno); }
        FileSystem.Calls.Clear();
    }

    public FakeFileSystem FileSystem { get; }

    public FuseServer Server { get; }

    public TestRequest Request { get; } = new(2 << 20, 2 << 20);

    public int InputSegment { get; set; }

    public int OutputSegment { get; set; }

    public const uint Flags61 = 0x7bfffffb, Flags2Of61 = 0x0b, Flags2Of612 = 0x1ff;

    public Reply Initialize(uint minor = 41, uint flags = Flags61, uint flags2 = Flags2Of612) =>
        Call(FuseOpcode.INIT, 0, [.. Bytes(new FuseInitIn(7, minor, 0x20000, flags)), .. Bytes(new FuseInitExtIn(flags2))]);

    public Reply Call(FuseOpcode opcode, ulong node, byte[]? body = null, int room = 4096, int extensionBytes = 0)
    {
        body ??= [];
        Assert.Equal(0, extensionBytes % 8);
        var header = new FuseInHeader((uint)(FuseInHeader.Size + body.Length), (uint)opcode, Unique, node, Uid, Gid, Pid, (ushort)(extensionBytes / 8));
        return Send([.. Bytes(header), .. body], room);
    }

    /// <summary>Sends raw bytes; checks what holds for every request.</summary>
    public Reply Send(byte[] bytes, int room = 4096)
    {
        Request.Fill(bytes, room, InputSegment, OutputSegment);
        Server.Handle(Request);
        return Finished();
    }

    /// <summary>Exactly one completion, with a reply that is consistent and fits.</summary>
    public Reply Finished()
    {
        Assert.Null(Server.Fault);
        Assert.Equal(1, Request.Completions);
        Assert.Equal(0, Server.InFlight);
        return Reply.From(Request);
    }

    public static byte[] Bytes<T>(T value)
        where T : unmanaged => MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)).ToArray();

    public static byte[] Name(string name) => [.. Encoding.UTF8.GetBytes(name), 0];

    public void Dispose() => Request.Dispose();
}

/// <summary>A reply taken apart; no reply: <see cref="IsNone"/>.</summary>
internal sealed record Reply(bool IsNone, Errno Errno, byte[] Body)
{
    public static Reply From(TestRequest request)
    {
        Assert.InRange(request.ReplyBytes, 0, request.Room);
        if (request.ReplyBytes == 0) { return new Reply(true, Errno.None, []); }
        Assert.True(request.ReplyBytes >= FuseOutHeader.Size);
        var header = MemoryMarshal.Read<FuseOutHeader>(request.Output);
        Assert.Equal((uint)request.ReplyBytes, header.Length);
        Assert.InRange(header.Error, -511, 0); // the kernel refuses others
        if (header.Error != 0) { Assert.Equal(FuseOutHeader.Size, request.ReplyBytes); }
        return new Reply(false, (Errno)(-header.Error), request.Output[FuseOutHeader.Size..request.ReplyBytes].ToArray());
    }

    public T As<T>()
        where T : unmanaged
    {
        Assert.Equal(Errno.None, Errno);
        Assert.Equal(System.Runtime.CompilerServices.Unsafe.SizeOf<T>(), Body.Length);
        return MemoryMarshal.Read<T>(Body);
    }
}
