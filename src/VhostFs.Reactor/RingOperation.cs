using VhostFs.Linux;

namespace VhostFs.Reactor;

/// <summary>One submission on its way: waiting for a slot, in the kernel, or done and waiting to be taken.</summary>
internal sealed class RingOperation(Ring ring) : IoOperation<IoResult>
{
    public const int NoSlot = -1;

    public Sqe Sqe;
    public RingOperation? Next;
    public int Slot = NoSlot;
    public bool CancelRequested;

    protected override void Recycle() => ring.Return(this);
}

/// <summary>Names one submission for <see cref="Ring.CancelAsync"/>; harmless when it has completed.</summary>
public readonly struct RingHandle
{
    internal RingHandle(RingOperation operation)
    {
        Operation = operation;
        Version = operation.Version;
    }

    internal RingOperation? Operation { get; }

    internal uint Version { get; }
}
