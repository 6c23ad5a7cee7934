using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.VhostUser.Tests;

/// <summary>Writes wait until they are let go.</summary>
internal sealed class HoldingBdev(IBdev inner) : BdevDecorator(inner, "holding")
{
    private readonly Queue<IoCompletion<bool>> _held = new();

    public int Count => _held.Count;

    public void LetGo(int count)
    {
        for (int i = 0; i < count; i++) { _held.Dequeue().Complete(true); }
    }

    protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target) => Inner.ReadAsync(offsetBytes, target);

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        var wait = new IoCompletion<bool>();
        _held.Enqueue(wait);
        await wait.Task;
        return await Inner.WriteAsync(offsetBytes, source);
    }

    protected override IoTask<Errno> FlushCoreAsync() => Inner.FlushAsync();

    protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes) => Inner.UnmapAsync(offsetBytes, lengthBytes);

    protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes) => Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
}
