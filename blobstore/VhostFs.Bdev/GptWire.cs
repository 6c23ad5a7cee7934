using System.Runtime.InteropServices;

namespace VhostFs.Bdev;

/// <summary>The header of a GUID partition table (UEFI 2.10, 5.3.2), in the second block of a disk and in its last. Blocks count from the start of the disk; a GUID lies there as it lies in our memory.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct GptHeader(ulong Signature, uint Revision, uint HeaderBytes, uint HeaderCrc, uint Reserved, ulong MyBlock, ulong AlternateBlock, ulong FirstUsableBlock,
    ulong LastUsableBlock, Guid DiskId, ulong EntriesBlock, uint EntryCount, uint EntryBytes, uint EntriesCrc)
{
    public const int Size = 92;
    public const int HeaderCrcOffset = 16;

    /// <summary>"EFI PART".</summary>
    public const ulong ExpectedSignature = 0x5452415020494645;
}

/// <summary>The front of an entry (UEFI 2.10, 5.3.3); the name follows.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct GptEntry(Guid Type, Guid Id, ulong FirstBlock, ulong LastBlock, ulong Attributes)
{
    public const int Size = 56;

    /// <summary>UTF-16, up to a NUL.</summary>
    public const int NameBytes = 72;

    /// <summary>With the name. Entries have this size times a power of two.</summary>
    public const int SmallestBytes = 128;
}

/// <summary>One of the four records of a master boot record (UEFI 2.10, 5.2.1).</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct MbrRecord(uint BootAndStart, byte Type, byte EndHead, ushort EndSectorAndCylinder, uint FirstBlock, uint BlockCount)
{
    public const int Size = 16;
    public const int Offset = 446, Count = 4;
    public const int SignatureOffset = 510;
    public const ushort ExpectedSignature = 0xAA55;

    /// <summary>The disk has a GUID partition table.</summary>
    public const byte Protective = 0xEE;
}
