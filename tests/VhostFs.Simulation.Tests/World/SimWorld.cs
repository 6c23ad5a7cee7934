using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Simulation.Tests.World;

/// <summary>The time and the descriptors of one simulation: what is under the reactor of the daemon, and outlives it.</summary>
/// <remarks>
/// <para>Time is virtual and passes only when nobody has anything to do. Sockets, eventfds and guest memory are the kernel's: used by one thread, they behave the same
/// way each time, and nothing of the vhost-user code has to be played. They are looked at, without waiting, before time may pass.</para>
/// <para>Invariant: events run in the order of their time, then of their making; descriptors are told of in the order in which they became ready.</para>
/// </remarks>
internal sealed class SimWorld : IReactorDriver, IDescriptorEvents
{
    private const int MaxReadyAtOnce = 32;
    private readonly PriorityQueue<Action, (long AtNs, long Sequence)> _events = new();
    private readonly Queue<DescriptorWrite> _writes = new();
    private readonly Queue<IoCompletion<IoResult>> _cancelled = new();
    private readonly List<Watched?> _watched = [];
    private readonly Stack<int> _freeIndexes = new();
    private readonly Epoll _epoll = new();
    private uint _generation;
    private long _sequence;
    private bool _woken;
    private bool _isClosed;

    public long NowNs { get; private set; }

    public long TurnCount { get; private set; }

    /// <summary>Time does not pass by looking.</summary>
    public bool IsReady => true;

    public void Schedule(long delayNs, Action work) => _events.Enqueue(work, (NowNs + Math.Max(delayNs, 0), _sequence++));

    public IoTask<bool> DelayAsync(long delayNs)
    {
        var done = new IoCompletion<bool>();
        Schedule(delayNs, () => done.Complete(true));
        return done.Task;
    }

    public int Poll(long deadlineNs)
    {
        TurnCount++;
        int ran = RunDescriptors();
        if (ran == 0 && !_woken && deadlineNs > NowNs)
        {
            long next = deadlineNs;
            if (_events.TryPeek(out _, out (long AtNs, long Sequence) first)) { next = Math.Min(next, first.AtNs); }
            if (next == long.MaxValue) { throw new SimDeadlockException(); }
            NowNs = Math.Max(NowNs, next);
        }
        _woken = false;
        long limit = _sequence; // what an event schedules runs in a later turn
        while (_events.TryPeek(out Action? work, out (long AtNs, long Sequence) key) && key.AtNs <= NowNs && key.Sequence < limit)
        {
            _events.Dequeue();
            ran++;
            work();
        }
        return ran;
    }

    public void Wake() => _woken = true;

    public IDisposable Watch(SafeFd fd, short events, Action<IoResult> onReady) => Add(fd, (uint)(ushort)events | Epoll.EdgeTriggered, onReady, null);

    public IoTask<IoResult> PollAsync(SafeFd fd, short events, out IoHandle handle)
    {
        var done = new IoCompletion<IoResult>();
        handle = new IoHandle(done);
        Add(fd, (uint)(ushort)events | Epoll.OneShot, done.Complete, done);
        return done.Task;
    }

    public IoTask<IoResult> AcceptAsync(SafeFd listener, out IoHandle handle)
    {
        var done = new IoCompletion<IoResult>();
        handle = new IoHandle(done);
        Add(listener, 1 | Epoll.OneShot, _ => done.Complete(Accept(listener)), done);
        return done.Task;
    }

    public IoTask<IoResult> WriteStreamAsync(SafeFd fd, IoVec source, out IoHandle handle)
    {
        var done = new IoCompletion<IoResult>();
        handle = new IoHandle(done);
        _writes.Enqueue(new DescriptorWrite(done, fd, source));
        return done.Task;
    }

    public IoTask<IoResult> CancelAsync(IoHandle handle)
    {
        if (handle.Operation is not IoCompletion<IoResult> operation) { return new IoTask<IoResult>(Errno.ENOENT); }
        foreach (Watched? watched in _watched)
        {
            if (watched is null || !ReferenceEquals(watched.Operation, operation)) { continue; }
            Remove(watched);
            _cancelled.Enqueue(operation);
            return new IoTask<IoResult>(new IoResult(0));
        }
        return new IoTask<IoResult>(Errno.EALREADY); // a write, which is done in the next turn, or a poll that is cancelled already
    }

    /// <summary>A reactor that ends disposes its driver; the world goes on, and ends by <see cref="Close"/>.</summary>
    public void Dispose()
    {
    }

    public void Close()
    {
        if (_isClosed) { return; }
        _isClosed = true;
        _epoll.Dispose();
    }

    private static IoResult Accept(SafeFd listener)
    {
        Errno accepted = UnixSocket.Accept(listener, out SafeFd socket);
        if (accepted != Errno.None) { return accepted == Errno.EAGAIN ? Errno.EINTR : accepted; } // gone again: the caller asks once more
        int raw = socket.Fd;
        socket.SetHandleAsInvalid();
        return new IoResult(raw);
    }

    private int RunDescriptors()
    {
        int ran = 0;
        while (_cancelled.TryDequeue(out IoCompletion<IoResult>? cancelled))
        {
            cancelled.Complete(Errno.ECANCELED);
            ran++;
        }
        for (int left = _writes.Count; left > 0; left--, ran++)
        {
            DescriptorWrite write = _writes.Dequeue();
            write.Done.Complete(FileCalls.Write(write.Fd, write.Source.Span));
        }
        Span<(ulong Data, short Events)> ready = stackalloc (ulong, short)[MaxReadyAtOnce];
        int count = _epoll.Look(ready);
        for (int i = 0; i < count; i++)
        {
            (ulong data, short events) = ready[i];
            Watched? watched = _watched[(int)(uint)data];
            if (watched is null || watched.Data != data) { continue; } // removed by one of those before it
            if (watched.Operation is not null) { Remove(watched); }
            ran++;
            watched.OnReady(new IoResult(events));
        }
        return ran;
    }

    private Watched Add(SafeFd fd, uint events, Action<IoResult> onReady, IoCompletion<IoResult>? operation)
    {
        int index = _freeIndexes.TryPop(out int free) ? free : _watched.Count;
        if (index == _watched.Count) { _watched.Add(null); }
        var watched = new Watched(this, fd, ((ulong)++_generation << 32) | (uint)index, onReady, operation);
        _watched[index] = watched;
        _epoll.Watch(fd, events, watched.Data);
        return watched;
    }

    private void Remove(Watched watched)
    {
        int index = (int)(uint)watched.Data;
        if (!ReferenceEquals(_watched[index], watched)) { return; }
        _watched[index] = null;
        _freeIndexes.Push(index);
        if (!_isClosed) { _epoll.Forget(watched.Fd); }
    }

    private readonly record struct DescriptorWrite(IoCompletion<IoResult> Done, SafeFd Fd, IoVec Source);

    private sealed class Watched(SimWorld world, SafeFd fd, ulong data, Action<IoResult> onReady, IoCompletion<IoResult>? operation) : IDisposable
    {
        public SafeFd Fd => fd;

        public ulong Data => data;

        public Action<IoResult> OnReady => onReady;

        /// <summary>Set for what happens once.</summary>
        public IoCompletion<IoResult>? Operation => operation;

        public void Dispose() => world.Remove(this);
    }
}

/// <summary>Nothing will ever happen again, and somebody waits.</summary>
internal sealed class SimDeadlockException() : Exception("nothing is scheduled that could end the wait");
