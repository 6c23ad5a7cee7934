using VhostFs.Linux;

namespace VhostFs.Reactor;

/// <summary>Operations that wait for one event; each await takes a pooled waiter. All go on when it happens, or as many as it suffices for; in order.</summary>
public sealed class WaitQueue
{
    private Waiter? _first;
    private Waiter? _last;
    private Waiter? _free;

    public bool IsEmpty => _first is null;

    public IoTask<Errno> WaitAsync()
    {
        Waiter waiter = _free ?? new Waiter(this);
        _free = waiter.Next;
        waiter.Next = null;
        if (_last is null) { _first = waiter; }
        else { _last.Next = waiter; }
        _last = waiter;
        return waiter.Task;
    }

    /// <summary>Resumes the one who has waited longest.</summary>
    public void CompleteFirst(Errno result)
    {
        Waiter waiter = _first!;
        _first = waiter.Next;
        if (_first is null) { _last = null; }
        waiter.Next = null;
        waiter.Complete(result);
    }

    /// <summary>Resumes everyone who waits now; who waits again during that waits for the next event.</summary>
    public void CompleteAll(Errno result)
    {
        Waiter? waiter = _first;
        _first = _last = null;
        while (waiter is not null)
        {
            Waiter? next = waiter.Next;
            waiter.Next = null;
            waiter.Complete(result);
            waiter = next;
        }
    }

    private sealed class Waiter(WaitQueue owner) : IoOperation<Errno>
    {
        public Waiter? Next { get; set; }

        protected override void Recycle()
        {
            Next = owner._free;
            owner._free = this;
        }
    }
}
