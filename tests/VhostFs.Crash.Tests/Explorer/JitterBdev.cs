using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>How long operations take: up to 100 us, and one of a few (<paramref name="OneIn"/>) that many times longer, so that a dozen others overtake it.</summary>
public sealed record Slowness(int Writes = 20, int Flushes = 80, int Unmaps = 20, int Reads = 0, int OneIn = 8);

/// <summary>Answers after a random time on whichever reactor asks, so that operations are in flight together and overtake each other.</summary>
public sealed class JitterBdev(IBdev inner, Random random, Slowness slowness) : BdevDecorator(inner, "jitter")
{
    private const int MaxDelayNs = 100_000;

    /// <summary>Unmaps under way.</summary>
    public int UnmapsInFlight { get; private set; }

    protected override async IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target)
    {
        if (slowness.Reads == 0) { return await Inner.ReadAsync(offsetBytes, target); }
        // The device may look early or late.
        bool isLate = random.Next(2) == 0;
        if (isLate) { await DelayAsync(slowness.Reads); }
        IoResult result = await Inner.ReadAsync(offsetBytes, target);
        if (!isLate) { await DelayAsync(slowness.Reads); }
        return result;
    }

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        IoResult result = await Inner.WriteAsync(offsetBytes, source);
        await DelayAsync(slowness.Writes);
        return result;
    }

    protected override async IoTask<Errno> FlushCoreAsync()
    {
        Errno result = await Inner.FlushAsync();
        await DelayAsync(slowness.Flushes);
        return result;
    }

    protected override async IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes)
    {
        UnmapsInFlight++;
        Errno result = await Inner.UnmapAsync(offsetBytes, lengthBytes);
        await DelayAsync(slowness.Unmaps);
        UnmapsInFlight--;
        return result;
    }

    protected override async IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        Errno result = await Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
        await DelayAsync(slowness.Writes);
        return result;
    }

    private IoTask<Errno> DelayAsync(int slowFactor) =>
        IoReactor.Current.DelayAsync((long)random.Next(MaxDelayNs) * (random.Next(slowness.OneIn) == 0 ? slowFactor : 1));
}
