using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Blobstore;

/// <summary>One flush of the bdev serves everybody, of all volumes, who asked before it was issued; who asks later waits for the next.</summary>
internal sealed class FlushCoalescer
{
    private readonly IBdev _bdev;
    private readonly TurnEnd _turnEnd;
    private WaitQueue _waiting = new();
    private WaitQueue _inFlight = new();
    private readonly WaitQueue _idle = new();
    private bool _isBusy;

    /// <summary>A flush failed: what had been written before it, by any volume, may be lost, and a later flush that succeeds would not say so. Nothing is durable any more until the pool is opened again.</summary>
    private Errno _failed;

    public FlushCoalescer(IBdev bdev)
    {
        _bdev = bdev;
        _turnEnd = new TurnEnd(this);
    }

    public IoTask<Errno> FlushAsync()
    {
        if (_failed != Errno.None) { return new IoTask<Errno>(_failed); }
        if (!_isBusy)
        {
            _isBusy = true;
            IoReactor.Current.AtTurnEnd(_turnEnd);
        }
        return _waiting.WaitAsync();
    }

    /// <summary>Completes when no flush is under way: the bdev may go.</summary>
    public IoTask<Errno> IdleAsync() => _isBusy ? _idle.WaitAsync() : new IoTask<Errno>(Errno.None);

    private async IoTask<Errno> RunAsync()
    {
        Errno last = Errno.None;
        while (!_waiting.IsEmpty)
        {
            (_waiting, _inFlight) = (_inFlight, _waiting);
            last = _failed != Errno.None ? _failed : await _bdev.FlushAsync();
            _failed = last;
            _inFlight.CompleteAll(last);
        }
        _isBusy = false;
        _idle.CompleteAll(last);
        return last;
    }

    private sealed class TurnEnd(FlushCoalescer owner) : IoContinuation
    {
        protected override void Continue() => owner.RunAsync().Detach();
    }
}
