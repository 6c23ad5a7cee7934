using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;

namespace VhostFs.LoadBench.Load;

/// <summary>Each file gets another name in its directory: RENAME.</summary>
internal sealed class MetaRename(MetaFiles files) : Workload
{
    private int _next;

    public override bool TryBegin(RequestSlot slot)
    {
        if (_next == files.Count) { return false; }
        slot.Item = _next++;
        Span<byte> names = stackalloc byte[32];
        int first = MetaFiles.Name(slot.Item, isMoved: false, names).Length;
        int second = MetaFiles.Name(slot.Item, isMoved: true, names[first..]).Length;
        slot.Fuse(FuseOpcode.RENAME, files.ParentOf(slot.Item), new FuseRenameIn(files.ParentOf(slot.Item)), names[..(first + second)]);
        return true;
    }

    public override bool TryGoOn(RequestSlot slot)
    {
        Expect.Equal(Errno.None, slot.FuseError());
        return false;
    }
}
