using VhostFs.Linux;
using Xunit;
using static VhostFs.Fuse.Tests.FuseClient;

namespace VhostFs.Fuse.Tests;

/// <summary>GETLK, SETLK, SETLKW and INTERRUPT.</summary>
public sealed class FuseLockTests : IDisposable
{
    private readonly FakeFileSystem _fileSystem = new();
    private readonly FuseClient _client;
    private readonly TestRequest _other = new();

    public FuseLockTests()
    {
        _fileSystem.Locks = _fileSystem;
        _client = new FuseClient(_fileSystem, new FuseServerOptions { PosixLocks = true, FlockLocks = true });
    }

    public void Dispose()
    {
        _client.Dispose();
        _other.Dispose();
    }

    [Fact]
    public void Arguments_reach_the_file_system_in_their_places()
    {
        Assert.Equal(Errno.None, _client.Call(FuseOpcode.SETLK, 9, Lk(LockKind.Write, 10, 19)).Errno);
        Assert.Equal(Errno.None, _client.Call(FuseOpcode.SETLK, 9, Lk(LockKind.Read, 10, 19, flock: true)).Errno);
        Assert.Equal(Errno.None, _client.Call(FuseOpcode.SETLKW, 9, Lk(LockKind.Unlock, 0, long.MaxValue)).Errno);
        Assert.Equal(new FuseFileLock(5, long.MaxValue, 1, 1234), _client.Call(FuseOpcode.GETLK, 9, Lk(LockKind.Read, 10, 19)).As<FuseLkOut>().Lock);
        Assert.Equal(
        [
            "SetLock 9 ab 77 range Write 10-19 88", $"SetLock 9 ab 77 flock Read 0-{long.MaxValue} 88", $"SetLock 9 ab 77 range Unlock 0-{long.MaxValue} 88 waits",
            "FindConflict 9 77 Read 10-19",
        ], _fileSystem.Calls);
    }

    [Fact]
    public void What_no_kernel_sends_is_refused()
    {
        (FuseOpcode, byte[])[] bad =
        [
            (FuseOpcode.SETLK, Lk(LockKind.Write, 10, 9)), (FuseOpcode.SETLK, Lk(LockKind.Write, 0, 1ul << 63)), (FuseOpcode.SETLK, Lk((LockKind)3, 0, 9)),
            (FuseOpcode.SETLKW, Bytes(new FuseLkIn(1, 2, new FuseFileLock(0, 9, 1, 3), 2))), (FuseOpcode.GETLK, Lk(LockKind.Unlock, 0, 9)),
            (FuseOpcode.GETLK, Lk(LockKind.Read, 0, 9, flock: true)), (FuseOpcode.SETLK, Lk(LockKind.Write, 0, 9)[..47]),
        ];
        foreach ((FuseOpcode opcode, byte[] body) in bad) { Assert.Equal(Errno.EINVAL, _client.Call(opcode, 9, body).Errno); }
        Assert.Equal(Errno.EINVAL, _client.Call(FuseOpcode.GETLK, 9, Lk(LockKind.Read, 0, 9), room: 39).Errno);
        Assert.Empty(_fileSystem.Calls);
    }

    [Fact]
    public void A_kind_of_lock_that_was_not_agreed_on_stays_with_the_kernel()
    {
        using var client = new FuseClient(_fileSystem, new FuseServerOptions { FlockLocks = true });
        Assert.Equal(Errno.ENOSYS, client.Call(FuseOpcode.SETLK, 9, Lk(LockKind.Write, 0, 9)).Errno);
        Assert.Equal(Errno.ENOSYS, client.Call(FuseOpcode.GETLK, 9, Lk(LockKind.Write, 0, 9)).Errno);
        Assert.Equal(Errno.None, client.Call(FuseOpcode.SETLK, 9, Lk(LockKind.Write, 0, 9, flock: true)).Errno);
    }

    [Fact]
    public void A_wait_is_parked_and_answered_when_it_is_granted()
    {
        Wait();
        Assert.True(_client.Request.IsParked);
        _fileSystem.HeldLocks.Values.Single().Complete(Errno.None);
        Assert.Equal(Errno.None, _client.Finished().Errno);
        Assert.False(_client.Request.IsParked);
    }

    [Fact]
    public void An_interrupt_ends_the_wait_it_names()
    {
        Wait();
        Interrupt(Unique + 2);
        Assert.Equal(0, _client.Request.Completions);
        Interrupt(Unique);
        Assert.Equal(Errno.EINTR, _client.Finished().Errno);
    }

    [Fact]
    public void An_interrupt_that_overtakes_its_request_ends_it_too()
    {
        _fileSystem.HoldsLocks = true;
        Interrupt(Unique);
        Assert.Equal(Errno.EINTR, _client.Call(FuseOpcode.SETLKW, 9, Lk(LockKind.Write, 0, 9)).Errno);
        Wait(); // once
        Interrupt(Unique);
        for (ulong i = 1; i < 1000; i++) { Interrupt(i << 32); }
        Assert.Equal(Errno.EINTR, _client.Finished().Errno);
    }

    [Fact]
    public void A_transport_that_cannot_wait_is_told_ENOLCK_when_it_would_have_to()
    {
        _client.Request.MayPark = false;
        Assert.Equal(Errno.None, _client.Call(FuseOpcode.SETLKW, 9, Lk(LockKind.Write, 0, 9)).Errno);
        _fileSystem.HoldsLocks = true;
        Assert.Equal(Errno.ENOLCK, _client.Call(FuseOpcode.SETLKW, 9, Lk(LockKind.Write, 0, 9)).Errno);
        Assert.Equal(Errno.EAGAIN, _client.Call(FuseOpcode.SETLK, 9, Lk(LockKind.Write, 0, 9)).Errno);
    }

    [Fact]
    public void A_lock_granted_to_a_request_that_was_dropped_is_released()
    {
        Wait();
        _client.Request.IsDropped = true;
        _fileSystem.HeldLocks.Values.Single().Complete(Errno.None);
        Assert.True(_client.Finished().IsNone);
        Assert.Equal("SetLock 9 ab 77 range Unlock 0-9 88", _fileSystem.Calls[^1]);
    }

    [Fact]
    public void A_dropped_wait_ends_without_an_answer()
    {
        Wait();
        _client.Request.IsDropped = true;
        _client.Server.CancelWait(_client.Request);
        Assert.True(_client.Finished().IsNone);
        Assert.Single(_fileSystem.Calls);
        _client.Server.CancelWait(_client.Request);
    }

    [Fact]
    public void All_waits_can_be_ended_at_once()
    {
        _fileSystem.HoldsLocks = true;
        TestRequest[] requests = [.. Enumerable.Range(0, 5).Select(_ => new TestRequest())];
        foreach (TestRequest request in requests)
        {
            request.Fill(Message(FuseOpcode.SETLKW, Lk(LockKind.Write, 0, 9)), 16);
            _client.Server.Handle(request);
        }
        _fileSystem.HeldLocks.Values.ElementAt(2).Complete(Errno.None);
        _client.Server.CancelWaits();
        Assert.Equal([Errno.EINTR, Errno.EINTR, Errno.None, Errno.EINTR, Errno.EINTR], requests.Select(r => Reply.From(r).Errno));
        Assert.Equal(0, _client.Server.InFlight);
        foreach (TestRequest request in requests) { request.Dispose(); }
    }

    [Theory]
    [InlineData(FuseOpcode.DESTROY)]
    [InlineData(FuseOpcode.INIT)]
    public void The_end_of_the_session_answers_who_waits(FuseOpcode end)
    {
        Wait();
        byte[] body = end == FuseOpcode.INIT ? Bytes(new FuseInitIn(7, 41, 0, 0)) : [];
        _other.Fill(Message(end, body), 4096);
        _client.Server.Handle(_other);
        Assert.Equal(Errno.EINTR, _client.Finished().Errno);
    }

    [Fact]
    public void Read_only_exports_have_locks()
    {
        using var client = new FuseClient(_fileSystem, new FuseServerOptions { PosixLocks = true, ReadOnly = true });
        Assert.Equal(Errno.None, client.Call(FuseOpcode.SETLK, 9, Lk(LockKind.Read, 0, 9)).Errno);
    }

    private void Wait()
    {
        _fileSystem.HoldsLocks = true;
        _fileSystem.HeldLocks.Clear();
        _client.Request.Fill(Message(FuseOpcode.SETLKW, Lk(LockKind.Write, 0, 9)), 16);
        _client.Server.Handle(_client.Request);
        Assert.Equal((0, 1), (_client.Request.Completions, _fileSystem.HeldLocks.Count));
    }

    private void Interrupt(ulong unique)
    {
        _other.Fill(Message(FuseOpcode.INTERRUPT, Bytes(new FuseInterruptIn(unique))), 0);
        _client.Server.Handle(_other);
        Assert.Equal((1, 0), (_other.Completions, _other.ReplyBytes));
    }

    private static byte[] Message(FuseOpcode opcode, byte[] body) =>
        [.. Bytes(new FuseInHeader((uint)(FuseInHeader.Size + body.Length), (uint)opcode, Unique, 9, Uid, Gid, Pid)), .. body];

    private static byte[] Lk(LockKind kind, ulong first, ulong last, bool flock = false) =>
        Bytes(new FuseLkIn(0xab, 77, new FuseFileLock(first, last, (uint)kind, 88), flock ? 1u : 0));
}
