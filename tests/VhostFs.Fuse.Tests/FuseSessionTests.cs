using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;
using static VhostFs.Fuse.Tests.FuseClient;

namespace VhostFs.Fuse.Tests;

/// <summary>Begin, end and what is in flight in between.</summary>
public class FuseSessionTests
{
    [Fact]
    public void Nothing_is_served_before_INIT_and_after_DESTROY()
    {
        using var client = new FuseClient(initialize: false);
        foreach ((FuseOpcode opcode, byte[] body, _) in FuseOpcodeTests.All) { Assert.Equal(Errno.EIO, client.Call(opcode, 9, body).Errno); }
        Assert.True(client.Call(FuseOpcode.FORGET, 9, new byte[8]).IsNone);
        client.Initialize();
        Reply destroyed = client.Call(FuseOpcode.DESTROY, 0);
        Assert.False(destroyed.IsNone);
        Assert.Equal(Errno.None, destroyed.Errno);
        Assert.Equal(["EndSession"], client.FileSystem.Calls);
        Assert.Equal(Errno.EIO, client.Call(FuseOpcode.LOOKUP, 1, Name("x")).Errno);
    }

    [Fact]
    public void A_second_INIT_ends_the_session_before_it()
    {
        using var client = new FuseClient();
        client.Initialize();
        Assert.Equal(1, client.FileSystem.EndedSessions);
        Assert.Equal(Errno.None, client.Call(FuseOpcode.LOOKUP, 1, Name("x")).Errno);
    }

    [Fact]
    public void A_reset_ends_the_session_once()
    {
        using var client = new FuseClient();
        client.Server.Reset();
        client.Server.Reset();
        Assert.Equal(1, client.FileSystem.EndedSessions);
        Assert.Null(client.Server.Negotiated);
    }

    [Fact]
    public void A_session_is_resumed_without_INIT()
    {
        using var before = new FuseClient();
        using var after = new FuseClient(initialize: false);
        after.Server.Resume(before.Server.Negotiated!.Value);
        Assert.Equal(Errno.None, after.Call(FuseOpcode.LOOKUP, 1, Name("x")).Errno);
    }

    [Fact]
    public void A_request_completes_when_the_file_system_does()
    {
        using var client = new FuseClient();
        var held = new IoCompletion<FsResult<InodeAttributes>>();
        client.FileSystem.HeldLookup = held;
        for (int turn = 0; turn < 3; turn++)
        {
            client.Request.Fill([.. Bytes(new FuseInHeader(42, 1, Unique, 1, 0, 0, 0)), .. Name("x")], 4096);
            client.Server.Handle(client.Request);
            Assert.Equal(0, client.Request.Completions);
            Assert.Equal(1, client.Server.InFlight);
            held.Complete(FakeFileSystem.Attributes);
            Assert.Equal(77ul, client.Finished().As<FuseEntryOut>().NodeId);
        }
    }

    [Fact]
    public void What_a_request_of_an_ended_session_refers_to_is_given_back()
    {
        using var client = new FuseClient();
        var lookup = client.FileSystem.HeldLookup = new IoCompletion<FsResult<InodeAttributes>>();
        var open = client.FileSystem.HeldOpen = new IoCompletion<FsResult<ulong>>();
        var create = client.FileSystem.HeldCreate = new IoCompletion<FsResult<CreatedFile>>();
        using TestRequest first = new(), second = new(), third = new();
        first.Fill([.. Bytes(new FuseInHeader(42, 1, Unique, 1, 0, 0, 0)), .. Name("x")], 4096);
        second.Fill([.. Bytes(new FuseInHeader(48, 14, Unique, 9, 0, 0, 0)), .. new byte[8]], 4096);
        third.Fill([.. Bytes(new FuseInHeader(58, 35, Unique, 9, 0, 0, 0)), .. new byte[16], .. Name("x")], 4096);
        foreach (TestRequest request in new[] { first, second, third }) { client.Server.Handle(request); }
        Assert.Equal(3, client.Server.InFlight);
        FuseNegotiated negotiated = client.Server.Negotiated!.Value;
        client.Server.Reset();
        client.Server.Resume(negotiated); // a new session, in which those references would stay for ever
        client.FileSystem.Calls.Clear();
        lookup.Complete(FakeFileSystem.Attributes);
        open.Complete(5ul);
        create.Complete(new CreatedFile(FakeFileSystem.Attributes, 6));
        Assert.Equal(["Forget 77 1", "Release 9 5", "Release 77 6", "Forget 77 1"], client.FileSystem.Calls);
        Assert.All(new[] { first, second, third }, r => Assert.Equal((1, Errno.None), (r.Completions, Reply.From(r).Errno)));
        Assert.Equal(0, client.Server.InFlight);
    }

    [Fact]
    public void Readdirplus_of_an_ended_session_refers_to_nothing()
    {
        using var client = new FuseClient();
        client.FileSystem.DuringReadDirectory = client.Server.Reset;
        Assert.Equal(Errno.None, client.Call(FuseOpcode.READDIR, 9, Bytes(new FuseReadIn(1, 0, 4096))).Errno);
        client.Initialize();
        Assert.Equal(Errno.EINVAL, client.Call(FuseOpcode.READDIRPLUS, 9, Bytes(new FuseReadIn(1, 0, 4096))).Errno);
        Assert.Equal(1, client.FileSystem.TakenBackEntries);
    }

    [Fact]
    public void A_bug_ends_the_session_and_nothing_else()
    {
        using var client = new FuseClient();
        client.FileSystem.Bug = new InvariantException("ours");
        client.Request.Fill([.. Bytes(new FuseInHeader(42, 1, Unique, 1, 0, 0, 0)), .. Name("x")], 4096);
        client.Server.Handle(client.Request);
        Assert.Equal((1, Errno.EIO), (client.Request.Completions, Reply.From(client.Request).Errno));
        Assert.Same(client.FileSystem.Bug, client.Server.Fault);
        client.FileSystem.Bug = null;
        client.FileSystem.Calls.Clear();
        client.Request.Fill([.. Bytes(new FuseInHeader(42, 1, Unique, 1, 0, 0, 0)), .. Name("x")], 4096);
        client.Server.Handle(client.Request);
        Assert.Equal((1, Errno.EIO), (client.Request.Completions, Reply.From(client.Request).Errno));
        Assert.Empty(client.FileSystem.Calls);
    }
}
