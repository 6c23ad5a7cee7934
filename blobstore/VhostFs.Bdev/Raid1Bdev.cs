using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>The same content on several bdevs, the legs: it goes on with any one of them.</summary>
/// <remarks>
/// <para>Promises: a change that is answered with success is on every leg that is complete, and a flush has flushed every one. A leg that fails a change or a flush is out, and the
/// request succeeds where another has done it; of the last leg that is complete the error is the answer. There always is one, until this bdev goes. What one leg cannot read is
/// read from another, and written to the first again: it is whole then, or out. Requests do not wait for a leg that is out, even where it has begun them.</para>
/// <para>Changes of overlapping ranges run one after the other (<see cref="RangeTurns"/>): each leg would put them in an order of its own. And all legs get the same bytes: a copy, which
/// the requester cannot change while they are written.</para>
/// <para>With a record (<see cref="Raid1Record"/>) the legs know after a crash which of them may be believed, and where they may differ; without, nothing about the array is written down.</para>
/// </remarks>
public sealed class Raid1Bdev : ComposedBdev
{
    private readonly VhostFs.Reactor.Reactor _reactor;
    private readonly Raid1Leg?[] _legs;
    private readonly List<Raid1Leg> _leaving = []; // out, and perhaps with something under way
    private readonly Stack<Change> _free = new();
    private readonly WaitQueue _backgroundEnded = new();
    private readonly Raid1Record? _record;
    private Raid1Rebuild? _rebuild;
    private int _lastRead;
    private bool _isRepairing;
    private bool _isStopping;

    /// <summary>Nothing is written down about it.</summary>
    /// <param name="legs">With the same content, or content that nobody has looked at yet; each <see cref="Fits"/> the first.</param>
    public Raid1Bdev(string name, IReadOnlyList<IBdev> legs, VhostFs.Reactor.Reactor reactor)
        : base(name, legs[0].BlockSize, legs.Min(leg => leg.SizeBytes))
    {
        _reactor = reactor;
        _legs = [.. legs.Select((leg, slot) => new Raid1Leg(leg, slot, 0) { IsInSync = true, IsComplete = true })];
        Invariant.That(legs.All(Fits));
    }

    private Raid1Bdev(Raid1Assembly assembly, VhostFs.Reactor.Reactor reactor)
        : base(assembly.Superblock.Name, assembly.Superblock.BlockBytes, assembly.Superblock.SizeBytes)
    {
        _reactor = reactor;
        _record = new Raid1Record(this, assembly.Superblock, assembly.Regions, assembly.IsNew);
        _legs = new Raid1Leg?[assembly.Legs.Count];
        bool areEqual = assembly.Regions.MarkedCount == 0 || assembly.IsNew;
        for (int i = 0; i < _legs.Length; i++)
        {
            if (assembly.Legs[i] is not { } leg) { continue; }
            // Where a crash has left them different, the first is the one to be believed: what differs was never answered.
            _legs[i] = new Raid1Leg(leg, i, Raid1Superblock.DataOffset) { IsComplete = true, IsInSync = areEqual || !Array.Exists(_legs, other => other is not null), Recorded = assembly.FoundOn(i) };
        }
        Invariant.That(Array.TrueForAll(_legs, leg => leg is null || Fits(leg.Bdev)));
    }

    /// <summary>A leg is out because of the error; <see cref="RemoveAsync"/> says when it is not touched any more. On the reactor.</summary>
    public event Action<IBdev, Errno>? LegLost;

    /// <summary>A rebuild has ended well: the leg is in sync. On the reactor.</summary>
    public event Action<IBdev>? LegRebuilt;

    /// <summary>None: requests have memory of their own below.</summary>
    public override int OptimalBufferAlignment => 1;

    public override bool HasWriteCache => Array.Exists(_legs, leg => leg is { Bdev.HasWriteCache: true });

    public override bool SupportsUnmap => !Array.Exists(_legs, leg => leg is { Bdev.SupportsUnmap: false });

    /// <summary>A leg that does not promise it gets zeroes written.</summary>
    public override bool UnmapReadsZero => true;

    public override bool IsReadOnly => false;

    /// <summary>Bytes that the rebuild under way has copied, or passed over; -1: there is none. From any thread.</summary>
    public long RebuiltBytes => _rebuild is { Target.IsOut: false } rebuild ? rebuild.DoneBytes : -1;

    /// <summary>What the rebuild under way is for; null: there is none. From any thread.</summary>
    public IBdev? RebuildTarget => _rebuild is { Target: { IsOut: false } target } ? target.Bdev : null;

    internal RangeTurns Turns { get; } = new();

    internal Raid1MemoryPool Memory { get; } = new();

    /// <summary>All slots have legs, and all legs are equal.</summary>
    internal bool IsWhole => Array.TrueForAll(_legs, leg => leg is { IsInSync: true });

    private long DataOffset => _record is null ? 0 : Raid1Superblock.DataOffset;

    /// <summary>Makes an array of what was found, or a new one, and writes that down; an error: too few legs would take it.</summary>
    /// <param name="watch">Is given it before it runs: legs may be lost at once.</param>
    public static async IoTask<(Raid1Bdev? Bdev, Errno Errno)> StartAsync(Raid1Assembly assembly, VhostFs.Reactor.Reactor reactor, Action<Raid1Bdev>? watch = null)
    {
        var bdev = new Raid1Bdev(assembly, reactor);
        watch?.Invoke(bdev);
        if (assembly.IsChanged) { bdev._record!.Renew(bdev.PresentLegs()); }
        Errno errno = await bdev._record!.SettledAsync();
        if (errno == Errno.None && assembly.IsNew && bdev._leaving.Count > 0) { errno = Errno.EIO; }
        if (errno == Errno.None)
        {
            bdev.ResyncNext();
            return (bdev, Errno.None);
        }
        await bdev.StopAsync();
        bdev.Dispose();
        return (null, errno);
    }

    /// <summary>It can be a leg.</summary>
    public bool Fits(IBdev bdev) => bdev.BlockSize == BlockSize && bdev.SizeBytes >= DataOffset + SizeBytes && !bdev.IsReadOnly && bdev.BufferAlignment == 1;

    /// <summary>The only leg that is complete: without it there is nothing.</summary>
    public bool IsLast(IBdev bdev) => Find(bdev) is { } leg && IsLast(leg);

    /// <summary>Where a leg was that has come back, and lacks only what was written since; null: nowhere, and everything must be copied to it.</summary>
    public int? SlotOf(Raid1Superblock found) => _record is not null && found.OwnSlot < _legs.Length && _legs[found.OwnSlot] is null && _record.IsBack(found, found.OwnSlot) ? found.OwnSlot : null;

    /// <summary>Makes a bdev a leg, in a slot that is free: what it lacks is copied to it in the background. EBUSY: another rebuild is under way.</summary>
    /// <param name="found">What is written on it; with a record, and where it was in that slot (<see cref="SlotOf"/>), only what has changed since is copied.</param>
    public async IoTask<Errno> StartRebuildAsync(int slot, IBdev bdev, Raid1Superblock? found = null)
    {
        Invariant.That(_legs[slot] is null && Fits(bdev));
        if (_rebuild is not null || _isStopping) { return Errno.EBUSY; }
        // It has every change from here on, so that the copy need not look back.
        var leg = new Raid1Leg(bdev, slot, DataOffset);
        _legs[slot] = leg;
        bool isBack = _record?.Take(leg, found) ?? false;
        var rebuild = new Raid1Rebuild(this, leg, isBack ? _record!.Regions : null, _reactor);
        _rebuild = rebuild;
        // Before anything is copied: what it had is not to be believed any more.
        Errno settled = _record is null ? Errno.None : await _record.SettledAsync();
        if (settled != Errno.None && !leg.IsOut) { Lose(leg, settled); }
        RebuildAsync(rebuild).Detach();
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
            while (_rebuild?.Target == leaving) { await _backgroundEnded.WaitAsync(); }
            _leaving.Remove(leaving);
        }
        return true;
    }

    /// <summary>Completes when nothing is under way on legs that are out.</summary>
    public async IoTask<bool> LeftQuietAsync()
    {
        while (_leaving.Find(leg => leg.IsBusy) is { } busy) { await busy.QuietAsync(); }
        return true;
    }

    /// <summary>Ends what runs in the background. The last thing that is asked of this bdev.</summary>
    public async IoTask<bool> StopAsync()
    {
        _isStopping = true;
        if (_rebuild is { Target.IsOut: false } rebuild)
        {
            rebuild.IsStopping = true;
            if (!rebuild.Target.IsComplete) { TakeOut(rebuild.Target); }
        }
        while (_rebuild is not null || _isRepairing) { await _backgroundEnded.WaitAsync(); }
        if (_record is not null)
        {
            await _record.CloseAsync();
            while (_record.IsBusy) { await _backgroundEnded.WaitAsync(); }
        }
        return await LeftQuietAsync();
    }

    public override void Dispose()
    {
        Invariant.That(_rebuild is null && !_isRepairing && _record is not { IsBusy: true });
        Memory.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>From whichever leg can, but for <paramref name="except"/>; for who has others waiting for him. The memory is the caller's.</summary>
    internal async IoTask<(Errno Errno, Raid1Memory? Memory)> ReadAnyAsync(long offset, int length, Raid1Leg? except)
    {
        Errno errno = Errno.EIO;
        for (int i = 0; i < _legs.Length; i++)
        {
            // Looked up anew each time: legs may have come and gone.
            if (_legs[i] is not { IsInSync: true } leg || leg == except) { continue; }
            Raid1Memory memory = Memory.RentNow(length);
            errno = await leg.ReadAsync(offset, memory.Vectors, memory);
            if (errno == Errno.None) { return (errno, memory); }
            memory.Release();
        }
        return (errno, null);
    }

    internal Raid1Leg[] PresentLegs() => [.. _legs.OfType<Raid1Leg>()];

    /// <summary>False: it is the last, and stays.</summary>
    internal bool TryLose(Raid1Leg leg, Errno errno)
    {
        if (leg.IsOut || IsLast(leg)) { return leg.IsOut; }
        Lose(leg, errno);
        return true;
    }

    /// <summary>Not a request of the user's.</summary>
    internal IoTask<Errno> FlushLegsAsync() => ChangeAsync(BdevOperations.Flush, 0, 0, null);

    internal void EndBackground() => _backgroundEnded.CompleteAll(Errno.None);

    protected override async IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target)
    {
        long length = target.LengthBytes;
        for (long done = 0; done < length;)
        {
            int piece = (int)Math.Min(length - done, Raid1MemoryPool.MostBytes);
            Errno errno = await ReadPieceAsync(offsetBytes + done, target, done, piece);
            if (errno != Errno.None) { return errno; }
            done += piece;
        }
        return new IoResult((int)length);
    }

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        long length = source.LengthBytes;
        for (long done = 0; done < length;)
        {
            int piece = (int)Math.Min(length - done, Raid1MemoryPool.MostBytes);
            Raid1Memory memory = await Memory.RentAsync(piece);
            source.CopyTo(done, memory.Span);
            Errno errno = await ChangeAsync(BdevOperations.Write, offsetBytes + done, piece, memory);
            memory.Release();
            if (errno != Errno.None) { return errno; }
            done += piece;
        }
        return new IoResult((int)length);
    }

    protected override IoTask<Errno> FlushCoreAsync() => FlushLegsAsync();

    protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes) => ChangeAsync(BdevOperations.Unmap, offsetBytes, lengthBytes, null);

    protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes) => ChangeAsync(BdevOperations.WriteZeroes, offsetBytes, lengthBytes, null);

    private async IoTask<Errno> ReadPieceAsync(long offset, IoVecs target, long done, int length)
    {
        Errno errno;
        Raid1Leg leg;
        do
        {
            leg = ChooseForRead();
            errno = await ReadFromAsync(leg, offset, target, done, length);
        }
        while (errno != Errno.None && leg.IsOut);
        if (errno is Errno.None or Errno.EFAULT) { return errno; }
        for (int i = 0; i < _legs.Length; i++)
        {
            // One that is complete will do: where it differs, after a crash, nothing was answered.
            if (_legs[i] is not { IsComplete: true } other || other == leg) { continue; }
            Errno found = await ReadFromAsync(other, offset, target, done, length);
            if (found is not (Errno.None or Errno.EFAULT)) { continue; }
            if (found == Errno.None) { Repair(leg, offset, length); }
            return found;
        }
        return errno;
    }

    private async IoTask<Errno> ReadFromAsync(Raid1Leg leg, long offset, IoVecs target, long done, int length)
    {
        // A leg that could still write into the requester's memory after it was left behind must not have it.
        if (leg.Bdev.CompletesAtOnce && length == target.LengthBytes) { return await leg.ReadAsync(offset, target, null); }
        Raid1Memory memory = await Memory.RentAsync(length);
        Errno errno = await leg.ReadAsync(offset, memory.Vectors, memory);
        if (errno == Errno.None) { target.CopyFrom(done, memory.Span); }
        memory.Release();
        return errno;
    }

    private async IoTask<Errno> ChangeAsync(BdevOperations kind, long offset, long length, Raid1Memory? source)
    {
        Change change = _free.TryPop(out Change? free) ? free : new Change(_legs.Length);
        await Turns.EnterAsync(change.Turn, offset, length); // a flush is of no range, and waits for nobody
        bool isRecorded = _record is not null && length > 0;
        Errno errno = isRecorded ? await _record!.BeginWriteAsync(offset, length) : Errno.None;
        if (errno == Errno.None)
        {
            do
            {
                // Which legs there are counts now, not when the request came.
                foreach (Raid1Leg? leg in _legs)
                {
                    if (leg is null) { continue; }
                    change.Add(leg, kind switch
                    {
                        BdevOperations.Write => leg.WriteAsync(offset, source!),
                        BdevOperations.Flush => leg.FlushAsync(),
                        _ => leg.ClearAsync(offset, length, mayUnmap: kind == BdevOperations.Unmap),
                    });
                }
                for (int i = 0; i < change.Count; i++) { change.Results[i] = await change.Tasks[i]; }
            }
            while (!TrySettle(change, out errno));
            if (isRecorded) { _record!.EndWrite(offset, length); }
            if (_record is not null && errno == Errno.None) { errno = await _record.SettledAsync(); }
        }
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
            isSettled |= leg.IsComplete;
            if (result == Errno.None) { continue; }
            if (result == Errno.EFAULT || IsLast(leg)) { errno = result; }
            else { Lose(leg, result); }
        }
        change.Clear();
        // What failed may be on the target and not on the leg that it is copied from.
        if (errno != Errno.None && _rebuild is { Target.IsOut: false } rebuild && !IsLast(rebuild.Target)) { Lose(rebuild.Target, errno); }
        return isSettled;
    }

    private bool IsLast(Raid1Leg leg)
    {
        foreach (Raid1Leg? other in _legs)
        {
            if (other is { IsComplete: true } && other != leg) { return false; }
        }
        return leg.IsComplete;
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
        // After a crash there may be none that all others are to be like; then it is the next of those that have everything.
        if (!Array.Exists(_legs, other => other is { IsInSync: true }) && Array.Find(_legs, other => other is { IsComplete: true }) is { } next) { next.IsInSync = true; }
        _record?.Change(leg); // before anybody is answered
        leg.LeaveBehind();
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
        if (!target.IsOut && errno == Errno.None && !target.IsComplete)
        {
            target.IsComplete = target.IsInSync = true;
            _record?.Change(target);
            if (_record is not null) { errno = await _record.SettledAsync(); }
        }
        _rebuild = null;
        if (!target.IsOut && errno == Errno.None)
        {
            target.IsInSync = true;
            LegRebuilt?.Invoke(target.Bdev);
        }
        else if (!target.IsOut && !rebuild.IsStopping && !target.IsInSync) { GiveUp(rebuild, errno); }
        ResyncNext();
        EndBackground();
        return true;
    }

    // After a crash the target has as much as those that it was to be like: where they cannot be read it is better than they.
    private void GiveUp(Raid1Rebuild rebuild, Errno errno)
    {
        if (rebuild.IsTargetAtFault || !rebuild.Target.IsComplete) { TryLose(rebuild.Target, errno); }
        else { Array.ForEach(Array.FindAll(_legs, leg => leg is { IsInSync: true }), leg => TryLose(leg!, errno)); }
    }

    /// <summary>After a crash: each leg but the first, one after the other.</summary>
    private void ResyncNext()
    {
        if (_isStopping || _rebuild is not null || Array.Find(_legs, leg => leg is { IsComplete: true, IsInSync: false }) is not { } target) { return; }
        _rebuild = new Raid1Rebuild(this, target, _record!.Regions, _reactor);
        RebuildAsync(_rebuild).Detach();
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
        var copier = new Raid1Copier(this, leg);
        Errno errno = await copier.CopyAsync(offset, length);
        if (errno != Errno.None && copier.IsTargetAtFault) { TryLose(leg, errno); }
        _isRepairing = false;
        EndBackground();
        return true;
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
