using System.Runtime.InteropServices;

namespace VhostFs.Virtio;

/// <summary>struct virtq_desc (virtio 1.2, 2.7.5).</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct Descriptor(ulong Address, uint Length, ushort Flags, ushort Next)
{
    public const int Size = 16;
    public const ushort FlagNext = 1, FlagWrite = 2, FlagIndirect = 4;
}

/// <summary>struct virtq_used_elem (virtio 1.2, 2.7.8).</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct UsedElement(uint Id, uint Length);

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
}

/// <summary>Where the front-end put a ring, in its own user addresses (vhost-user "vring address description").</summary>
public readonly record struct RingAddresses(ulong Descriptors, ulong Used, ulong Available)
{
    /// <summary>virtio 1.2, 2.7: descriptor table 16, available ring 2, used ring 4.</summary>
    public bool IsAligned => (Descriptors & 15) == 0 && (Used & 3) == 0 && (Available & 1) == 0;
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
