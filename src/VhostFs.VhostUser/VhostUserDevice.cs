using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>What stands behind the rings of one session: takes chains, and gives each back with <see cref="QueueServer.Finish"/>.</summary>
public abstract class VhostUserDevice
{
    private protected VhostUserDevice()
    {
    }

    /// <summary>Device features beside those of the ring and the transport.</summary>
    internal virtual VirtioFeatures Features => VirtioFeatures.None;

    /// <summary>It has a configuration space that we keep, and not the front-end.</summary>
    internal virtual bool HasConfig => false;

    /// <summary>Its requests may be done twice, so that a process after us may take up what this one leaves.</summary>
    internal virtual bool CanResume => false;

    /// <summary>All that a guest knows of it is in guest memory, in its configuration space and on its disk, so that a front-end may migrate it.</summary>
    internal virtual bool CanMigrate => false;

    /// <summary>The front-end is to read the configuration space again.</summary>
    internal Action? ConfigChanged { get; set; }

    /// <summary>Who serves its rings; null before a connection.</summary>
    internal QueueServer? Queues { get; set; }

    /// <summary>Fills in the configuration space, as far as there is one; what comes in is zero.</summary>
    internal virtual void ReadConfig(Span<byte> space)
    {
    }

    /// <summary>The driver has written to the configuration space; <paramref name="negotiated"/>: features.</summary>
    internal virtual Errno WriteConfig(VirtioFeatures negotiated, int offset, ReadOnlySpan<byte> bytes) => Errno.EPERM;

    /// <summary>There is room for one more request of this ring.</summary>
    internal abstract bool HasRoom(VhostUserRing ring);

    /// <summary>False: chains of this ring stay in it. Who changes that calls <see cref="QueueServer.Serve"/>.</summary>
    internal virtual bool WantsChains(VhostUserRing ring) => true;

    /// <summary>Takes the next chain of the ring and starts the request; it may be finished before this returns.</summary>
    internal abstract PopResult TakeOne(QueueServer server, VhostUserRing ring);

    /// <summary>Back to the state after power-on: no request is in flight.</summary>
    internal abstract void Reset();

    /// <summary>The session is over: no request is in flight.</summary>
    internal abstract void Close();
}
