namespace VhostFs.Reactor;

/// <summary>Work that other threads hand to a reactor, in order. Bounded: a full mailbox makes the poster wait.</summary>
internal sealed class Mailbox
{
    public const int Capacity = 4096;

    private readonly object _gate = new();
    private readonly Queue<Action> _queue = new();
    private volatile int _count;
    private bool _closed;

    /// <summary>A hint that needs no lock.</summary>
    public bool IsEmpty => _count == 0;

    /// <summary>False: the mailbox is closed, or it is full and <paramref name="wait"/> is false.</summary>
    public bool Post(Action work, bool wait)
    {
        lock (_gate)
        {
            while (!_closed && _queue.Count >= Capacity)
            {
                if (!wait) { return false; }
                Monitor.Wait(_gate);
            }
            if (_closed) { return false; }
            _queue.Enqueue(work);
            _count = _queue.Count;
            return true;
        }
    }

    public bool TryTake(out Action? work)
    {
        lock (_gate)
        {
            bool taken = _queue.TryDequeue(out work);
            if (taken && _queue.Count == Capacity - 1) { Monitor.PulseAll(_gate); }
            _count = _queue.Count;
            return taken;
        }
    }

    public void Close()
    {
        lock (_gate)
        {
            _closed = true;
            Monitor.PulseAll(_gate);
        }
    }
}
