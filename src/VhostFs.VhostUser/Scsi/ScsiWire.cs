using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace VhostFs.VhostUser;

/// <summary>VIRTIO_SCSI_F_* (virtio 1.2, 5.6.3).</summary>
[Flags]
internal enum ScsiFeatures : ulong
{
    None = 0,
    InOut = 1UL << 0,
    Hotplug = 1UL << 1,
    Change = 1UL << 2,
    T10Pi = 1UL << 3,
}

/// <summary>VIRTIO_SCSI_S_*: what became of a request, beside its SCSI status (virtio 1.2, 5.6.6.1, 5.6.6.2).</summary>
internal enum ScsiResponse : byte
{
    /// <summary>OK; FUNCTION_COMPLETE for task management.</summary>
    Ok = 0,
    Overrun = 1,
    Aborted = 2,
    BadTarget = 3,
    Failure = 9,
    FunctionSucceeded = 10,
    FunctionRejected = 11,
    IncorrectLun = 12,
}

/// <summary>The type of a control request (virtio 1.2, 5.6.6.2).</summary>
internal enum ScsiControlType : uint
{
    TaskManagement = 0,
    AsyncNotifyQuery = 1,
    AsyncNotifySubscribe = 2,
}

/// <summary>VIRTIO_SCSI_T_TMF_*.</summary>
internal enum ScsiTaskFunction : uint
{
    AbortTask = 0,
    AbortTaskSet = 1,
    ClearAca = 2,
    ClearTaskSet = 3,
    NexusReset = 4,
    LogicalUnitReset = 5,
    QueryTask = 6,
    QueryTaskSet = 7,
}

/// <summary>VIRTIO_SCSI_T_* of events (virtio 1.2, 5.6.6.3).</summary>
internal enum ScsiEventType : uint
{
    None = 0,
    TransportReset = 1,
    ParameterChange = 3,

    /// <summary>Or-ed to any: events before this one were lost.</summary>
    EventsMissed = 0x80000000,
}

/// <summary>Where a request goes to: a single-level LUN of a target (virtio 1.2, 5.6.6.1).</summary>
/// <remarks>Byte 0 is 1, byte 1 the target, bytes 2 and 3 the LUN by peripheral (0x00) or flat space addressing (0x40), the rest is zero.</remarks>
internal readonly record struct ScsiAddress(ulong BigEndian)
{
    /// <summary>LUN 0 of a target as REPORT LUNS has it: what Linux compares the address in an event with.</summary>
    public static ScsiAddress OfTarget(int target) => new(0x0100_0000_0000_0000 | ((ulong)target << 48));

    /// <summary>-1: it is no address of a target.</summary>
    public int Target => BigEndian >> 56 == 1 ? (int)(BigEndian >> 48) & 0xff : -1;

    /// <summary>LUN 0, and nothing below it.</summary>
    public bool IsFirstLun => (BigEndian & 0xffff_ffff_ffff) is 0 or 0x4000_0000_0000;
}

/// <summary>What is before the CDB in the readable part of a command, struct virtio_scsi_req_cmd.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiCommandHeader(ulong Lun, ulong Id, byte TaskAttribute, byte Priority, byte CommandReference)
{
    public const int Size = 19;

    public ScsiAddress Address => new(BinaryPrimitives.ReverseEndianness(Lun));
}

/// <summary>What is before the sense data in the writable part of a command.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiCommandAnswer(uint SenseBytes, uint Residual, ushort StatusQualifier, ScsiStatus Status, ScsiResponse Response)
{
    public const int Size = 12;
}

/// <summary>struct virtio_scsi_ctrl_tmf, as far as it is readable. Its answer is one byte, the <see cref="ScsiResponse"/>.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiTaskRequest(ScsiControlType Type, ScsiTaskFunction Function, ulong Lun, ulong Id)
{
    public const int Size = 24;

    public ScsiAddress Address => new(BinaryPrimitives.ReverseEndianness(Lun));
}

/// <summary>struct virtio_scsi_ctrl_an, as far as it is readable.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiNotifyRequest(ScsiControlType Type, ulong Lun, uint EventsRequested)
{
    public const int Size = 16;

    public ScsiAddress Address => new(BinaryPrimitives.ReverseEndianness(Lun));
}

/// <summary>The writable part of struct virtio_scsi_ctrl_an.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiNotifyAnswer(uint EventsActual, ScsiResponse Response)
{
    public const int Size = 5;
}

/// <summary>struct virtio_scsi_event.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiEvent(ScsiEventType Type, ulong Lun, uint Reason)
{
    public const int Size = 16;

    private const uint ReasonRescan = 1, ReasonRemoved = 2;

    public static ScsiEvent None => default;

    public static ScsiEvent Added(int target) => new(ScsiEventType.TransportReset, LunOf(target), ReasonRescan);

    public static ScsiEvent Removed(int target) => new(ScsiEventType.TransportReset, LunOf(target), ReasonRemoved);

    /// <summary>The reason is the additional sense code, and above it its qualifier.</summary>
    public static ScsiEvent Changed(int target, ScsiSense sense) => new(ScsiEventType.ParameterChange, LunOf(target), sense.Code | ((uint)sense.Qualifier << 8));

    private static ulong LunOf(int target) => BinaryPrimitives.ReverseEndianness(ScsiAddress.OfTarget(target).BigEndian);
}

/// <summary>struct virtio_scsi_config (virtio 1.2, 5.6.4).</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct ScsiConfig(uint QueueCount, uint SegMax, uint MaxSectors, uint CommandsPerLun, uint EventInfoSize, uint SenseSize, uint CdbSize,
    ushort MaxChannel, ushort MaxTarget, uint MaxLun)
{
    public const int Size = 36;

    /// <summary>The two fields that a driver may write.</summary>
    public const int SenseSizeOffset = 20, CdbSizeOffset = 24;
}
