using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuse;

/// <summary>What is asked of a range; the numbers of fcntl(2).</summary>
public enum LockKind : uint
{
    Read = 0,
    Write = 1,
    Unlock = 2,
}

/// <summary>A lock, or the removal of locks. Two requests of the same session with the same owner are not in each other's way.</summary>
/// <param name="Owner">Stands for a process (POSIX locks) or an open file (OFD and flock locks); its own number in each session.</param>
/// <param name="IsFlock">flock(2), for the whole file; byte-range locks and these do not see each other.</param>
/// <param name="LastByte">Inclusive; <see cref="long.MaxValue"/>: to the end, wherever it will be.</param>
/// <param name="Pid">Told to others of the same session who ask (F_GETLK).</param>
public readonly record struct LockRequest(ulong Owner, bool IsFlock, LockKind Kind, long FirstByte, long LastByte, uint Pid);

/// <summary>A lock that is in the way of another; <see cref="Kind"/> is <see cref="LockKind.Unlock"/> when none is.</summary>
/// <param name="Pid">0 when its holder is in another session, where the number would mean somebody else.</param>
public readonly record struct HeldLock(LockKind Kind, long FirstByte, long LastByte, uint Pid);

/// <summary>Advisory locks of one session, against all sessions of the file system.</summary>
/// <remarks>
/// <para>The server asks with valid ranges only. Locks end by an unlock; byte ranges of an owner with <see cref="IFileSystem.FlushAsync"/> (close(2) of a process); those
/// made through a handle with <see cref="IFileSystem.ReleaseAsync"/>; all of them, and all waits, with <see cref="IFileSystem.EndSession"/>.</para>
/// <para>For this the handles of open files must differ.</para>
/// </remarks>
public interface IFileLocks
{
    /// <summary>Sets, changes or removes a lock. Completes when it is done; EAGAIN: somebody else has one and <paramref name="ticket"/> is 0.</summary>
    /// <param name="ticket">Not 0: wait, until <see cref="CancelWait"/> is told this number; unique in the session.</param>
    /// <returns>EDEADLK: waiting could never end. ENOLCK: a bound. EINTR: the wait was cancelled, or the session ended.</returns>
    IoTask<Errno> SetLockAsync(ulong node, ulong handle, LockRequest request, ulong ticket);

    /// <summary>The first lock that <paramref name="request"/> would have to wait for.</summary>
    HeldLock FindConflict(ulong node, LockRequest request);

    /// <summary>Ends a wait with EINTR, before this returns; nothing happens when there is none of that number (any more).</summary>
    void CancelWait(ulong ticket);
}
