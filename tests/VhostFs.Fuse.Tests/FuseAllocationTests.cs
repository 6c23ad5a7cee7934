using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;
using static VhostFs.Fuse.Tests.FuseClient;

namespace VhostFs.Fuse.Tests;

/// <summary>The budget of DESIGN: no heap allocation per steady-state request; exact, in every build configuration.</summary>
public class FuseAllocationTests
{
    private const int Turns = 1000;

    [Theory]
    [InlineData(FuseOpcode.LOOKUP)]
    [InlineData(FuseOpcode.GETATTR)]
    [InlineData(FuseOpcode.READ)]
    [InlineData(FuseOpcode.WRITE)]
    [InlineData(FuseOpcode.OPEN)]
    [InlineData(FuseOpcode.CREATE)]
    [InlineData(FuseOpcode.STATX)]
    [InlineData(FuseOpcode.SETATTR)]
    [InlineData(FuseOpcode.READLINK)]
    [InlineData(FuseOpcode.RENAME)]
    [InlineData(FuseOpcode.FORGET)]
    public void A_steady_request_allocates_nothing(FuseOpcode opcode)
    {
        using var client = new FuseClient();
        client.FileSystem.Records = false;
        byte[] body = opcode == FuseOpcode.FORGET ? new byte[8] : FuseOpcodeTests.All.Single(a => a.Opcode == opcode).Body;
        client.Request.Fill([.. Bytes(new FuseInHeader((uint)(40 + body.Length), (uint)opcode, Unique, 9, 0, 0, 0)), .. body], 4096, 30, 30);
        Assert.Equal(0, Measure(() => client.Server.Handle(client.Request), client));
    }

    [Fact]
    public void A_whole_mebibyte_allocates_nothing()
    {
        using var client = new FuseClient();
        client.FileSystem.Records = false;
        client.Request.Fill([.. Bytes(new FuseInHeader(80, (uint)FuseOpcode.READ, Unique, 9, 0, 0, 0)), .. Bytes(new FuseReadIn(1, 0, 1 << 20))], 16 + (1 << 20), 0, 4096);
        Assert.Equal(0, Measure(() => client.Server.Handle(client.Request), client, turns: 20));
    }

    [Fact]
    public void A_suspended_request_allocates_nothing()
    {
        using var client = new FuseClient();
        client.FileSystem.Records = false;
        var held = client.FileSystem.HeldLookup = new IoCompletion<FsResult<InodeAttributes>>();
        client.Request.Fill([.. Bytes(new FuseInHeader(42, (uint)FuseOpcode.LOOKUP, Unique, 9, 0, 0, 0)), .. Name("x")], 4096);
        Assert.Equal(0, Measure(() =>
        {
            client.Server.Handle(client.Request);
            held.Complete(FakeFileSystem.Attributes);
        }, client));
    }

    [Fact]
    public void A_lock_allocates_nothing()
    {
        var fileSystem = new FakeFileSystem { Records = false };
        fileSystem.Locks = fileSystem;
        using var client = new FuseClient(fileSystem, new FuseServerOptions { PosixLocks = true });
        foreach (FuseOpcode opcode in (FuseOpcode[])[FuseOpcode.SETLK, FuseOpcode.SETLKW, FuseOpcode.GETLK])
        {
            client.Request.Fill([.. Bytes(new FuseInHeader(88, (uint)opcode, Unique, 9, 0, 0, 0)), .. Bytes(new FuseLkIn(1, 2, new FuseFileLock(0, 9, 1, 3), 0))], 4096);
            Assert.Equal(0, Measure(() => client.Server.Handle(client.Request), client));
        }
    }

    private static long Measure(Action turn, FuseClient client, int turns = Turns)
    {
        for (int i = 0; i < turns; i++)
        {
            client.Request.Again();
            turn();
        }
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < turns; i++)
        {
            client.Request.Again();
            turn();
        }
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.Equal(1, client.Request.Completions);
        Assert.Null(client.Server.Fault);
        return allocated;
    }
}
