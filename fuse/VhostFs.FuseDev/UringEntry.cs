using System.Buffers.Binary;
using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.Linux;

namespace VhostFs.FuseDev;

/// <summary>One place for a request on a core's queue: memory the kernel writes a request to and takes its reply from.</summary>
/// <remarks>
/// A header page, as <c>struct fuse_uring_req_header</c> has it, and behind it the payload. Payload begins at a page on both ways, so that it goes to and from
/// the bdev without a copy. The memory is only reserved: a page takes room once the kernel has used it.
/// </remarks>
internal sealed class UringEntry : FuseRequest
{
    private const int ArgumentsOffset = 128; // in_out[128]: fuse_in_header one way, fuse_out_header the other
    private const int ArgumentsBytes = 128;  // op_in[128]: the opcode's own arguments
    private const int CommitIdOffset = 264;  // struct fuse_uring_ent_in_out at 256: flags, commit_id, payload_sz
    private const int PayloadSizeOffset = 272;
    private const int HeaderBytes = 288;
    private const int KeptPayloadBytes = 64 << 10;

    private readonly UringQueue _queue;
    private readonly IoVec _memory;
    private readonly IoVec _header;
    private readonly IoVec _payload;
    private int _replyBytes;

    private UringEntry(UringQueue queue, IoVec memory)
    {
        _queue = queue;
        _memory = memory;
        _header = memory.Slice(0, HeaderBytes);
        _payload = memory.Slice(Environment.SystemPageSize, memory.Length - Environment.SystemPageSize);
        Segments.Add(_header);
        Segments.Add(_payload);
    }

    public UringQueue Queue => _queue;

    /// <summary>Header and payload, as they are registered.</summary>
    public IoVecList Segments { get; } = new(2);

    /// <summary>How much of the payload has been used, and so is in memory.</summary>
    public int UsedBytes { get; private set; }

    /// <summary>Names the request to the kernel.</summary>
    public ulong CommitId => BinaryPrimitives.ReadUInt64LittleEndian(_header.Span[CommitIdOffset..]);

    /// <summary>Null when there is no address space for it.</summary>
    public static UringEntry? TryCreate(UringQueue queue, int payloadBytes)
    {
        int lengthBytes = Environment.SystemPageSize + payloadBytes;
        const int flags = MemoryCalls.MAP_PRIVATE | MemoryCalls.MAP_NORESERVE;
        if (MemoryCalls.Map(null, 0, lengthBytes, MemoryCalls.PROT_READ | MemoryCalls.PROT_WRITE, flags, out nuint address) != Errno.None) { return null; }
        _ = MemoryCalls.Advise(address, lengthBytes, MemoryCalls.MADV_NOHUGEPAGE); // or the first byte takes two megabytes
        return new UringEntry(queue, new IoVec(address, lengthBytes));
    }

    /// <summary>The kernel has written a request. False when it makes no sense.</summary>
    public bool Arrange()
    {
        Readable.Clear();
        Writable.Clear();
        FuseInHeader header = MemoryMarshal.Read<FuseInHeader>(_header.Span);
        int payloadBytes = BinaryPrimitives.ReadInt32LittleEndian(_header.Span[PayloadSizeOffset..]);
        long argumentBytes = (long)header.Length - FuseInHeader.Size - payloadBytes;
        Writable.Add(_header.Slice(0, FuseOutHeader.Size));
        Writable.Add(_payload);
        if (argumentBytes is < 0 or > ArgumentsBytes || (uint)payloadBytes > (uint)_payload.Length) { return false; }
        Readable.Add(_header.Slice(0, FuseInHeader.Size));
        if (argumentBytes > 0) { Readable.Add(_header.Slice(ArgumentsOffset, (int)argumentBytes)); }
        if (payloadBytes > 0) { Readable.Add(_payload.Slice(0, payloadBytes)); }
        Use(payloadBytes);
        return true;
    }

    /// <summary>Answers without the server.</summary>
    public void Refuse(Errno errno)
    {
        var header = new FuseOutHeader(FuseOutHeader.Size, -(int)errno, CommitId);
        Writable.View().CopyFrom(0, MemoryMarshal.AsBytes(new ReadOnlySpan<FuseOutHeader>(in header)));
        SetReplyLength(0);
    }

    /// <summary>Gives memory of the payload back to the system, unless the reply lies in it; what it had is lost.</summary>
    public void GiveBackPayload()
    {
        if (UsedBytes <= KeptPayloadBytes || _replyBytes > KeptPayloadBytes) { return; }
        _ = MemoryCalls.Advise(_payload.Address + KeptPayloadBytes, _payload.Length - KeptPayloadBytes, MemoryCalls.MADV_DONTNEED);
        _queue.Queues.UsedBytes -= UsedBytes;
        UsedBytes = 0;
    }

    public override void Dispose()
    {
        _queue.Queues.UsedBytes -= UsedBytes;
        MemoryCalls.Unmap(_memory.Address, _memory.Length);
        Segments.Dispose();
        base.Dispose();
    }

    protected override void Complete(int replyBytes)
    {
        // The kernel sends nothing this way that goes without a reply.
        if (replyBytes == 0) { Refuse(Errno.EIO); }
        else { SetReplyLength(replyBytes - FuseOutHeader.Size); }
        _queue.Finish(this);
    }

    private void SetReplyLength(int bodyBytes)
    {
        Use(bodyBytes);
        _replyBytes = bodyBytes;
        BinaryPrimitives.WriteInt32LittleEndian(_header.Span[PayloadSizeOffset..], bodyBytes);
    }

    private void Use(int payloadBytes)
    {
        if (payloadBytes <= UsedBytes) { return; }
        _queue.Queues.UsedBytes += payloadBytes - UsedBytes;
        UsedBytes = payloadBytes;
    }
}
