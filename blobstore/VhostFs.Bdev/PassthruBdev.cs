using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>The bdev below under another name, with statistics of its own. What a stack looks like without anything that the module in it does.</summary>
public sealed class PassthruBdev(IBdev inner, string name) : BdevDecorator(inner, name)
{
    public override string? Identity => Inner.Identity;

    protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target) => Inner.ReadAsync(offsetBytes, target);

    protected override IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source) => Inner.WriteAsync(offsetBytes, source);

    protected override IoTask<Errno> FlushCoreAsync() => Inner.FlushAsync();

    protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes) => Inner.UnmapAsync(offsetBytes, lengthBytes);

    protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes) => Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
}
