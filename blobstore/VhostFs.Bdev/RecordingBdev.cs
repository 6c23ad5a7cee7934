using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>One recorded write, unmap, write-zeroes or flush.</summary>
/// <remarks><see cref="StartedAt"/> and <see cref="CompletedAt"/> are moments of one counter, so that "completed before that one started" is a comparison.</remarks>
public sealed class BdevTraceEntry
{
    internal BdevTraceEntry(BdevOperations operation, long offsetBytes, long lengthBytes, byte[] data, long startedAt)
    {
        Operation = operation;
        OffsetBytes = offsetBytes;
        LengthBytes = lengthBytes;
        Data = data;
        StartedAt = startedAt;
    }

    public BdevOperations Operation { get; }

    public long OffsetBytes { get; }

    public long LengthBytes { get; }

    /// <summary>The bytes of a write; empty for others.</summary>
    public byte[] Data { get; }

    public long StartedAt { get; }

    /// <summary><see cref="long.MaxValue"/> while in flight.</summary>
    public long CompletedAt { get; internal set; } = long.MaxValue;

    /// <summary>Meaningful once completed.</summary>
    public Errno Result { get; internal set; }

    public bool IsCompleted => CompletedAt != long.MaxValue;

    public bool IsFlush => Operation == BdevOperations.Flush;

    public override string ToString() => $"{Operation} {OffsetBytes}+{LengthBytes} [{StartedAt}, {(IsCompleted ? CompletedAt : "in flight")}] {Result}";
}

/// <summary>Writes down everything that changes the disk, and every flush, in the order of their start.</summary>
/// <remarks>
/// From the trace a crash explorer builds each state that a power cut at moment T may leave: operations that started before T, of which those
/// that <see cref="MustBeDurable"/> at T are there, and of the others any subset (a write even in part, sector by sector).
/// What was refused or failed is in the trace too, with its result; a failed write may still have reached the disk.
/// </remarks>
public sealed class RecordingBdev(IBdev inner, string name = "recording") : BdevDecorator(inner, name), IBdev
{
    private readonly List<BdevTraceEntry> _trace = [];

    /// <summary>Memory that somebody puts content into at the moment, with where it belongs.</summary>
    private readonly List<(BdevTraceEntry? Entry, long OffsetBytes, NativeBuffer Memory)> _places = [];

    public IReadOnlyList<BdevTraceEntry> Trace => _trace;

    /// <summary>The next moment: larger than those of everything that has happened.</summary>
    public long Moment { get; private set; }

    /// <summary>Raised right before the next moment, which is the argument.</summary>
    public event Action<long>? Happening;

    /// <summary>True: operations are recorded (the start).</summary>
    public bool IsRecording { get; set; } = true;

    /// <summary>Stands for a file in memory, as <see cref="UringBdev"/> has it on tmpfs: it ends with the host alone, and can be written in place. What is below completes at once.</summary>
    public bool IsFileInMemory { get; init; }

    bool IBdev.CompletesAtOnce => IsFileInMemory;

    /// <summary>Recorded above a bdev without a cache, flushes still count: the explorer assumes one.</summary>
    public override bool HasWriteCache => !IsFileInMemory;

    /// <summary>Forgets the trace; what is in flight is not recorded any more.</summary>
    public void Reset()
    {
        _trace.Clear();
        Moment = 0;
    }

    /// <summary>A successful flush that started after <paramref name="entry"/> completed was itself complete at <paramref name="moment"/>.</summary>
    public bool MustBeDurable(BdevTraceEntry entry, long moment)
    {
        if (!entry.IsCompleted || entry.Result != Errno.None) { return false; }
        foreach (BdevTraceEntry flush in _trace)
        {
            if (flush.IsFlush && flush.StartedAt > entry.CompletedAt && flush.CompletedAt < moment && flush.Result == Errno.None) { return true; }
        }
        return false;
    }

    /// <summary>What is put there is a write under way until <see cref="IBdev.EndInPlace"/>.</summary>
    bool IBdev.TryGetPlace(long offsetBytes, int lengthBytes, out IoVec place)
    {
        place = default;
        if (!IsFileInMemory) { return false; }
        var memory = new NativeBuffer(lengthBytes);
        _places.Add((Begin(BdevOperations.Write, offsetBytes, lengthBytes, new byte[lengthBytes]), offsetBytes, memory));
        place = memory.Vec;
        return true;
    }

    Errno IBdev.EndInPlace(long lengthBytes)
    {
        Errno result = Errno.None;
        using var list = new IoVecList(1);
        foreach ((BdevTraceEntry? entry, long offset, NativeBuffer memory) in _places)
        {
            list.Clear();
            list.Add(memory.Vec);
            if (entry is not null) { memory.Span.CopyTo(entry.Data); }
            IoTask<IoResult> written = Inner.WriteAsync(offset, list.View());
            Invariant.That(written.IsCompleted);
            Errno errno = written.GetAwaiter().GetResult().Errno;
            if (errno != Errno.None) { result = errno; }
            End(entry, errno);
            memory.Dispose();
        }
        _places.Clear();
        Statistics.Written(lengthBytes);
        return result;
    }

    protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target) => Inner.ReadAsync(offsetBytes, target);

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        byte[] data = [];
        if (IsRecording)
        {
            data = new byte[source.LengthBytes];
            source.CopyTo(0, data);
        }
        BdevTraceEntry? entry = Begin(BdevOperations.Write, offsetBytes, data.Length, data);
        IoResult result = await Inner.WriteAsync(offsetBytes, source);
        End(entry, result.Errno);
        return result;
    }

    protected override async IoTask<Errno> FlushCoreAsync()
    {
        BdevTraceEntry? entry = Begin(BdevOperations.Flush, 0, 0, []);
        Errno result = await Inner.FlushAsync();
        End(entry, result);
        return result;
    }

    protected override async IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes)
    {
        BdevTraceEntry? entry = Begin(BdevOperations.Unmap, offsetBytes, lengthBytes, []);
        Errno result = await Inner.UnmapAsync(offsetBytes, lengthBytes);
        End(entry, result);
        return result;
    }

    protected override async IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        BdevTraceEntry? entry = Begin(BdevOperations.WriteZeroes, offsetBytes, lengthBytes, []);
        Errno result = await Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
        End(entry, result);
        return result;
    }

    private BdevTraceEntry? Begin(BdevOperations operation, long offsetBytes, long lengthBytes, byte[] data)
    {
        if (!IsRecording) { return null; }
        Happening?.Invoke(Moment);
        var entry = new BdevTraceEntry(operation, offsetBytes, lengthBytes, data, Moment++);
        _trace.Add(entry);
        return entry;
    }

    private void End(BdevTraceEntry? entry, Errno result)
    {
        if (entry is null) { return; }
        Happening?.Invoke(Moment);
        entry.CompletedAt = Moment++;
        entry.Result = result;
    }
}
