using VhostFs.Blobstore;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Log memory in the hands of the explorer: what a dead process left in it, and what a living one puts there.</summary>
/// <param name="chunks">How much there is; a pool that needs more waits for its disk.</param>
public sealed class PlayedLogMemory(int chunks, IReadOnlyList<StagedBatch> left) : ILogMemoryStore
{
    private LogMemory? _open;

    /// <summary>Some lives have none, some too little, some enough.</summary>
    public static PlayedLogMemory? ForLife(int seed, IReadOnlyList<StagedBatch> left)
    {
        int draw = new Random(seed).Next(8);
        return draw == 0 && left.Count == 0 ? null : new PlayedLogMemory(draw switch { 0 => 0, < 3 => 1 + draw, _ => 40 }, left);
    }

    /// <summary>What was left has been taken over: nobody will find it again.</summary>
    public bool IsLeftForgotten { get; private set; }

    public LogMemory Open(Guid pool, string? bdev, ulong epoch, Action<string> report) =>
        _open = LogMemory.InProcess(pool, epoch, chunks, left, () => IsLeftForgotten = true);

    /// <summary>What the next process would find if this one ended now.</summary>
    public IReadOnlyList<StagedBatch> Staged() => [.. IsLeftForgotten ? [] : left, .. _open?.Staged() ?? []];
}
