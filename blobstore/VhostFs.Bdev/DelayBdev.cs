using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>Completes operations later: the bdev below does them at once, the answer waits. All delays may change at any time.</summary>
public sealed class DelayBdev(IBdev inner, VhostFs.Reactor.Reactor reactor, string name = "delay") : BdevDecorator(inner, name)
{
    public long ReadDelayNs { get; set; }

    public long WriteDelayNs { get; set; }

    public long FlushDelayNs { get; set; }

    public long UnmapDelayNs { get; set; }

    public long WriteZeroesDelayNs { get; set; }

    /// <summary>More delay, decided per operation: completions then overtake each other.</summary>
    public Func<BdevOperations, long>? Jitter { get; set; }

    public override string? Identity => Inner.Identity;

    protected override async IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target)
    {
        IoResult result = await Inner.ReadAsync(offsetBytes, target);
        await DelayAsync(BdevOperations.Read, ReadDelayNs);
        return result;
    }

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        IoResult result = await Inner.WriteAsync(offsetBytes, source);
        await DelayAsync(BdevOperations.Write, WriteDelayNs);
        return result;
    }

    protected override async IoTask<Errno> FlushCoreAsync()
    {
        Errno result = await Inner.FlushAsync();
        await DelayAsync(BdevOperations.Flush, FlushDelayNs);
        return result;
    }

    protected override async IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes)
    {
        Errno result = await Inner.UnmapAsync(offsetBytes, lengthBytes);
        await DelayAsync(BdevOperations.Unmap, UnmapDelayNs);
        return result;
    }

    protected override async IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        Errno result = await Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
        await DelayAsync(BdevOperations.WriteZeroes, WriteZeroesDelayNs);
        return result;
    }

    private IoTask<Errno> DelayAsync(BdevOperations operation, long delayNs)
    {
        long total = delayNs + (Jitter?.Invoke(operation) ?? 0);
        return total <= 0 ? new(Errno.None) : reactor.DelayAsync(total);
    }
}
