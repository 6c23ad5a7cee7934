using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>A FUSE request that came on a virtqueue. Pooled per device; knows where its chain goes back to.</summary>
internal sealed class FsRequest(VhostUserFsDevice device) : FuseRequest, IParkedRequest
{
    /// <summary>Above any reply: 1 MiB and headers.</summary>
    private const long MaxReplyBytes = (1 << 20) + 4096;

    private QueueServer? _server;
    private VhostUserRing? _ring;
    private IoCompletion<bool>? _delivery; // the answer is there, the ring is not served
    private ushort _head;
    private bool _isDropped;

    public FsRequest? Next { get; set; }

    /// <inheritdoc/>
    public bool IsReady => _delivery is not null;

    public void Begin(QueueServer server, VhostUserRing ring, ushort head)
    {
        _server = server;
        _ring = ring;
        _head = head;
        _isDropped = false;
    }

    /// <inheritdoc/>
    public void Deliver()
    {
        IoCompletion<bool> delivery = _delivery!;
        _delivery = null;
        delivery.Complete(true);
    }

    /// <inheritdoc/>
    public void Drop()
    {
        _isDropped = true;
        if (IsReady) { Deliver(); }
        else { device.Cancel(this); }
    }

    protected override bool CanPark => _ring!.Queue.CanPark;

    protected override void Park()
    {
        Readable.Clear();
        Writable.Clear();
        device.CountParked(_ring!, begins: true);
        _server!.Park(_ring!, _head, this);
    }

    protected override async IoTask<bool> UnparkAsync()
    {
        if (!_isDropped && !_server!.MayDeliver(_ring!))
        {
            _delivery = new IoCompletion<bool>();
            await _delivery.Task;
        }
        if (_isDropped) { return false; }
        device.CountParked(_ring!, begins: false);
        _server!.Unpark(_ring!, _head, this, Readable, Writable);
        return true;
    }

    protected override void Complete(int replyBytes)
    {
        Invariant.That(_ring is not null);
        QueueServer server = _server!;
        VhostUserRing ring = _ring;
        _server = null;
        _ring = null;
        if (_isDropped)
        {
            device.Return(this, null);
            return;
        }
        // A read goes from the device straight into guest memory. Where that is gone the kernel says EFAULT, and the layers between may say EIO: a look tells.
        if (RepliedError is Errno.EIO or Errno.EFAULT) { GuestMemory.Touch(Writable.View(), MaxReplyBytes); }
        ushort head = _head;
        device.Return(this, ring);
        server.Finish(ring, head, replyBytes);
    }
}
