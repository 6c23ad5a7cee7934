using System.Runtime.InteropServices;

namespace VhostFs.Virtio;

/// <summary>Flags of descriptors of both layouts (virtio 1.2, 2.7.5 and 2.8.1).</summary>
internal static class DescriptorFlags
{
    public const ushort Next = 1, Write = 2, Indirect = 4;

    /// <summary>Packed rings only: a descriptor is available when AVAIL is the driver's wrap counter and USED is not, and used when both are the device's.</summary>
    public const ushort Available = 1 << 7, Used = 1 << 15;
}

/// <summary>struct virtq_desc (virtio 1.2, 2.7.5).</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct Descriptor(ulong Address, uint Length, ushort Flags, ushort Next)
{
    public const int Size = 16;
}

/// <summary>struct pvirtq_desc (virtio 1.2, 2.8.13). A used one has the same form; its address means nothing.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct PackedDescriptor
{
    public const int Size = 16;

    public ulong Address;
    public uint Length;
    public ushort Id;
    public ushort Flags;
}

/// <summary>Flags of struct pvirtq_event_suppress (virtio 1.2, 2.8.14), behind 16 bits of ring position.</summary>
internal static class EventSuppression
{
    public const uint Enable = 0, Disable = 1, AtDescriptor = 2, Mask = 3;
    public const int SizeBytes = 4, FlagsShift = 16;
}

/// <summary>struct virtq_used_elem (virtio 1.2, 2.7.8).</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct UsedElement(uint Id, uint Length)
{
    public const int Size = 8;
}

/// <summary>Feature bits of the ring and of the transport (virtio 1.2, 6; vhost-user).</summary>
[Flags]
public enum VirtioFeatures : ulong
{
    None = 0,
    LogAll = 1UL << 26,
    IndirectDesc = 1UL << 28,
    EventIdx = 1UL << 29,
    ProtocolFeatures = 1UL << 30,
    Version1 = 1UL << 32,
    RingPacked = 1UL << 34,
}

/// <summary>Where the front-end put a ring, in its own user addresses (vhost-user "vring address description").</summary>
/// <param name="Descriptors">The descriptor table, or the packed descriptor ring.</param>
/// <param name="Used">The used ring, or the device's event suppression.</param>
/// <param name="Available">The available ring, or the driver's event suppression.</param>
public readonly record struct RingAddresses(ulong Descriptors, ulong Used, ulong Available)
{
    /// <summary>virtio 1.2, 2.7: descriptor table 16, available ring 2, used ring 4; 2.8.10.1: 16, 4, 4.</summary>
    public bool IsAligned(bool isPacked) => (Descriptors & 15) == 0 && (Used & 3) == 0 && (Available & (isPacked ? 3u : 1u)) == 0;
}

/// <summary>What <see cref="Virtqueue.Pop"/> found.</summary>
public enum PopResult
{
    /// <summary>Nothing is available.</summary>
    Empty,

    /// <summary>A chain is in the lists; its head comes back with <see cref="Virtqueue.Push"/>.</summary>
    Chain,

    /// <summary>A malformed chain was given back with length 0 and counted; go on.</summary>
    Returned,

    /// <summary>The ring itself is wrong: the queue has latched and does nothing until it is stopped.</summary>
    Broken,
}
