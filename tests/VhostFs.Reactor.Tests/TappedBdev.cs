using VhostFs.Bdev;
using VhostFs.Linux;

namespace VhostFs.Reactor.Tests;

/// <summary>Tells of every change before it is done below: the moments at which a crash can come.</summary>
internal sealed class TappedBdev(IBdev inner, Action tap) : BdevDecorator(inner, inner.Name)
{
    protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target) => Inner.ReadAsync(offsetBytes, target);

    protected override IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        tap();
        return Inner.WriteAsync(offsetBytes, source);
    }

    protected override IoTask<Errno> FlushCoreAsync() => Inner.FlushAsync();

    protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes)
    {
        tap();
        return Inner.UnmapAsync(offsetBytes, lengthBytes);
    }

    protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        tap();
        return Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
    }
}
