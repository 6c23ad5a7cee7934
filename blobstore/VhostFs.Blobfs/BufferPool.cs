using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>A buffer, and the list that names the part of it in use.</summary>
internal sealed class PooledBuffer(int lengthBytes)
{
    private readonly IoVecList _list = new(1);

    public NativeBuffer Memory { get; } = new(lengthBytes);

    public IoVecs View(int lengthBytes)
    {
        _list.Clear();
        _list.Add(Memory.Slice(0, lengthBytes));
        return _list.View();
    }
}

/// <summary>A bounded number of equal buffers, made when first needed; at the bound, who asks waits in line.</summary>
internal sealed class BufferPool(int bufferBytes, int maxBuffers)
{
    private readonly Stack<PooledBuffer> _free = new();
    private readonly Queue<IoCompletion<PooledBuffer>> _waiting = new();
    private int _made;

    public int BufferBytes => bufferBytes;

    public IoTask<PooledBuffer> RentAsync()
    {
        if (_free.TryPop(out PooledBuffer? buffer)) { return new IoTask<PooledBuffer>(buffer); }
        if (_made < maxBuffers)
        {
            _made++;
            return new IoTask<PooledBuffer>(new PooledBuffer(bufferBytes));
        }
        var waiter = new IoCompletion<PooledBuffer>();
        _waiting.Enqueue(waiter);
        return waiter.Task;
    }

    public void Return(PooledBuffer buffer)
    {
        if (_waiting.TryDequeue(out IoCompletion<PooledBuffer>? waiter)) { waiter.Complete(buffer); }
        else { _free.Push(buffer); }
    }
}
