using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>Brings a leg of a raid1 in sync, from the first byte to the last, in the background.</summary>
/// <param name="regions">It lacks what is marked in them, now or until it is in sync, and nothing else. Null: everything.</param>
internal sealed class Raid1Rebuild(Raid1Bdev array, Raid1Leg target, Raid1Regions? regions, VhostFs.Reactor.Reactor reactor)
{
    private readonly Raid1Copier _copier = new(array, target);
    private long _doneBytes;

    public Raid1Leg Target => target;

    /// <summary>The error was one of writing to it.</summary>
    public bool IsTargetAtFault => _copier.IsTargetAtFault;

    /// <summary>It ends as soon as it can, whatever is left.</summary>
    public bool IsStopping { get; set; }

    /// <summary>From any thread.</summary>
    public long DoneBytes => Volatile.Read(ref _doneBytes);

    // Who reads from the target already has nobody else to read from.
    private bool IsOver => IsStopping || target.IsOut || target.IsInSync;

    /// <summary>None, with the target not out: it has everything. An error: of the target, or of all others; or it was stopped.</summary>
    public async IoTask<Errno> RunAsync()
    {
        for (long offset = Next(0); offset < array.SizeBytes && !IsOver; offset = Next(_doneBytes))
        {
            long length = Math.Min(array.SizeBytes - offset, Raid1Copier.PieceBytes);
            Errno copied = await _copier.CopyAsync(offset, length);
            if (copied != Errno.None) { return copied; }
            Volatile.Write(ref _doneBytes, offset + length);
            // Legs that complete at once would keep the reactor from everybody else.
            if (await reactor.DelayAsync(0) is var stopped && stopped != Errno.None) { return stopped; }
        }
        if (IsStopping) { return Errno.ECANCELED; }
        // A flush that was answered before this covered the other legs with what has been copied from them: it must be durable here before it is all that is left. What
        // was written meanwhile need not be: flushes go to this leg since it came.
        return target.IsOut ? Errno.None : await target.FlushAsync();
    }

    /// <summary>The first byte from here on that is to be copied. What is marked after that, behind it, goes to the target by itself.</summary>
    private long Next(long offset)
    {
        if (regions is null) { return offset; }
        int region = (int)(offset / regions.RegionBytes);
        return region >= regions.Count || regions.IsMarked(region) ? offset : regions.NextMarked(region) * regions.RegionBytes;
    }
}
