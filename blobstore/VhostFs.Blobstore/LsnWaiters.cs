using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Requests that wait for their record to be logged, in LSN order.</summary>
internal sealed class LsnWaiters
{
    private Waiter? _first;
    private Waiter? _last;
    private Waiter? _free;

    public IoTask<Errno> WaitAsync(ulong lsn)
    {
        Waiter waiter = _free ?? new Waiter(this);
        _free = waiter.Next;
        waiter.Next = null;
        waiter.Lsn = lsn;
        if (_last is null) { _first = _last = waiter; }
        else if (_last.Lsn <= lsn) { _last = _last.Next = waiter; }
        else { InsertInOrder(waiter); }
        return waiter.Task;
    }

    public void CompleteUpTo(ulong lsn, Errno result)
    {
        while (_first is { } waiter && waiter.Lsn <= lsn)
        {
            _first = waiter.Next;
            if (_first is null) { _last = null; }
            waiter.Next = null;
            waiter.Complete(result);
        }
    }

    private void InsertInOrder(Waiter waiter)
    {
        if (_first!.Lsn > waiter.Lsn)
        {
            waiter.Next = _first;
            _first = waiter;
            return;
        }
        Waiter before = _first;
        while (before.Next!.Lsn <= waiter.Lsn) { before = before.Next; }
        waiter.Next = before.Next;
        before.Next = waiter;
    }

    private sealed class Waiter(LsnWaiters owner) : IoOperation<Errno>
    {
        public ulong Lsn { get; set; }

        public Waiter? Next { get; set; }

        protected override void Recycle()
        {
            Next = owner._free;
            owner._free = this;
        }
    }
}
