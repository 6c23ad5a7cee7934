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
