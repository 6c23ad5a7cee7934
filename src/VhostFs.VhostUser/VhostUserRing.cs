using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>One queue of a session: its configuration, its descriptors and when it is served.</summary>
/// <remarks>Rules (vhost-user.rst "Ring states"): a ring starts at its first kick, one pending when the kick descriptor arrives included; a started but disabled ring
/// is held; GET_VRING_BASE stops it. Kick eventfds are watched, never read: each write to an eventfd wakes a multishot poll, and a
/// descriptor that is not read cannot block us.</remarks>
internal sealed class VhostUserRing : IDisposable, IReactorPoller
{
    private readonly QueueServer _server;
    private readonly IDescriptorEvents _descriptors;
    private readonly List<IParkedRequest> _parked = [];
    private readonly Step _serveStep;
    private readonly Step _callStep;
    private SafeFd? _kickFd;
    private IDisposable? _kickWatch;
    private bool _servePosted;
    private bool _callPosted;
    private bool _callWaits;

    public VhostUserRing(QueueServer server, IDescriptorEvents descriptors, int index, bool isEnabled)
    {
        _server = server;
        _descriptors = descriptors;
        Index = index;
        IsEnabled = isEnabled;
        Call = new EventSignal(descriptors);
        Error = new EventSignal(descriptors);
        Queue = new Virtqueue(server.Memory);
        _serveStep = new Step(this, isCall: false);
        _callStep = new Step(this, isCall: true);
    }

    public int Index { get; }

    public Virtqueue Queue { get; }

    public EventSignal Call { get; }

    public CallPacer Pacer { get; } = new();

    public EventSignal Error { get; }

    /// <summary>SET_VRING_NUM; 0 before it.</summary>
    public int Size { get; set; }

    /// <summary>SET_VRING_ADDR; null before it.</summary>
    public RingAddresses? Addresses { get; set; }

    /// <summary>SET_VRING_BASE, and what GET_VRING_BASE answered; null before both.</summary>
    public uint? Base { get; set; }

    /// <summary>Where the ring is to begin.</summary>
    public uint StartBase => Base ?? Virtqueue.FirstBase(_server.Features);

    public bool IsEnabled { get; set; }

    /// <summary>A kick came since the kick descriptor was set.</summary>
    public bool IsKicked { get; private set; }

    /// <summary>Nothing new is taken: the ring is on its way to a stop.</summary>
    public bool IsStopping { get; set; }

    /// <summary>The device had no room; it serves the ring again when a request ends.</summary>
    public bool IsStarved { get; set; }

    /// <summary>A broken queue is reported once.</summary>
    public bool IsReported { get; set; }

    /// <inheritdoc/>
    public bool HasWork => !IsStarved && _server.MayServe(this) && (Queue.HasAvailable() || _server.Memory.HasFaulted);

    /// <inheritdoc/>
    public void Run() => _server.Serve(this);

    /// <inheritdoc/>
    public void Sleep()
    {
        // After a fault there is one more round, too: the session must end even if nothing else ever comes.
        if (!IsStarved && _server.MayServe(this) && (Queue.EnableKicks() || _server.Memory.HasFaulted)) { PostServe(); }
    }

    public void SetKick(SafeFd? fd)
    {
        _kickWatch?.Dispose();
        _kickWatch = null;
        _kickFd?.Dispose();
        _kickFd = fd;
        // A ring that goes on where it was stopped need not be kicked: there may be answers to deliver, or requests that a process before us has left.
        IsKicked = fd is not null && (Queue.IsRunning || _server.Inflight is not null || (Addresses is { } addresses && Queue.CanContinue(Size, addresses, StartBase, _server.Features)));
        if (fd is not null) { _kickWatch = _descriptors.Watch(fd, PollIn, OnKick); }
    }

    public void AddParked(IParkedRequest request) => _parked.Add(request);

    public void RemoveParked(IParkedRequest request) => _parked.Remove(request);

    /// <summary>The ring is served again: who got an answer meanwhile passes it on.</summary>
    public void DeliverParked()
    {
        while (_parked.Find(request => request.IsReady) is { } ready) { ready.Deliver(); }
    }

    /// <summary>The driver is gone, and all that it asked for.</summary>
    public void DropParked()
    {
        if (_parked.Count == 0) { return; }
        Queue.ForgetParked();
        IParkedRequest[] dropped = [.. _parked];
        _parked.Clear();
        foreach (IParkedRequest request in dropped) { request.Drop(); }
    }

    /// <summary>Serves the ring in the reactor's next round.</summary>
    public void PostServe()
    {
        if (_servePosted) { return; }
        _servePosted = true;
        _server.Reactor.Post(_serveStep);
    }

    /// <summary>Considers a call at the end of this turn, one for everything that completes in it.</summary>
    public void PostCall()
    {
        if (_callPosted) { return; }
        _callPosted = true;
        _server.Reactor.AtTurnEnd(_callStep);
    }

    /// <summary>Considers a call again after a while. At most one waits: whatever ends until then is part of it.</summary>
    public void CallLater(long delayNs)
    {
        if (!_callWaits) { CallLaterAsync(delayNs).Detach(); }
    }

    /// <summary>Forgets everything but the call and err descriptors and the enabled state.</summary>
    public void StopQueue()
    {
        SetKick(null);
        if (Queue.IsRunning)
        {
            Base = Queue.Base;
            Queue.Stop();
        }
        IsKicked = false;
        IsStopping = false;
        IsStarved = false;
        IsReported = false;
        Call.Forget();
        Error.Forget();
    }

    public void Dispose()
    {
        _server.Reactor.EndPoll(this);
        SetKick(null);
        Call.Replace(null);
        Error.Replace(null);
    }

    // The ring may have been stopped meanwhile, or its session may be over: then nothing is left to call for.
    private async IoTask<bool> CallLaterAsync(long delayNs)
    {
        _callWaits = true;
        Errno waited = await _server.Reactor.DelayAsync(delayNs);
        _callWaits = false;
        if (waited == Errno.None) { _server.SendCall(this); }
        return true;
    }

    private const short PollIn = 1, PollErrors = 0x8 | 0x10 | 0x20;

    private void OnKick(IoResult events)
    {
        if (events.IsError || (events.Value & PollErrors) != 0)
        {
            SetKick(null); // no eventfd behaves so, and others could wake us for ever
            _server.Warn($"queue {Index}: the kick descriptor is not an eventfd; the queue is not served");
            return;
        }
        IsKicked = true;
        _server.Serve(this);
    }

    private sealed class Step(VhostUserRing ring, bool isCall) : IoContinuation
    {
        protected override void Continue()
        {
            if (isCall)
            {
                ring._callPosted = false;
                ring._server.SendCall(ring);
            }
            else
            {
                ring._servePosted = false;
                ring._server.Serve(ring);
            }
        }
    }
}
