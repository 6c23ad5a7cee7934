using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>The same content on several bdevs, the legs: it goes on with any one of them.</summary>
/// <remarks>
/// <para>Promises: a change that is answered with success is on every leg that is in sync, and a flush has flushed every one. A leg that fails a change or a flush is out, and the
/// request succeeds where another has done it; of the last leg that is in sync the error is the answer. There always is one, until this bdev goes. What one leg cannot read is
/// read from another, and written to the first again: it is whole then, or out.</para>
/// <para>Changes of overlapping ranges run one after the other (<see cref="RangeTurns"/>): each leg would put them in an order of its own. A buffer that is changed while it is
/// being written, or taken away (EFAULT, which is no leg's fault), may leave different bytes on the legs, as it leaves anything on one disk: in that range, until it is written again.</para>
/// <para>Nothing about the array is written down. After a crash legs may differ where changes were in flight.</para>
/// </remarks>
public sealed class Raid1Bdev : ComposedBdev
{
    private readonly VhostFs.Reactor.Reactor _reactor;
    private readonly Raid1Leg?[] _legs;
    private readonly List<Raid1Leg> _leaving = []; // out, and perhaps with something under way
    private readonly Stack<Change> _free = new();
    private Raid1Rebuild? _rebuild;
    private IoCompletion<bool>? _backgroundEnded;
    private int _lastRead;
    private bool _isRepairing;

    /// <param name="legs">With the same content, or content that nobody has looked at yet; each <see cref="Fits"/> the first.</param>
    public Raid1Bdev(string name, IReadOnlyList<IBdev> legs, VhostFs.Reactor.Reactor reactor)
        : base(name, legs[0].BlockSize, legs.Min(leg => leg.SizeBytes))
    {
        _reactor = reactor;
        _legs = [.. legs.Select((leg, slot) => new Raid1Leg(leg, slot, isInSync: true))];
        Invariant.That(legs.All(Fits));
    }

    /// <summary>A leg is out because of the error; <see cref="RemoveAsync"/> says when it is not touched any more. On the reactor.</summary>
    public event Action<IBdev, Errno>? LegLost;

    /// <summary>A rebuild has ended well: the leg is in sync. On the reactor.</summary>
    public event Action<IBdev>? LegRebuilt;

    public override int OptimalBufferAlignment => _legs.Max(leg => leg?.Bdev.OptimalBufferAlignment ?? 1);

    public override bool HasWriteCache => Array.Exists(_legs, leg => leg is { Bdev.HasWriteCache: true });

    public override bool SupportsUnmap => !Array.Exists(_legs, leg => leg is { Bdev.SupportsUnmap: false });

    /// <summary>A leg that does not promise it gets zeroes written.</summary>
    public override bool UnmapReadsZero => true;

    public override bool IsReadOnly => false;

    /// <summary>Bytes that the rebuild under way has copied; -1: there is none. From any thread.</summary>
    public long RebuiltBytes => _rebuild is { Target.IsOut: false } rebuild ? rebuild.DoneBytes : -1;

    internal RangeTurns Turns { get; } = new();

    /// <summary>It can be a leg.</summary>
    public bool Fits(IBdev bdev) => bdev.BlockSize == BlockSize && bdev.SizeBytes >= SizeBytes && !bdev.IsReadOnly && bdev.BufferAlignment == 1;

    /// <summary>The only leg that is in sync: without it there is nothing.</summary>
    public bool IsLast(IBdev bdev) => Find(bdev) is { } leg && IsLast(leg);

    /// <summary>Makes a bdev a leg, in a slot that is free: everything is copied to it in the background. EBUSY: another rebuild is under way.</summary>
    public Errno StartRebuild(int slot, IBdev bdev)
    {
        Invariant.That(_legs[slot] is null && Fits(bdev));
        if (_rebuild is not null) { return Errno.EBUSY; }
        // It has every change from here on, so that the copy need not look back.
        _legs[slot] = new Raid1Leg(bdev, slot, isInSync: false);
        _rebuild = new Raid1Rebuild(this, _legs[slot]!, _reactor);
        RebuildAsync(_rebuild).Detach();
        return Errno.None;
    }

    /// <summary>Takes a leg out, if it is not out yet; completes when nothing touches it any more. False: it is the last (<see cref="IsLast(IBdev)"/>), and stays. One call at a time.</summary>
    public async IoTask<bool> RemoveAsync(IBdev bdev)
    {
        if (Find(bdev) is { } leg)
        {
            if (IsLast(leg)) { return false; }
            TakeOut(leg);
        }
        while (_leaving.Find(l => l.Bdev == bdev) is { } leaving)
        {
            await leaving.QuietAsync();
            while (_rebuild?.Target == leaving) { await BackgroundEndedAsync(); }
            _leaving.Remove(leaving);
        }
        return true;
    }

    /// <summary>Ends what runs in the background. The last thing that is asked of this bdev.</summary>
    public async IoTask<bool> StopAsync()
    {
        if (_rebuild is { Target.IsOut: false } rebuild) { TakeOut(rebuild.Target); }
        while (_rebuild is not null || _isRepairing) { await BackgroundEndedAsync(); }
        return true;
    }

    public override void Dispose()
    {
        Invariant.That(_rebuild is null && !_isRepairing);
        GC.SuppressFinalize(this);
    }

    /// <summary>From whichever leg can, but for <paramref name="except"/>.</summary>
    internal async IoTask<Errno> ReadAnyAsync(long offset, IoVecs target, Raid1Leg? except)
    {
        Errno errno = Errno.EIO;
        for (int i = 0; i < _legs.Length; i++)
        {
            // Looked up anew each time: legs may have come and gone.
            if (_legs[i] is not { IsInSync: true } leg || leg == except) { continue; }
            errno = await leg.ReadAsync(offset, target);
            if (errno is Errno.None or Errno.EFAULT) { break; }
        }
        return errno;
    }

    protected override async IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target)
    {
        Raid1Leg leg = ChooseForRead();
        Errno errno = await leg.ReadAsync(offsetBytes, target);
        if (errno is not (Errno.None or Errno.EFAULT) && await ReadAnyAsync(offsetBytes, target, leg) is var other)
        {
            if (other == Errno.None) { Repair(leg, offsetBytes, target.LengthBytes); }
            errno = other is Errno.None or Errno.EFAULT ? other : errno;
        }
        return errno == Errno.None ? new IoResult((int)target.LengthBytes) : errno;
    }

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        long length = source.LengthBytes;
        Errno errno = await ChangeAsync(BdevOperations.Write, offsetBytes, length, source);
        return errno == Errno.None ? new IoResult((int)length) : errno;
    }

    protected override IoTask<Errno> FlushCoreAsync() => ChangeAsync(BdevOperations.Flush, 0, 0, default);

    protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes) => ChangeAsync(BdevOperations.Unmap, offsetBytes, lengthBytes, default);

    protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes) => ChangeAsync(BdevOperations.WriteZeroes, offsetBytes, lengthBytes, default);

    private async IoTask<Errno> ChangeAsync(BdevOperations kind, long offset, long length, IoVecs source)
    {
        Change change = _free.TryPop(out Change? free) ? free : new Change(_legs.Length);
        await Turns.EnterAsync(change.Turn, offset, length); // a flush is of no range, and waits for nobody
        Errno errno;
        do
        {
            // Which legs there are counts now, not when the request came.
            foreach (Raid1Leg? leg in _legs)
            {
                if (leg is null) { continue; }
                change.Add(leg, kind switch
                {
                    BdevOperations.Write => leg.WriteAsync(offset, source),
                    BdevOperations.Flush => leg.FlushAsync(),
                    _ => leg.ClearAsync(offset, length, mayUnmap: kind == BdevOperations.Unmap),
                });
            }
            for (int i = 0; i < change.Count; i++) { change.Results[i] = await change.Tasks[i]; }
        }
        while (!TrySettle(change, out errno));
        Turns.Leave(change.Turn);
        _free.Push(change);
        return errno;
    }

    /// <summary>What the results of the legs mean for the request, and for them. False: no leg that took part is any good now, others are; to be done again.</summary>
    private bool TrySettle(Change change, out Errno errno)
    {
        errno = Errno.None;
        bool isSettled = false;
        for (int i = 0; i < change.Count; i++)
        {
            (Raid1Leg leg, Errno result) = (change.Legs[i], change.Results[i]);
            if (leg.IsOut) { continue; }
            isSettled |= leg.IsInSync;
            if (result == Errno.None) { continue; }
            if (result == Errno.EFAULT || IsLast(leg)) { errno = result; }
            else { Lose(leg, result); }
        }
        change.Clear();
        // What failed may be on the target and not on the leg that it is copied from.
        if (errno != Errno.None && _rebuild is { Target.IsOut: false } rebuild) { Lose(rebuild.Target, errno); }
        return isSettled;
    }

    private bool IsLast(Raid1Leg leg)
    {
        foreach (Raid1Leg? other in _legs)
        {
            if (other is { IsInSync: true } && other != leg) { return false; }
        }
        return leg.IsInSync;
    }

    private Raid1Leg? Find(IBdev bdev) => Array.Find(_legs, leg => leg?.Bdev == bdev);

    private void Lose(Raid1Leg leg, Errno errno)
    {
        TakeOut(leg);
        LegLost?.Invoke(leg.Bdev, errno);
    }

    private void TakeOut(Raid1Leg leg)
    {
        leg.IsOut = true;
        _legs[leg.Slot] = null;
        _leaving.Add(leg);
    }

    // The least busy; of equal ones each in turn.
    private Raid1Leg ChooseForRead()
    {
        Raid1Leg? best = null;
        for (int i = 1; i <= _legs.Length; i++)
        {
            if (_legs[(_lastRead + i) % _legs.Length] is { IsInSync: true } leg && (best is null || leg.ReadsInFlight < best.ReadsInFlight)) { best = leg; }
        }
        _lastRead = best!.Slot;
        return best;
    }

    private async IoTask<bool> RebuildAsync(Raid1Rebuild rebuild)
    {
        Errno errno = await rebuild.RunAsync();
        Raid1Leg target = rebuild.Target;
        _rebuild = null;
        if (!target.IsOut)
        {
            target.IsInSync = errno == Errno.None;
            if (target.IsInSync) { LegRebuilt?.Invoke(target.Bdev); }
            else { Lose(target, errno); }
        }
        EndBackground();
        return true;
    }

    // One at a time: a leg with many bad places fails a write soon enough, or is asked for them again.
    private void Repair(Raid1Leg leg, long offset, long length)
    {
        if (_isRepairing || leg.IsOut) { return; }
        _isRepairing = true;
        RepairAsync(leg, offset, length).Detach();
    }

    private async IoTask<bool> RepairAsync(Raid1Leg leg, long offset, long length)
    {
        using (var copier = new Raid1Copier(this, leg))
        {
            Errno errno = await copier.CopyAsync(offset, length);
            if (errno != Errno.None && copier.IsTargetAtFault && !leg.IsOut && !IsLast(leg)) { Lose(leg, errno); }
        }
        _isRepairing = false;
        EndBackground();
        return true;
    }

    private IoTask<bool> BackgroundEndedAsync() => (_backgroundEnded ??= new IoCompletion<bool>()).Task;

    private void EndBackground()
    {
        if (_backgroundEnded is { IsAwaited: true } ended) { ended.Complete(true); }
    }

    /// <summary>One request that changes something, by leg. Pooled.</summary>
    private sealed class Change(int most)
    {
        public RangeTurn Turn { get; } = new();

        public Raid1Leg[] Legs { get; } = new Raid1Leg[most];

        public IoTask<Errno>[] Tasks { get; } = new IoTask<Errno>[most];

        public Errno[] Results { get; } = new Errno[most];

        public int Count { get; private set; }

        public void Add(Raid1Leg leg, IoTask<Errno> task)
        {
            Legs[Count] = leg;
            Tasks[Count] = task;
            Count++;
        }

        public void Clear()
        {
            Array.Clear(Legs);
            Array.Clear(Tasks);
            Count = 0;
        }
    }
}
