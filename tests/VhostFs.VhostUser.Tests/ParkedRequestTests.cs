using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>Requests that wait for a lock, perhaps for ever: nothing waits for them.</summary>
public abstract class ParkedRequestTests : IDisposable
{
    private const uint Setlk = 32, Setlkw = 33, PosixLocks = 2;
    private const ulong File = 2, Holder = 1000;

    private readonly Export _export = new();
    private readonly FrontEnd _frontEnd;

    protected ParkedRequestTests(VirtioFeatures features)
    {
        _frontEnd = FrontEnd.Up(_export.Path0, features);
        _frontEnd.Init(PosixLocks);
        Assert.Equal(0, _frontEnd.Call(Queue, Setlk, File, Lk(Holder), 8));
    }

    private DriverQueue Queue => _frontEnd.Queues[1];

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    [Fact]
    public void Who_waits_is_answered_when_the_lock_is_free_and_others_go_on_meanwhile()
    {
        int reply = Wait(1, out ushort head);
        for (int i = 0; i < 30; i++) { Assert.Equal(0, _frontEnd.GetAttributes(Queue)); }
        ExpectGrant(reply, head);
    }

    [Fact]
    public void A_queue_full_of_waiters_still_lets_the_unlock_through()
    {
        (int Reply, ushort Head)[] waiters = [.. Enumerable.Range(1, 32).Select(owner => (Wait((ulong)owner, out ushort head), head))];
        for (int i = 0; i < 5; i++) { Assert.Equal(-(int)Errno.ENOLCK, _frontEnd.Call(Queue, Setlkw, File, Lk(99), 8)); }
        for (int i = 0; i < waiters.Length; i++) { ExpectGrant(waiters[i].Reply, waiters[i].Head, from: i == 0 ? Holder : (ulong)i); }
        Assert.Equal(0, _export.Fs.LockWaitCount);
    }

    [Fact]
    public void Without_indirect_tables_fewer_may_wait()
    {
        _frontEnd.Socket.Dispose();
        using FrontEnd plain = FrontEnd.Up(_export.Path0, _frontEnd.Features & ~(VirtioFeatures.EventIdx | VirtioFeatures.IndirectDesc));
        plain.Init(PosixLocks);
        Assert.Equal(0, plain.Call(plain.Queues[1], Setlk, File, Lk(Holder), 8));
        for (ulong owner = 1; owner <= 8; owner++) { plain.Start(plain.Queues[1], Setlkw, File, Lk(owner), 8, out _); }
        Assert.Equal(-(int)Errno.ENOLCK, plain.Call(plain.Queues[1], Setlkw, File, Lk(9), 8));
    }

    [Fact]
    public void Memory_changes_under_a_waiter_and_it_is_answered_in_the_new_mapping()
    {
        int reply = Wait(1, out ushort head);
        byte[] table = new byte[8 + 32];
        table[0] = 1;
        MemoryMarshal.Write(table.AsSpan(8), _frontEnd.Region);
        Assert.Equal(0UL, _frontEnd.Set(MessageId.SetMemTable, table, _frontEnd.Ram.Fd.Fd));
        ExpectGrant(reply, head);
    }

    [Fact]
    public void A_stop_does_not_wait_and_after_the_start_everybody_is_answered_without_a_kick()
    {
        int first = Wait(1, out ushort firstHead), second = Wait(2, out ushort secondHead);
        uint @base = Stop();
        ushort used = Queue.UsedIndex;
        OnReactor(() => _export.Fs.Unlock(File, Holder)); // granted to the first while the ring is stopped
        OnReactor(() => { });
        Assert.Equal(used, Queue.UsedIndex);
        Queue.TakeCalls();
        _frontEnd.Start(Queue, @base);
        Assert.Equal((0, 16u), (ErrorOf(first), _frontEnd.WaitUsed(Queue, firstHead)));
        ExpectGrant(second, secondHead, from: 1);
    }

    [Fact]
    public void A_head_that_waited_through_a_stop_is_still_in_flight()
    {
        Wait(1, out ushort head);
        _frontEnd.Start(Queue, Stop());
        Assert.Equal(0, _frontEnd.GetAttributes(Queue));
        Queue.MakeAvailable(head);
        Queue.Kick();
        FrontEnd.Poll(() => EventFd.TryConsume(Queue.ErrFd, out _), "the queue is broken");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_ring_that_starts_elsewhere_knows_nothing_of_who_waited(bool granted)
    {
        Wait(1, out _);
        Stop();
        if (granted) { OnReactor(() => _export.Fs.Unlock(File, Holder)); }
        var fresh = DriverQueue.New(_frontEnd.Ram, 1, 64, _frontEnd.Features);
        _frontEnd.Queues.Add(fresh);
        _frontEnd.Start(fresh, fresh.Base);
        for (int i = 0; i < 100; i++) { Assert.Equal(0, _frontEnd.GetAttributes(fresh)); } // all heads can be used
        Assert.Equal((0, granted ? 0 : 1), (_export.Fs.LockWaitCount, _export.Fs.LockCount)); // what a driver that is gone was granted is released
    }

    [Fact]
    public void A_reset_drops_who_waits()
    {
        Wait(1, out _);
        Assert.Equal(0UL, _frontEnd.Set(MessageId.ResetDevice, []));
        Assert.Equal((0, 0), (_export.Fs.LockWaitCount, _export.Fs.LockCount));
        var fresh = DriverQueue.New(_frontEnd.Ram, 1, 64, _frontEnd.Features);
        _frontEnd.Queues[1].Dispose();
        _frontEnd.Queues[1] = fresh;
        _frontEnd.Start(fresh, fresh.Base);
        _frontEnd.Init(PosixLocks);
        for (int i = 0; i < 100; i++) { Assert.Equal(0, _frontEnd.GetAttributes(fresh)); }
    }

    [Fact]
    public void A_front_end_that_goes_away_leaves_no_waiter_behind()
    {
        for (ulong owner = 1; owner <= 10; owner++) { Wait(owner, out _); }
        _frontEnd.Socket.Dispose();
        FrontEnd.Poll(() => _export.Fs.LockWaitCount == 0 && !_export.Server.IsConnected, "the session ends");
        using FrontEnd next = FrontEnd.Up(_export.Path0);
        Assert.Equal(0, next.GetAttributes(next.Queues[1]));
    }

    [Fact]
    public void An_export_that_stops_does_not_wait_for_them()
    {
        Wait(1, out _);
        Assert.True(_export.OnReactorAsync(_export.Server.StopAsync));
        Assert.Equal(0, _export.Fs.LockWaitCount);
    }

    [Fact]
    public void The_end_of_the_session_answers_them()
    {
        int reply = Wait(1, out ushort head);
        _frontEnd.Start(Queue, 38, 0, [], 8, out ushort destroy); // DESTROY: the driver waits for all its chains then
        Assert.Equal((16u, -(int)Errno.EINTR), (_frontEnd.WaitUsed(Queue, head), ErrorOf(reply)));
        _frontEnd.WaitUsed(Queue, destroy);
    }

    [Fact]
    public void A_chain_that_was_changed_under_a_waiter_is_checked_again()
    {
        Wait(1, out ushort loop);
        Wait(2, out ushort unmapped);
        Wait(3, out ushort noRoom);
        Spoil(loop, unmapped, noRoom);
        for (ulong owner = Holder; owner != 3; owner = owner == Holder ? 1 : owner + 1)
        {
            _frontEnd.Start(Queue, Setlk, File, Lk(owner, LockKind.Unlock), 8, out ushort unlock);
            Assert.Equal(0u, _frontEnd.WaitUsed(Queue, owner == Holder ? loop : owner == 1 ? unmapped : noRoom));
            Assert.Equal(16u, _frontEnd.WaitUsed(Queue, unlock));
        }
        Assert.Equal(0, _frontEnd.GetAttributes(Queue));
    }

    /// <summary>Chains that wait become such that each is malformed, or has no room for an answer.</summary>
    protected abstract void Spoil(ushort first, ushort second, ushort third);

    private protected FrontEnd FrontEnd => _frontEnd;

    protected virtual void Dispose(bool disposing)
    {
        _frontEnd.Dispose();
        _export.Dispose(); // with whatever still waits
    }

    private void ExpectGrant(int reply, ushort head, ulong from = Holder)
    {
        _frontEnd.Start(Queue, Setlk, File, Lk(from, LockKind.Unlock), 8, out ushort unlock);
        Assert.Equal(16u, _frontEnd.WaitUsed(Queue, head));
        Assert.Equal((0, 16u), (ErrorOf(reply), _frontEnd.Ram.Read32(reply)));
        Assert.Equal(16u, _frontEnd.WaitUsed(Queue, unlock));
    }

    private int Wait(ulong owner, out ushort head)
    {
        int waiting = _export.Fs.LockWaitCount;
        int reply = _frontEnd.Start(Queue, Setlkw, File, Lk(owner), 8, out head);
        FrontEnd.Poll(() => _export.Fs.LockWaitCount == waiting + 1, "the request waits");
        return reply;
    }

    private uint Stop()
    {
        var state = new VringState(1, 0);
        _frontEnd.Send(MessageId.GetVringBase, MemoryMarshal.AsBytes(new ReadOnlySpan<VringState>(in state)));
        return (uint)(_frontEnd.Receive(MessageId.GetVringBase)!.Value >> 32);
    }

    private int ErrorOf(int reply) => (int)_frontEnd.Ram.Read32(reply + 4);

    private void OnReactor(Action work) => _export.OnReactor(() =>
    {
        work();
        return true;
    });

    private static byte[] Lk(ulong owner, LockKind kind = LockKind.Write)
    {
        var lk = new FuseLkIn(7, owner, new FuseFileLock(0, 9, (uint)kind, 1), 0);
        return MemoryMarshal.AsBytes(new ReadOnlySpan<FuseLkIn>(in lk)).ToArray();
    }
}

public sealed class ParkedOnSplitRingTests() : ParkedRequestTests(FrontEnd.AllFeatures)
{
    protected override void Spoil(ushort first, ushort second, ushort third)
    {
        var queue = (SplitDriverQueue)FrontEnd.Queues[1];
        queue.WriteDescriptor(first, new Desc(GuestRam.GuestBase, 16, Desc.FlagNext, first)); // a loop
        queue.WriteDescriptor(second, new Desc(1UL << 60, 16, Desc.FlagWrite));
        queue.WriteDescriptor(third, new Desc(GuestRam.GuestBase, 16));
    }
}

public sealed class ParkedOnPackedRingTests() : ParkedRequestTests(FrontEnd.Offered)
{
    // The descriptors themselves are copies; what is in tables is the driver's.
    protected override void Spoil(ushort first, ushort second, ushort third)
    {
        var queue = (PackedDriverQueue)FrontEnd.Queues[1];
        (ushort Head, Desc Entry)[] spoilt = [(first, new(0, 16, Desc.FlagIndirect)), (second, new(1UL << 60, 16, Desc.FlagWrite)), (third, new(GuestRam.GuestBase, 16))];
        foreach ((ushort head, Desc entry) in spoilt) { queue.WriteTableEntry(queue.TableOf(head), 1, entry, isLast: true); }
    }
}
