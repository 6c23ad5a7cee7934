using VhostFs.GuestDriver;

namespace VhostFs.LoadBench.Load;

/// <summary>Reads or writes of a disk.</summary>
internal sealed class BlkTransferJob(Offsets offsets, int blockBytes, bool isWrite) : Workload
{
    private Offsets _offsets = offsets;

    public override int BytesPerOperation => blockBytes;

    public static IEnumerable<Phase> Prepare(LoadOptions options, LoadDevice device)
    {
        long bytes = Math.Min(options.FileBytes, device.CapacityBytes);
        device.FillSlots();
        if (options.FillsDisk) { LoadLoop.Run(device.Slots, new BlkTransferJob(new Offsets(bytes, options.BlockBytes, isRandom: false), options.BlockBytes, isWrite: true), double.PositiveInfinity, bytes / options.BlockBytes, new()); }
        yield return new Phase(options.Job, [.. device.Queues.Select((_, queue) => new BlkTransferJob(Jobs.OffsetsOf(options, bytes, queue), options.BlockBytes, Jobs.IsWrite(options.Job)))]);
    }

    public override bool TryBegin(RequestSlot slot)
    {
        ulong sector = (ulong)_offsets.Next() / BlkSlot.SectorBytes;
        if (isWrite) { slot.BlkWrite(sector, blockBytes); }
        else { slot.BlkRead(sector, blockBytes); }
        return true;
    }

    public override bool TryGoOn(RequestSlot slot)
    {
        Expect.True(slot.IsBlkDone(), "the disk has done it");
        return false;
    }
}
