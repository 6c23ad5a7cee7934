namespace VhostFs.Blobstore.Check;

public enum CheckSeverity
{
    /// <summary>Legal after a crash or a lost copy: nothing is wrong with the contents.</summary>
    Warning,

    /// <summary>A rule of the format does not hold.</summary>
    Error,
}

/// <summary>One thing that is not as it should be.</summary>
/// <param name="Severity">Damage, or only less than the usual redundancy.</param>
/// <param name="Structure">What kind of thing: <c>superblock</c>, <c>node</c>, <c>extent</c>, <c>inode</c>, ...</param>
/// <param name="Location">Where it is, for example <c>volume 1, block 4711</c>.</param>
/// <param name="Sentence">What is wrong.</param>
public sealed record CheckFinding(CheckSeverity Severity, string Structure, string Location, string Sentence)
{
    public override string ToString() => $"{(Severity == CheckSeverity.Error ? "error" : "warning")}: {Structure} ({Location}): {Sentence}";
}

/// <summary>What was looked at.</summary>
public sealed class CheckCounts
{
    public long Volumes { get; internal set; }
    public long Nodes { get; internal set; }
    public long Items { get; internal set; }
    public long Inodes { get; internal set; }
    public long DirectoryEntries { get; internal set; }
    public long Xattrs { get; internal set; }
    public long Orphans { get; internal set; }
    public long ExtentRuns { get; internal set; }
    public long DataBlocks { get; internal set; }
    public long DataBlocksVerified { get; internal set; }
    public long LogBatches { get; internal set; }
    public long LogRecords { get; internal set; }

    /// <summary>Records at the end of the log that recovery drops: they were never acknowledged by a flush.</summary>
    public long LogRecordsDropped { get; internal set; }
}

/// <summary>The result of a check: findings up to a bound, counts of everything.</summary>
public sealed class CheckReport
{
    private readonly int _maxFindings;
    private readonly List<CheckFinding> _findings = [];

    internal CheckReport(int maxFindings) => _maxFindings = maxFindings;

    public IReadOnlyList<CheckFinding> Findings => _findings;

    public CheckCounts Counts { get; } = new();

    public long ErrorCount { get; private set; }

    public long WarningCount { get; private set; }

    /// <summary>Findings beyond the bound; they are counted, not kept.</summary>
    public long FindingsNotListed => ErrorCount + WarningCount - _findings.Count;

    /// <summary>The device holds no pool that can be read at all.</summary>
    public bool Unreadable { get; internal set; }

    /// <summary>Every rule holds. Warnings do not count.</summary>
    public bool IsClean => ErrorCount == 0 && !Unreadable;

    internal void Error(string structure, string location, string sentence)
    {
        ErrorCount++;
        Add(new CheckFinding(CheckSeverity.Error, structure, location, sentence));
    }

    internal void Warning(string structure, string location, string sentence)
    {
        WarningCount++;
        Add(new CheckFinding(CheckSeverity.Warning, structure, location, sentence));
    }

    private void Add(CheckFinding finding)
    {
        if (_findings.Count < _maxFindings) { _findings.Add(finding); }
    }
}
