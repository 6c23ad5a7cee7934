using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;

namespace VhostFs.LoadBench.Load;

/// <summary>Each file goes: UNLINK, and then FORGET, with which the server lets go of what nobody has open.</summary>
internal sealed class MetaUnlink(MetaFiles files) : Workload
{
    private const int Unlinked = 0, Forgotten = 1;
    private int _next;

    public override bool TryBegin(RequestSlot slot)
    {
        if (_next == files.Count) { return false; }
        slot.Step = Unlinked;
        slot.Item = _next++;
        slot.FuseName(FuseOpcode.UNLINK, files.ParentOf(slot.Item), MetaFiles.Name(slot.Item, isMoved: true, stackalloc byte[16]));
        return true;
    }

    public override bool TryGoOn(RequestSlot slot)
    {
        if (slot.Step == Forgotten) { return false; } // is not answered
        Expect.Equal(Errno.None, slot.FuseError());
        slot.Step = Forgotten;
        slot.Fuse(FuseOpcode.FORGET, files.Nodes[slot.Item], new FuseForgetIn(files.Lookups[slot.Item]));
        return true;
    }
}
