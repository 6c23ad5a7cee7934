using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>What stands behind the rings of one session: takes chains, and gives each back with <see cref="QueueServer.Finish"/>.</summary>
internal abstract class VhostUserDevice
{
    /// <summary>Device features beside those of the ring and the transport.</summary>
    public virtual VirtioFeatures Features => VirtioFeatures.None;

    /// <summary>There is room for one more request of this ring.</summary>
    public abstract bool HasRoom(VhostUserRing ring);

    /// <summary>Takes the next chain of the ring and starts the request; it may be finished before this returns.</summary>
    public abstract PopResult TakeOne(QueueServer server, VhostUserRing ring);

    /// <summary>Back to the state after power-on: no request is in flight.</summary>
    public abstract void Reset();

    /// <summary>The session is over: no request is in flight.</summary>
    public abstract void Close();
}
