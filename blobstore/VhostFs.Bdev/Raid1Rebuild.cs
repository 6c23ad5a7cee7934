using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>Brings a new leg of a raid1 in sync, from the first byte to the last, in the background.</summary>
internal sealed class Raid1Rebuild(Raid1Bdev array, Raid1Leg target, VhostFs.Reactor.Reactor reactor)
{
    private long _doneBytes;

    public Raid1Leg Target => target;

    /// <summary>From any thread.</summary>
    public long DoneBytes => Volatile.Read(ref _doneBytes);

    /// <summary>None, with the target not out: it has everything. An error: of the target, or of all others.</summary>
    public async IoTask<Errno> RunAsync()
    {
        using var copier = new Raid1Copier(array, target);
        for (long offset = 0; offset < array.SizeBytes && !target.IsOut; offset += Raid1Copier.PieceBytes)
        {
            long length = Math.Min(array.SizeBytes - offset, Raid1Copier.PieceBytes);
            Errno copied = await copier.CopyAsync(offset, length);
            if (copied != Errno.None) { return copied; }
            Volatile.Write(ref _doneBytes, offset + length);
            // Legs that complete at once would keep the reactor from everybody else.
            if (await reactor.DelayAsync(0) is var stopped && stopped != Errno.None) { return stopped; }
        }
        // A flush that was answered before this covered the other legs with what has been copied from them: it must be durable here before it is all that is left. What
        // was written meanwhile need not be: flushes go to this leg since it came.
        return target.IsOut ? Errno.None : await target.FlushAsync();
    }
}
