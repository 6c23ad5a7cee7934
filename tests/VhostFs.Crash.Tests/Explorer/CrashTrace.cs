using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Linux;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>What one run of a workload did to the disk, and what it was promised, on one scale of moments.</summary>
public sealed class CrashTrace
{
    private readonly RecordingBdev _recording;

    /// <summary>What was in log memory right before each moment.</summary>
    private readonly List<IReadOnlyList<StagedBatch>> _staged = [];

    public CrashTrace(RecordingBdev recording, DiskImage image)
    {
        _recording = recording;
        Image = image;
        recording.Happening += Stage;
    }

    private readonly SortedDictionary<string, ContentHistory> _histories = new(StringComparer.Ordinal);

    /// <summary>The disk before the first recorded operation.</summary>
    public DiskImage Image { get; }

    public IReadOnlyList<BdevTraceEntry> Entries => _recording.Trace;

    /// <summary>It ends with the host: a power cut leaves nothing to look at.</summary>
    public bool IsFileInMemory => _recording.IsFileInMemory;

    /// <summary>The log memory of the pool that is being recorded, if it has one.</summary>
    public PlayedLogMemory? LogMemory { get; set; }

    /// <summary>The moment of what happens next.</summary>
    public long Now => _recording.Moment;

    /// <summary>What there is, and was, on the disk: one history for each part whose changes have an order of their own.</summary>
    public IReadOnlyDictionary<string, ContentHistory> Histories => _histories;

    public ContentHistory Begin(string name, ulong hash)
    {
        var history = new ContentHistory(() => _recording.Moment);
        history.AddAt(-1, hash);
        _histories.Add(name, history);
        return history;
    }

    /// <summary>The recording is complete: what is in log memory now is what the end finds.</summary>
    public void End()
    {
        Stage(Now);
        _recording.Happening -= Stage;
    }

    /// <summary>What a process that died right before this moment left in log memory.</summary>
    public IReadOnlyList<StagedBatch> StagedBefore(long moment) => _staged.Count == 0 ? [] : _staged[(int)Math.Min(moment, _staged.Count - 1)];

    /// <summary>Two writes to the same bytes at once: the disk may keep either. Null when there are none.</summary>
    public string? FindOverlappingWrites()
    {
        var inFlight = new List<BdevTraceEntry>();
        foreach (BdevTraceEntry entry in Entries)
        {
            if (entry.IsFlush) { continue; }
            inFlight.RemoveAll(other => other.CompletedAt < entry.StartedAt);
            foreach (BdevTraceEntry other in inFlight)
            {
                if (entry.OffsetBytes < other.OffsetBytes + other.LengthBytes && other.OffsetBytes < entry.OffsetBytes + entry.LengthBytes)
                {
                    return $"{other} and {entry} change the same bytes at the same time";
                }
            }
            inFlight.Add(entry);
        }
        return null;
    }

    /// <summary>For each entry the moment from which on it is certainly on the disk after a power cut; <see cref="long.MaxValue"/>: never.</summary>
    public long[] DurableMoments()
    {
        // Backwards: of the flushes that start later, the one that ends first.
        BdevTraceEntry[] flushes = [.. Entries.Where(entry => entry.IsFlush && entry.IsCompleted && entry.Result == Errno.None).OrderByDescending(flush => flush.StartedAt)];
        (int Index, BdevTraceEntry Entry)[] done = [.. Entries.Index().Where(e => e.Item.IsCompleted && e.Item.Result == Errno.None).OrderByDescending(e => e.Item.CompletedAt)];
        long[] moments = new long[Entries.Count];
        Array.Fill(moments, long.MaxValue);
        long earliest = long.MaxValue;
        int next = 0;
        foreach ((int index, BdevTraceEntry entry) in done)
        {
            for (; next < flushes.Length && flushes[next].StartedAt > entry.CompletedAt; next++) { earliest = Math.Min(earliest, flushes[next].CompletedAt); }
            moments[index] = earliest;
        }
        return moments;
    }

    /// <summary>Batches that were there before are not kept twice.</summary>
    private void Stage(long moment)
    {
        IReadOnlyList<StagedBatch> before = _staged.Count == 0 ? [] : _staged[^1];
        IReadOnlyList<StagedBatch> now = LogMemory?.Staged() ?? [];
        _staged.Add([.. now.Select(batch => before.FirstOrDefault(other => other.FirstLsn == batch.FirstLsn && other.Volume == batch.Volume && other.Blocks.AsSpan().SequenceEqual(batch.Blocks)) ?? batch)]);
    }
}
