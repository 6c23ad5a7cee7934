using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>One request on one leg of a raid1. It is answered when it ends, or before, when the leg is left behind. Pooled.</summary>
internal sealed class Raid1Request(Stack<Raid1Request> pool) : IoOperation<Errno>
{
    private bool _isAnswered;
    private bool _isUnderWay;
    private bool _isTaken;

    public Raid1Request? Previous { get; set; }

    public Raid1Request? Next { get; set; }

    public bool IsLeftBehind { get; private set; }

    public void Begin() => (_isAnswered, _isUnderWay, _isTaken, IsLeftBehind) = (false, true, false, false);

    /// <summary>The bdev has answered.</summary>
    public void End(Errno errno)
    {
        _isUnderWay = false;
        Answer(errno);
        TryReturn();
    }

    /// <summary>Whoever waits does so no longer; what the bdev answers does not count.</summary>
    public void LeaveBehind()
    {
        IsLeftBehind = true;
        Answer(Errno.ECANCELED);
    }

    protected override void Recycle()
    {
        _isTaken = true;
        TryReturn();
    }

    private void Answer(Errno errno)
    {
        if (_isAnswered) { return; }
        _isAnswered = true;
        Complete(errno);
    }

    private void TryReturn()
    {
        if (_isUnderWay || !_isTaken) { return; }
        _isTaken = false; // once
        pool.Push(this);
    }
}
