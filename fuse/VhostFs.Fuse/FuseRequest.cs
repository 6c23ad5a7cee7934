using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuse;

/// <summary>One FUSE request as a transport hands it over: readable segments, writable segments, a completion. Pooled by the transport.</summary>
/// <remarks>The transport fills <see cref="Readable"/> and <see cref="Writable"/> and calls <c>FuseServer.Handle</c>. The server writes the reply into the
/// writable segments and calls <see cref="Complete"/> exactly once, on the same reactor, perhaps before Handle returns.</remarks>
public abstract partial class FuseRequest : IDisposable
{
    /// <summary>in-header, arguments, payload; split in any way. Guest memory: it may change while we look.</summary>
    public IoVecList Readable { get; } = new();

    /// <summary>Room for the out-header, arguments and payload; empty when no reply is possible (FORGET).</summary>
    public IoVecList Writable { get; } = new();

    /// <summary>The request is answered: <paramref name="replyBytes"/> were written from the start of <see cref="Writable"/> (0: no reply).</summary>
    protected internal abstract void Complete(int replyBytes);

    /// <summary>The transport can carry one more request that may wait for ever.</summary>
    protected internal virtual bool CanPark => true;

    /// <summary>The request begins to wait for a lock. Header and arguments are private copies; the transport may take back whatever else it lent, and may drop the request
    /// (<see cref="FuseServer.CancelWait"/>) when it ends.</summary>
    protected internal virtual void Park()
    {
    }

    /// <summary>The wait is over: true when <see cref="Writable"/> is there again for the reply; false when the request was dropped and nobody expects one.</summary>
    protected internal virtual IoTask<bool> UnparkAsync() => new(true);

    public virtual void Dispose()
    {
        Readable.Dispose();
        Writable.Dispose();
        DisposeState();
        GC.SuppressFinalize(this);
    }
}
