namespace VhostFs.Crash.Tests.LogModel;

/// <summary>The power went off in the middle of the protocol.</summary>
public sealed class PowerCutException : Exception;

/// <summary>A disk of few named cells with a volatile cache: a write is certain only after a flush, and until then any subset may survive.</summary>
/// <remarks>The power goes off after a number of operations chosen at construction. A cell holds an immutable object and is written atomically.</remarks>
public sealed class SimulatedDisk
{
    public const int PageCount = 10;
    public const int RingSlots = 10;

    private const int FirstLogSlot = PageCount;
    private const int FirstCheckpoint = FirstLogSlot + RingSlots;
    private const int FirstHeader = FirstCheckpoint + 2;
    private const int CellCount = FirstHeader + 2;

    private readonly object?[] _durable = new object?[CellCount];
    private readonly List<(int Cell, object Value)> _pending = [];
    private int _operationsLeft;

    public SimulatedDisk(int operationsUntilPowerCut)
    {
        _operationsLeft = operationsUntilPowerCut;
        for (int page = 0; page < PageCount; page++) { _durable[page] = -1L - page; } // what an earlier owner left there
        _durable[FirstCheckpoint] = Checkpoint.Empty;
        _durable[FirstHeader] = new Header(0, 0);
    }

    public void WritePage(int page, long content) => Write(page, content);

    public void WriteRecord(LogRecord record) => Write(FirstLogSlot + (record.Lsn % RingSlots), record);

    public void WriteCheckpoint(Checkpoint checkpoint) => Write(FirstCheckpoint + (checkpoint.Generation % 2), checkpoint);

    public void WriteHeader(Header header) => Write(FirstHeader + (header.Generation % 2), header);

    public void Flush()
    {
        SpendOperation();
        foreach ((int cell, object value) in _pending) { _durable[cell] = value; }
        _pending.Clear();
    }

    /// <summary>What is found after the power cut: per cell the durable content, or any one of the unflushed ones.</summary>
    public DiskImage AfterPowerCut(Random random)
    {
        object?[] found = (object?[])_durable.Clone();
        double fate = random.NextDouble();
        foreach (IGrouping<int, (int Cell, object Value)> writes in _pending.GroupBy(write => write.Cell))
        {
            object[] values = writes.Select(write => write.Value).ToArray();
            if (fate < 0.15) { continue; } // nothing of the cache survives
            if (fate < 0.25) { found[writes.Key] = values[^1]; continue; } // all of it survives
            if (random.Next(2) == 0) { found[writes.Key] = values[random.Next(values.Length)]; }
        }
        return new DiskImage(found, FirstLogSlot, FirstCheckpoint, FirstHeader);
    }

    private void Write(int cell, object value)
    {
        _pending.Add((cell, value)); // in the cache before the power goes: the last write may survive too
        SpendOperation();
    }

    private void SpendOperation()
    {
        if (--_operationsLeft <= 0) { throw new PowerCutException(); }
    }
}

/// <summary>The disk as recovery finds it, and writes to it without further accidents.</summary>
public sealed class DiskImage(object?[] cells, int firstLogSlot, int firstCheckpoint, int firstHeader)
{
    public long Page(int page) => (long)cells[page]!;

    public void WritePage(int page, long content) => cells[page] = content;

    public IEnumerable<LogRecord> Records() => cells[firstLogSlot..firstCheckpoint].OfType<LogRecord>();

    public Checkpoint? CheckpointOf(Header header) =>
        cells[firstCheckpoint + (header.Generation % 2)] is Checkpoint found && found.Generation == header.Generation ? found : null;

    public Header NewestHeader() => cells[firstHeader..].OfType<Header>().MaxBy(header => header.Generation)!;
}
