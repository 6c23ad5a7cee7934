using System.Runtime.InteropServices;
using VhostFs.Virtio;
using VhostFs.VhostUser;

namespace VhostFs.GuestDriver;

/// <summary>virtio-blk requests in slots: header, data, status.</summary>
internal static class BlkSlot
{
    public const int SectorBytes = 512;

    /// <summary>What a driver of such requests wants of the device.</summary>
    public const VirtioFeatures Features = (VirtioFeatures)(BlkFeatures.SizeMax | BlkFeatures.SegMax | BlkFeatures.BlkSize | BlkFeatures.Flush);

    /// <summary>Of the device, in sectors of 512 bytes; its features must have been agreed on with CONFIG.</summary>
    public static ulong BlkCapacity(this FrontEnd frontEnd) => MemoryMarshal.Read<ulong>(frontEnd.GetConfig(0, sizeof(ulong))
        ?? throw new DriverException("the device has closed the connection instead of showing its configuration"));

    public static void BlkRead(this RequestSlot slot, ulong sector, int bytes) => Place(slot, BlkRequestType.In, sector, bytes);

    public static void BlkWrite(this RequestSlot slot, ulong sector, int bytes) => Place(slot, BlkRequestType.Out, sector, bytes);

    public static void BlkFlush(this RequestSlot slot) => Place(slot, BlkRequestType.Flush, 0, 0);

    /// <summary>The status says that it was done.</summary>
    public static bool IsBlkDone(this RequestSlot slot) => slot.Reply[0] == (byte)BlkStatus.Ok;

    private static void Place(RequestSlot slot, BlkRequestType type, ulong sector, int bytes)
    {
        MemoryMarshal.Write(slot.Request, new BlkRequestHeader(type, 0, sector));
        slot.Reply[0] = DeviceGuest.Untouched;
        slot.Clear();
        slot.AddReadable(BlkRequestHeader.Size);
        slot.AddData(bytes, isWritable: type == BlkRequestType.In);
        slot.AddWritable(1);
    }
}
