using VhostFs.Linux;

namespace VhostFs.Reactor;

/// <summary>A standing watch on a descriptor (multishot poll): the callback runs on each event until it is disposed.</summary>
/// <remarks>The callback gets the poll events, or the error that ended the watch. Edge-like: consume until EAGAIN. Made by <see cref="Ring.Watch"/>.</remarks>
public sealed class RingPoll : IDisposable
{
    private readonly Ring _ring;
    private readonly Action<IoResult> _onReady;

    internal RingPoll(Ring ring, SafeFd fd, short events, int index, uint generation, Action<IoResult> onReady)
    {
        _ring = ring;
        _onReady = onReady;
        Fd = fd;
        Events = events;
        Index = index;
        Generation = generation;
    }

    internal SafeFd Fd { get; }

    internal short Events { get; }

    internal int Index { get; }

    internal uint Generation { get; }

    internal bool IsDisposed { get; private set; }

    /// <summary>No callback runs after this returns. On the ring's reactor only.</summary>
    public void Dispose()
    {
        if (IsDisposed) { return; }
        IsDisposed = true;
        _ring.Unwatch(this);
    }

    internal void Notify(IoResult events) => _onReady(events);
}
