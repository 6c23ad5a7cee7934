using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>One copy of a raid1: its bdev, what it is good for, and what is under way on it.</summary>
/// <param name="firstByte">Where on the bdev the content begins.</param>
internal sealed class Raid1Leg(IBdev bdev, int slot, long firstByte)
{
    private readonly Stack<Raid1Request> _free = new();
    private Raid1Request? _underWay; // the last of them
    private readonly WaitQueue _quiet = new();
    private int _inFlight;

    public IBdev Bdev => bdev;

    public int Slot => slot;

    /// <summary>Equal to all others of which this is said; until then it takes writes, and is not read.</summary>
    public bool IsInSync { get; set; }

    /// <summary>Has every change that was ever answered. So it may be more than it is in sync: after a crash, where changes that were not answered are on some legs and not on others.</summary>
    public bool IsComplete { get; set; }

    /// <summary>It failed or was taken out: what it still answers does not count.</summary>
    public bool IsOut { get; set; }

    public int ReadsInFlight { get; private set; }

    /// <summary>Something is under way on the bdev.</summary>
    public bool IsBusy => _inFlight > 0;

    /// <summary>The superblock that is written on it. Null: none, or one that must not be found again.</summary>
    public Raid1Superblock? Recorded { get; set; }

    /// <summary>Of a leg that is out: requests under way are answered with ECANCELED now. The bdev may never do it.</summary>
    public void LeaveBehind()
    {
        // From the last to the first. Whoever is answered may ask for something else, but not of this leg.
        while (_underWay is { } request)
        {
            Unlink(request);
            request.LeaveBehind();
        }
    }

    public async IoTask<Errno> ReadAsync(long offset, IoVecs target, Raid1Memory? memory)
    {
        ReadsInFlight++;
        Errno read = await StartAsync(BdevOperations.Read, firstByte + offset, 0, target, memory);
        ReadsInFlight--;
        return read;
    }

    public IoTask<Errno> WriteAsync(long offset, Raid1Memory source) => StartAsync(BdevOperations.Write, firstByte + offset, 0, source.Vectors, source);

    public IoTask<Errno> FlushAsync() => StartAsync(BdevOperations.Flush, 0, 0, default, null);

    /// <summary>The range reads as zeroes afterwards, which not every bdev promises of an unmap: all legs have the same content in the end.</summary>
    public IoTask<Errno> ClearAsync(long offset, long length, bool mayUnmap) => StartAsync(mayUnmap ? BdevOperations.Unmap : BdevOperations.WriteZeroes, firstByte + offset, length, default, null);

    /// <summary>Where the bdev begins, before the content.</summary>
    public IoTask<Errno> WriteRecordAsync(long offset, Raid1Memory source) => StartAsync(BdevOperations.Write, offset, 0, source.Vectors, source);

    /// <summary>Completes when nothing is under way on the bdev.</summary>
    public IoTask<Errno> QuietAsync() => _inFlight == 0 ? new(Errno.None) : _quiet.WaitAsync();

    private IoTask<Errno> StartAsync(BdevOperations kind, long offset, long length, IoVecs vectors, Raid1Memory? memory)
    {
        if (IsOut) { return new(Errno.ECANCELED); }
        Raid1Request request = _free.TryPop(out Raid1Request? free) ? free : new Raid1Request(_free);
        request.Begin();
        Link(request);
        _inFlight++;
        memory?.AddUser();
        IoTask<Errno> task = request.Task;
        RunAsync(request, kind, offset, length, vectors, memory).Detach();
        return task;
    }

    private async IoTask<bool> RunAsync(Raid1Request request, BdevOperations kind, long offset, long length, IoVecs vectors, Raid1Memory? memory)
    {
        Errno errno = kind switch
        {
            BdevOperations.Read => (await bdev.ReadAsync(offset, vectors)).Errno,
            BdevOperations.Write => (await bdev.WriteAsync(offset, vectors)).Errno,
            BdevOperations.Flush => await bdev.FlushAsync(),
            BdevOperations.Unmap when bdev.SupportsUnmap && bdev.UnmapReadsZero => await bdev.UnmapAsync(offset, length),
            _ => Errno.EOPNOTSUPP,
        };
        if (errno == Errno.EOPNOTSUPP && kind is BdevOperations.Unmap or BdevOperations.WriteZeroes) { errno = await bdev.WriteZeroesAsync(offset, length); }
        memory?.RemoveUser();
        if (!request.IsLeftBehind) { Unlink(request); } // else it has been
        _inFlight--;
        request.End(errno);
        if (_inFlight == 0) { _quiet.CompleteAll(Errno.None); }
        return true;
    }

    private void Link(Raid1Request request)
    {
        request.Previous = _underWay;
        if (_underWay is not null) { _underWay.Next = request; }
        _underWay = request;
    }

    private void Unlink(Raid1Request request)
    {
        if (request.Next is null) { _underWay = request.Previous; }
        else { request.Next.Previous = request.Previous; }
        if (request.Previous is not null) { request.Previous.Next = request.Next; }
        request.Previous = request.Next = null;
    }
}
