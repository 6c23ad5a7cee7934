using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;

namespace VhostFs.LoadBench.Load;

/// <summary>What a database's log does: a write at the end of a file, then fsync. Each slot has a file of its own; an operation is both requests.</summary>
internal sealed class AppendJob((ulong Node, ulong Handle)[] files, int blockBytes) : Workload
{
    private const int Written = 0, Synced = 1;
    private readonly ulong[] _ends = new ulong[files.Length];

    public override int BytesPerOperation => blockBytes;

    public static IEnumerable<Phase> Prepare(LoadOptions options, LoadDevice device)
    {
        FuseClient client = device.Client;
        string[] names = [.. Enumerable.Range(0, device.Slots.Slots.Count).Select(i => $"loadbench-{Environment.ProcessId}-{i}.log")];
        (ulong Node, ulong Handle)[] files = [.. names.Select(name => client.MustCreate(FuseClient.Root, name))];
        device.FillSlots();
        yield return new Phase("fsync-append", new AppendJob(files, options.BlockBytes));
        for (int i = 0; i < files.Length; i++)
        {
            client.Must(client.Release(files[i].Node, files[i].Handle), "close");
            client.Must(client.Unlink(FuseClient.Root, names[i]), "unlink");
            client.Forget(files[i].Node, 1);
        }
    }

    public override bool TryBegin(RequestSlot slot)
    {
        (ulong node, ulong handle) = files[slot.Index];
        slot.Step = Written;
        slot.Fuse(FuseOpcode.WRITE, node, new FuseWriteIn(handle, _ends[slot.Index], (uint)blockBytes), Marshal.SizeOf<FuseWriteOut>(), dataOutBytes: blockBytes);
        _ends[slot.Index] += (uint)blockBytes;
        return true;
    }

    public override bool TryGoOn(RequestSlot slot)
    {
        Expect.Equal(Errno.None, slot.FuseError());
        if (slot.Step == Synced) { return false; }
        slot.Step = Synced;
        slot.Fuse(FuseOpcode.FSYNC, files[slot.Index].Node, new FuseFsyncIn(files[slot.Index].Handle, Flags: 0));
        return true;
    }
}
