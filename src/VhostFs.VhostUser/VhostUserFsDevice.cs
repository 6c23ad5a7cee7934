using VhostFs.Fuse;
using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>virtio-fs behind one connection: queue 0 is hiprio (FORGET), all others carry requests (virtio 1.2, 5.11).</summary>
/// <remarks>Requests are pooled; the pool grows to what was in flight at once and shrinks at a reset. hiprio has room of its own, so that it goes
/// on while every other queue waits.</remarks>
/// <param name="maxInFlight">Requests under way at once; more wait in their rings. hiprio is not counted.</param>
public sealed class VhostUserFsDevice(FuseServer server, int maxInFlight = 1024) : VhostUserDevice
{
    private FsRequest? _free;
    private int _inFlight;

    internal override bool HasRoom(VhostUserRing ring) => ring.Index == 0 || _inFlight < maxInFlight;

    internal override PopResult TakeOne(QueueServer queues, VhostUserRing ring)
    {
        FsRequest request = _free ??= new FsRequest(this);
        PopResult result = ring.Queue.Pop(request.Readable, request.Writable, out ushort head);
        if (result != PopResult.Chain) { return result; }
        _free = request.Next;
        request.Next = null;
        if (ring.Index != 0) { _inFlight++; }
        queues.Memory.AddUser();
        request.Begin(queues, ring, head);
        server.Handle(request);
        return result;
    }

    /// <summary>A request that waits takes no room: how many may is bounded by the rings and by the file system.</summary>
    internal void CountParked(VhostUserRing ring, bool begins)
    {
        if (ring.Index != 0) { _inFlight += begins ? -1 : 1; }
    }

    internal void Cancel(FsRequest request) => server.CancelWait(request);

    internal void Return(FsRequest request, VhostUserRing? ring)
    {
        request.Readable.Clear();
        request.Writable.Clear();
        if (ring is { Index: not 0 }) { _inFlight--; }
        request.Next = _free;
        _free = request;
    }

    internal override void Reset()
    {
        Shrink();
        server.Reset();
    }

    internal override void Close() => Reset();

    private void Shrink()
    {
        while (_free is { } request)
        {
            _free = request.Next;
            request.Dispose();
        }
    }
}
