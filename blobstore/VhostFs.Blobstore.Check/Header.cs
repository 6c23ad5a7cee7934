using System.Buffers.Binary;
using VhostFs.Reactor;

namespace VhostFs.Blobstore.Check;

/// <summary>Section 3 of the format: a volume's header.</summary>
internal sealed record Header(uint Flags, Guid VolumeUuid, ulong VolumeId, ulong Generation, ulong LogEpoch, ulong RootAddress, ulong RootBirth, uint RootCrc,
    uint Height, ulong CheckpointLsn, ulong TailLsn, uint TailPosition, uint TailPreviousCrc, ulong NextInode, ulong SnapshotEpoch, ulong HashKey0, ulong HashKey1, ulong InodeCount)
{
    private const int Version = 1;

    /// <summary>No counter gets there in any life time.</summary>
    public const ulong MaxCounter = 1UL << 62;

    /// <summary>Near the end there is no room left to count on.</summary>
    public const ulong NearMaxCounter = MaxCounter - (1UL << 32);

    public bool HasDataChecksums => (Flags & 1) != 0;

    public bool IsCleanlyClosed => (Flags & 2) != 0;

    public bool CountsInodes => (Flags & 4) != 0;

    public byte[] HashKey()
    {
        var key = new byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(key, HashKey0);
        BinaryPrimitives.WriteUInt64LittleEndian(key.AsSpan(8), HashKey1);
        return key;
    }

    /// <summary>The valid slot with the highest generation, or null. A slot that names another volume is not valid here.</summary>
    public static async IoTask<Header?> FindAsync(BlockReader reader, Anchor anchor, CheckReport report)
    {
        ulong[] places = [anchor.First, anchor.First + 1, anchor.First + anchor.Blocks - 2, anchor.First + anchor.Blocks - 1];
        var slots = new Header?[places.Length];
        var block = new byte[BlockReader.BlockBytes];
        int chosen = -1;
        for (int i = 0; i < places.Length; i++)
        {
            slots[i] = await reader.ReadAsync(places[i], block) ? Parse(block, anchor, parity: (uint)i % 2) : null;
            if (slots[i] is { } slot && (chosen < 0 || slot.Generation > slots[chosen]!.Generation)) { chosen = i; }
        }
        if (chosen < 0)
        {
            report.Error("header", anchor.Name, "no valid header in any of the four slots");
            return null;
        }
        Header newest = slots[chosen]!;
        int twin = (chosen + 2) % 4;
        if (slots[twin] is null || slots[twin]!.Generation != newest.Generation)
        {
            report.Warning("header", $"{anchor.Name}, block {places[twin]}", $"there is only one copy of generation {newest.Generation}");
        }
        else if (slots[twin] != newest) { report.Error("header", $"{anchor.Name}, block {places[twin]}", $"the two copies of generation {newest.Generation} differ"); }
        foreach (int older in new[] { (chosen + 1) % 4, (chosen + 3) % 4 })
        {
            // Not written before the second generation; a crash may leave it as it is now.
            if (newest.Generation > 1 && slots[older] is null) { report.Warning("header", $"{anchor.Name}, block {places[older]}", $"the copy of generation {newest.Generation - 1} is damaged; the next checkpoint replaces it"); }
        }
        return newest;
    }

    /// <summary>Null: the numbers agree with each other.</summary>
    public string? FieldError(Anchor anchor, ulong poolEpoch)
    {
        if (TailLsn > CheckpointLsn + 1 || TailLsn == 0) { return $"the log tail (LSN {TailLsn}) is behind the checkpoint (LSN {CheckpointLsn})"; }
        if (TailPosition > anchor.RingBlocks) { return $"the log tail at ring block {TailPosition} is outside of the ring"; }
        if (LogEpoch > poolEpoch) { return $"the log epoch {LogEpoch} is above the pool's epoch {poolEpoch}"; }
        if (CheckpointLsn >= NearMaxCounter || Generation >= NearMaxCounter || LogEpoch >= NearMaxCounter || NextInode is 0 or >= NearMaxCounter || InodeCount >= NearMaxCounter) { return "a counter that no volume reaches"; }
        if (Height is 0 or > TreeWalker.MaxHeight) { return $"a tree of height {Height} is not possible"; }
        if (RootBirth > SnapshotEpoch) { return $"the root was born in epoch {RootBirth}, after the volume's epoch {SnapshotEpoch}"; }
        return null;
    }

    private static Header? Parse(ReadOnlySpan<byte> block, Anchor anchor, uint parity)
    {
        if (!block[..8].SequenceEqual("VHFSVOLH"u8) || !Checksum.HoldsAtEnd(block) || U32(block, 8) != Version) { return null; }
        var header = new Header(U32(block, 12), new Guid(block.Slice(16, 16)), U64(block, 32), U64(block, 40), U64(block, 48), U64(block, 56), U64(block, 64),
            U32(block, 72), U32(block, 76), U64(block, 80), U64(block, 88), U32(block, 96), U32(block, 100), U64(block, 104), U64(block, 112), U64(block, 120), U64(block, 128), U64(block, 136));
        bool mine = header.VolumeId == anchor.VolumeId && header.VolumeUuid == anchor.VolumeUuid;
        return mine && header.Generation % 2 == parity ? header : null;
    }

    private static ulong U64(ReadOnlySpan<byte> block, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(block[offset..]);

    private static uint U32(ReadOnlySpan<byte> block, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(block[offset..]);
}

/// <summary>Where a volume begins: its header slots and its log ring.</summary>
internal sealed record Anchor(string Name, ulong VolumeId, Guid VolumeUuid, ulong First, uint Blocks)
{
    public const uint MinBlocks = 256;
    public const uint MaxBlocks = 65536;

    public ulong RingFirst => First + 2;

    public uint RingBlocks => Blocks - 4;
}
