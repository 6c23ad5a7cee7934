using VhostFs.Linux;

namespace VhostFs.Reactor;

/// <summary>One thread and everything it waits for. Code on a reactor needs no locks: it runs on no other thread.</summary>
/// <remarks>
/// One turn: submit, wait, completions, timers, posted work, messages, mailbox, turn-end work. Each phase is bounded; what is left over is done
/// in the next turn, which then does not wait. A reactor belongs to the thread that ran it first.
/// </remarks>
public sealed class Reactor : IDisposable
{
    private const int MaxMailboxPerTurn = 256;
    private const int MaxTurnEndPerTurn = 65536;
    private const int MaxStopTurns = 10_000;

    [ThreadStatic] private static Reactor? t_current;

    private readonly IReactorDriver _driver;
    private readonly TimerHeap _timers = new();
    private readonly BusyPoll _busyPoll = new();
    private readonly Func<bool> _isWanted;
    private readonly long _beginNs;
    private readonly Queue<IoContinuation> _posted = new();
    private readonly Queue<IoContinuation> _turnEnd = new();
    private readonly MessageList _messages = new();
    private readonly Mailbox _mailbox = new();
    private readonly HashSet<IInvocation> _invocations = [];
    private Thread? _thread;
    private volatile bool _stopping;
    private bool _stopped;

    public Reactor(IReactorDriver driver, string name)
    {
        _driver = driver;
        Name = name;
        NowNs = _beginNs = driver.NowNs;
        _isWanted = () => _driver.IsReady || !_messages.IsEmpty || !_mailbox.IsEmpty || _stopping;
    }

    /// <summary>An exception escaped a continuation: a bug of ours. With a handler the loop goes on; without, the process ends.</summary>
    public event Action<Exception>? UnhandledException;

    /// <summary>The reactor that runs on this thread.</summary>
    public static Reactor Current => t_current ?? throw new InvalidOperationException("no reactor runs on this thread");

    public static bool IsOnReactor => t_current is not null;

    public string Name { get; }

    /// <summary>Monotonic time, read once per turn.</summary>
    public long NowNs { get; private set; }

    public IReactorDriver Driver => _driver;

    public Ring Ring => _driver as Ring ?? throw new InvalidOperationException("a simulated reactor has no ring");

    /// <summary>Sockets and eventfds, for what talks to other processes.</summary>
    public IDescriptorEvents Descriptors => _driver as IDescriptorEvents ?? throw new InvalidOperationException("this reactor's driver knows no descriptors");

    public bool HasRing => _driver is Ring;

    /// <summary>May be switched while running, on this reactor.</summary>
    public ReactorMode Mode { get; set; }

    /// <summary>Time spent waiting, or looking for work in vain.</summary>
    public long IdleNs { get; private set; }

    /// <summary>All other time since it was made.</summary>
    public long BusyNs => _driver.NowNs - _beginNs - IdleNs;

    /// <summary>For a source that has just run dry: true when the reactor looks at it itself for a while, so that it need not ask to be woken.</summary>
    public bool TryPoll(IReactorPoller poller) => Mode != ReactorMode.Interrupt && HasRing && _busyPoll.TryAdd(poller, always: Mode == ReactorMode.Poll);

    /// <summary>The source has ended: whatever the mode, the reactor looks at it no more.</summary>
    public void EndPoll(IReactorPoller poller) => _busyPoll.Remove(poller);

    /// <summary>Turns the loop on the calling thread until <see cref="Stop"/>.</summary>
    public void Run()
    {
        Reactor? outer = t_current;
        t_current = this;
        try
        {
            while (!_stopping)
            {
                try { Turn(wait: true); }
                catch (Exception e) when (UnhandledException is { } handler) { handler(e); }
            }
            try { Shutdown(); }
            catch (Exception e) when (UnhandledException is { } handler) { handler(e); }
        }
        finally { t_current = outer; }
    }

    /// <summary>One turn; true if anything ran. Exceptions of the work come out here.</summary>
    public bool RunOnce(bool wait)
    {
        Reactor? outer = t_current;
        t_current = this;
        try { return Turn(wait); }
        finally { t_current = outer; }
    }

    /// <summary>For tests and command lines: turns the loop until <paramref name="task"/> is done.</summary>
    public T RunUntilComplete<T>(IoTask<T> task)
    {
        while (!task.IsCompleted) { RunOnce(wait: true); }
        return task.GetAwaiter().GetResult();
    }

    /// <summary>Starts <paramref name="work"/> with this reactor as the current one, and turns the loop until it is done.</summary>
    public T RunUntilComplete<T>(Func<IoTask<T>> work)
    {
        Reactor? outer = t_current;
        t_current = this;
        try { return RunUntilComplete(work()); }
        finally { t_current = outer; }
    }

    /// <summary>Runs the loop on a thread of its own.</summary>
    public void Start()
    {
        Invariant.That(_thread is null, "a reactor is started once");
        _thread = new Thread(Run) { IsBackground = true, Name = Name };
        _thread.Start();
    }

    /// <summary>Ends the loop after its turn: timers complete with ECANCELED, invocations that did not finish are cancelled. From another
    /// thread it waits for the end of a thread that <see cref="Start"/> made.</summary>
    public void Stop()
    {
        _stopping = true;
        _driver.Wake();
        if (_thread is not null && _thread != Thread.CurrentThread) { _thread.Join(); }
    }

    /// <summary>Runs <paramref name="work"/> later on this reactor, before it waits. Same thread only; allocates nothing.</summary>
    public void Post(IoContinuation work) => _posted.Enqueue(work);

    /// <summary>From any thread: runs <paramref name="work"/> on this reactor, in order per poster. A full mailbox (4096) makes the poster wait;
    /// on the reactor's own thread, where waiting would be for ever, it throws. After the reactor stopped it throws.</summary>
    public void PostFromAnyThread(Action work)
    {
        bool own = ReferenceEquals(t_current, this);
        if (!_mailbox.Post(work, wait: !own))
        {
            throw new InvalidOperationException($"reactor {Name}: {(_stopping ? "stopped" : "the mailbox is full")}");
        }
        if (!own) { _driver.Wake(); }
    }

    /// <summary>As <see cref="PostFromAnyThread"/>, but false when the mailbox is full or the reactor stopped.</summary>
    public bool TryPostFromAnyThread(Action work)
    {
        if (!_mailbox.Post(work, wait: false)) { return false; }
        if (!ReferenceEquals(t_current, this)) { _driver.Wake(); }
        return true;
    }

    /// <summary>From any thread: <paramref name="message"/> is received by this reactor, after those that the thread sent before. Takes no lock and allocates nothing, for what
    /// is sent with every request. Of a reactor that has stopped nobody receives anything.</summary>
    public void Send(ReactorMessage message)
    {
        if (_messages.Add(message)) { _driver.Wake(); }
    }

    /// <summary>From other threads: runs <paramref name="work"/> on this reactor. Cancelled when the reactor stops first.</summary>
    public Task<T> InvokeAsync<T>(Func<IoTask<T>> work)
    {
        var invocation = new Invocation<T>(this, work);
        try { PostFromAnyThread(invocation.Start); }
        catch (InvalidOperationException e) { return Task.FromException<T>(e); }
        return invocation.Task;
    }

    /// <summary>Completes with None after <paramref name="delayNs"/>, or with ECANCELED when the reactor stops.</summary>
    public IoTask<Errno> DelayAsync(long delayNs)
    {
        if (_stopped) { return new IoTask<Errno>(Errno.ECANCELED); }
        long now = _driver.NowNs;
        return _timers.Add(delayNs > long.MaxValue - 1 - now ? long.MaxValue - 1 : now + Math.Max(delayNs, 0));
    }

    /// <summary>Runs <paramref name="work"/> once, after every completion of this turn and before the next submission. Work registered
    /// by turn-end work runs in the same phase, up to a bound.</summary>
    public void AtTurnEnd(IoContinuation work) => _turnEnd.Enqueue(work);

    public void Dispose()
    {
        Stop();
        if (!_stopped) { RunShutdownHere(); }
        _driver.Dispose();
    }

    private void RunShutdownHere()
    {
        Reactor? outer = t_current;
        t_current = this;
        try { Shutdown(); }
        finally { t_current = outer; }
    }

    private bool Turn(bool wait)
    {
        bool idle = _posted.Count == 0 && _turnEnd.Count == 0 && _messages.IsEmpty && _mailbox.IsEmpty && !_stopping;
        int ran = wait && idle ? WaitForWork() : _driver.Poll(0);
        NowNs = _driver.NowNs;
        if (_timers.Count > 0) { ran += _timers.RunDue(NowNs); }
        for (int left = _posted.Count; left > 0; left--)
        {
            ran++;
            _posted.Dequeue().Continue();
        }
        if (!_messages.IsEmpty) { ran += _messages.ReceiveAll(); }
        for (int left = MaxMailboxPerTurn; left > 0 && !_mailbox.IsEmpty && _mailbox.TryTake(out Action? work); left--)
        {
            ran++;
            work!();
        }
        for (int left = MaxTurnEndPerTurn; left > 0 && _turnEnd.Count > 0; left--)
        {
            ran++;
            _turnEnd.Dequeue().Continue();
        }
        return ran > 0;
    }

    private int WaitForWork()
    {
        if (!HasRing) { return _driver.Poll(_timers.NextDeadlineNs); }
        // What was queued in this turn (calls above all) goes out before we look or wait.
        int ran = _driver.Poll(0);
        // That Poll may have taken a Wake meant for us: look again at what it was for, or we wait for ever.
        if (ran > 0 || _isWanted()) { return ran; }
        long before = _driver.NowNs;
        bool found = _busyPoll.HasPollers && _busyPoll.Look(_driver, _isWanted, _timers.NextDeadlineNs, Mode);
        if (!found && _posted.Count == 0 && _turnEnd.Count == 0) // else a poller found work while it went to sleep
        {
            ran = _driver.Poll(_timers.NextDeadlineNs);
            _busyPoll.Waited(_driver.NowNs - before);
        }
        IdleNs += _driver.NowNs - before;
        return found ? 1 : ran;
    }

    // What still waits is told so, and gets turns to clean up; the bound keeps work that re-posts itself from holding the process.
    private void Shutdown()
    {
        if (_stopped) { return; }
        _stopped = true;
        _stopping = true;
        _mailbox.Close();
        _timers.CancelAll();
        (_driver as Ring)?.Drain(); // on this thread: it is the only one that may
        int turns = 0;
        while ((_posted.Count > 0 || _turnEnd.Count > 0 || !_messages.IsEmpty || !_mailbox.IsEmpty) && turns++ < MaxStopTurns) { Turn(wait: false); }
        foreach (IInvocation invocation in _invocations.ToArray()) { invocation.Cancel(); }
        _invocations.Clear();
    }

    private interface IInvocation
    {
        void Cancel();
    }

    private sealed class Invocation<T>(Reactor reactor, Func<IoTask<T>> work) : IInvocation
    {
        private readonly TaskCompletionSource<T> _result = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task<T> Task => _result.Task;

        public void Start()
        {
            reactor._invocations.Add(this);
            RunAsync().Detach();
        }

        public void Cancel() => _result.TrySetCanceled();

        private async IoTask<bool> RunAsync()
        {
            try { _result.TrySetResult(await work()); }
#pragma warning disable CA1031 // whatever it is, it belongs to the task of the caller
            catch (Exception e) { _result.TrySetException(e); }
#pragma warning restore CA1031
            reactor._invocations.Remove(this);
            return true;
        }
    }
}
