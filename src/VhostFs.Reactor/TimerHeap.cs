using VhostFs.Linux;

namespace VhostFs.Reactor;

/// <summary>The timers of one reactor: a binary heap by deadline, then by order of creation.</summary>
/// <remarks>Grows to the number of timers in flight and keeps the memory; operations are pooled.</remarks>
internal sealed class TimerHeap
{
    private Entry[] _heap = new Entry[64];
    private TimerOperation? _free;
    private long _sequence;

    public int Count { get; private set; }

    public long NextDeadlineNs => Count == 0 ? long.MaxValue : _heap[0].DeadlineNs;

    public IoTask<Errno> Add(long deadlineNs)
    {
        TimerOperation operation = _free ?? new TimerOperation(this);
        _free = operation.Next;
        operation.Next = null;
        if (Count == _heap.Length) { Array.Resize(ref _heap, Count * 2); }
        int index = Count++;
        var entry = new Entry(deadlineNs, _sequence++, operation);
        while (index > 0)
        {
            int parent = (index - 1) / 2;
            if (_heap[parent].IsBefore(entry)) { break; }
            _heap[index] = _heap[parent];
            index = parent;
        }
        _heap[index] = entry;
        return operation.Task;
    }

    /// <summary>Completes what is due; timers that those completions add wait for the next turn.</summary>
    public int RunDue(long nowNs)
    {
        int ran = 0;
        long limit = _sequence;
        while (Count > 0 && _heap[0].DeadlineNs <= nowNs && _heap[0].Sequence < limit)
        {
            RemoveFirst().Complete(Errno.None);
            ran++;
        }
        return ran;
    }

    public void CancelAll()
    {
        while (Count > 0) { RemoveFirst().Complete(Errno.ECANCELED); }
    }

    private TimerOperation RemoveFirst()
    {
        TimerOperation first = _heap[0].Operation;
        Entry last = _heap[--Count];
        _heap[Count] = default;
        int index = 0;
        while (true)
        {
            int child = index * 2 + 1;
            if (child >= Count) { break; }
            if (child + 1 < Count && _heap[child + 1].IsBefore(_heap[child])) { child++; }
            if (last.IsBefore(_heap[child])) { break; }
            _heap[index] = _heap[child];
            index = child;
        }
        if (Count > 0) { _heap[index] = last; }
        return first;
    }

    private readonly record struct Entry(long DeadlineNs, long Sequence, TimerOperation Operation)
    {
        public bool IsBefore(in Entry other) => DeadlineNs < other.DeadlineNs || (DeadlineNs == other.DeadlineNs && Sequence < other.Sequence);
    }

    private sealed class TimerOperation(TimerHeap owner) : IoOperation<Errno>
    {
        public TimerOperation? Next;

        protected override void Recycle()
        {
            Next = owner._free;
            owner._free = this;
        }
    }
}
