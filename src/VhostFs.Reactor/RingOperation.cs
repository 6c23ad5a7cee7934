using VhostFs.Linux;

namespace VhostFs.Reactor;

/// <summary>One submission on its way: waiting for a slot, in the kernel, or done and waiting to be taken.</summary>
internal sealed class RingOperation(Ring ring) : IoOperation<IoResult>
{
    public const int NoSlot = -1;

    public Sqe Sqe;

    /// <summary>What follows the 64 bytes of a command's entry.</summary>
    public ulong CommandTail;

    public RingOperation? Next;
    public int Slot = NoSlot;
    public bool CancelRequested;

    protected override void Recycle() => ring.Return(this);
}
