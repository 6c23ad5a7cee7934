using VhostFs.Bdev;
using VhostFs.Linux;

namespace VhostFs.Reactor.Tests;

/// <summary>Begins each operation up to a microsecond later: they reach the bdev below in an order of their own, as they reach a disk.</summary>
internal sealed class LateBdev(IBdev inner, Reactor reactor, Random random) : BdevDecorator(inner, inner.Name)
{
    protected override async IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target)
    {
        await DelayAsync();
        return await Inner.ReadAsync(offsetBytes, target);
    }

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        await DelayAsync();
        return await Inner.WriteAsync(offsetBytes, source);
    }

    protected override async IoTask<Errno> FlushCoreAsync()
    {
        await DelayAsync();
        return await Inner.FlushAsync();
    }

    protected override async IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes)
    {
        await DelayAsync();
        return await Inner.UnmapAsync(offsetBytes, lengthBytes);
    }

    protected override async IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        await DelayAsync();
        return await Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
    }

    private IoTask<Errno> DelayAsync() => random.Next(4) == 0 ? new(Errno.None) : reactor.DelayAsync(random.Next(1000));
}
