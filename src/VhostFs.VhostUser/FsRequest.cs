using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>A FUSE request that came on a virtqueue. Pooled per device; knows where its chain goes back to.</summary>
internal sealed class FsRequest(VhostUserFsDevice device) : FuseRequest
{
    /// <summary>Above any reply: 1 MiB and headers.</summary>
    private const long MaxReplyBytes = (1 << 20) + 4096;

    private QueueServer? _server;
    private VhostUserRing? _ring;
    private ushort _head;

    public FsRequest? Next { get; set; }

    public void Begin(QueueServer server, VhostUserRing ring, ushort head)
    {
        _server = server;
        _ring = ring;
        _head = head;
    }

    /// <summary>A chain that waits for ever would hold up every change of rings and memory.</summary>
    protected override bool CanPark => false;

    protected override void Complete(int replyBytes)
    {
        Invariant.That(_ring is not null);
        QueueServer server = _server!;
        // A read goes from the device straight into guest memory. Where that is gone the kernel says EFAULT, and the layers between may say EIO: a look tells.
        if (RepliedError is Errno.EIO or Errno.EFAULT) { GuestMemory.Touch(Writable.View(), MaxReplyBytes); }
        VhostUserRing ring = _ring;
        _server = null;
        _ring = null;
        ushort head = _head;
        device.Return(this, ring);
        server.Finish(ring, head, replyBytes);
    }
}
