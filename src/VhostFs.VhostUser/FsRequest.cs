using VhostFs.Fuse;
using VhostFs.Linux;

namespace VhostFs.VhostUser;

/// <summary>A FUSE request that came on a virtqueue. Pooled per device; knows where its chain goes back to.</summary>
internal sealed class FsRequest(VhostUserFsDevice device) : FuseRequest
{
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

    protected override void Complete(int replyBytes)
    {
        Invariant.That(_ring is not null);
        QueueServer server = _server!;
        VhostUserRing ring = _ring;
        _server = null;
        _ring = null;
        ushort head = _head;
        device.Return(this, ring);
        server.Finish(ring, head, replyBytes);
    }
}
