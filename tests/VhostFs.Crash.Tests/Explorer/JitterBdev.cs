using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Answers after a random time on whichever reactor asks, so that operations are in flight together and overtake each other.</summary>
public sealed class JitterBdev(IBdev inner, Random random) : BdevDecorator(inner, "jitter")
{
    private const int MaxDelayNs = 100_000;

    /// <summary>Now and then one takes so long that a dozen others overtake it.</summary>
    private const int SlowOneIn = 8;
    private const int SlowFactor = 20;
    private const int SlowFlushFactor = 80;

    protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target) => Inner.ReadAsync(offsetBytes, target);

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        IoResult result = await Inner.WriteAsync(offsetBytes, source);
        await DelayAsync();
        return result;
    }

    protected override async IoTask<Errno> FlushCoreAsync()
    {
        Errno result = await Inner.FlushAsync();
        await DelayAsync(SlowFlushFactor);
        return result;
    }

    protected override async IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes)
    {
        Errno result = await Inner.UnmapAsync(offsetBytes, lengthBytes);
        await DelayAsync();
        return result;
    }

    protected override async IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        Errno result = await Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
        await DelayAsync();
        return result;
    }

    private IoTask<Errno> DelayAsync(int slowFactor = SlowFactor) =>
        IoReactor.Current.DelayAsync((long)random.Next(MaxDelayNs) * (random.Next(SlowOneIn) == 0 ? slowFactor : 1));
}
