using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>A range of a blob that one change has for itself, or waits for.</summary>
public sealed class BlobLock : IoOperation<BlobLock>
{
    internal ulong Blob { get; set; }

    internal long First { get; set; }

    internal long Limit { get; set; }

    internal bool IsGranted { get; set; }

    internal BlobLock? Next { get; set; }

    internal bool Overlaps(long first, long limit) => First < limit && first < Limit;

    /// <summary>The lock lives on after its await; <see cref="BlobData.Unlock"/> ends it.</summary>
    protected override void Recycle()
    {
    }
}

/// <summary>First-come-first-served range locks, per blob, for changes under way. Reads take none.</summary>
internal sealed class BlobLocks
{
    private readonly Dictionary<ulong, BlobLock> _first = [];
    private BlobLock? _free;

    public bool TryLock(ulong blob, long first, long limit, out BlobLock held)
    {
        held = null!;
        if (HasConflict(blob, first, limit, null)) { return false; }
        held = Add(blob, first, limit);
        held.IsGranted = true;
        return true;
    }

    public IoTask<BlobLock> LockAsync(ulong blob, long first, long limit)
    {
        if (TryLock(blob, first, limit, out BlobLock held)) { return new IoTask<BlobLock>(held); }
        return Add(blob, first, limit).Task;
    }

    public void Unlock(BlobLock held)
    {
        Invariant.That(held.IsGranted);
        ulong blob = held.Blob;
        Remove(held);
        held.IsGranted = false;
        held.Next = _free;
        _free = held;
        // In order of arrival: who waits is granted when nobody before it is in its way.
        for (;;)
        {
            BlobLock? ready = null;
            for (BlobLock? waiter = _first.GetValueOrDefault(blob); waiter is not null; waiter = waiter.Next)
            {
                if (!waiter.IsGranted && !HasConflict(blob, waiter.First, waiter.Limit, waiter)) { ready = waiter; break; }
            }
            if (ready is null) { return; }
            ready.IsGranted = true;
            ready.Complete(ready);
        }
    }

    /// <summary>Somebody, up to <paramref name="before"/> in order of arrival, has or waits for an overlapping range.</summary>
    private bool HasConflict(ulong blob, long first, long limit, BlobLock? before)
    {
        if (_first.Count == 0) { return false; }
        for (BlobLock? other = _first.GetValueOrDefault(blob); other is not null && other != before; other = other.Next)
        {
            if (other.Overlaps(first, limit)) { return true; }
        }
        return false;
    }

    private BlobLock Add(ulong blob, long first, long limit)
    {
        BlobLock added = _free ?? new BlobLock();
        _free = added.Next;
        added.Next = null;
        added.Blob = blob;
        added.First = first;
        added.Limit = limit;
        if (!_first.TryGetValue(blob, out BlobLock? last)) { _first.Add(blob, added); return added; }
        while (last.Next is not null) { last = last.Next; }
        last.Next = added;
        return added;
    }

    private void Remove(BlobLock held)
    {
        BlobLock? at = _first[held.Blob];
        if (at == held)
        {
            if (held.Next is null) { _first.Remove(held.Blob); }
            else { _first[held.Blob] = held.Next; }
            return;
        }
        while (at!.Next != held) { at = at.Next; }
        at.Next = held.Next;
    }
}
