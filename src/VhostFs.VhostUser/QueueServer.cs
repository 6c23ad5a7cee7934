using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>Serves the rings of one session: who may be served now, how much at once, calls, and waiting until requests have ended.</summary>
/// <remarks>Invariants: guest memory is touched only while the session runs; whoever takes memory or a ring away first pauses or stops, and
/// then drains. A ring gets a bounded number of chains before the others have their turn.</remarks>
internal sealed class QueueServer
{
    /// <summary>The index of bits 0-7 in SET_VRING_KICK.</summary>
    public const int MaxQueues = 256;

    private const int ChainsPerRound = 64;

    /// <summary>Completions that a call may be held back for: with EVENT_IDX the driver's wish is looked for among those since the last call, modulo 65,536.</summary>
    private const int MaxHeldBack = Virtqueue.MaxSize / 2;

    private const int PatientRounds = 4;
    private const long QuietPollNs = 50_000;
    private const string MemoryLost = "guest memory was taken away (its file was shrunk, or the host has no page for it)";

    private readonly VhostUserDevice _device;
    private readonly VhostLog _log;
    private readonly string _name;
    private readonly Action<string> _fail;
    private readonly VhostUserRing?[] _rings = new VhostUserRing?[MaxQueues];
    private readonly CallCoalescing _coalescing;
    private readonly DrainStep _drainStep;
    private DirtyLog? _dirtyLog;
    private IoCompletion<bool>? _drain;
    private bool _drainPosted;
    private bool _anyStarved;
    private bool _isMemoryLost;
    private bool _hasWarned; // of queues that are not recorded
    private int _ringLimit;

    /// <param name="coalescing">Null: calls are not held back.</param>
    public QueueServer(Reactor.Reactor reactor, VhostUserDevice device, string name, VhostLog log, Action<string> fail, CallCoalescing? coalescing = null)
    {
        _coalescing = coalescing ?? new CallCoalescing();
        Reactor = reactor;
        _device = device;
        _name = name;
        _log = log;
        _fail = fail;
        LogSignal = new EventSignal(reactor.Descriptors);
        _drainStep = new DrainStep(this);
        device.Queues = this;
    }

    public Reactor.Reactor Reactor { get; }

    public GuestMemory Memory { get; } = new();

    /// <summary>Acked with SET_FEATURES; a ring takes them when it starts, but for LOG_ALL, which is obeyed at once.</summary>
    public VirtioFeatures Features
    {
        get;
        set
        {
            field = value;
            UseLog();
        }
    }

    /// <summary>Where rings write down what is in flight, from their next start on; null: nowhere.</summary>
    public InflightArea? Inflight { get; private set; }

    /// <summary>SET_LOG_FD: the front-end hears that something has been marked.</summary>
    public EventSignal LogSignal { get; }

    /// <summary>No ring takes anything new.</summary>
    public bool IsPaused { get; private set; }

    public int InFlight => Memory.UserCount;

    /// <summary>Queues that the driver has set up and kicked.</summary>
    public int RunningCount => _rings.Count(ring => ring is { Queue.IsRunning: true });

    /// <summary>The session ends because its memory was taken away.</summary>
    public bool IsMemoryLost => _isMemoryLost;

    /// <summary>The ring, made when it is first spoken of; null when the index is none.</summary>
    public VhostUserRing? Ring(uint index)
    {
        if (index >= MaxQueues) { return null; }
        ref VhostUserRing? ring = ref _rings[index];
        if (ring is null)
        {
            // Without PROTOCOL_FEATURES there is no SET_VRING_ENABLE: rings are born enabled.
            bool enabled = Features != VirtioFeatures.None && (Features & VirtioFeatures.ProtocolFeatures) == 0;
            ring = new VhostUserRing(this, Reactor.Descriptors, (int)index, enabled);
            _ringLimit = Math.Max(_ringLimit, (int)index + 1);
        }
        return ring;
    }

    /// <summary>Takes ownership of another area. EBUSY: a ring uses the one there is.</summary>
    public Errno ReplaceInflight(InflightArea area)
    {
        if (RunningCount > 0) { return Errno.EBUSY; }
        Inflight?.Dispose();
        Inflight = area;
        return Errno.None;
    }

    /// <summary>Takes ownership of another log; writes to guest memory are marked in it while LOG_ALL is among the <see cref="Features"/>.</summary>
    public void ReplaceLog(DirtyLog log)
    {
        _dirtyLog?.Dispose();
        _dirtyLog = log;
        UseLog();
    }

    public void EnableAll()
    {
        for (int i = 0; i < _ringLimit; i++)
        {
            if (_rings[i] is not { } ring) { continue; }
            ring.IsEnabled = true;
            Serve(ring);
        }
    }

    /// <summary>Serves a ring as far as its round goes; starts it when it has been kicked.</summary>
    public void Serve(VhostUserRing ring)
    {
        ServeRound(ring);
        CheckMemory();
    }

    /// <summary>Ends the session when guest memory has been taken away: whatever was read since may be zeros.</summary>
    /// <returns>False: it has.</returns>
    public bool CheckMemory()
    {
        if (!Memory.HasFaulted) { return true; }
        if (!_isMemoryLost)
        {
            _isMemoryLost = true;
            IsPaused = true; // nothing new is taken on the way to the end
            _fail(MemoryLost);
        }
        return false;
    }

    private void ServeRound(VhostUserRing ring)
    {
        if (IsPaused || ring.IsStopping || !ring.IsKicked) { return; }
        if (!ring.Queue.IsRunning && !TryStart(ring)) { return; }
        if (!MayServe(ring)) { return; }
        Virtqueue queue = ring.Queue;
        queue.DisableKicks();
        for (int left = ChainsPerRound; left > 0; left--)
        {
            if (!_device.HasRoom(ring))
            {
                ring.IsStarved = true;
                _anyStarved = true;
                return; // kicks stay off: the next request that ends serves this ring again
            }
            switch (_device.TakeOne(this, ring))
            {
                case PopResult.Empty:
                    if (Reactor.TryPoll(ring)) { return; } // kicks stay off: the reactor looks at the ring, and wakes us or lets it sleep
                    if (!queue.EnableKicks()) { return; }
                    queue.DisableKicks();
                    break;
                case PopResult.Broken:
                    ReportBroken(ring);
                    return;
                case PopResult.Returned:
                    ring.PostCall();
                    break;
                default:
                    break;
            }
            if (IsPaused || !_device.WantsChains(ring)) { return; }
        }
        ring.PostServe();
    }

    /// <summary>What waited may answer now: the ring runs, and is not on its way to a stop or a change of memory.</summary>
    public bool MayDeliver(VhostUserRing ring) => !IsPaused && !ring.IsStopping && ring.Queue.IsRunning;

    /// <summary>A request begins to wait: of guest memory it keeps nothing.</summary>
    public void Park(VhostUserRing ring, ushort head, IParkedRequest request)
    {
        ring.Queue.Park(head);
        ring.AddParked(request);
        EndUse();
    }

    /// <summary>It goes on, with its segments as the driver has them now.</summary>
    public void Unpark(VhostUserRing ring, ushort head, IParkedRequest request, IoVecList readable, IoVecList writable)
    {
        Invariant.That(MayDeliver(ring));
        ring.RemoveParked(request);
        ring.Queue.Unpark(head, readable, writable);
        Memory.AddUser();
    }

    /// <summary>The ring runs, nobody holds it, and the device wants what is in it.</summary>
    public bool MayServe(VhostUserRing ring) => !IsPaused && !ring.IsStopping && ring.IsKicked && ring.IsEnabled && ring.Queue.IsRunning && _device.WantsChains(ring);

    /// <summary>A request has ended: its chain goes back. Nothing of it may touch guest memory from here on.</summary>
    public void Finish(VhostUserRing ring, ushort head, int replyBytes)
    {
        ring.Queue.Push(head, (uint)replyBytes);
        ring.Pacer.Completed();
        ring.PostCall();
        if (_anyStarved) { ServeStarved(); }
        EndUse();
    }

    private void EndUse()
    {
        Memory.RemoveUser();
        if (_drain is not null && !_drainPosted)
        {
            _drainPosted = true;
            Reactor.Post(_drainStep); // not inline: we are inside the request's completion
        }
    }

    /// <param name="isLast">Nothing comes after it: it is not held back.</param>
    public void SendCall(VhostUserRing ring, bool isLast = false)
    {
        if (!CheckMemory() || !ring.Queue.HasUnsignalled) { return; }
        if (Memory.Log is not null) { LogSignal.Signal(); }
        long waitNs = ring.Pacer.WaitNs(_coalescing, Reactor.NowNs);
        if (waitNs > 0 && !isLast && ring.Queue.UnsignalledCount < MaxHeldBack)
        {
            ring.CallLater(waitNs);
            return;
        }
        if (!ring.Queue.TakeCall()) { return; }
        ring.Pacer.Called(Reactor.NowNs);
        ring.Call.Signal();
    }

    /// <summary>Takes nothing new and waits until nothing is in flight.</summary>
    public async IoTask<bool> PauseAsync()
    {
        IsPaused = true;
        await DrainAsync(null);
        return true;
    }

    public void Resume()
    {
        if (!CheckMemory()) { return; }
        IsPaused = false;
        for (int i = 0; i < _ringLimit; i++)
        {
            if (_rings[i] is not { } ring) { continue; }
            if (!ring.Queue.Revalidate()) { ReportBroken(ring); }
            if (MayDeliver(ring)) { ring.DeliverParked(); }
            Serve(ring);
        }
    }

    /// <summary>GET_VRING_BASE: ends the requests of the ring, parked ones excepted, tells the driver of them, and lets go of it. No memory write and no call comes after it.</summary>
    public async IoTask<uint> StopAsync(VhostUserRing ring)
    {
        ring.IsStopping = true;
        await DrainAsync(ring);
        SendCall(ring, isLast: true);
        await QuietAsync(ring.Call);
        ring.StopQueue();
        return ring.StartBase;
    }

    /// <summary>RESET_DEVICE: rings stopped and disabled, the device as after power-on. Memory stays: QEMU does not send it again.</summary>
    public async IoTask<bool> ResetAsync()
    {
        await PauseAsync();
        for (int i = 0; i < _ringLimit; i++)
        {
            if (_rings[i] is not { } ring) { continue; }
            ring.DropParked();
            ring.StopQueue();
            ring.IsEnabled = false;
            ring.Size = 0;
            ring.Base = null;
            Inflight?.Forget(i);
            ring.Addresses = null;
        }
        _device.Reset();
        IsPaused = false;
        return true;
    }

    /// <summary>The end: waits for what is in flight, unmaps, closes.</summary>
    public async IoTask<bool> CloseAsync()
    {
        IsPaused = true;
        for (int i = 0; i < _ringLimit; i++) { _rings[i]?.SetKick(null); }
        await DrainAsync(null);
        for (int i = 0; i < _ringLimit; i++)
        {
            if (_rings[i] is not { } ring) { continue; }
            ring.DropParked();
            ring.StopQueue();
            ring.Dispose();
            await QuietAsync(ring.Call);
            await QuietAsync(ring.Error);
        }
        await QuietAsync(LogSignal);
        LogSignal.Replace(null);
        _device.Close();
        Inflight?.Dispose();
        Memory.Log = null;
        _dirtyLog?.Dispose();
        Memory.Dispose();
        return true;
    }

    public void Warn(string message) => _log(VhostLogLevel.Warning, $"{_name}: {message}");

    private void UseLog() => Memory.Log = (Features & VirtioFeatures.LogAll) != 0 ? _dirtyLog : null;

    private bool TryStart(VhostUserRing ring)
    {
        if (ring.Size == 0 || ring.Addresses is not { } addresses) { return false; } // kicked before it is configured
        if (!ring.Queue.CanContinue(ring.Size, addresses, ring.StartBase, Features)) { ring.DropParked(); }
        Errno started = ring.Queue.Start(ring.Size, addresses, ring.StartBase, Features, Inflight, ring.Index);
        if (started == Errno.None)
        {
            if (!_hasWarned && Inflight is { } area && !area.Holds(ring.Index, ring.Size, (Features & VirtioFeatures.RingPacked) != 0))
            {
                _hasWarned = true;
                Warn($"queue {ring.Index} does not fit into the area for what is in flight: if this process dies, the guest has to be started anew");
            }
            if (ring.Queue.HasUnsignalled) { ring.PostCall(); }
            ring.DeliverParked();
            return true;
        }
        ring.DropParked();
        if (!ring.IsReported)
        {
            ring.IsReported = true;
            Warn($"queue {ring.Index} cannot start: {(started == Errno.EFAULT ? "its ring is not inside guest memory" : "its size, its alignment or where it is to begin is none of its layout")}");
            ring.Error.Signal();
        }
        return false;
    }

    private void ReportBroken(VhostUserRing ring)
    {
        if (ring.IsReported) { return; }
        ring.IsReported = true;
        Warn($"queue {ring.Index} is broken and not served any more: {ring.Queue.BrokenReason}");
        ring.Error.Signal();
    }

    private void ServeStarved()
    {
        _anyStarved = false;
        for (int i = 0; i < _ringLimit; i++)
        {
            if (_rings[i] is not { IsStarved: true } ring) { continue; }
            ring.IsStarved = false;
            ring.PostServe();
        }
    }

    private async IoTask<bool> DrainAsync(VhostUserRing? ring)
    {
        while (ring is null ? InFlight > 0 : ring.Queue.InFlight > ring.Queue.Parked)
        {
            _drain = new IoCompletion<bool>();
            await _drain.Task;
        }
        return true;
    }

    /// <summary>Waits for the writes of a signal. Ordinary ones end with the next submissions; one that hangs on a hostile descriptor is
    /// cancelled, as often as it takes: a cancellation can miss a write that is just changing hands in the kernel.</summary>
    private async IoTask<bool> QuietAsync(EventSignal signal)
    {
        for (int round = 0; signal.IsBusy; round++)
        {
            if (round >= PatientRounds)
            {
                signal.Forget();
                signal.Cancel();
            }
            if (await Reactor.DelayAsync(QuietPollNs) != Errno.None) { break; } // the reactor stops: the ring ends the write
        }
        return true;
    }

    private sealed class DrainStep(QueueServer server) : IoContinuation
    {
        protected override void Continue()
        {
            server._drainPosted = false;
            IoCompletion<bool>? drain = server._drain;
            server._drain = null;
            drain?.Complete(true);
        }
    }
}
