using VhostFs.Bdev;
using VhostFs.Linux;

namespace VhostFs.Reactor.Tests;

/// <summary>Begins nothing until it is released; it has the buffers of its requests all the time, and uses them then.</summary>
internal sealed class StuckBdev(IBdev inner, Reactor reactor) : BdevDecorator(inner, inner.Name)
{
    private bool _isReleased;

    public static void Release(BdevDecorator above) => ((StuckBdev)above.Inner)._isReleased = true;

    protected override async IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target)
    {
        await WaitAsync();
        return await Inner.ReadAsync(offsetBytes, target);
    }

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        await WaitAsync();
        return await Inner.WriteAsync(offsetBytes, source);
    }

    protected override async IoTask<Errno> FlushCoreAsync()
    {
        await WaitAsync();
        return await Inner.FlushAsync();
    }

    protected override async IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes)
    {
        await WaitAsync();
        return await Inner.UnmapAsync(offsetBytes, lengthBytes);
    }

    protected override async IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        await WaitAsync();
        return await Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
    }

    private async IoTask<bool> WaitAsync()
    {
        while (!_isReleased) { await reactor.DelayAsync(1_000_000); }
        return true;
    }
}
