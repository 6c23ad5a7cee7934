using System.Runtime.InteropServices;

namespace VhostFs.VhostUser;

/// <summary>Front-end message ids (QEMU docs/interop/vhost-user.rst).</summary>
internal enum MessageId : uint
{
    GetFeatures = 1,
    SetFeatures = 2,
    SetOwner = 3,
    ResetOwner = 4,
    SetMemTable = 5,
    SetLogBase = 6,
    SetLogFd = 7,
    SetVringNum = 8,
    SetVringAddr = 9,
    SetVringBase = 10,
    GetVringBase = 11,
    SetVringKick = 12,
    SetVringCall = 13,
    SetVringErr = 14,
    GetProtocolFeatures = 15,
    SetProtocolFeatures = 16,
    GetQueueNum = 17,
    SetVringEnable = 18,
    SetBackendReqFd = 21,
    GetConfig = 24,
    SetConfig = 25,
    GetInflightFd = 31,
    SetInflightFd = 32,
    ResetDevice = 34,
    GetMaxMemSlots = 36,
    AddMemReg = 37,
    RemMemReg = 38,
}

/// <summary>Messages of ours to the front-end, on the socket of SET_BACKEND_REQ_FD.</summary>
internal enum BackendMessageId : uint
{
    ConfigChange = 2,
}

[Flags]
internal enum MessageFlags : uint
{
    VersionMask = 3,
    Version1 = 1,
    Reply = 4,
    NeedReply = 8,
}

[Flags]
public enum VhostUserProtocolFeatures : ulong
{
    None = 0,
    MultiQueue = 1UL << 0,
    LogShmFd = 1UL << 1,
    ReplyAck = 1UL << 3,
    BackendReq = 1UL << 5,
    Config = 1UL << 9,
    BackendSendFd = 1UL << 10,
    InflightShmFd = 1UL << 12,
    ResetDevice = 1UL << 13,
    ConfigureMemSlots = 1UL << 15,
}

/// <summary>The 12 bytes before every message; little-endian (the byte order of every machine we run on).</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct MessageHeader(MessageId Id, MessageFlags Flags, uint PayloadBytes)
{
    public const int Size = 12;

    /// <summary>Bound of any payload; the largest we know is 264 bytes.</summary>
    public const uint MaxPayloadBytes = 4096;
}

/// <summary>"vring state description": NUM, BASE, ENABLE.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct VringState(uint Index, uint Value)
{
    public const int Size = 8;
}

/// <summary>"vring address description": addresses are the front-end's user addresses, but that to log at is the guest's, and means something with <see cref="FlagLog"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct VringAddress(uint Index, uint Flags, ulong Descriptors, ulong Used, ulong Available, ulong Log)
{
    public const int Size = 40;

    /// <summary>VHOST_VRING_F_LOG.</summary>
    public const uint FlagLog = 1;
}

/// <summary>"memory region description".</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct MemoryRegion(ulong GuestAddress, ulong SizeBytes, ulong UserAddress, ulong MmapOffset)
{
    public const int Size = 32;
}

/// <summary>"device configuration space description", before the bytes of the space.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct ConfigRange(uint Offset, uint SizeBytes, uint Flags)
{
    public const int Size = 12;

    /// <summary>VHOST_USER_MAX_CONFIG_SIZE.</summary>
    public const int SpaceBytes = 256;
}

/// <summary>"log description".</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct LogDescription(ulong SizeBytes, ulong Offset)
{
    public const int Size = 16;
}

/// <summary>"inflight description". Front-ends send it with and without padding at its end, and want it back so.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct InflightDescription(ulong SizeBytes, ulong Offset, ushort QueueCount, ushort QueueSize)
{
    public const int Size = 20;
    public const int PaddedSize = 24;
}

/// <summary>SET_VRING_KICK/CALL/ERR: bits 0-7 index, bit 8 "no file descriptor".</summary>
internal readonly record struct VringFdPayload(ulong Value)
{
    public int Index => (int)(Value & 0xff);

    public bool HasNoFd => (Value & 0x100) != 0;

    public bool IsValid => (Value & ~0x1ffUL) == 0;
}
