using System.Runtime.InteropServices;
using VhostFs.Virtio;
using VhostFs.VhostUser;

namespace VhostFs.GuestDriver;

/// <summary>The virtio-blk driver of a test: requests in descriptors of any sizes, and what comes back.</summary>
/// <param name="features">Acked.</param>
/// <param name="offered">What the device must offer beside the ring's.</param>
internal sealed class BlkGuest(string path, VirtioFeatures features = BlkGuest.All, VirtioFeatures offered = BlkGuest.Device, int queues = 1, int queueSize = 64, GuestRam? ram = null)
    : DeviceGuest(path, features, offered | VirtioFeatures.LogAll, queues, queueSize, ram, Protocol)
{
    public const VirtioFeatures Device = (VirtioFeatures)(BlkFeatures.SizeMax | BlkFeatures.SegMax | BlkFeatures.BlkSize | BlkFeatures.Topology | BlkFeatures.Flush | BlkFeatures.ConfigWce
        | BlkFeatures.MultiQueue | BlkFeatures.Discard | BlkFeatures.WriteZeroes);
    public const VirtioFeatures ReadOnlyDevice = (Device | (VirtioFeatures)BlkFeatures.ReadOnly) & ~(VirtioFeatures)(BlkFeatures.Discard | BlkFeatures.WriteZeroes);
    public const ulong Protocol = 0xb22b;
    public const VirtioFeatures All = FrontEnd.AllFeatures | Device;

    /// <summary>Not what a device writes.</summary>
    public const byte NoStatus = Untouched;

    public DriverQueue Queue => FrontEnd.Queues[0];

    public BlkConfig Config => MemoryMarshal.Read<BlkConfig>(GetConfig()!);

    public byte[]? GetConfig() => GetConfig(0, BlkConfig.Size);

    public (byte Status, byte[] Data, uint Used) Read(ulong sector, int bytes) => Request(BlkRequestType.In, sector, [], bytes);

    public byte Write(ulong sector, byte[] data) => Request(BlkRequestType.Out, sector, data, 0).Status;

    public byte Flush() => Request(BlkRequestType.Flush, 0, [], 0).Status;

    public byte Change(BlkRequestType type, params BlkRange[] ranges) => Request(type, 0, MemoryMarshal.AsBytes(ranges.AsSpan()).ToArray(), 0).Status;

    /// <param name="readable">Sizes of the readable descriptors; what is left over comes last. Null: the header in one of its own.</param>
    /// <param name="writable">The same for the writable ones. Null: the status in one of its own.</param>
    public (byte Status, byte[] Data, uint Used) Request(BlkRequestType type, ulong sector, byte[] outData, int inBytes, int[]? readable = null, int[]? writable = null, DriverQueue? queue = null)
    {
        var header = new BlkRequestHeader(type, 0, sector);
        byte[] request = [.. MemoryMarshal.AsBytes(new ReadOnlySpan<BlkRequestHeader>(in header)), .. outData];
        return Raw(request, inBytes + 1, readable ?? [BlkRequestHeader.Size], writable ?? [inBytes], queue ?? Queue);
    }

    /// <summary>Any bytes in, and room for <paramref name="roomBytes"/>, the last of them the status.</summary>
    public (byte Status, byte[] Data, uint Used) Raw(byte[] request, int roomBytes, int[] readable, int[] writable, DriverQueue queue)
    {
        (byte[] data, uint used) = Exchange(request, roomBytes, readable, writable, queue);
        return (data.Length == 0 ? NoStatus : data[^1], data.Length == 0 ? data : data[..^1], used);
    }
}
