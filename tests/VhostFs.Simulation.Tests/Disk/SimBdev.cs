using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Simulation.Tests.World;

namespace VhostFs.Simulation.Tests.Disk;

/// <summary>A <see cref="SimDisk"/> as one process sees it: takes its time, lets operations overtake each other, fails and lies as told.</summary>
internal sealed class SimBdev(SimDisk disk, SimWorld world, SimTrace trace, SimRandom random, DiskSpeed speed) : IBdev
{
    private const long StickyBytes = 1 << 20;
    private readonly int _generation = disk.Generation;
    private readonly List<(BdevOperations Operation, long Area)> _sticky = [];
    private readonly Dictionary<ulong, (string What, long SinceNs)> _inFlight = [];
    private string? _owner;
    private string _noted = "";
    private long _stalledUntilNs;
    private ulong _sequence;

    public event Action<long>? Resized { add { } remove { } }

    public string Name => disk.Name;

    public int BlockSize => SimDisk.BlockBytes;

    public long SizeBytes => disk.SizeBytes;

    public int BufferAlignment => 1;

    public bool HasWriteCache => true;

    public bool SupportsUnmap => true;

    public bool UnmapReadsZero => true;

    public BdevStatistics Statistics { get; } = new();

    public DiskFaults Faults { get; set; } = DiskFaults.None;

    /// <summary>Mistakes put in on purpose, to see that they are noticed.</summary>
    public Sabotage Sabotage { get; init; }

    /// <summary>Called whenever something happens here: a moment at which the process may die.</summary>
    public Action? Moment { get; init; }

    /// <summary>Errors given so far.</summary>
    public int ErrorCount { get; private set; }

    /// <summary>A failed flush took what was not durable.</summary>
    public bool DroppedCache { get; private set; }

    /// <summary>What has been started and not answered, for people; null: nothing.</summary>
    public string? InFlight => _inFlight.Count == 0 ? null : string.Join(", ", _inFlight.Select(pair => $"#{pair.Key} {pair.Value.What} since {pair.Value.SinceNs / 1000} us"));

    /// <summary>What must not be, of the buffers that were handed to us.</summary>
    public string? Problem { get; private set; }

    private bool IsDead => disk.Generation != _generation;

    public async IoTask<IoResult> ReadAsync(long offsetBytes, IoVecs target)
    {
        Errno refused = BdevChecks.Read(this, offsetBytes, target);
        if (refused != Errno.None) { return refused; }
        int length = (int)target.LengthBytes;
        ulong number = Note("read", offsetBytes, length);
        bool fails = Fails(BdevOperations.Read, offsetBytes, length);
        _inFlight[number] = (_noted, world.NowNs);
        await WaitAsync(1);
        _inFlight.Remove(number);
        if (IsDead || fails) { return Failed("read", number); }
        byte[] bytes = new byte[length];
        disk.Read(offsetBytes, bytes);
        target.CopyFrom(0, bytes);
        Done("read", number);
        return new IoResult(length);
    }

    public async IoTask<IoResult> WriteAsync(long offsetBytes, IoVecs source)
    {
        Errno refused = BdevChecks.Write(this, offsetBytes, source);
        if (refused != Errno.None) { return refused; }
        byte[] data = new byte[source.LengthBytes];
        source.CopyTo(0, data);
        Errno done = await ChangeAsync(BdevOperations.Write, offsetBytes, data.Length, data, source);
        return done == Errno.None ? new IoResult(data.Length) : done;
    }

    public IoTask<Errno> UnmapAsync(long offsetBytes, long lengthBytes)
    {
        Errno refused = BdevChecks.Range(this, offsetBytes, lengthBytes);
        return refused != Errno.None ? new IoTask<Errno>(refused) : ChangeAsync(BdevOperations.Unmap, offsetBytes, lengthBytes, [], default);
    }

    public IoTask<Errno> WriteZeroesAsync(long offsetBytes, long lengthBytes)
    {
        Errno refused = BdevChecks.Range(this, offsetBytes, lengthBytes);
        return refused != Errno.None ? new IoTask<Errno>(refused) : ChangeAsync(BdevOperations.WriteZeroes, offsetBytes, lengthBytes, [], default);
    }

    public async IoTask<Errno> FlushAsync()
    {
        ulong number = Note("flush", 0, disk.CachedCount);
        bool fails = Fails(BdevOperations.Flush, 0, 0);
        List<DiskWrite> covered = IsDead ? [] : disk.Completed();
        _inFlight[number] = (_noted, world.NowNs);
        await WaitAsync(speed.FlushFactor);
        _inFlight.Remove(number);
        if (IsDead) { return Errno.EIO; }
        if (fails)
        {
            if (random.Chance(Faults.FlushDropsCache))
            {
                DroppedCache = true;
                trace.Add(world.NowNs, "fault", 1, number, $"the cache of {Name} is gone");
                disk.DropCache(random.Pick([Survival.Nothing, Survival.Random, Survival.Torn]));
            }
            return Failed("flush", number).Errno;
        }
        if (Sabotage != Sabotage.FlushDoesNothing || !random.OneIn(3)) { disk.MakeDurable(covered); }
        Done("flush", number);
        return Errno.None;
    }

    public bool TryGetMemory(long offsetBytes, int lengthBytes, out IoVec memory)
    {
        memory = default;
        return false;
    }

    public bool TryClaim(string claimant, out string owner)
    {
        owner = _owner ?? claimant;
        if (_owner is not null) { return false; }
        _owner = claimant;
        return true;
    }

    public void ReleaseClaim() => _owner = null;

    public void Dispose()
    {
    }

    private async IoTask<Errno> ChangeAsync(BdevOperations operation, long offset, long length, byte[] data, IoVecs source)
    {
        string name = operation == BdevOperations.Write ? "write" : operation == BdevOperations.Unmap ? "unmap" : "zero";
        ulong number = Note(name, offset, length);
        bool fails = Fails(operation, offset, length);
        DiskWrite? write = null;
        if (!IsDead)
        {
            write = disk.Begin(operation, offset, length, data);
            if (!fails && Lies(write)) { write = null; }
            else if (!fails && random.OneIn(2)) { disk.Apply(write); }
        }
        bool early = Sabotage == Sabotage.WriteAcknowledgedEarly && random.OneIn(2) && write is { IsApplied: false };
        _inFlight[number] = (_noted, world.NowNs);
        if (early)
        {
            world.Schedule(Latency(400), () => { if (!IsDead) { disk.Complete(write!); } });
            await world.DelayAsync(1);
        }
        else { await WaitAsync(1); }
        _inFlight.Remove(number);
        if (IsDead) { return Errno.EIO; }
        if (source.Count > 0) { CompareBuffer(source, data, offset); }
        if (fails)
        {
            disk.Fail(write!);
            return Failed(name, number).Errno;
        }
        if (write is not null && !early) { disk.Complete(write); }
        if (Faults.BitRot > 0 && random.Chance(Faults.BitRot) && disk.Rot(out long block)) { trace.Add(world.NowNs, "fault", 2, (ulong)block, $"block {block} of {Name} rots"); }
        Done(name, number);
        return Errno.None;
    }

    // The device may read a buffer at any time until it answers: whoever handed it over must leave it alone.
    private void CompareBuffer(IoVecs source, byte[] data, long offset)
    {
        int at = 0;
        foreach (IoVec piece in source.AsSpan())
        {
            if (!piece.Span.SequenceEqual(data.AsSpan(at, piece.Length))) { Problem ??= $"the buffer of a write to block {offset / SimDisk.BlockBytes} of {Name} changed while the write was under way"; }
            at += piece.Length;
        }
    }

    private bool Lies(DiskWrite write)
    {
        bool lost = random.Chance(Faults.LostWrite), misdirected = !lost && random.Chance(Faults.MisdirectedWrite);
        if (!lost && !misdirected) { return false; }
        disk.Lie(write, misdirected, out long target);
        trace.Add(world.NowNs, "fault", lost ? 3u : 4u, (ulong)write.OffsetBytes, $"write to block {write.OffsetBytes / SimDisk.BlockBytes} of {Name} {(target < 0 ? "is lost" : $"goes to block {target}")}");
        return true;
    }

    private bool Fails(BdevOperations operation, long offset, long length)
    {
        if (IsDead) { return true; }
        bool fails = _sticky.Exists(sticky => sticky.Operation == operation && sticky.Area >= offset / StickyBytes && sticky.Area <= (offset + length) / StickyBytes);
        if (!fails && random.Chance(Faults.ErrorOf(operation)))
        {
            fails = true;
            if (random.Chance(Faults.StickyError)) { _sticky.Add((operation, offset / StickyBytes)); }
        }
        if (fails) { ErrorCount++; }
        return fails;
    }

    private IoTask<bool> WaitAsync(int factor) => speed.BaseNs == 0 ? new IoTask<bool>(true) : world.DelayAsync(Latency(factor));

    private long Latency(int factor)
    {
        long latency = 1 + random.Below(speed.BaseNs * factor);
        if (random.OneIn(speed.SlowOneIn)) { latency *= speed.SlowFactor; }
        if (speed.StallNs > 0 && random.OneIn(speed.StallOneIn)) { _stalledUntilNs = Math.Max(_stalledUntilNs, world.NowNs + random.Below(speed.StallNs)); }
        return latency + Math.Max(0, _stalledUntilNs - world.NowNs);
    }

    private ulong Note(string what, long offset, long length)
    {
        trace.Add(world.NowNs, what, (ulong)offset, (ulong)length, $"{Name} block {offset / SimDisk.BlockBytes}+{length / SimDisk.BlockBytes} #{_sequence}");
        _noted = what;
        Moment?.Invoke();
        return _sequence++;
    }

    private void Done(string what, ulong number)
    {
        trace.Add(world.NowNs, "done", number, 0, $"{Name} {what} #{number}");
        Moment?.Invoke();
    }

    private IoResult Failed(string what, ulong number)
    {
        trace.Add(world.NowNs, "fault", 0, number, $"{Name} {what} #{number} fails{(IsDead ? " (the process is dead)" : "")}");
        return Errno.EIO;
    }
}
