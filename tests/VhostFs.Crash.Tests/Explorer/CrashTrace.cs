using VhostFs.Bdev;
using VhostFs.Linux;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>What one run of a workload did to the disk, and what it was promised, on one scale of moments.</summary>
public sealed class CrashTrace
{
    private readonly RecordingBdev _recording;
    private readonly List<(long Moment, int Version)> _replied = [];
    private readonly List<(long Moment, int Version)> _durable = [];
    private readonly List<ulong> _versions = [];

    public CrashTrace(RecordingBdev recording, byte[] image)
    {
        _recording = recording;
        Image = image;
    }

    /// <summary>The disk before the first recorded operation.</summary>
    public byte[] Image { get; }

    public IReadOnlyList<BdevTraceEntry> Entries => _recording.Trace;

    public long EndMoment => _recording.Moment;

    /// <summary>Hashes of the content after each change, in the order of the changes. Version 0 is the content before.</summary>
    public IReadOnlyList<ulong> Versions => _versions;

    public int CurrentVersion => _versions.Count - 1;

    /// <summary>The content has changed; a crash from now on may recover to this.</summary>
    public void AddVersion(ulong contentHash) => _versions.Add(contentHash);

    /// <summary>A change was replied to: the death of the process must not take it.</summary>
    public void Replied(int version) => Promise(_replied, version);

    /// <summary>A sync was replied to: a power cut must not take what was committed before it.</summary>
    public void Durable(int version)
    {
        Promise(_durable, version);
        Promise(_replied, version);
    }

    /// <summary>The lowest version that may be found after a power cut at this moment.</summary>
    public int LeastAfterPowerCut(long moment) => Least(_durable, moment);

    /// <summary>The lowest version that may be found after the process died at this moment.</summary>
    public int LeastAfterProcessDeath(long moment) => Least(_replied, moment);

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
        BdevTraceEntry[] flushes = [.. Entries.Where(entry => entry.IsFlush && entry.IsCompleted && entry.Result == Errno.None)];
        return [.. Entries.Select(entry => entry.IsCompleted && entry.Result == Errno.None
            ? flushes.Where(flush => flush.StartedAt > entry.CompletedAt).Select(flush => flush.CompletedAt).DefaultIfEmpty(long.MaxValue).Min()
            : long.MaxValue)];
    }

    private void Promise(List<(long Moment, int Version)> promises, int version)
    {
        int least = promises.Count == 0 ? 0 : promises[^1].Version;
        promises.Add((_recording.Moment, Math.Max(version, least)));
    }

    // A promise made at moment m follows operations that completed before m.
    private static int Least(List<(long Moment, int Version)> promises, long moment)
    {
        int low = 0, high = promises.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (promises[middle].Moment <= moment) { low = middle + 1; }
            else { high = middle; }
        }
        return low == 0 ? 0 : promises[low - 1].Version;
    }
}
