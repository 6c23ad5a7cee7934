using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;

namespace VhostFs.LoadBench.Load;

/// <summary>stat of a name that the guest does not have in its cache: LOOKUP. All files, over and over.</summary>
internal sealed class MetaStat(MetaFiles files) : Workload
{
    private int _next;

    public override bool TryBegin(RequestSlot slot)
    {
        slot.Item = _next;
        _next = _next + 1 == files.Count ? 0 : _next + 1;
        slot.FuseName(FuseOpcode.LOOKUP, files.ParentOf(slot.Item), MetaFiles.Name(slot.Item, isMoved: false, stackalloc byte[16]), Marshal.SizeOf<FuseEntryOut>());
        return true;
    }

    public override bool TryGoOn(RequestSlot slot)
    {
        Expect.Equal(Errno.None, slot.FuseError());
        Expect.Equal(files.Nodes[slot.Item], slot.FuseReply<FuseEntryOut>().NodeId);
        files.Lookups[slot.Item]++;
        return false;
    }
}
