using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>One copy of a raid1: its bdev, what it is good for, and how much is under way on it.</summary>
internal sealed class Raid1Leg(IBdev bdev, int slot, bool isInSync)
{
    private IoCompletion<bool>? _quiet;
    private int _inFlight;

    public IBdev Bdev => bdev;

    public int Slot => slot;

    /// <summary>Has everything that was ever written; until then it takes writes, and is not read.</summary>
    public bool IsInSync { get; set; } = isInSync;

    /// <summary>It failed or was taken out: what it still answers does not count.</summary>
    public bool IsOut { get; set; }

    public int ReadsInFlight { get; private set; }

    public async IoTask<Errno> ReadAsync(long offset, IoVecs target)
    {
        _inFlight++;
        ReadsInFlight++;
        IoResult read = await bdev.ReadAsync(offset, target);
        ReadsInFlight--;
        End();
        return read.Errno;
    }

    public async IoTask<Errno> WriteAsync(long offset, IoVecs source)
    {
        _inFlight++;
        IoResult written = await bdev.WriteAsync(offset, source);
        End();
        return written.Errno;
    }

    public async IoTask<Errno> FlushAsync()
    {
        _inFlight++;
        Errno flushed = await bdev.FlushAsync();
        End();
        return flushed;
    }

    /// <summary>The range reads as zeroes afterwards, which not every bdev promises of an unmap: all legs have the same content in the end.</summary>
    public async IoTask<Errno> ClearAsync(long offset, long length, bool mayUnmap)
    {
        _inFlight++;
        Errno cleared = mayUnmap && bdev.SupportsUnmap && bdev.UnmapReadsZero ? await bdev.UnmapAsync(offset, length) : Errno.EOPNOTSUPP;
        if (cleared == Errno.EOPNOTSUPP) { cleared = await bdev.WriteZeroesAsync(offset, length); }
        End();
        return cleared;
    }

    /// <summary>Completes when nothing is under way here. One waits at a time.</summary>
    public IoTask<bool> QuietAsync()
    {
        if (_inFlight == 0) { return new(true); }
        _quiet ??= new IoCompletion<bool>();
        return _quiet.Task;
    }

    private void End()
    {
        if (--_inFlight > 0 || _quiet is not { IsAwaited: true } quiet) { return; }
        quiet.Complete(true);
    }
}
