using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Virtio;
using VhostFs.VhostUser;
using Xunit;

namespace VhostFs.GuestDriver;

/// <summary>The virtio-blk driver of a test: requests in descriptors of any sizes, and what comes back.</summary>
internal sealed class BlkGuest : IDisposable
{
    public const VirtioFeatures Device = (VirtioFeatures)(BlkFeatures.SizeMax | BlkFeatures.SegMax | BlkFeatures.BlkSize | BlkFeatures.Topology | BlkFeatures.Flush | BlkFeatures.ConfigWce
        | BlkFeatures.MultiQueue | BlkFeatures.Discard | BlkFeatures.WriteZeroes);
    public const VirtioFeatures ReadOnlyDevice = (Device | (VirtioFeatures)BlkFeatures.ReadOnly) & ~(VirtioFeatures)(BlkFeatures.Discard | BlkFeatures.WriteZeroes);
    public const VirtioFeatures All = FrontEnd.AllFeatures | Device;

    /// <summary>Not what a device writes.</summary>
    public const byte NoStatus = 0xfe;

    /// <param name="features">Acked.</param>
    /// <param name="offered">What the device must offer beside the ring's.</param>
    public BlkGuest(string path, VirtioFeatures features = All, VirtioFeatures offered = Device, int queues = 1, int queueSize = 64, GuestRam? ram = null)
    {
        FrontEnd = ram is null ? new FrontEnd(path) : new FrontEnd(path, ram);
        FrontEnd.Negotiate(features, FrontEnd.AllFeatures | offered, 0xb229);
        Assert.Equal(0UL, FrontEnd.AddMemory());
        for (int i = 0; i < queues; i++) { FrontEnd.AddQueue(i, size: queueSize); }
    }

    public FrontEnd FrontEnd { get; }

    public DriverQueue Queue => FrontEnd.Queues[0];

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
        GuestRam ram = FrontEnd.Ram;
        int mark = ram.Mark;
        var parts = new List<Desc>();
        List<(int At, int Length)> room = Place(roomBytes, writable);
        int done = 0;
        foreach ((int at, int length) in Place(request.Length, readable))
        {
            request.AsSpan(done, length).CopyTo(ram.At(at, length));
            done += length;
            parts.Add(new Desc(GuestRam.Gpa(at), (uint)length));
        }
        foreach ((int at, int length) in room)
        {
            ram.At(at, length).Fill(NoStatus);
            parts.Add(new Desc(GuestRam.Gpa(at), (uint)length, Desc.FlagWrite));
        }
        bool isIndirect = (FrontEnd.Features & VirtioFeatures.IndirectDesc) != 0;
        ushort head = isIndirect ? queue.IndirectChain([.. parts]) : queue.Chain([.. parts]);
        Submit(queue, head);
        uint used = FrontEnd.WaitUsed(queue, head);
        byte[] data = [.. room.SelectMany(r => ram.At(r.At, r.Length).ToArray())];
        ram.Rewind(mark);
        return (data.Length == 0 ? NoStatus : data[^1], data.Length == 0 ? data : data[..^1], used);
    }

    public static void Submit(DriverQueue queue, ushort head)
    {
        ushort old = queue.AvailIndex;
        queue.MakeAvailable(head);
        Interlocked.MemoryBarrier();
        if (queue.NeedsKick(old)) { queue.Kick(); }
    }

    public byte[]? GetConfig(uint offset = 0, uint size = BlkConfig.Size, int answerBytes = -1)
    {
        byte[] message = new byte[ConfigRange.Size + size];
        MemoryMarshal.Write(message, new ConfigRange(offset, size, 0));
        FrontEnd.Send(MessageId.GetConfig, message);
        return FrontEnd.ReceivePayload(MessageId.GetConfig, answerBytes < 0 ? message.Length : answerBytes)?.Skip(ConfigRange.Size).ToArray();
    }

    public BlkConfig Config => MemoryMarshal.Read<BlkConfig>(GetConfig()!);

    public ulong? SetConfig(uint offset, params byte[] bytes)
    {
        byte[] message = new byte[ConfigRange.Size + bytes.Length];
        MemoryMarshal.Write(message, new ConfigRange(offset, (uint)bytes.Length, 0));
        bytes.CopyTo(message, ConfigRange.Size);
        return FrontEnd.Set(MessageId.SetConfig, message);
    }

    public (InflightDescription Description, SafeFd Area) GetInflight(int queues = 1, int queueSize = 64, int payloadBytes = InflightDescription.Size)
    {
        FrontEnd.Send(MessageId.GetInflightFd, Payload(new InflightDescription(0, 0, (ushort)queues, (ushort)queueSize), payloadBytes));
        int[] fds = [-1];
        byte[] answer = FrontEnd.ReceivePayload(MessageId.GetInflightFd, payloadBytes, fds)!;
        return (new InflightDescription(BitConverter.ToUInt64(answer), BitConverter.ToUInt64(answer, 8), BitConverter.ToUInt16(answer, 16), BitConverter.ToUInt16(answer, 18)), new SafeFd(fds[0]));
    }

    public ulong? SetInflight(InflightDescription description, SafeFd area, int payloadBytes = InflightDescription.Size) =>
        FrontEnd.Set(MessageId.SetInflightFd, Payload(description, payloadBytes), area.Fd);

    public void Dispose() => FrontEnd.Dispose();

    private static byte[] Payload(InflightDescription description, int bytes)
    {
        byte[] payload = new byte[InflightDescription.PaddedSize];
        MemoryMarshal.Write(payload, description);
        return payload[..bytes];
    }

    // A gap behind each, so that what looks like one segment is one descriptor; addresses as odd as they come.
    private List<(int At, int Length)> Place(int bytes, int[] sizes)
    {
        var places = new List<(int At, int Length)>();
        int left = bytes;
        foreach (int size in sizes.Append(bytes))
        {
            int length = Math.Min(size, left);
            left -= length;
            if (length > 0) { places.Add((FrontEnd.Ram.Allocate(length + 1, alignment: 1), length)); }
        }
        return places;
    }
}
