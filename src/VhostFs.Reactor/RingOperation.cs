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

    /// <summary>Ends when somebody else does something, or at once: no device works on it.</summary>
    public bool IsWait => Sqe.Opcode is SqeOpcode.IORING_OP_POLL_ADD or SqeOpcode.IORING_OP_ACCEPT or SqeOpcode.IORING_OP_URING_CMD or SqeOpcode.IORING_OP_ASYNC_CANCEL;

    /// <summary>A device works on it, and somebody waits for what it holds; streams and eventfds have no offset.</summary>
    public bool IsDeviceRead => (Sqe.Opcode is SqeOpcode.IORING_OP_READ or SqeOpcode.IORING_OP_READV) && Sqe.Offset != ulong.MaxValue;

    /// <summary>Of a transfer: it is at least so large. Its list of segments is still there: it has not been submitted.</summary>
    public bool HasBytes(int bytes) =>
        (Sqe.Opcode is SqeOpcode.IORING_OP_READ or SqeOpcode.IORING_OP_WRITE ? Sqe.Length : new IoVecs((nuint)Sqe.Address, (int)Sqe.Length).LengthBytes) >= bytes;

    protected override void Recycle() => ring.Return(this);
}
