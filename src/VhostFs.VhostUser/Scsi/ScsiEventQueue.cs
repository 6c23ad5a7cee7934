using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>The event queue (virtio 1.2, 5.6.6.3): the driver leaves buffers in it, and each event takes one.</summary>
/// <remarks>Buffers stay in the ring until there is something to tell, so that none is in flight. An event that finds none is lost, and the next buffer says so: the driver then looks at everything anew.</remarks>
internal sealed class ScsiEventQueue : IDisposable
{
    public const int Index = 1;

    private readonly IoVecList _readable = new();
    private readonly IoVecList _writable = new();
    private ScsiEvent _next;
    private bool _isMissed;

    /// <summary>A buffer is wanted.</summary>
    public bool WantsBuffer => _isMissed || _next != ScsiEvent.None;

    public void Raise(QueueServer server, ScsiEvent happened)
    {
        if (server.Ring(Index) is not { } ring) { return; }
        _next = happened;
        server.Serve(ring); // takes it, if it is served now and there is a buffer
        if (_next != ScsiEvent.None) { _isMissed = true; }
        _next = ScsiEvent.None;
    }

    public PopResult TakeOne(QueueServer server, VhostUserRing ring)
    {
        PopResult result = ring.Queue.Pop(_readable, _writable, out ushort head);
        if (result != PopResult.Chain) { return result; }
        int usedBytes = 0;
        if (_writable.LengthBytes >= ScsiEvent.Size)
        {
            ScsiEvent told = _isMissed ? _next with { Type = _next.Type | ScsiEventType.EventsMissed } : _next;
            usedBytes = _writable.View().CopyFrom(0, MemoryMarshal.AsBytes(new ReadOnlySpan<ScsiEvent>(in told)));
            Forget();
        }
        _readable.Clear();
        _writable.Clear();
        server.Memory.AddUser();
        server.Finish(ring, head, usedBytes);
        return result;
    }

    public void Forget()
    {
        _next = ScsiEvent.None;
        _isMissed = false;
    }

    public void Dispose()
    {
        _readable.Dispose();
        _writable.Dispose();
    }
}
