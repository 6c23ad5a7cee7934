using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuse;

/// <summary>GETLK, SETLK and SETLKW, and the INTERRUPT that ends a wait. The only requests that may wait for ever.</summary>
/// <remarks>A request that waits is parked (<see cref="FuseRequest.Park"/>): its transport can end without it. While it waits it is in a list here, by which an INTERRUPT finds it.</remarks>
internal sealed class LockHandlers(FuseSession session)
{
    /// <summary>Interrupts that came before their request, as they can when the two travel on different ways. A bound: older ones are forgotten.</summary>
    private const int MaxEarlyInterrupts = 64;

    private readonly ulong[] _earlyInterrupts = new ulong[MaxEarlyInterrupts];
    private FuseRequest? _firstWaiting;
    private ulong _lastTicket;
    private int _nextEarly;

    public IoTask<int> Getlk(FuseRequest request)
    {
        if (!session.Has(FuseInitFlags.POSIX_LOCKS)) { return new IoTask<int>(request.ReplyNotServed()); }
        Errno bad = Decode(request, out _, out LockRequest wanted);
        if (bad == Errno.None && (wanted.IsFlock || wanted.Kind == LockKind.Unlock)) { bad = Errno.EINVAL; }
        if (bad != Errno.None) { return new IoTask<int>(request.ReplyError(bad)); }
        HeldLock held = session.FileSystem.Locks!.FindConflict(request.NodeId, wanted);
        return new IoTask<int>(request.Reply(new FuseLkOut(new FuseFileLock((ulong)held.FirstByte, (ulong)held.LastByte, (uint)held.Kind, held.Pid))));
    }

    /// <param name="wait">SETLKW.</param>
    public async IoTask<int> SetlkAsync(FuseRequest request, bool wait)
    {
        Errno bad = Decode(request, out ulong handle, out LockRequest wanted);
        if (bad == Errno.None && !session.Has(wanted.IsFlock ? FuseInitFlags.FLOCK_LOCKS : FuseInitFlags.POSIX_LOCKS)) { return request.ReplyNotServed(); }
        if (bad != Errno.None) { return request.ReplyError(bad); }
        IFileLocks locks = session.FileSystem.Locks!;
        ulong ticket = wait && request.CanPark ? ++_lastTicket : 0;
        IoTask<Errno> setting = locks.SetLockAsync(request.NodeId, handle, wanted, ticket);
        if (setting.IsCompleted)
        {
            Errno done = await setting;
            return request.ReplyError(wait && done == Errno.EAGAIN ? Errno.ENOLCK : done);
        }
        Add(request, ticket);
        request.Park();
        if (TakeEarlyInterrupt(request.Header.Unique)) { locks.CancelWait(ticket); }
        Errno waited = await setting;
        Remove(request);
        // Whoever waited so long may find that nobody takes the answer any more: then nobody would unlock either.
        bool isExpected = await request.UnparkAsync();
        if (!session.IsCurrent(request.Epoch)) { waited = Errno.EINTR; } // its locks went with the session
        if (isExpected) { return request.ReplyError(waited); }
        if (waited == Errno.None) { _ = await locks.SetLockAsync(request.NodeId, handle, wanted with { Kind = LockKind.Unlock }, 0); }
        return 0;
    }

    /// <summary>INTERRUPT has no reply of its own: the request it names is answered with EINTR, if it waits.</summary>
    public void Interrupt(FuseRequest request)
    {
        if (!session.HasLocks || !request.TryTake(out FuseInterruptIn interrupt)) { return; }
        for (FuseRequest? waiting = _firstWaiting; waiting is not null; waiting = waiting.NextWaiting)
        {
            if (waiting.Header.Unique != interrupt.Unique) { continue; }
            session.FileSystem.Locks!.CancelWait(waiting.LockTicket);
            return;
        }
        _earlyInterrupts[_nextEarly++ % MaxEarlyInterrupts] = interrupt.Unique;
    }

    /// <summary>The transport lets go of a parked request: it stops waiting, and completes.</summary>
    public void Cancel(FuseRequest request)
    {
        if (request.LockTicket == 0) { return; }
        ulong ticket = request.LockTicket;
        request.LockTicket = 0;
        session.FileSystem.Locks!.CancelWait(ticket);
    }

    public void CancelAll()
    {
        // From the start again each time: what a cancelled request wakes may take others out of the list.
        while (FirstToCancel() is { } waiting) { Cancel(waiting); }
    }

    private FuseRequest? FirstToCancel()
    {
        FuseRequest? waiting = _firstWaiting;
        while (waiting is { LockTicket: 0 }) { waiting = waiting.NextWaiting; }
        return waiting;
    }

    private static Errno Decode(FuseRequest request, out ulong handle, out LockRequest wanted)
    {
        handle = 0;
        wanted = default;
        if (!request.TryTake(out FuseLkIn lk) || (lk.LockFlags & ~FuseFlags.LK_FLOCK) != 0) { return Errno.EINVAL; }
        if (lk.Lock.Type > (uint)LockKind.Unlock || lk.Lock.LastByte > long.MaxValue || lk.Lock.FirstByte > lk.Lock.LastByte) { return Errno.EINVAL; }
        handle = lk.Handle;
        bool isFlock = (lk.LockFlags & FuseFlags.LK_FLOCK) != 0;
        wanted = new LockRequest(lk.Owner, isFlock, (LockKind)lk.Lock.Type, isFlock ? 0 : (long)lk.Lock.FirstByte, isFlock ? long.MaxValue : (long)lk.Lock.LastByte, lk.Lock.Pid);
        return Errno.None;
    }

    private bool TakeEarlyInterrupt(ulong unique)
    {
        int found = Array.IndexOf(_earlyInterrupts, unique);
        if (found < 0 || unique == 0) { return false; }
        _earlyInterrupts[found] = 0;
        return true;
    }

    private void Add(FuseRequest request, ulong ticket)
    {
        request.LockTicket = ticket;
        request.NextWaiting = _firstWaiting;
        if (_firstWaiting is not null) { _firstWaiting.PreviousWaiting = request; }
        _firstWaiting = request;
    }

    private void Remove(FuseRequest request)
    {
        if (request.NextWaiting is { } next) { next.PreviousWaiting = request.PreviousWaiting; }
        if (request.PreviousWaiting is { } previous) { previous.NextWaiting = request.NextWaiting; }
        else { _firstWaiting = request.NextWaiting; }
        (request.LockTicket, request.NextWaiting, request.PreviousWaiting) = (0, null, null);
    }
}
