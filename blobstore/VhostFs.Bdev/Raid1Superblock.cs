using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using VhostFs.Linux;

namespace VhostFs.Bdev;

/// <summary>What the record of an array says of a slot.</summary>
public enum Raid1SlotState : uint
{
    /// <summary>No leg has ever been complete in it since it was made free.</summary>
    Empty = 0,

    /// <summary>The leg has every change that was answered.</summary>
    Complete = 1,

    /// <summary>The leg has failed, was taken out, or is being rebuilt.</summary>
    Out = 2,
}

/// <param name="Leg">Of the leg that is or was there: a number that it alone has.</param>
/// <param name="CompleteAt">The sequence number of the last record with which it was complete. 0: never.</param>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct Raid1Slot(Guid Leg, ulong CompleteAt, Raid1SlotState State, uint Reserved = 0)
{
    public const int Size = 32;
}

/// <summary>The fixed part of a raid1's superblock; a slot each follows, and at the end of its 4 KiB a checksum (docs/raid1-format.md).</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct Raid1Header(ulong Magic, uint Version, uint BlockBytes, ulong Sequence, ulong SizeBytes, ulong DataOffset, ulong RegionBytes, Guid Array, Guid Uuid, uint SlotCount, uint OwnSlot)
{
    public const int Size = 88;

    /// <summary>"VHFSRAD1".</summary>
    public const ulong ExpectedMagic = 0x3144415253464856;

    public const uint ExpectedVersion = 1;
}

/// <summary>What is written on each leg of a raid1 about the array: who belongs to it, and which of them may be believed.</summary>
/// <remarks>Whoever may write to a disk may have written it: what is returned holds together, and fits the bdev.</remarks>
/// <param name="Array">Known to the legs alone, unlike the UUID, which guests see: a disk that a guest has written cannot be taken for a leg of another array.</param>
public sealed record Raid1Superblock(Guid Array, Guid Uuid, string Name, int BlockBytes, long SizeBytes, long RegionBytes, ulong Sequence, IReadOnlyList<Raid1Slot> Slots, int OwnSlot)
{
    public const int Bytes = 4096;

    /// <summary>Written in turn: the one before stays whole.</summary>
    public const int Copies = 2;

    /// <summary>Where the content begins: behind the superblocks and the log of dirty regions.</summary>
    public const long DataOffset = 1 << 20;

    public const int MaxNameBytes = 63;

    public const int MaxSlots = 64;

    private const int NameOffset = Raid1Header.Size, SlotsOffset = NameOffset + MaxNameBytes + 1, ChecksumOffset = Bytes - sizeof(uint);

    public Raid1Slot Own => Slots[OwnSlot];

    /// <summary>Which copy it was found in.</summary>
    public int Copy { get; init; }

    /// <summary>What there would be for content on a bdev; not positive: nothing.</summary>
    public static long SizeOn(IBdev bdev) => (bdev.SizeBytes - DataOffset) & -(long)Raid1Regions.PageBytes;

    public void WriteTo(Span<byte> page, int ownSlot)
    {
        page.Clear();
        var header = new Raid1Header(Raid1Header.ExpectedMagic, Raid1Header.ExpectedVersion, (uint)BlockBytes, Sequence, (ulong)SizeBytes, DataOffset, (ulong)RegionBytes, Array, Uuid, (uint)Slots.Count, (uint)ownSlot);
        MemoryMarshal.Write(page, in header);
        Encoding.UTF8.GetBytes(Name, page.Slice(NameOffset, MaxNameBytes));
        for (int i = 0; i < Slots.Count; i++)
        {
            Raid1Slot slot = Slots[i];
            MemoryMarshal.Write(page[(SlotsOffset + (i * Raid1Slot.Size))..], in slot);
        }
        BinaryPrimitives.WriteUInt32LittleEndian(page[ChecksumOffset..], Crc32.Of(page[..ChecksumOffset]));
    }

    /// <param name="problem">Why it cannot be used; null: there is one, or nothing that looks like one.</param>
    public static Raid1Superblock? Read(ReadOnlySpan<byte> page, int copy, IBdev bdev, out string? problem)
    {
        problem = null;
        var header = MemoryMarshal.Read<Raid1Header>(page);
        if (header.Magic != Raid1Header.ExpectedMagic) { return null; }
        problem = Check(page, header, bdev);
        if (problem is not null) { return null; }
        var slots = new Raid1Slot[header.SlotCount];
        for (int i = 0; i < slots.Length; i++) { slots[i] = MemoryMarshal.Read<Raid1Slot>(page[(SlotsOffset + (i * Raid1Slot.Size))..]); }
        problem = Check(slots, header);
        if (problem is not null) { return null; }
        ReadOnlySpan<byte> name = NameIn(page);
        return new Raid1Superblock(header.Array, header.Uuid, Encoding.UTF8.GetString(name), (int)header.BlockBytes, (long)header.SizeBytes, (long)header.RegionBytes, header.Sequence, slots, (int)header.OwnSlot) { Copy = copy };
    }

    private static string? Check(ReadOnlySpan<byte> page, in Raid1Header header, IBdev bdev)
    {
        if (Crc32.Of(page[..ChecksumOffset]) != BinaryPrimitives.ReadUInt32LittleEndian(page[ChecksumOffset..])) { return "its checksum does not match"; }
        if (header.Version != Raid1Header.ExpectedVersion) { return $"it has the version {header.Version}; known is {Raid1Header.ExpectedVersion}"; }
        if (header.BlockBytes != (uint)bdev.BlockSize) { return $"it is of blocks of {header.BlockBytes} bytes, and the bdev has {bdev.BlockSize}"; }
        if (header.DataOffset != DataOffset) { return $"its content begins at {header.DataOffset}"; }
        if (header.SizeBytes == 0 || header.SizeBytes % Raid1Regions.PageBytes != 0 || (long)header.SizeBytes < 0 || (long)header.SizeBytes > SizeOn(bdev)) { return $"its content of {header.SizeBytes} bytes is not inside of the bdev"; }
        if (header.RegionBytes != (ulong)Raid1Regions.RegionBytesOf((long)header.SizeBytes)) { return $"its regions have {header.RegionBytes} bytes"; }
        if (header.Sequence is 0 or ulong.MaxValue) { return $"it has the sequence number {header.Sequence}"; }
        if (header.Array == Guid.Empty || header.Uuid == Guid.Empty) { return "the array has no number"; }
        if (header.SlotCount is 0 or > MaxSlots || header.OwnSlot >= header.SlotCount) { return $"slot {header.OwnSlot} of {header.SlotCount}"; }
        ReadOnlySpan<byte> name = NameIn(page);
        return name.Length == 0 || !System.Text.Unicode.Utf8.IsValid(name) ? "the array has no name" : null;
    }

    private static string? Check(Raid1Slot[] slots, in Raid1Header header)
    {
        var legs = new HashSet<Guid>();
        foreach (Raid1Slot slot in slots)
        {
            bool isRight = slot.State switch
            {
                Raid1SlotState.Empty => slot is { CompleteAt: 0 } && slot.Leg == Guid.Empty,
                Raid1SlotState.Complete => slot.Leg != Guid.Empty && slot.CompleteAt == header.Sequence,
                Raid1SlotState.Out => slot.Leg != Guid.Empty && slot.CompleteAt < header.Sequence,
                _ => false,
            };
            if (!isRight || (slot.Leg != Guid.Empty && !legs.Add(slot.Leg))) { return "its slots do not hold together"; }
        }
        return slots[header.OwnSlot].State == Raid1SlotState.Empty ? "its own slot is empty" : null;
    }

    private static ReadOnlySpan<byte> NameIn(ReadOnlySpan<byte> page)
    {
        ReadOnlySpan<byte> field = page.Slice(NameOffset, MaxNameBytes + 1);
        int end = field.IndexOf((byte)0);
        return end < 0 ? default : field[..end];
    }
}
