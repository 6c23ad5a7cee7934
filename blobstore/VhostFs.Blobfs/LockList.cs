using System.Runtime.InteropServices;

namespace VhostFs.Blobfs;

/// <summary>The locks of one kind (byte ranges, or flock) on one file, and who waits for one.</summary>
/// <remarks>Invariants: held locks are sorted by first byte; two of the same owner do not overlap, and when they touch they differ in kind; two that
/// overlap are of one owner or both for reading; waiters are in order of arrival.</remarks>
internal sealed class LockList
{
    private readonly List<LockEntry> _held = [];

    public LockKey Key { get; set; }

    public List<LockWaiter> Waiters { get; } = [];

    public ReadOnlySpan<LockEntry> Held => CollectionsMarshal.AsSpan(_held);

    public bool IsEmpty => _held.Count == 0 && Waiters.Count == 0;

    /// <summary>The first lock that is in the way.</summary>
    public bool TryFindConflict(in LockEntry wanted, out LockEntry conflict)
    {
        foreach (ref readonly LockEntry held in Held)
        {
            if (held.First > wanted.Last) { break; }
            if (!held.Blocks(wanted)) { continue; }
            conflict = held;
            return true;
        }
        conflict = default;
        return false;
    }

    /// <summary>One of the first <paramref name="waiterCount"/> waiters wants what could not be held beside <paramref name="wanted"/>.</summary>
    public bool IsBehindWaiter(in LockEntry wanted, int waiterCount)
    {
        for (int i = 0; i < waiterCount; i++)
        {
            if (Waiters[i].Wanted.Blocks(wanted)) { return true; }
        }
        return false;
    }

    public bool Holds(in LockEntry wanted)
    {
        foreach (ref readonly LockEntry held in Held)
        {
            if (held.HasOwnerOf(wanted) && held.IsWrite == wanted.IsWrite && held.First <= wanted.First && held.Last >= wanted.Last) { return true; }
        }
        return false;
    }

    /// <summary>Unlocking <paramref name="range"/> would leave two locks of one.</summary>
    public bool WouldSplit(in LockEntry range)
    {
        foreach (ref readonly LockEntry held in Held)
        {
            if (held.HasOwnerOf(range) && held.First < range.First && held.Last > range.Last) { return true; }
        }
        return false;
    }

    /// <summary>Gives the owner this lock: what it had in the range changes its kind, and neighbours of the same kind become one. At most two locks more.</summary>
    public void Set(LockEntry wanted)
    {
        LockEntry added = wanted;
        for (int i = 0; i < _held.Count; i++)
        {
            LockEntry held = _held[i];
            if (!held.HasOwnerOf(wanted) || held.IsWrite != wanted.IsWrite || !held.Touches(wanted)) { continue; }
            added = added with { First = Math.Min(added.First, held.First), Last = Math.Max(added.Last, held.Last) };
            RemoveAt(i--);
        }
        Remove(wanted);
        Add(added);
    }

    /// <summary>Takes the range from the owner's locks; at most one lock more.</summary>
    /// <returns>False: it had nothing there.</returns>
    public bool Remove(in LockEntry range)
    {
        bool any = false;
        for (int i = 0; i < _held.Count && _held[i].First <= range.Last; i++)
        {
            LockEntry held = _held[i];
            if (!held.HasOwnerOf(range) || !held.Overlaps(range)) { continue; }
            any = true;
            RemoveAt(i--);
            if (held.First < range.First) { Add(held with { Last = range.First - 1 }); }
            if (held.Last > range.Last) { Add(held with { First = range.Last + 1 }); }
        }
        return any;
    }

    /// <summary>Removes the locks of a session: of one owner, made through one handle, or all.</summary>
    public bool RemoveOf(SessionLocks session, ulong? owner, ulong? handle)
    {
        bool any = false;
        for (int i = _held.Count - 1; i >= 0; i--)
        {
            LockEntry held = _held[i];
            if (held.Session != session || (owner is { } id && held.Owner != id) || (handle is { } open && held.Handle != open)) { continue; }
            RemoveAt(i);
            any = true;
        }
        return any;
    }

    private void Add(in LockEntry entry)
    {
        int low = 0, high = _held.Count;
        while (low < high)
        {
            int middle = (low + high) >> 1;
            if (_held[middle].First <= entry.First) { low = middle + 1; }
            else { high = middle; }
        }
        _held.Insert(low, entry);
        entry.Session.Added(entry.Pid);
    }

    private void RemoveAt(int index)
    {
        LockEntry held = _held[index];
        _held.RemoveAt(index);
        held.Session.Removed(held.Pid);
    }
}
