using System.Buffers.Binary;

namespace VhostFs.Blobfs;

/// <summary>One name of a directory.</summary>
internal readonly ref struct DirectoryEntry(int slot, byte type, ulong inode, ReadOnlySpan<byte> name)
{
    public int Slot => slot;

    public byte Type => type;

    public ulong Inode => inode;

    public ReadOnlySpan<byte> Name { get; } = name;
}

/// <summary>The value of a DIRENT item: the names of one directory with one hash, in the order of their slots.</summary>
/// <remarks>A name keeps its slot as long as it lives, so that hash and slot together are a stable READDIR cookie.</remarks>
internal static class DirectoryBucket
{
    public const int MaxEntries = 8;
    public const int HeaderBytes = 12;
    public const int MaxBytes = MaxEntries * (HeaderBytes + 255);

    /// <summary>Takes the entry at <paramref name="offset"/> and moves behind it. False at the end, or with <paramref name="malformed"/>.</summary>
    public static bool TryNext(ReadOnlySpan<byte> bucket, ref int offset, out DirectoryEntry entry, out bool malformed)
    {
        entry = default;
        malformed = false;
        if (offset == bucket.Length) { return false; }
        ReadOnlySpan<byte> rest = bucket[offset..];
        if (rest.Length < HeaderBytes || rest[0] >= MaxEntries || rest[2] == 0 || rest.Length < HeaderBytes + rest[2])
        {
            malformed = true;
            return false;
        }
        entry = new DirectoryEntry(rest[0], rest[1], BinaryPrimitives.ReadUInt64LittleEndian(rest[4..]), rest.Slice(HeaderBytes, rest[2]));
        offset += HeaderBytes + rest[2];
        return true;
    }

    /// <summary>Finds a name. False: not there, or the bucket is malformed.</summary>
    public static bool TryFind(ReadOnlySpan<byte> bucket, ReadOnlySpan<byte> name, out ulong inode, out byte type, out bool malformed)
    {
        int offset = 0;
        while (TryNext(bucket, ref offset, out DirectoryEntry entry, out malformed))
        {
            if (!entry.Name.SequenceEqual(name)) { continue; }
            inode = entry.Inode;
            type = entry.Type;
            return true;
        }
        inode = 0;
        type = 0;
        return false;
    }

    /// <summary>Writes the bucket with one more name, in the lowest free slot, to <paramref name="target"/>; 0 when all slots are taken.</summary>
    public static int Insert(ReadOnlySpan<byte> bucket, ReadOnlySpan<byte> name, ulong inode, byte type, Span<byte> target)
    {
        int offset = 0, slot = 0, before = 0;
        while (TryNext(bucket, ref offset, out DirectoryEntry entry, out _) && entry.Slot == slot)
        {
            slot++;
            before = offset;
        }
        // The length counts too: a bucket from a hostile disk may have its slots in any order.
        if (slot == MaxEntries || bucket.Length + HeaderBytes + name.Length > MaxBytes) { return 0; }
        bucket[..before].CopyTo(target);
        int length = before + WriteEntry(target[before..], slot, name, inode, type);
        bucket[before..].CopyTo(target[length..]);
        return length + bucket.Length - before;
    }

    /// <summary>Writes the bucket without a name, which is there, to <paramref name="target"/>; returns its length, 0 when it is empty now.</summary>
    public static int Remove(ReadOnlySpan<byte> bucket, ReadOnlySpan<byte> name, Span<byte> target)
    {
        int offset = 0, start = 0;
        while (TryNext(bucket, ref offset, out DirectoryEntry entry, out _) && !entry.Name.SequenceEqual(name)) { start = offset; }
        bucket[..start].CopyTo(target);
        bucket[offset..].CopyTo(target[start..]);
        return start + bucket.Length - offset;
    }

    /// <summary>Writes the bucket with the name, which is there, standing for another inode; returns its length.</summary>
    public static int Replace(ReadOnlySpan<byte> bucket, ReadOnlySpan<byte> name, ulong inode, byte type, Span<byte> target)
    {
        int offset = 0, start = 0, slot = 0;
        while (TryNext(bucket, ref offset, out DirectoryEntry entry, out _))
        {
            slot = entry.Slot;
            if (entry.Name.SequenceEqual(name)) { break; }
            start = offset;
        }
        bucket.CopyTo(target);
        WriteEntry(target[start..], slot, name, inode, type);
        return bucket.Length;
    }

    private static int WriteEntry(Span<byte> target, int slot, ReadOnlySpan<byte> name, ulong inode, byte type)
    {
        target[0] = (byte)slot;
        target[1] = type;
        target[2] = (byte)name.Length;
        target[3] = 0;
        BinaryPrimitives.WriteUInt64LittleEndian(target[4..], inode);
        name.CopyTo(target[HeaderBytes..]);
        return HeaderBytes + name.Length;
    }
}
