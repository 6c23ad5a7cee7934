using System.Buffers.Binary;
using VhostFs.Blobstore;
using VhostFs.Linux;

namespace VhostFs.Blobfs;

/// <summary>Where the value of one xattr lies: a position (its hash, or one of the seven behind it) and its chunks.</summary>
internal readonly record struct XattrPlace(ulong Position, int NameBytes, int ValueBytes, int Chunks);

/// <summary>Reads and stages XATTR items. What a name means, and the inode's times, are the callers'.</summary>
internal sealed class XattrItems(Volume volume, NameHash hash)
{
    public const int MaxValueBytes = 65536;
    public const int MaxListBytes = 65536;
    public const int MaxProbes = 8;
    public const int HeaderBytes = 8;
    public const int ItemBytes = 3900;

    /// <summary>Values up to this fit in one transaction beside what else it carries; larger ones are written in two.</summary>
    public const int MaxSingleBytes = 40 * 1024;

    /// <summary>Chunks of a large value that its last transaction writes; the others are written before, where nothing points to them yet.</summary>
    public const int FinalChunks = 7;

    public static int ChunksOf(int nameBytes, int valueBytes)
    {
        int behind = valueBytes - (ItemBytes - HeaderBytes - nameBytes);
        return behind <= 0 ? 1 : 1 + ((behind + ItemBytes - 1) / ItemBytes);
    }

    /// <summary>Finds a name among what is committed; ENODATA when it is not there.</summary>
    public Errno TryFind(ulong inode, ReadOnlySpan<byte> name, out XattrPlace place, out ReadOnlySpan<byte> firstChunk)
    {
        ulong position = BlobfsKeys.XattrHash(hash(name));
        TreeKey from = BlobfsKeys.Xattr(inode, position, 0), limit = BlobfsKeys.Xattr(inode, position + MaxProbes, 0);
        while (true)
        {
            Errno found = volume.TryNext(from, limit, out TreeKey key, out firstChunk);
            place = default;
            if (found != Errno.None) { return found == Errno.ENOENT ? Errno.ENODATA : found; }
            position = key.Sub >> BlobfsKeys.XattrChunkBits;
            if (IsFirstChunk(key))
            {
                if (!TryParse(position, firstChunk, out place)) { return Errno.EIO; }
                if (NameOf(firstChunk).SequenceEqual(name)) { return Errno.None; }
            }
            from = BlobfsKeys.Xattr(inode, position + 1, 0);
        }
    }

    /// <summary>Copies a value that fits into <paramref name="target"/>.</summary>
    public Errno TryReadValue(ulong inode, XattrPlace place, ReadOnlySpan<byte> firstChunk, Span<byte> target)
    {
        ReadOnlySpan<byte> part = firstChunk[(HeaderBytes + place.NameBytes)..];
        int done = 0;
        for (int chunk = 0; ;)
        {
            int take = Math.Min(part.Length, place.ValueBytes - done);
            part[..take].CopyTo(target[done..]);
            done += take;
            if (done == place.ValueBytes) { return Errno.None; }
            if (++chunk >= place.Chunks) { return Errno.EIO; }
            Errno found = volume.TryGet(BlobfsKeys.Xattr(inode, place.Position, chunk), out part);
            if (found != Errno.None) { return found == Errno.ENOENT ? Errno.EIO : found; }
        }
    }

    /// <summary>The value of a committed xattr in one go; ENODATA, or EIO when it is longer than <paramref name="target"/>.</summary>
    public Errno TryGet(ulong inode, ReadOnlySpan<byte> name, Span<byte> target, out int length)
    {
        Errno found = TryFind(inode, name, out XattrPlace place, out ReadOnlySpan<byte> first);
        length = place.ValueBytes;
        if (found != Errno.None) { return found; }
        return length > target.Length ? Errno.EIO : TryReadValue(inode, place, first, target);
    }

    /// <summary>Looks where a name is, in the sight of the transaction, and where it could go.</summary>
    /// <param name="current">Where it is; Chunks 0 when it is not there.</param>
    /// <param name="free">A position without a name; ulong.MaxValue when all eight are taken.</param>
    public Errno Probe(Transaction tx, ulong inode, ReadOnlySpan<byte> name, out XattrPlace current, out ulong free)
    {
        ulong position = BlobfsKeys.XattrHash(hash(name));
        current = default;
        free = ulong.MaxValue;
        for (ulong limit = position + MaxProbes; position < limit; position++)
        {
            Errno found = tx.TryGet(BlobfsKeys.Xattr(inode, position, 0), out ReadOnlySpan<byte> first);
            if (found == Errno.ENOENT)
            {
                if (free == ulong.MaxValue) { free = position; }
                continue;
            }
            if (found != Errno.None) { return found; }
            if (!TryParse(position, first, out XattrPlace place)) { return Errno.EIO; }
            if (NameOf(first).SequenceEqual(name)) { current = place; }
        }
        return Errno.None;
    }

    /// <summary>Sets a value of at most <see cref="MaxSingleBytes"/>; counts it in the record, which the caller stages.</summary>
    public Errno StageSet(Transaction tx, ulong inode, ref InodeRecord record, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        Errno probed = Probe(tx, inode, name, out XattrPlace current, out ulong free);
        if (probed != Errno.None) { return probed; }
        if (current.Chunks == 0)
        {
            Errno counted = CountNew(ref record, name);
            if (counted != Errno.None) { return counted; }
        }
        ulong position = current.Chunks > 0 ? current.Position : free;
        if (position == ulong.MaxValue) { return Errno.ENOSPC; }
        int chunks = ChunksOf(name.Length, value.Length);
        Errno staged = StageChunks(tx, inode, position, name, value, 0, chunks);
        return staged == Errno.None ? StageDelete(tx, inode, position, chunks, current.Chunks) : staged;
    }

    /// <summary>Removes a committed name and uncounts it in the record; ENODATA when it is not there.</summary>
    public Errno StageRemove(Transaction tx, ulong inode, ref InodeRecord record, ReadOnlySpan<byte> name)
    {
        if (record.XattrCount == 0) { return Errno.ENODATA; }
        Errno found = TryFind(inode, name, out XattrPlace place, out _);
        if (found != Errno.None) { return found; }
        if (record.XattrNameBytes <= name.Length) { return Errno.EIO; }
        record = record with { XattrCount = record.XattrCount - 1, XattrNameBytes = record.XattrNameBytes - (uint)(name.Length + 1) };
        return StageDelete(tx, inode, place.Position, 0, place.Chunks);
    }

    /// <summary>ENOSPC: the names of the inode would no longer fit in one listxattr(2).</summary>
    public static Errno CountNew(ref InodeRecord record, ReadOnlySpan<byte> name)
    {
        if (record.XattrNameBytes > MaxListBytes) { return Errno.EIO; }
        uint bytes = record.XattrNameBytes + (uint)(name.Length + 1);
        if (bytes > MaxListBytes) { return Errno.ENOSPC; }
        record = record with { XattrCount = record.XattrCount + 1, XattrNameBytes = bytes };
        return Errno.None;
    }

    /// <summary>Stages the chunks [first, limit) of a value.</summary>
    public static Errno StageChunks(Transaction tx, ulong inode, ulong position, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, int first, int limit)
    {
        Span<byte> item = stackalloc byte[ItemBytes];
        int inFirst = ItemBytes - HeaderBytes - name.Length;
        for (int chunk = first; chunk < limit; chunk++)
        {
            int length;
            if (chunk == 0)
            {
                item[0] = (byte)name.Length;
                item[1] = 0;
                BinaryPrimitives.WriteUInt16LittleEndian(item[2..], (ushort)ChunksOf(name.Length, value.Length));
                BinaryPrimitives.WriteInt32LittleEndian(item[4..], value.Length);
                name.CopyTo(item[HeaderBytes..]);
                ReadOnlySpan<byte> part = value[..Math.Min(value.Length, inFirst)];
                part.CopyTo(item[(HeaderBytes + name.Length)..]);
                length = HeaderBytes + name.Length + part.Length;
            }
            else
            {
                int offset = inFirst + ((chunk - 1) * ItemBytes);
                length = Math.Min(value.Length - offset, ItemBytes);
                value.Slice(offset, length).CopyTo(item);
            }
            Errno put = tx.Put(BlobfsKeys.Xattr(inode, position, chunk), item[..length]);
            if (put != Errno.None) { return put; }
        }
        return Errno.None;
    }

    public static Errno StageDelete(Transaction tx, ulong inode, ulong position, int first, int limit)
    {
        for (int chunk = first; chunk < limit; chunk++)
        {
            Errno deleted = tx.Delete(BlobfsKeys.Xattr(inode, position, chunk));
            if (deleted != Errno.None) { return deleted; }
        }
        return Errno.None;
    }

    public static bool IsFirstChunk(TreeKey key) => (key.Sub & ((1UL << BlobfsKeys.XattrChunkBits) - 1)) == 0;

    /// <summary>Checks a first chunk, which may come from a hostile disk.</summary>
    public static bool TryParse(ulong position, ReadOnlySpan<byte> first, out XattrPlace place)
    {
        place = default;
        if (first.Length < HeaderBytes || first[0] == 0 || first.Length < HeaderBytes + first[0]) { return false; }
        int chunks = BinaryPrimitives.ReadUInt16LittleEndian(first[2..]), bytes = BinaryPrimitives.ReadInt32LittleEndian(first[4..]);
        place = new XattrPlace(position, first[0], bytes, chunks);
        return bytes is >= 0 and <= MaxValueBytes && chunks == ChunksOf(first[0], bytes);
    }

    public static ReadOnlySpan<byte> NameOf(ReadOnlySpan<byte> first) => first.Slice(HeaderBytes, first[0]);
}
