using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Reads everything in an open pool, as one hash per history; returns what is wrong, or null.</summary>
public delegate IoTask<string?> ContentReader(Pool pool, Dictionary<string, ulong> found);

/// <summary>Judges one crash state: the checker finds nothing, the pool opens, and each part of its content is one that it had, not older than what was promised.</summary>
public sealed class StateVerifier(DiskImage image, CrashTrace trace, ContentReader readContent, CheckOptions checkOptions)
{
    private const int MaxFindings = 3;

    private readonly NodeCache _nodes = new(16 << 20);

    /// <summary>Looks at the whole disk after recovery, for what the checker does not know: null, or what is wrong.</summary>
    public Func<DiskImage, CrashTrace, IReadOnlyDictionary<string, ulong>, string?>? InspectDisk { get; init; }

    /// <summary>Null, or what is wrong. <paramref name="thorough"/>: recovery is also repeated, and the disk it leaves is checked.</summary>
    public string? Verify(CrashState state, bool thorough)
    {
        using var bdev = new ImageBdev(image);
        using var reactor = new IoReactor(new SimulatedDriver(), "recovery");
        try { return reactor.RunUntilComplete(() => VerifyAsync(bdev, state, thorough)); }
        catch (Exception e) when (e is InvariantException or InvalidOperationException or NullReferenceException or IndexOutOfRangeException or ArgumentException or OverflowException or KeyNotFoundException)
        {
            return $"recovery ended with {e.GetType().Name}: {e.Message} {e.StackTrace?.Split('\n').FirstOrDefault()?.Trim()}";
        }
    }

    /// <summary>What a pool holds after a crash that left this; nothing when it cannot be opened.</summary>
    public static Dictionary<string, ulong> Read(DiskImage disk, IReadOnlyList<StagedBatch> left, ContentReader readContent)
    {
        using var bdev = new ImageBdev(disk.Fork());
        using var reactor = new IoReactor(new SimulatedDriver(), "reading");
        var found = new Dictionary<string, ulong>();
        var verifier = new StateVerifier(disk, null!, readContent, CheckOptions.Default);
        return reactor.RunUntilComplete(() => verifier.RecoverAsync(bdev, left, found)) is null ? found : [];
    }

    private async IoTask<string?> VerifyAsync(IBdev bdev, CrashState state, bool thorough)
    {
        if (await CheckAsync(bdev) is { } damage) { return $"the checker, before recovery: {damage}"; }
        var found = new Dictionary<string, ulong>();
        if (await RecoverAsync(bdev, state.Left, found) is { } problem) { return $"recovery: {problem}"; }
        foreach ((string name, ContentHistory history) in trace.Histories)
        {
            if (history.Judge(found.GetValueOrDefault(name), state.Moment, state.IsPowerCut) is { } wrong) { return $"{name}: {wrong}"; }
        }
        if (found.Keys.FirstOrDefault(name => !trace.Histories.ContainsKey(name)) is { } unknown) { return $"{unknown}: nobody made it"; }
        if (!thorough) { return null; }
        if (await CheckAsync(bdev) is { } afterwards) { return $"the checker, after recovery: {afterwards}"; }
        if (InspectDisk?.Invoke(image, trace, found) is { } seen) { return seen; }
        var again = new Dictionary<string, ulong>();
        if (await RecoverAsync(bdev, [], again) is { } later) { return $"second opening: {later}"; }
        return again.Count == found.Count && again.All(pair => found.GetValueOrDefault(pair.Key) == pair.Value) ? null : "the second opening found another content than the first";
    }

    private async IoTask<string?> RecoverAsync(IBdev bdev, IReadOnlyList<StagedBatch> left, Dictionary<string, ulong> found)
    {
        OpenResult<Pool> pool = await Pool.OpenAsync(bdev, new PoolOptions { NodeCache = _nodes, LogMemory = new PlayedLogMemory(0, left) });
        if (pool.Value is null) { return pool.Error; }
        string? problem = await readContent(pool.Value, found);
        Errno closed = await pool.Value.CloseAsync();
        return problem ?? (closed == Errno.None ? null : $"closing failed: {closed}");
    }

    private async IoTask<string?> CheckAsync(IBdev bdev)
    {
        CheckReport report = await PoolChecker.CheckAsync(bdev, checkOptions);
        return report.IsClean ? null : string.Join("; ", report.Findings.Where(finding => finding.Severity == CheckSeverity.Error).Take(MaxFindings));
    }
}
