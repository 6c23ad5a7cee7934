using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;

namespace VhostFs.LoadBench.Load;

/// <summary>open(O_CREAT | O_EXCL) and close: LOOKUP, which finds nothing, CREATE, FLUSH, RELEASE.</summary>
internal sealed class MetaCreate(MetaFiles files) : Workload
{
    private const int Looked = 0, Created = 1, Flushed = 2, Released = 3;
    private const uint Mode = 0x81A4; // a regular file, 0644
    private int _next;

    public override bool TryBegin(RequestSlot slot)
    {
        if (_next == files.Count) { return false; }
        slot.Step = Looked;
        slot.Item = _next++;
        slot.FuseName(FuseOpcode.LOOKUP, files.ParentOf(slot.Item), MetaFiles.Name(slot.Item, isMoved: false, stackalloc byte[16]), Marshal.SizeOf<FuseEntryOut>());
        return true;
    }

    public override bool TryGoOn(RequestSlot slot)
    {
        Errno errno = slot.FuseError();
        switch (slot.Step++)
        {
            case Looked:
                Expect.True(errno == Errno.ENOENT || (errno == Errno.None && slot.FuseReply<FuseEntryOut>().NodeId == 0), "the file is new");
                var create = new FuseCreateIn(FileCalls.O_RDWR | FileCalls.O_CREAT | FileCalls.O_EXCL, Mode, Umask: 0x12);
                slot.Fuse(FuseOpcode.CREATE, files.ParentOf(slot.Item), create, MetaFiles.Name(slot.Item, isMoved: false, stackalloc byte[16]), Marshal.SizeOf<FuseCreateOut>());
                return true;
            case Created:
                Expect.Equal(Errno.None, errno);
                FuseCreateOut created = slot.FuseReply<FuseCreateOut>();
                files.Nodes[slot.Item] = created.Entry.NodeId;
                files.Lookups[slot.Item]++;
                slot.Handle = created.Open.Handle;
                slot.Fuse(FuseOpcode.FLUSH, created.Entry.NodeId, new FuseFlushIn(slot.Handle, 0, 0, LockOwner: 1));
                return true;
            case Flushed:
                // ENOSYS: the server wants to hear of no more flushes.
                Expect.True(errno is Errno.None or Errno.ENOSYS, "the flush succeeds");
                slot.Fuse(FuseOpcode.RELEASE, files.Nodes[slot.Item], new FuseReleaseIn(slot.Handle, FileCalls.O_RDWR, 0, 0));
                return true;
            default:
                Expect.Equal(Errno.None, errno);
                return false;
        }
    }
}
