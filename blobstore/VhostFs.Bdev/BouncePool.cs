using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>Aligned buffers for payload that O_DIRECT does not take as it is. Bounded: who finds none waits for its turn.</summary>
internal sealed class BouncePool : IDisposable
{
    public const int BufferBytes = 256 * 1024;
    private const int MaxBuffers = 16;
    private readonly Stack<NativeBuffer> _free = new();
    private readonly Queue<IoCompletion<NativeBuffer>> _waiters = new();
    private int _made;

    public IoTask<NativeBuffer> RentAsync()
    {
        if (_free.TryPop(out NativeBuffer? buffer)) { return new(buffer); }
        if (_made < MaxBuffers)
        {
            _made++;
            return new(new NativeBuffer(BufferBytes));
        }
        var waiter = new IoCompletion<NativeBuffer>();
        _waiters.Enqueue(waiter);
        return waiter.Task;
    }

    public void Return(NativeBuffer buffer)
    {
        if (_waiters.TryDequeue(out IoCompletion<NativeBuffer>? waiter)) { waiter.Complete(buffer); }
        else { _free.Push(buffer); }
    }

    public void Dispose()
    {
        while (_free.TryPop(out NativeBuffer? buffer)) { buffer.Dispose(); }
    }
}
