namespace VhostFs.Crash.Tests.LogModel;

/// <summary>The reading side: from what the power cut left to the state at some LSN.</summary>
public sealed class LogRecovery
{
    private readonly DiskImage _disk;
    private readonly ProtocolFault _fault;
    private readonly SortedDictionary<int, LogRecord> _records = [];
    private Checkpoint _checkpoint = Checkpoint.Empty;
    private int _checkpointLsn;
    private int _provenLsn;

    public LogRecovery(DiskImage disk, ProtocolFault fault)
    {
        _disk = disk;
        _fault = fault;
    }

    /// <summary>The LSN of the recovered state.</summary>
    public int Lsn { get; private set; }

    public SortedDictionary<int, long> Content { get; } = [];

    /// <summary>Null, or why the volume cannot be opened.</summary>
    public string? Run()
    {
        Header header = _disk.NewestHeader();
        if (_disk.CheckpointOf(header) is not { } checkpoint) { return "the checkpoint of the newest header is lost"; }
        _checkpoint = checkpoint;
        _checkpointLsn = header.CheckpointLsn;
        foreach (LogRecord record in _disk.Records().Where(record => record.Lsn > _checkpointLsn)) { _records[record.Lsn] = record; }

        int chainEnd = _checkpointLsn;
        while (_records.ContainsKey(chainEnd + 1)) { chainEnd++; }
        // Any record in the ring testifies to what was durable, also one behind a gap.
        _provenLsn = _records.Values.Select(record => record.DurableLsn).Append(_checkpointLsn).Max();
        if (chainEnd < _provenLsn) { return "a record that was durable is lost"; }

        if (ChooseEnd(chainEnd) is not { } end) { return "no prefix verifies"; }
        Lsn = end;
        Apply(end);
        return null;
    }

    private int? ChooseEnd(int chainEnd)
    {
        if (_fault == ProtocolFault.CutAtFirstMismatch)
        {
            int end = _provenLsn;
            while (end < chainEnd && (_records[end + 1].Kind != RecordKind.NewPage || Verifies(_records[end + 1]))) { end++; }
            return end;
        }
        for (int end = chainEnd; end >= _provenLsn; end--)
        {
            if (Definitions(end).Values.All(IsTrusted)) { return end; }
        }
        return null;
    }

    // A proven record's page was flushed with it: were it wrong now, the medium would be to blame, and cutting would lose acknowledged data.
    private bool IsTrusted(LogRecord definition) =>
        definition.Kind == RecordKind.Image || definition.Lsn <= _provenLsn || _fault == ProtocolFault.NoTailVerification || Verifies(definition);

    private bool Verifies(LogRecord definition) => _disk.Page(definition.Page) == definition.Content;

    /// <summary>Per page the last record up to <paramref name="end"/> that gives it content, unless a later one frees it.</summary>
    private Dictionary<int, LogRecord> Definitions(int end)
    {
        var definitions = new Dictionary<int, LogRecord>();
        foreach (LogRecord record in Taken(end))
        {
            if (record.FreedPage is { } freed) { definitions.Remove(freed); }
            if (record.Kind != RecordKind.Unmap) { definitions[record.Page] = record; }
        }
        return definitions;
    }

    private void Apply(int end)
    {
        IEnumerable<LogRecord> definitions = _fault == ProtocolFault.ReplayOfRevokedImages ? Taken(end) : Definitions(end).Values;
        foreach (LogRecord image in definitions.Where(record => record.Kind == RecordKind.Image)) { _disk.WritePage(image.Page, image.Content); }

        var pageOf = new SortedDictionary<int, int>(_checkpoint.PageOf.ToDictionary());
        foreach (LogRecord record in Taken(end))
        {
            if (record.Kind == RecordKind.Unmap) { pageOf.Remove(record.Block); }
            else { pageOf[record.Block] = record.Page; }
        }
        foreach ((int block, int page) in pageOf) { Content[block] = _disk.Page(page); }
    }

    private IEnumerable<LogRecord> Taken(int end)
    {
        for (int lsn = _checkpointLsn + 1; lsn <= end; lsn++) { yield return _records[lsn]; }
    }
}
