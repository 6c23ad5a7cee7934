using System.Buffers.Binary;
using System.Text;

namespace VhostFs.Blobstore;

/// <summary>A volume in the pool's catalogue (docs/blobstore-format.md, section 5).</summary>
internal sealed record VolumeRecord(ulong Id, string Name, Anchor Anchor, Guid Uuid, long CreatedSeconds, bool IsBeingDeleted, VolumeQuota Quota = default)
{
    public const int MaxNameBytes = 255;
    private const int NameOffset = 50;

    public static TreeKey Key(ulong id) => new(0, ItemType.Volume, id);

    public byte[] ToBytes()
    {
        byte[] name = Encoding.UTF8.GetBytes(Name);
        var bytes = new byte[NameOffset + name.Length + (Quota.Inodes > 0 ? sizeof(long) : 0)];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, Anchor.FirstBlock);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(8), Anchor.BlockCount);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(12), IsBeingDeleted ? 1u : 0u);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(16), CreatedSeconds);
        Uuid.TryWriteBytes(bytes.AsSpan(24));
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(40), Quota.Blocks);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(48), (ushort)name.Length);
        name.CopyTo(bytes, NameOffset);
        if (Quota.Inodes > 0) { BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(NameOffset + name.Length), Quota.Inodes); }
        return bytes;
    }

    public static VolumeRecord? Read(ulong id, ReadOnlySpan<byte> bytes)
    {
        if (id == 0 || bytes.Length < NameOffset) { return null; }
        int nameBytes = BinaryPrimitives.ReadUInt16LittleEndian(bytes[48..]);
        bool limitsInodes = bytes.Length == NameOffset + nameBytes + sizeof(long);
        if ((!limitsInodes && bytes.Length != NameOffset + nameBytes) || nameBytes is 0 or > MaxNameBytes) { return null; }
        long quotaBlocks = BinaryPrimitives.ReadInt64LittleEndian(bytes[40..]), quotaInodes = limitsInodes ? BinaryPrimitives.ReadInt64LittleEndian(bytes[(NameOffset + nameBytes)..]) : 0;
        if (quotaBlocks < 0 || quotaInodes < 0) { return null; }
        return new VolumeRecord(
            id,
            Encoding.UTF8.GetString(bytes.Slice(NameOffset, nameBytes)),
            new Anchor(BinaryPrimitives.ReadUInt64LittleEndian(bytes), BinaryPrimitives.ReadInt32LittleEndian(bytes[8..])),
            new Guid(bytes.Slice(24, 16)),
            // Only for people: a time that no calendar has must not keep the volume from them.
            Math.Clamp(BinaryPrimitives.ReadInt64LittleEndian(bytes[16..]), DateTimeOffset.MinValue.ToUnixTimeSeconds(), DateTimeOffset.MaxValue.ToUnixTimeSeconds()),
            (BinaryPrimitives.ReadUInt32LittleEndian(bytes[12..]) & 1) != 0,
            new VolumeQuota(quotaBlocks, quotaInodes));
    }
}

/// <summary>A volume as lists show it. Sizes in bytes.</summary>
public sealed record VolumeInfo(string Name, ulong Id, Guid Uuid, DateTimeOffset Created, long AllocatedBytes, bool IsOpen, VolumeQuota Quota = default);
