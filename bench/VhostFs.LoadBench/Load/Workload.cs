using VhostFs.GuestDriver;

namespace VhostFs.LoadBench.Load;

/// <summary>What is done again and again: an operation is one request or a few, one after the other in one slot.</summary>
/// <remarks>Methods are called between two requests of a measured run: they allocate nothing, and make no system calls.</remarks>
internal abstract class Workload
{
    /// <summary>Payload of one operation; 0: it has none.</summary>
    public virtual int BytesPerOperation => 0;

    /// <summary>Puts the first request of the next operation into the slot; false: there is none left.</summary>
    public abstract bool TryBegin(RequestSlot slot);

    /// <summary>Looks at what came back, and puts the next request of the operation into the slot; false: that was the last one.</summary>
    public abstract bool TryGoOn(RequestSlot slot);
}
