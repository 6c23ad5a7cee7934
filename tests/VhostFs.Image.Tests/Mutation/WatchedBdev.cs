using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Image.Tests.Mutation;

/// <summary>Counts what is asked of a disk: too much of it is a loop without an end, and nothing may be asked of what is not there.</summary>
internal sealed class WatchedBdev(IBdev inner) : BdevDecorator(inner, "watched")
{
    /// <summary>More than any volume of these tests needs.</summary>
    private const int MaxOperations = 20_000;

    private int _operations;

    /// <summary>Operations outside of the device.</summary>
    public int Outside { get; private set; }

    protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target)
    {
        Count(offsetBytes, target.LengthBytes);
        return Inner.ReadAsync(offsetBytes, target);
    }

    protected override IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        Count(offsetBytes, source.LengthBytes);
        return Inner.WriteAsync(offsetBytes, source);
    }

    protected override IoTask<Errno> FlushCoreAsync() => Inner.FlushAsync();

    protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes)
    {
        Count(offsetBytes, lengthBytes);
        return Inner.UnmapAsync(offsetBytes, lengthBytes);
    }

    protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        Count(offsetBytes, lengthBytes);
        return Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
    }

    private void Count(long offset, long length)
    {
        if (offset < 0 || length < 0 || length > SizeBytes || offset > SizeBytes - length) { Outside++; }
        if (++_operations > MaxOperations) { throw new InvalidOperationException($"more than {MaxOperations} operations: it does not end"); }
    }
}
