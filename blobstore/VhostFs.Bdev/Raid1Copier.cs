using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>Copies ranges from the other legs of a raid1 to one, while requests go on.</summary>
/// <remarks>
/// What makes it right: a piece is copied in its turn among the changes (<see cref="RangeTurns"/>). Changes of it that came before have ended when it is read, those that come later
/// begin when it is written; and they go to the target, too. So what is written is what the other legs have, and nothing older is ever put over something newer.
/// </remarks>
internal sealed class Raid1Copier(Raid1Bdev array, Raid1Leg target)
{
    /// <summary>Of one piece: what a change may have to wait for.</summary>
    public const int PieceBytes = Raid1MemoryPool.MostBytes;

    private readonly RangeTurn _turn = new();

    /// <summary>The error was one of writing, not of reading.</summary>
    public bool IsTargetAtFault { get; private set; }

    /// <summary>Ends early when the target is out.</summary>
    public async IoTask<Errno> CopyAsync(long offset, long length)
    {
        Errno errno = Errno.None;
        for (long done = 0; done < length && errno == Errno.None && !target.IsOut; done += PieceBytes) { errno = await CopyPieceAsync(offset + done, (int)Math.Min(length - done, PieceBytes)); }
        return errno;
    }

    private async IoTask<Errno> CopyPieceAsync(long offset, int length)
    {
        await array.Turns.EnterAsync(_turn, offset, length);
        (Errno errno, Raid1Memory? memory) = await array.ReadAnyAsync(offset, length, except: target);
        if (memory is not null && !target.IsOut)
        {
            // What is empty stays so: a thin file is not filled by being copied.
            bool isEmpty = memory.Span.IndexOfAnyExcept((byte)0) < 0;
            errno = await (isEmpty ? target.ClearAsync(offset, length, mayUnmap: true) : target.WriteAsync(offset, memory));
            IsTargetAtFault = errno != Errno.None;
        }
        memory?.Release();
        array.Turns.Leave(_turn);
        return errno;
    }
}
