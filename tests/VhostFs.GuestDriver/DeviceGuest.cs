using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Virtio;
using VhostFs.VhostUser;

namespace VhostFs.GuestDriver;

/// <summary>What the drivers of tests have in common: chains of descriptors of any sizes, the configuration space, and the area for what is in flight.</summary>
internal abstract class DeviceGuest : IDisposable
{
    /// <summary>What room is filled with before: not what a device writes.</summary>
    public const byte Untouched = 0xfe;

    protected DeviceGuest(string path, VirtioFeatures features, VirtioFeatures offered, int queues, int queueSize, GuestRam? ram, ulong offeredProtocol)
    {
        FrontEnd = ram is null ? new FrontEnd(path) : new FrontEnd(path, ram);
        FrontEnd.Negotiate(features, FrontEnd.Offered | offered, offeredProtocol);
        Expect.Equal(0UL, FrontEnd.AddMemory());
        for (int i = 0; i < queues; i++) { FrontEnd.AddQueue(i, size: queueSize); }
    }

    public FrontEnd FrontEnd { get; }

    /// <summary>Bytes in, and room for as many; what is in the room then, and how much the device says that it wrote.</summary>
    /// <param name="readable">Sizes of the readable descriptors; what is left over comes last.</param>
    /// <param name="writable">The same for the writable ones.</param>
    public (byte[] Room, uint Used) Exchange(byte[] request, int roomBytes, int[] readable, int[] writable, DriverQueue queue)
    {
        GuestRam ram = FrontEnd.Ram;
        int mark = ram.Mark;
        ushort head = Make(request, roomBytes, readable, writable, queue, out List<(int At, int Length)> room);
        Submit(queue, head);
        uint used = FrontEnd.WaitUsed(queue, head);
        byte[] data = [.. room.SelectMany(r => ram.At(r.At, r.Length).ToArray())];
        ram.Rewind(mark);
        return (data, used);
    }

    /// <summary>A chain that is not yet available, and where its room is.</summary>
    public ushort Make(byte[] request, int roomBytes, int[] readable, int[] writable, DriverQueue queue, out List<(int At, int Length)> room)
    {
        GuestRam ram = FrontEnd.Ram;
        var parts = new List<Desc>();
        room = Place(roomBytes, writable);
        int done = 0;
        foreach ((int at, int length) in Place(request.Length, readable))
        {
            request.AsSpan(done, length).CopyTo(ram.At(at, length));
            done += length;
            parts.Add(new Desc(GuestRam.Gpa(at), (uint)length));
        }
        foreach ((int at, int length) in room)
        {
            ram.At(at, length).Fill(Untouched);
            parts.Add(new Desc(GuestRam.Gpa(at), (uint)length, Desc.FlagWrite));
        }
        bool isIndirect = (FrontEnd.Features & VirtioFeatures.IndirectDesc) != 0;
        return isIndirect ? queue.IndirectChain([.. parts]) : queue.Chain([.. parts]);
    }

    public static void Submit(DriverQueue queue, ushort head)
    {
        queue.MakeAvailable(head);
        queue.KickOnce();
    }

    public byte[]? GetConfig(uint offset, uint size, int answerBytes = -1) => FrontEnd.GetConfig(offset, size, answerBytes);

    public ulong? SetConfig(uint offset, params byte[] bytes)
    {
        byte[] message = new byte[ConfigRange.Size + bytes.Length];
        MemoryMarshal.Write(message, new ConfigRange(offset, (uint)bytes.Length, 0));
        bytes.CopyTo(message, ConfigRange.Size);
        return FrontEnd.Set(MessageId.SetConfig, message);
    }

    /// <summary>Stops a queue; where it has stopped.</summary>
    public uint GetBase(uint queue)
    {
        var state = new VringState(queue, 0);
        FrontEnd.Send(MessageId.GetVringBase, MemoryMarshal.AsBytes(new ReadOnlySpan<VringState>(in state)));
        return (uint)(FrontEnd.Receive(MessageId.GetVringBase)!.Value >> 32);
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
