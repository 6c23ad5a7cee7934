using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>One session's part of the <see cref="LockTable"/>: how much it holds, and its waits.</summary>
internal sealed class SessionLocks(LockTable table, int maxLocks, int maxWaiters) : IFileLocks
{
    private readonly Dictionary<uint, int> _heldByPid = [];

    public int HeldCount { get; private set; }

    public List<LockWaiter> Waiters { get; } = [];

    public bool CanWait => Waiters.Count < maxWaiters;

    public bool CanAdd(int lockCount) => HeldCount + lockCount <= maxLocks;

    /// <summary>The process holds some lock: others may wait for it.</summary>
    public bool IsHolder(uint pid) => _heldByPid.ContainsKey(pid);

    public IoTask<Errno> SetLockAsync(ulong node, ulong handle, LockRequest request, ulong ticket)
    {
        var entry = new LockEntry(this, request.Owner, handle, request.Pid, request.Kind == LockKind.Write, request.FirstByte, request.LastByte);
        var key = new LockKey(node, request.IsFlock);
        return request.Kind == LockKind.Unlock ? new IoTask<Errno>(table.Unlock(key, entry)) : table.LockAsync(key, entry, ticket);
    }

    public HeldLock FindConflict(ulong node, LockRequest request)
    {
        var entry = new LockEntry(this, request.Owner, 0, request.Pid, request.Kind == LockKind.Write, request.FirstByte, request.LastByte);
        if (!table.TryFindConflict(new LockKey(node, request.IsFlock), entry, out LockEntry held)) { return new HeldLock(LockKind.Unlock, request.FirstByte, request.LastByte, 0); }
        return new HeldLock(held.IsWrite ? LockKind.Write : LockKind.Read, held.First, held.Last, held.Session == this ? held.Pid : 0);
    }

    public void CancelWait(ulong ticket)
    {
        foreach (LockWaiter waiter in Waiters)
        {
            if (waiter.Ticket != ticket) { continue; }
            table.Cancel(waiter);
            return;
        }
    }

    /// <summary>close(2) by a process: its byte-range locks on the file end.</summary>
    public void EndOwner(ulong node, ulong owner) => table.Release(new LockKey(node, IsFlock: false), this, owner, null);

    /// <summary>The last close of an open file.</summary>
    public void EndHandle(ulong node, ulong handle)
    {
        table.Release(new LockKey(node, IsFlock: false), this, null, handle);
        table.Release(new LockKey(node, IsFlock: true), this, null, handle);
    }

    public void Clear() => table.End(this);

    public void Added(uint pid)
    {
        HeldCount++;
        CollectionsMarshal.GetValueRefOrAddDefault(_heldByPid, pid, out _)++;
    }

    public void Removed(uint pid)
    {
        HeldCount--;
        ref int count = ref CollectionsMarshal.GetValueRefOrNullRef(_heldByPid, pid);
        Invariant.That(count > 0);
        if (--count == 0) { _heldByPid.Remove(pid); }
    }
}
