using System.Runtime.InteropServices;
using System.Text;
using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;

namespace VhostFs.LoadBench.Load;

/// <summary>GETATTR of one file, or LOOKUP of its name: what a request costs beside its work.</summary>
internal sealed class AttributeJob(ulong node, byte[]? name) : Workload
{
    private const string Name = "loadbench.attr";

    public static IEnumerable<Phase> Prepare(LoadDevice device, bool isLookup)
    {
        FuseEntryOut file = device.Client.FindOrCreate(FuseClient.Root, Name);
        Workload job = new AttributeJob(file.NodeId, isLookup ? Encoding.UTF8.GetBytes(Name + "\0") : null);
        yield return new Phase(isLookup ? "lookup" : "getattr", [.. device.Queues.Select(_ => job)]); // knows nothing of what is in flight
    }

    public override bool TryBegin(RequestSlot slot)
    {
        if (name is null) { slot.Fuse(FuseOpcode.GETATTR, node, new FuseGetattrIn(0, 0, 0), Marshal.SizeOf<FuseAttrOut>()); }
        else { slot.FuseName(FuseOpcode.LOOKUP, FuseClient.Root, name, Marshal.SizeOf<FuseEntryOut>()); }
        return true;
    }

    public override bool TryGoOn(RequestSlot slot)
    {
        Expect.Equal(Errno.None, slot.FuseError());
        return false;
    }
}
