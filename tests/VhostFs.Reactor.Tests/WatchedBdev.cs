using VhostFs.Bdev;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

/// <summary>Knows what is under way on the bdev below, and fails the test when something comes after it was said to be gone.</summary>
internal sealed class WatchedBdev(IBdev inner) : BdevDecorator(inner, inner.Name)
{
    public int InFlight { get; private set; }

    public long Started { get; private set; }

    /// <summary>Whoever uses it says that he does not any more.</summary>
    public void SayGone()
    {
        Assert.Equal(0, InFlight);
        IsGone = true;
    }

    public bool IsGone { get; private set; }

    protected override async IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target)
    {
        Begin();
        IoResult result = await Inner.ReadAsync(offsetBytes, target);
        InFlight--;
        return result;
    }

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        Begin();
        IoResult result = await Inner.WriteAsync(offsetBytes, source);
        InFlight--;
        return result;
    }

    protected override async IoTask<Errno> FlushCoreAsync()
    {
        Begin();
        Errno result = await Inner.FlushAsync();
        InFlight--;
        return result;
    }

    protected override async IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes)
    {
        Begin();
        Errno result = await Inner.UnmapAsync(offsetBytes, lengthBytes);
        InFlight--;
        return result;
    }

    protected override async IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        Begin();
        Errno result = await Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
        InFlight--;
        return result;
    }

    private void Begin()
    {
        Assert.False(IsGone, $"{Name} is used after it was let go");
        InFlight++;
        Started++;
    }
}
