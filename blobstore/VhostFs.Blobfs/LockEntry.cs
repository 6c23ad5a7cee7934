using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>A lock that is held or wanted: both ends inclusive.</summary>
/// <param name="Handle">Through which it was made last: its last close ends it. A process's locks end before, with its own close.</param>
internal readonly record struct LockEntry(SessionLocks Session, ulong Owner, ulong Handle, uint Pid, bool IsWrite, long First, long Last)
{
    public bool HasOwnerOf(in LockEntry other) => Owner == other.Owner && Session == other.Session;

    public bool Overlaps(in LockEntry other) => First <= other.Last && other.First <= Last;

    /// <summary>Overlapping, or one begins where the other ends.</summary>
    public bool Touches(in LockEntry other) =>
        First - 1 <= other.Last && other.First - 1 <= Last; // no first byte is below 0

    /// <summary>While this is held, <paramref name="wanted"/> cannot be.</summary>
    public bool Blocks(in LockEntry wanted) => Overlaps(wanted) && (IsWrite || wanted.IsWrite) && !HasOwnerOf(wanted);
}

/// <summary>A request that waits for a lock; completes with what became of it. Pooled by <see cref="LockTable"/>.</summary>
internal sealed class LockWaiter(LockTable table) : IoOperation<Errno>
{
    public LockEntry Wanted { get; set; }

    public LockList? List { get; set; }

    public ulong Ticket { get; set; }

    /// <summary>What it will complete with, once it no longer waits.</summary>
    public Errno Granted { get; set; }

    /// <summary>In the order of granting, or in the pool.</summary>
    public LockWaiter? Next { get; set; }

    protected override void Recycle() => table.Return(this);
}
