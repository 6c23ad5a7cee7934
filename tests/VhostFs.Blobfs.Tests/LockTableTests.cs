using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobfs.Tests;

public class LockTableTests
{
    private const ulong File = 7;
    private readonly LockTable _table = new();
    private readonly SessionLocks _a, _b;
    private ulong _lastTicket;

    public LockTableTests()
    {
        _a = new SessionLocks(_table, 100, 8);
        _b = new SessionLocks(_table, 100, 8);
    }

    [Fact]
    public void Readers_share_and_a_writer_is_alone()
    {
        Assert.Equal(Errno.None, Try(_a, 1, LockKind.Read, 0, 9));
        Assert.Equal(Errno.None, Try(_b, 1, LockKind.Read, 5, 20));
        Assert.Equal(Errno.EAGAIN, Try(_b, 1, LockKind.Write, 9, 9));
        Assert.Equal(Errno.None, Try(_b, 1, LockKind.Write, 10, 20));
        Assert.Equal(Errno.EAGAIN, Try(_a, 2, LockKind.Read, 15, 15));
        Assert.Equal(Errno.None, Try(_a, 2, LockKind.Read, 21, long.MaxValue));
    }

    [Fact]
    public void The_same_owner_number_in_another_session_is_somebody_else()
    {
        Assert.Equal(Errno.None, Try(_a, 1, LockKind.Write, 0, 9));
        Assert.Equal(Errno.EAGAIN, Try(_b, 1, LockKind.Write, 0, 9));
        Assert.Equal(Errno.None, Try(_a, 1, LockKind.Read, 0, 9)); // its own is changed
        Assert.Equal(Errno.None, Try(_b, 1, LockKind.Read, 0, 9));
    }

    [Fact]
    public void A_lock_in_the_middle_is_split_off_and_joined_again()
    {
        Try(_a, 1, LockKind.Read, 0, 99);
        Try(_a, 1, LockKind.Write, 40, 59);
        Assert.Equal(3, _a.HeldCount);
        Assert.Equal(new HeldLock(LockKind.Write, 40, 59, 0), _b.FindConflict(File, Want(1, LockKind.Read, 0, 99)));
        Try(_a, 1, LockKind.Read, 40, 59);
        Assert.Equal(1, _a.HeldCount);
        Assert.Equal(new HeldLock(LockKind.Read, 0, 99, 0), _b.FindConflict(File, Want(1, LockKind.Write, 0, 99)));
        Try(_a, 1, LockKind.Unlock, 10, 89);
        Assert.Equal(2, _a.HeldCount);
        Try(_a, 1, LockKind.Unlock, 0, long.MaxValue);
        Assert.Equal((0, 0), (_a.HeldCount, _table.Count));
    }

    [Fact]
    public void Who_asks_is_told_the_pid_in_its_own_session_only()
    {
        Try(_a, 1, LockKind.Write, 5, 9);
        Assert.Equal(new HeldLock(LockKind.Write, 5, 9, 1001), _a.FindConflict(File, Want(2, LockKind.Read, 0, 99)));
        Assert.Equal(0u, _b.FindConflict(File, Want(2, LockKind.Read, 0, 99)).Pid);
        Assert.Equal(LockKind.Unlock, _b.FindConflict(File, Want(2, LockKind.Read, 10, 99)).Kind);
        Assert.Equal(LockKind.Unlock, _a.FindConflict(File, Want(1, LockKind.Write, 0, 99)).Kind);
    }

    [Fact]
    public void Byte_ranges_and_flock_do_not_see_each_other()
    {
        Assert.Equal(Errno.None, Try(_a, 1, LockKind.Write, 0, long.MaxValue));
        Assert.Equal(Errno.None, Try(_b, 1, LockKind.Write, 0, long.MaxValue, isFlock: true));
        Assert.Equal(Errno.EAGAIN, Try(_a, 1, LockKind.Read, 0, long.MaxValue, isFlock: true));
    }

    [Fact]
    public void Waiters_are_granted_in_order_of_arrival()
    {
        Try(_a, 1, LockKind.Write, 0, 9);
        Waiting first = Wait(_b, 1, LockKind.Write), second = Wait(_a, 2, LockKind.Read), third = Wait(_b, 3, LockKind.Read), fourth = Wait(_a, 4, LockKind.Write);
        Try(_a, 1, LockKind.Unlock, 0, 9);
        Assert.Equal((Errno.None, null, null, null), (first.Result, second.Result, third.Result, fourth.Result));
        Try(_b, 1, LockKind.Unlock, 0, 9);
        Assert.Equal((Errno.None, Errno.None, null), (second.Result, third.Result, fourth.Result));
        Try(_a, 2, LockKind.Unlock, 0, 9);
        Assert.Null(fourth.Result);
        Try(_b, 3, LockKind.Unlock, 0, 9);
        Assert.Equal(Errno.None, fourth.Result);
    }

    [Fact]
    public void Readers_that_come_later_do_not_pass_a_waiting_writer()
    {
        Try(_a, 1, LockKind.Read, 0, 9);
        Waiting writer = Wait(_b, 1, LockKind.Write), reader = Wait(_a, 2, LockKind.Read);
        Assert.Null(reader.Result);
        Assert.Equal(Errno.None, Try(_a, 3, LockKind.Read, 0, 9)); // F_SETLK: only what is held counts
        Try(_a, 1, LockKind.Unlock, 0, 9);
        Try(_a, 3, LockKind.Unlock, 0, 9);
        Assert.Equal((Errno.None, null), (writer.Result, reader.Result));
    }

    [Fact]
    public void A_reader_that_holds_a_lock_passes_the_writer_that_may_wait_for_it()
    {
        Try(_a, 1, LockKind.Read, 0, 9);
        Try(_b, 5, LockKind.Write, 100, 109);
        Waiting writer = Wait(_a, 2, LockKind.Write), holder = Wait(_b, 5, LockKind.Read);
        Assert.Equal((null, Errno.None), (writer.Result, holder.Result));
    }

    [Fact]
    public void A_cancelled_wait_lets_those_behind_it_go_on()
    {
        Try(_a, 1, LockKind.Read, 0, 9);
        Waiting writer = Wait(_b, 1, LockKind.Write), reader = Wait(_a, 2, LockKind.Read);
        _b.CancelWait(writer.Ticket);
        Assert.Equal((Errno.EINTR, Errno.None), (writer.Result, reader.Result));
        _b.CancelWait(writer.Ticket); // nothing to cancel any more
    }

    [Fact]
    public void A_lesser_lock_lets_waiting_readers_in()
    {
        Try(_a, 1, LockKind.Write, 0, 9);
        Waiting reader = Wait(_b, 1, LockKind.Read);
        Assert.Equal(Errno.None, Try(_a, 1, LockKind.Read, 0, 9));
        Assert.Equal(Errno.None, reader.Result);
    }

    [Fact]
    public void A_circle_of_waits_is_a_deadlock_for_the_one_that_closes_it()
    {
        Try(_a, 1, LockKind.Write, 0, 0);
        Try(_b, 1, LockKind.Write, 1, 1);
        Try(_a, 2, LockKind.Write, 2, 2);
        Waiting one = Wait(_a, 1, LockKind.Write, 1, 1), two = Wait(_b, 1, LockKind.Write, 2, 2), three = Wait(_a, 2, LockKind.Read, 0, 0);
        Assert.Equal((null, null, Errno.EDEADLK), (one.Result, two.Result, three.Result));
        Try(_a, 2, LockKind.Unlock, 2, 2);
        Assert.Equal(Errno.None, two.Result);
    }

    [Fact]
    public void Two_that_read_and_both_want_to_write_are_a_deadlock()
    {
        Try(_a, 1, LockKind.Read, 0, 9);
        Try(_b, 1, LockKind.Read, 0, 9);
        Waiting one = Wait(_a, 1, LockKind.Write), two = Wait(_b, 1, LockKind.Write);
        Assert.Equal((null, Errno.EDEADLK), (one.Result, two.Result));
        Try(_b, 1, LockKind.Unlock, 0, 9);
        Assert.Equal(Errno.None, one.Result);
    }

    [Fact]
    public void Two_that_share_with_flock_and_both_want_all_are_none()
    {
        Try(_a, 1, LockKind.Read, 0, long.MaxValue, isFlock: true);
        Try(_b, 1, LockKind.Read, 0, long.MaxValue, isFlock: true);
        Waiting one = Wait(_a, 1, LockKind.Write, isFlock: true);
        Waiting two = Wait(_b, 1, LockKind.Write, isFlock: true);
        Assert.Equal((Errno.None, null), (one.Result, two.Result)); // the second gave its own up
        Try(_a, 1, LockKind.Unlock, 0, long.MaxValue, isFlock: true);
        Assert.Equal(Errno.None, two.Result);
    }

    [Fact]
    public void Closing_a_process_s_descriptor_ends_its_ranges_and_the_last_close_what_was_locked_through_the_file()
    {
        Try(_a, 1, LockKind.Write, 0, 9, handle: 3);
        Try(_a, 2, LockKind.Write, 10, 19, handle: 4);
        Try(_a, 2, LockKind.Write, 0, long.MaxValue, isFlock: true, handle: 4);
        Waiting range = Wait(_b, 1, LockKind.Write, 0, 19), flock = Wait(_b, 1, LockKind.Write, isFlock: true);
        _a.EndOwner(File, 1);
        _a.EndHandle(File, 3);
        Assert.Equal((null, null), (range.Result, flock.Result));
        _a.EndHandle(File, 4);
        Assert.Equal((Errno.None, Errno.None, 0), (range.Result, flock.Result, _a.HeldCount));
    }

    [Fact]
    public void The_end_of_a_session_ends_its_locks_and_its_waits()
    {
        Try(_a, 1, LockKind.Write, 0, 9);
        Try(_b, 1, LockKind.Write, 20, 29);
        Waiting mine = Wait(_a, 2, LockKind.Write, 20, 29), theirs = Wait(_b, 2, LockKind.Write);
        _a.Clear();
        Assert.Equal((Errno.EINTR, Errno.None), (mine.Result, theirs.Result));
        Assert.Equal((0, 0), (_a.HeldCount, _a.Waiters.Count));
        _b.Clear();
        Assert.Equal(0, _table.Count);
    }

    [Fact]
    public void Locks_and_waits_have_bounds_and_what_is_held_can_still_be_unlocked()
    {
        for (int i = 0; i < 200; i++) { Assert.Equal(i < 99 ? Errno.None : Errno.ENOLCK, Try(_a, 1, LockKind.Write, i * 2, i * 2)); }
        Assert.Equal(99, _a.HeldCount);
        for (int i = 0; i < 20; i++) { Assert.Equal(i < 8 ? null : Errno.ENOLCK, Wait(_b, 1, LockKind.Write, 0, 0).Result); }
        Assert.Equal(Errno.None, Try(_a, 1, LockKind.Unlock, 0, 400));
        Assert.Equal(Errno.None, Try(_a, 1, LockKind.Write, 1, 10_000));
        for (int i = 1; i < 200; i++) { Assert.Equal(i < 100 ? Errno.None : Errno.ENOLCK, Try(_a, 1, LockKind.Unlock, i * 2, i * 2)); }
    }

    [Fact]
    public void Locking_and_unlocking_allocates_nothing_waits_included()
    {
        Assert.Equal(0, Measure(() =>
        {
            Try(_a, 1, LockKind.Write, 0, 9);
            Try(_a, 1, LockKind.Unlock, 0, 9);
        }));
        Assert.Equal(0, Measure(() =>
        {
            Try(_a, 1, LockKind.Write, 0, 9);
            IoTask<Errno> waiting = _b.SetLockAsync(File, 1, Want(1, LockKind.Write, 0, 9), 5);
            Try(_a, 1, LockKind.Unlock, 0, 9);
            Invariant.That(waiting.GetAwaiter().GetResult() == Errno.None);
            Try(_b, 1, LockKind.Unlock, 0, 9);
        }));
    }

    /// <summary>Against a model that has an array of bytes per owner and knows nothing of ranges.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Random_locks_are_those_of_a_model_that_counts_bytes(int seed)
    {
        const int bytes = 24, owners = 4;
        var random = new Random(seed);
        SessionLocks[] sessions = [_a, _b];
        var model = new LockKind[sessions.Length, owners, bytes];
        foreach (ref LockKind kind in System.Runtime.InteropServices.MemoryMarshal.CreateSpan(ref model[0, 0, 0], model.Length)) { kind = LockKind.Unlock; }
        for (int step = 0; step < 20_000; step++)
        {
            int session = random.Next(2), owner = random.Next(owners), first = random.Next(bytes), last = first + random.Next(bytes - first);
            var kind = (LockKind)random.Next(3);
            Errno expected = Errno.None;
            for (int s = 0; s < 2; s++)
            {
                for (int o = 0; o < owners; o++)
                {
                    if (s == session && o == owner) { continue; }
                    for (int i = first; i <= last; i++)
                    {
                        if (model[s, o, i] != LockKind.Unlock && kind != LockKind.Unlock && (kind == LockKind.Write || model[s, o, i] == LockKind.Write)) { expected = Errno.EAGAIN; }
                    }
                }
            }
            LockKind asked = sessions[session].FindConflict(File, Want((ulong)owner, kind, first, last)).Kind;
            if (kind != LockKind.Unlock) { Assert.True(asked == LockKind.Unlock == (expected == Errno.None), $"seed {seed} step {step}: asked {asked}, expected {expected}"); }
            Errno done = Try(sessions[session], (ulong)owner, kind, first, last);
            Assert.True(done == expected, $"seed {seed} step {step}: {done}, expected {expected}");
            if (done == Errno.None) { for (int i = first; i <= last; i++) { model[session, owner, i] = kind; } }
            Assert.True(_a.HeldCount == Runs(0) && _b.HeldCount == Runs(1), $"seed {seed} step {step}: {_a.HeldCount} and {_b.HeldCount} locks, {Runs(0)} and {Runs(1)} expected");
        }

        int Runs(int session)
        {
            int runs = 0;
            for (int o = 0; o < owners; o++)
            {
                for (int i = 0; i < bytes; i++)
                {
                    if (model[session, o, i] != LockKind.Unlock && (i == 0 || model[session, o, i - 1] != model[session, o, i])) { runs++; }
                }
            }
            return runs;
        }
    }

    /// <summary>Many owners with waits: never two that exclude each other, and nobody waits when everybody has let go.</summary>
    [Theory]
    [InlineData(11)]
    [InlineData(12)]
    [InlineData(13)]
    public void Random_waits_exclude_each_other_and_all_end(int seed)
    {
        const int owners = 6, bytes = 10;
        var random = new Random(seed);
        SessionLocks[] sessions = [_a, _b];
        var waits = new Waiting?[2, owners];
        var held = new LockKind?[2, owners, bytes];
        int waited = 0, deadlocks = 0;
        for (int step = 0; step < 20_000; step++)
        {
            Collect(step);
            int session = random.Next(2), owner = random.Next(owners);
            if (waits[session, owner] is { } waiting)
            {
                if (random.Next(30) == 0) { sessions[session].CancelWait(waiting.Ticket); }
            }
            else if (random.Next(3) == 0) { Unlock(session, owner); }
            else
            {
                int first = random.Next(bytes), last = first + random.Next(bytes - first);
                var kind = (LockKind)random.Next(2);
                Waiting wait = Wait(sessions[session], (ulong)owner, kind, first, last);
                (wait.Kind, wait.First, wait.Last) = (kind, first, last);
                waits[session, owner] = wait;
                if (wait.Result is null) { waited++; }
                if (wait.Result == Errno.EDEADLK) { deadlocks++; }
            }
        }
        for (int rounds = 0; rounds < 2 * owners; rounds++)
        {
            Collect(-1);
            for (int i = 0; i < 2 * owners; i++)
            {
                if (waits[i % 2, i / 2] is null) { Unlock(i % 2, i / 2); }
            }
        }
        Assert.Equal((0, 0, 0, 0, 0), (_table.Count, _a.HeldCount, _b.HeldCount, _a.Waiters.Count, _b.Waiters.Count));
        Assert.True(waited > 500 && deadlocks > 50, $"{waited} waits, {deadlocks} deadlocks: the test tries too little");

        void Unlock(int session, int owner)
        {
            Try(sessions[session], (ulong)owner, LockKind.Unlock, 0, long.MaxValue);
            for (int i = 0; i < bytes; i++) { held[session, owner, i] = null; }
        }

        void Collect(int step)
        {
            for (int w = 0; w < 2 * owners; w++)
            {
                (int session, int owner) = (w % 2, w / 2);
                if (waits[session, owner] is not { Result: { } result } wait) { continue; }
                waits[session, owner] = null;
                for (int i = wait.First; result == Errno.None && i <= wait.Last; i++) { held[session, owner, i] = wait.Kind; }
            }
            for (int i = 0; i < bytes; i++)
            {
                int readers = 0, writers = 0;
                for (int w = 0; w < 2 * owners; w++)
                {
                    if (held[w % 2, w / 2, i] == LockKind.Read) { readers++; }
                    if (held[w % 2, w / 2, i] == LockKind.Write) { writers++; }
                }
                Assert.True(writers == 0 || (writers == 1 && readers == 0), $"seed {seed} step {step}: byte {i} has {writers} writers and {readers} readers");
            }
        }
    }

    private static LockRequest Want(ulong owner, LockKind kind, long first, long last, bool isFlock = false) => new(owner, isFlock, kind, first, last, 1000 + (uint)owner);

    private static Errno Try(SessionLocks session, ulong owner, LockKind kind, long first, long last, bool isFlock = false, ulong handle = 1)
    {
        IoTask<Errno> task = session.SetLockAsync(File, handle, Want(owner, kind, first, last, isFlock), 0);
        return task.GetAwaiter().GetResult(); // it never waits
    }

    private Waiting Wait(SessionLocks session, ulong owner, LockKind kind, long first = 0, long last = 9, bool isFlock = false)
    {
        var waiting = new Waiting { Ticket = ++_lastTicket };
        RunAsync().Detach();
        return waiting;

        async IoTask<bool> RunAsync()
        {
            waiting.Result = await session.SetLockAsync(File, 1, Want(owner, kind, isFlock ? 0 : first, isFlock ? long.MaxValue : last, isFlock), waiting.Ticket);
            return true;
        }
    }

    private static long Measure(Action turn)
    {
        for (int i = 0; i < 1000; i++) { turn(); }
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++) { turn(); }
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    private sealed class Waiting
    {
        public Errno? Result { get; set; }

        public ulong Ticket { get; init; }

        public LockKind Kind { get; set; }

        public int First { get; set; }

        public int Last { get; set; }
    }
}
