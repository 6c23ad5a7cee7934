using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>Byte ranges and flock locks of a file do not see each other.</summary>
internal readonly record struct LockKey(ulong Node, bool IsFlock);

/// <summary>The advisory locks of one volume, of all its sessions: guests and host mounts. Touched only on the volume's reactor.</summary>
/// <remarks>
/// <para>Invariants: no waiter could be granted now; a file is in the table exactly while something of it is held or waited for.</para>
/// <para>Order: who waits is granted when no held lock is in its way, and nobody before it waits for what it would block. A process that holds any lock is
/// excepted from the second: others may be waiting for it, and queueing it behind one of them would be a deadlock that its program did not write. Those who hold nothing are waited for only by
/// those who came later, so queueing them never closes a circle. A request that does not wait sees held locks only, as fcntl(2) says.</para>
/// <para>Code that waits runs only after the table is consistent again; it may change the table.</para>
/// </remarks>
internal sealed class LockTable
{
    private const int MaxPooled = 256;

    /// <summary>Bound of the search for a deadlock, in locks in the way. A longer circle is not found: it waits.</summary>
    private const int MaxDeadlockSteps = 64;

    private readonly Dictionary<LockKey, LockList> _lists = [];
    private readonly Stack<LockList> _freeLists = new();
    private LockWaiter? _freeWaiter;
    private int _freeWaiters;

    /// <summary>Files with a lock or a waiter (byte ranges and flock count apart).</summary>
    public int Count => _lists.Count;

    public bool TryFindConflict(LockKey key, in LockEntry wanted, out LockEntry conflict)
    {
        conflict = default;
        return _lists.TryGetValue(key, out LockList? list) && list.TryFindConflict(wanted, out conflict);
    }

    /// <param name="ticket">0: do not wait.</param>
    public IoTask<Errno> LockAsync(LockKey key, LockEntry wanted, ulong ticket)
    {
        SessionLocks session = wanted.Session;
        if (!session.CanAdd(2)) { return new IoTask<Errno>(Errno.ENOLCK); }
        ref LockList? slot = ref CollectionsMarshal.GetValueRefOrAddDefault(_lists, key, out _);
        LockList list = slot ??= NewList(key);
        if (key.IsFlock)
        {
            if (list.Holds(wanted)) { return new IoTask<Errno>(Errno.None); }
            // flock(2) does not convert in one step: the old lock goes first. Two that both share and both want all would else wait for each other.
            list.Remove(wanted);
        }
        bool isBlocked = list.TryFindConflict(wanted, out _) || (ticket != 0 && !session.IsHolder(wanted.Pid) && list.IsBehindWaiter(wanted, list.Waiters.Count));
        LockWaiter? waiter = null;
        Errno refused = Errno.None;
        if (!isBlocked) { list.Set(wanted); }
        else if (ticket == 0) { refused = Errno.EAGAIN; }
        else if (!session.CanWait) { refused = Errno.ENOLCK; }
        else if (!key.IsFlock && WouldDeadlock(list, wanted)) { refused = Errno.EDEADLK; }
        else { waiter = NewWaiter(list, wanted, ticket); }
        // The task is taken before anything else runs: a waiter belongs to it from then on.
        IoTask<Errno> task = waiter?.Task ?? new IoTask<Errno>(refused);
        Settle(list); // a change of kind may have let somebody in
        return task;
    }

    public Errno Unlock(LockKey key, in LockEntry range)
    {
        if (!_lists.TryGetValue(key, out LockList? list)) { return Errno.None; }
        if (!range.Session.CanAdd(1) && list.WouldSplit(range)) { return Errno.ENOLCK; }
        if (list.Remove(range)) { Settle(list); }
        return Errno.None;
    }

    public void Release(LockKey key, SessionLocks session, ulong? owner, ulong? handle)
    {
        if (_lists.Count == 0 || session.HeldCount == 0 || !_lists.TryGetValue(key, out LockList? list)) { return; }
        if (list.RemoveOf(session, owner, handle)) { Settle(list); }
    }

    public void Cancel(LockWaiter waiter)
    {
        LockList list = waiter.List!;
        Forget(waiter);
        Settle(list);
        waiter.Complete(Errno.EINTR);
    }

    /// <summary>The session is over: its locks and its waits end.</summary>
    public void End(SessionLocks session)
    {
        if (session.HeldCount == 0 && session.Waiters.Count == 0) { return; }
        LockWaiter? cancelled = null;
        while (session.Waiters.Count > 0)
        {
            LockWaiter waiter = session.Waiters[^1];
            Forget(waiter);
            waiter.Next = cancelled;
            cancelled = waiter;
        }
        LockList[] lists = [.. _lists.Values];
        foreach (LockList list in lists) { list.RemoveOf(session, null, null); }
        // Whoever is granted something may drop the files that come next in this array from the table.
        foreach (LockList list in lists)
        {
            if (_lists.TryGetValue(list.Key, out LockList? current) && current == list) { Settle(list); }
        }
        CompleteAll(cancelled, Errno.EINTR);
    }

    public void Return(LockWaiter waiter)
    {
        if (_freeWaiters == MaxPooled) { return; }
        waiter.Wanted = default;
        waiter.Next = _freeWaiter;
        _freeWaiter = waiter;
        _freeWaiters++;
    }

    /// <summary>Grants what can be granted after a change, drops a file without locks, and then lets those go on who got theirs.</summary>
    private void Settle(LockList list)
    {
        LockWaiter? firstGranted = null, lastGranted = null;
        for (bool again = list.Waiters.Count > 0; again;)
        {
            again = false;
            for (int i = 0; i < list.Waiters.Count; i++)
            {
                LockWaiter waiter = list.Waiters[i];
                LockEntry wanted = waiter.Wanted;
                if (list.TryFindConflict(wanted, out _) || (!wanted.Session.IsHolder(wanted.Pid) && list.IsBehindWaiter(wanted, i))) { continue; }
                Forget(waiter);
                i--;
                waiter.Granted = wanted.Session.CanAdd(2) ? Errno.None : Errno.ENOLCK;
                if (waiter.Granted == Errno.None) { list.Set(wanted); }
                if (lastGranted is null) { firstGranted = waiter; }
                else { lastGranted.Next = waiter; }
                lastGranted = waiter;
                again = true; // it may have changed a lock of its own to a lesser one
            }
        }
        if (list.IsEmpty) { Drop(list); }
        CompleteAll(firstGranted, null);
    }

    /// <summary>Somebody in the way waits, perhaps through others, for the owner of <paramref name="wanted"/>.</summary>
    private static bool WouldDeadlock(LockList list, in LockEntry wanted)
    {
        int steps = MaxDeadlockSteps;
        return WaitsFor(wanted, list, wanted, ref steps);
    }

    private static bool WaitsFor(in LockEntry target, LockList list, in LockEntry wanted, ref int steps)
    {
        foreach (ref readonly LockEntry held in list.Held)
        {
            if (!held.Blocks(wanted)) { continue; }
            if (held.HasOwnerOf(target)) { return true; }
            if (--steps < 0) { return false; }
            foreach (LockWaiter waiter in held.Session.Waiters)
            {
                if (waiter.Wanted.Owner != held.Owner || waiter.List!.Key.IsFlock) { continue; }
                if (WaitsFor(target, waiter.List, waiter.Wanted, ref steps)) { return true; }
            }
        }
        return false;
    }

    private LockWaiter NewWaiter(LockList list, in LockEntry wanted, ulong ticket)
    {
        LockWaiter waiter = _freeWaiter ?? new LockWaiter(this);
        if (_freeWaiter is not null)
        {
            _freeWaiter = waiter.Next;
            _freeWaiters--;
        }
        (waiter.Wanted, waiter.List, waiter.Ticket, waiter.Next) = (wanted, list, ticket, null);
        list.Waiters.Add(waiter);
        wanted.Session.Waiters.Add(waiter);
        return waiter;
    }

    private static void Forget(LockWaiter waiter)
    {
        waiter.List!.Waiters.Remove(waiter);
        waiter.Wanted.Session.Waiters.Remove(waiter);
        waiter.List = null;
    }

    private static void CompleteAll(LockWaiter? first, Errno? result)
    {
        while (first is { } waiter)
        {
            first = waiter.Next;
            waiter.Next = null;
            waiter.Complete(result ?? waiter.Granted);
        }
    }

    private LockList NewList(LockKey key)
    {
        LockList list = _freeLists.Count > 0 ? _freeLists.Pop() : new LockList();
        list.Key = key;
        return list;
    }

    private void Drop(LockList list)
    {
        _lists.Remove(list.Key);
        if (_freeLists.Count < MaxPooled) { _freeLists.Push(list); }
    }
}
