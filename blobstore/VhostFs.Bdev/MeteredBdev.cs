using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>A bdev as VMs have it: with limits on how much they may do, and a watch on how long it takes.</summary>
/// <remarks>Both may change at any time, on the reactor. While neither is asked for, a request that completes at once costs one call more, and no clock.</remarks>
public sealed class MeteredBdev(IBdev inner, VhostFs.Reactor.Reactor reactor) : IBdev
{
    private const long PatienceNs = 50_000_000; // so long may a guest that resets its disk have to wait

    private RateLimit? _operations;
    private RateLimit? _bytes;
    private RateLimit? _readBytes;
    private RateLimit? _writeBytes;
    private LatencySum _reads;
    private LatencySum _writes;
    private LatencySum _unmaps;

    public event Action<long>? Resized
    {
        add => inner.Resized += value;
        remove => inner.Resized -= value;
    }

    public RateLimits Limits { get; private set; } = new();

    /// <summary>Null: nobody has asked for one.</summary>
    public LatencyHistogram? Histogram { get; set; }

    /// <summary>Of reads that did not complete at once (those count as 0 ns).</summary>
    public LatencySum Reads => _reads;

    public LatencySum Writes => _writes;

    public LatencySum Unmaps => _unmaps;

    public string? Identity => inner.Identity;

    public string Name => inner.Name;

    public int BlockSize => inner.BlockSize;

    public long SizeBytes => inner.SizeBytes;

    public int BufferAlignment => inner.BufferAlignment;

    public int OptimalBufferAlignment => inner.OptimalBufferAlignment;

    public bool HasWriteCache => inner.HasWriteCache;

    public bool SupportsUnmap => inner.SupportsUnmap;

    public bool IsReadOnly => inner.IsReadOnly;

    public bool UnmapReadsZero => inner.UnmapReadsZero;

    public BdevStatistics Statistics => inner.Statistics;

    public bool CompletesAtOnce => inner.CompletesAtOnce;

    public bool IsBehind => !Limits.IsNone && (IsAhead(_operations) || IsAhead(_bytes) || IsAhead(_readBytes) || IsAhead(_writeBytes));

    /// <summary>What waits already goes when it was promised to.</summary>
    public void Limit(RateLimits limits)
    {
        Limits = limits;
        _operations = Of(limits.OperationsPerSecond);
        _bytes = Of(limits.BytesPerSecond);
        _readBytes = Of(limits.ReadBytesPerSecond);
        _writeBytes = Of(limits.WriteBytesPerSecond);
    }

    public void ResetLatencies() => (_reads, _writes, _unmaps) = (default, default, default);

    public IoTask<IoResult> ReadAsync(long offsetBytes, IoVecs target)
    {
        if (IsWatched) { return ReadWatchedAsync(offsetBytes, target); }
        IoTask<IoResult> reading = inner.ReadAsync(offsetBytes, target);
        return reading.IsCompleted ? reading : ReadLaterAsync(reading, ProcessCalls.MonotonicNs);
    }

    public IoTask<IoResult> WriteAsync(long offsetBytes, IoVecs source)
    {
        if (IsWatched) { return WriteWatchedAsync(offsetBytes, source); }
        IoTask<IoResult> writing = inner.WriteAsync(offsetBytes, source);
        return writing.IsCompleted ? writing : WriteLaterAsync(writing, ProcessCalls.MonotonicNs);
    }

    /// <summary>Not limited: it is in the way of nobody's data, and writes that it would hold up were counted.</summary>
    public IoTask<Errno> FlushAsync() => inner.FlushAsync();

    public IoTask<Errno> UnmapAsync(long offsetBytes, long lengthBytes)
    {
        long begin = ProcessCalls.MonotonicNs;
        IoTask<Errno> unmapping = inner.UnmapAsync(offsetBytes, lengthBytes);
        return unmapping.IsCompleted ? unmapping : UnmapLaterAsync(unmapping, begin);
    }

    public IoTask<Errno> WriteZeroesAsync(long offsetBytes, long lengthBytes) => inner.WriteZeroesAsync(offsetBytes, lengthBytes);

    public IoTask<Errno> ResizeAsync(long newSizeBytes) => inner.ResizeAsync(newSizeBytes);

    /// <summary>False: access past the operations would go unseen.</summary>
    public bool TryGetMemory(long offsetBytes, int lengthBytes, out IoVec memory)
    {
        memory = default;
        return false;
    }

    public bool TryClaim(string claimant, out string owner) => inner.TryClaim(claimant, out owner);

    public void ReleaseClaim() => inner.ReleaseClaim();

    /// <summary>Nothing: the bdev is not owned.</summary>
    public void Dispose()
    {
    }

    private bool IsWatched => Histogram is not null || !Limits.IsNone;

    private bool IsAhead(RateLimit? limit) => limit is not null && limit.AheadNs(reactor.NowNs) > PatienceNs;

    private static RateLimit? Of(long perSecond) => perSecond > 0 ? new RateLimit(perSecond) : null;

    private async IoTask<IoResult> ReadWatchedAsync(long offset, IoVecs target)
    {
        await WaitAsync(target.LengthBytes, _readBytes);
        long begin = ProcessCalls.MonotonicNs;
        return await ReadLaterAsync(inner.ReadAsync(offset, target), begin);
    }

    private async IoTask<IoResult> WriteWatchedAsync(long offset, IoVecs source)
    {
        await WaitAsync(source.LengthBytes, _writeBytes);
        long begin = ProcessCalls.MonotonicNs;
        return await WriteLaterAsync(inner.WriteAsync(offset, source), begin);
    }

    private async IoTask<IoResult> ReadLaterAsync(IoTask<IoResult> reading, long begin)
    {
        IoResult result = await reading;
        Count(ref _reads, begin);
        return result;
    }

    private async IoTask<IoResult> WriteLaterAsync(IoTask<IoResult> writing, long begin)
    {
        IoResult result = await writing;
        Count(ref _writes, begin);
        return result;
    }

    private async IoTask<Errno> UnmapLaterAsync(IoTask<Errno> unmapping, long begin)
    {
        Errno result = await unmapping;
        Count(ref _unmaps, begin);
        return result;
    }

    private void Count(ref LatencySum sum, long begin)
    {
        long ns = ProcessCalls.MonotonicNs - begin;
        sum.Add(ns);
        Histogram?.Add(ns);
    }

    // It must be within all of them: the last to be paid for decides.
    private IoTask<Errno> WaitAsync(long bytes, RateLimit? direction)
    {
        long now = reactor.NowNs, begin = now;
        if (_operations is not null) { begin = Math.Max(begin, _operations.Reserve(now, 1)); }
        if (_bytes is not null) { begin = Math.Max(begin, _bytes.Reserve(now, bytes)); }
        if (direction is not null) { begin = Math.Max(begin, direction.Reserve(now, bytes)); }
        return begin <= now ? new IoTask<Errno>(Errno.None) : reactor.DelayAsync(begin - now);
    }
}
