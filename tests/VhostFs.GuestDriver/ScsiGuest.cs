using System.Buffers.Binary;
using System.Runtime.InteropServices;
using VhostFs.Virtio;
using VhostFs.VhostUser;

namespace VhostFs.GuestDriver;

/// <summary>What a command came back with; the sense as 0xKKCCQQ (key, code, qualifier), 0 without.</summary>
internal readonly record struct ScsiAnswer(ScsiResponse Response, ScsiStatus Status, int Sense, byte[] Data, uint Residual, uint Used, byte[] SenseData)
{
    public bool IsGood => Response == ScsiResponse.Ok && Status == ScsiStatus.Good;
}

/// <summary>The virtio-scsi driver of a test.</summary>
internal sealed class ScsiGuest : DeviceGuest
{
    public const VirtioFeatures Device = (VirtioFeatures)(ScsiFeatures.Hotplug | ScsiFeatures.Change);
    public const ulong Protocol = 0xb229;
    public const VirtioFeatures All = FrontEnd.AllFeatures | Device;

    // Sense keys, codes and qualifiers by name, so that tests read as the standard does.
    public const int PowerOn = 0x062900, InvalidOpcode = 0x052000, OutOfRange = 0x052100, InvalidField = 0x052400, NoUnit = 0x052500, InvalidParameter = 0x052600, ListLength = 0x051A00;
    public const int WriteProtected = 0x072700, ReadError = 0x031100, WriteError = 0x030C00, NoMedium = 0x023A00;

    /// <param name="isReady">The unit attention of power-on is taken out of the way.</param>
    public ScsiGuest(string path, VirtioFeatures features = All, int queues = 3, int queueSize = 64, GuestRam? ram = null, bool isReady = true)
        : base(path, features, Device, queues, queueSize, ram, Protocol)
    {
        if (isReady) { Expect.Equal(PowerOn, TestUnitReady().Sense); }
    }

    public DriverQueue ControlQueue => FrontEnd.Queues[0];

    public DriverQueue EventQueue => FrontEnd.Queues[1];

    public DriverQueue Queue => FrontEnd.Queues[2];

    /// <summary>As the driver has set them.</summary>
    public int SenseBytes { get; set; } = 96;

    /// <inheritdoc cref="SenseBytes"/>
    public int CdbBytes { get; set; } = 32;

    public ScsiConfig Config => MemoryMarshal.Read<ScsiConfig>(GetConfig(0, ScsiConfig.Size)!);

    public ScsiAnswer TestUnitReady(int target = 0) => Command("000000000000", target: target);

    public ScsiAnswer In(string cdb, int bytes, int target = 0) => Command(cdb, [], bytes, target);

    public ScsiAnswer Out(string cdb, byte[] data, int target = 0) => Command(cdb, data, 0, target);

    public ScsiAnswer Read(ulong block, int blocks, int blockBytes = 512) => In(Cdb16(0x88, block, (uint)blocks), blocks * blockBytes);

    public ScsiAnswer Write(ulong block, byte[] data, int blockBytes = 512) => Out(Cdb16(0x8A, block, (uint)(data.Length / blockBytes)), data);

    /// <param name="cdb">In hexadecimal; zeroes behind it.</param>
    public ScsiAnswer Command(string cdb, byte[]? outData = null, int inBytes = 0, int target = 0, ushort lun = 0x4000, int[]? readable = null, int[]? writable = null, DriverQueue? queue = null)
    {
        byte[] request = Request(Convert.FromHexString(cdb), outData ?? [], target, lun);
        return Raw(request, inBytes, readable ?? [ScsiCommandHeader.Size + CdbBytes], writable ?? [ScsiCommandAnswer.Size + SenseBytes], queue ?? Queue);
    }

    public ScsiAnswer Raw(byte[] request, int inBytes, int[] readable, int[] writable, DriverQueue queue) =>
        Parse(Exchange(request, ScsiCommandAnswer.Size + SenseBytes + inBytes, readable, writable, queue));

    public byte[] Request(byte[] cdb, byte[] outData, int target = 0, ushort lun = 0x4000, ulong id = 1)
    {
        byte[] request = new byte[ScsiCommandHeader.Size + CdbBytes + outData.Length];
        Address(target, lun).CopyTo(request, 0);
        BinaryPrimitives.WriteUInt64LittleEndian(request.AsSpan(8), id);
        cdb.CopyTo(request, ScsiCommandHeader.Size);
        outData.CopyTo(request, ScsiCommandHeader.Size + CdbBytes);
        return request;
    }

    /// <summary>Begins a write of one block of 512 bytes, with nothing more to answer than status and sense; returns its head.</summary>
    public ushort BeginWrite(ulong id)
    {
        byte[] request = Request(Convert.FromHexString(Cdb10(0x2A, (uint)id, 1)), new byte[512], id: id);
        ushort head = Make(request, ScsiCommandAnswer.Size + SenseBytes, [], [], Queue, out _);
        Submit(Queue, head);
        return head;
    }

    /// <summary>A task management function; its response, or Untouched.</summary>
    public ScsiResponse Manage(ScsiTaskFunction function, int target = 0, ushort lun = 0x4000, ulong id = 1) => (ScsiResponse)Exchange(ManageRequest(function, target, lun, id), 1, [], [], ControlQueue).Room[0];

    public static byte[] ManageRequest(ScsiTaskFunction function, int target = 0, ushort lun = 0x4000, ulong id = 1)
    {
        byte[] request = new byte[ScsiTaskRequest.Size];
        BinaryPrimitives.WriteUInt32LittleEndian(request.AsSpan(4), (uint)function);
        Address(target, lun).CopyTo(request, 8);
        BinaryPrimitives.WriteUInt64LittleEndian(request.AsSpan(16), id);
        return request;
    }

    /// <summary>Leaves buffers for events; returns where they are.</summary>
    public List<int> LeaveEventBuffers(int count, int bytes = ScsiEvent.Size)
    {
        var places = new List<int>();
        for (int i = 0; i < count; i++)
        {
            int at = FrontEnd.Ram.Allocate(bytes);
            places.Add(at);
            Submit(EventQueue, EventQueue.Chain(new Desc(GuestRam.Gpa(at), (uint)bytes, Desc.FlagWrite)));
        }
        return places;
    }

    /// <summary>The event in the buffer: type, target, reason.</summary>
    public (uint Type, int Target, uint Reason) WaitForEvent(int at)
    {
        uint used = 0;
        FrontEnd.Poll(() => EventQueue.TryTakeUsed(out _, out used), "an event");
        Expect.Equal((uint)ScsiEvent.Size, used);
        Span<byte> told = FrontEnd.Ram.At(at, ScsiEvent.Size);
        uint type = BinaryPrimitives.ReadUInt32LittleEndian(told);
        if ((type & 0x7fffffff) != 0) { Expect.True(told.Slice(4, 8).SequenceEqual<byte>([1, told[5], 0, 0, 0, 0, 0, 0])); }
        return (type, told[5], BinaryPrimitives.ReadUInt32LittleEndian(told[12..]));
    }

    public static string Cdb10(byte opcode, uint block, ushort count, byte flags = 0) => $"{opcode:x2}{flags:x2}{block:x8}00{count:x4}00";

    public static string Cdb12(byte opcode, uint block, uint count, byte flags = 0) => $"{opcode:x2}{flags:x2}{block:x8}{count:x8}0000";

    public static string Cdb16(byte opcode, ulong block, uint count, byte flags = 0) => $"{opcode:x2}{flags:x2}{block:x16}{count:x8}0000";

    private static byte[] Address(int target, ushort lun) => [1, (byte)target, (byte)(lun >> 8), (byte)lun, 0, 0, 0, 0];

    private ScsiAnswer Parse((byte[] Room, uint Used) answer)
    {
        byte[] room = answer.Room;
        uint senseBytes = BinaryPrimitives.ReadUInt32LittleEndian(room);
        byte[] sense = room[ScsiCommandAnswer.Size..][..(int)Math.Min(senseBytes, (uint)SenseBytes)];
        int code = sense.Length < 14 ? 0 : (sense[2] << 16) | (sense[12] << 8) | sense[13];
        return new ScsiAnswer((ScsiResponse)room[11], (ScsiStatus)room[10], code, room[(ScsiCommandAnswer.Size + SenseBytes)..], BinaryPrimitives.ReadUInt32LittleEndian(room.AsSpan(4)), answer.Used, sense);
    }
}
