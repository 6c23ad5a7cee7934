using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;

namespace VhostFs.LoadBench.Load;

/// <summary>Reads or writes of one file.</summary>
internal sealed class FsTransferJob(ulong node, ulong handle, Offsets offsets, int blockBytes, bool isWrite) : Workload
{
    private const string Name = "loadbench.dat";
    private Offsets _offsets = offsets;

    public override int BytesPerOperation => blockBytes;

    public static IEnumerable<Phase> Prepare(LoadOptions options, LoadDevice device)
    {
        FuseClient client = device.Client;
        device.FillSlots();
        FuseEntryOut file = client.FindOrCreate(FuseClient.Root, Name);
        if (file.Attributes.SizeBytes < (ulong)options.FileBytes)
        {
            ulong filled = client.MustOpen(file.NodeId, FileCalls.O_RDWR);
            var fill = new FsTransferJob(file.NodeId, filled, new Offsets(options.FileBytes, options.BlockBytes, isRandom: false), options.BlockBytes, isWrite: true);
            LoadLoop.Run(device.Slots, fill, double.PositiveInfinity, options.FileBytes / options.BlockBytes, new());
            client.Must(client.Fsync(file.NodeId, filled), "fsync");
            client.Must(client.Release(file.NodeId, filled), "close");
        }
        ulong handle = client.MustOpen(file.NodeId, FileCalls.O_RDWR | (options.IsDirect ? FileCalls.O_DIRECT : 0));
        FsTransferJob OfQueue(int queue) => new(file.NodeId, handle, Jobs.OffsetsOf(options, options.FileBytes, queue), options.BlockBytes, Jobs.IsWrite(options.Job));
        yield return new Phase(options.Job, [.. device.Queues.Select((_, queue) => OfQueue(queue))]);
        client.Must(client.Release(file.NodeId, handle), "close");
    }

    public override bool TryBegin(RequestSlot slot)
    {
        var offset = (ulong)_offsets.Next();
        if (isWrite) { slot.Fuse(FuseOpcode.WRITE, node, new FuseWriteIn(handle, offset, (uint)blockBytes), Marshal.SizeOf<FuseWriteOut>(), dataOutBytes: blockBytes); }
        else { slot.Fuse(FuseOpcode.READ, node, new FuseReadIn(handle, offset, (uint)blockBytes), dataInBytes: blockBytes); }
        return true;
    }

    public override bool TryGoOn(RequestSlot slot)
    {
        Expect.Equal(Errno.None, slot.FuseError());
        long moved = isWrite ? slot.FuseReply<FuseWriteOut>().SizeBytes : slot.UsedBytes - FuseOutHeader.Size;
        Expect.Equal(blockBytes, moved);
        return false;
    }
}
