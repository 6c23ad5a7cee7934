using VhostFs.Blobstore;
using VhostFs.Linux;

namespace VhostFs.Blobfs;

/// <summary>Reads and stages the names of directories. Counts and times of the directory inode are the caller's.</summary>
internal sealed class DirectoryItems(Volume volume, NameHash hash)
{
    public ulong HashOf(ReadOnlySpan<byte> name) => BlobfsKeys.EntryHash(hash(name));

    /// <summary>ENOENT: no such name (or no such directory).</summary>
    public Errno TryFind(ulong directory, ReadOnlySpan<byte> name, out ulong inode, out byte type)
    {
        Errno found = volume.TryGet(BlobfsKeys.Entry(directory, HashOf(name)), out ReadOnlySpan<byte> bucket);
        return Find(found, bucket, name, out inode, out type);
    }

    public Errno TryFind(Transaction tx, ulong directory, ReadOnlySpan<byte> name, out ulong inode, out byte type)
    {
        Errno found = tx.TryGet(BlobfsKeys.Entry(directory, HashOf(name)), out ReadOnlySpan<byte> bucket);
        return Find(found, bucket, name, out inode, out type);
    }

    /// <summary>Adds a name that is not there. ENOSPC: the eight slots of its hash are taken.</summary>
    public Errno Insert(Transaction tx, ulong directory, ReadOnlySpan<byte> name, ulong inode, byte type)
    {
        TreeKey key = BlobfsKeys.Entry(directory, HashOf(name));
        Errno found = tx.TryGet(key, out ReadOnlySpan<byte> bucket);
        if (found != Errno.None && found != Errno.ENOENT) { return found; }
        Span<byte> changed = stackalloc byte[DirectoryBucket.MaxBytes];
        int length = DirectoryBucket.Insert(found == Errno.None ? bucket : default, name, inode, type, changed);
        return length == 0 ? Errno.ENOSPC : tx.Put(key, changed[..length]);
    }

    /// <summary>Removes a name that is there.</summary>
    public Errno Remove(Transaction tx, ulong directory, ReadOnlySpan<byte> name)
    {
        TreeKey key = BlobfsKeys.Entry(directory, HashOf(name));
        Errno found = tx.TryGet(key, out ReadOnlySpan<byte> bucket);
        if (found != Errno.None) { return found; }
        Span<byte> changed = stackalloc byte[DirectoryBucket.MaxBytes];
        int length = DirectoryBucket.Remove(bucket, name, changed);
        return length == 0 ? tx.Delete(key) : tx.Put(key, changed[..length]);
    }

    /// <summary>Makes a name that is there stand for another inode; the name keeps its place.</summary>
    public Errno Replace(Transaction tx, ulong directory, ReadOnlySpan<byte> name, ulong inode, byte type)
    {
        TreeKey key = BlobfsKeys.Entry(directory, HashOf(name));
        Errno found = tx.TryGet(key, out ReadOnlySpan<byte> bucket);
        if (found != Errno.None) { return found; }
        Span<byte> changed = stackalloc byte[DirectoryBucket.MaxBytes];
        int length = DirectoryBucket.Replace(bucket, name, inode, type, changed);
        return tx.Put(key, changed[..length]);
    }

    // A bucket that was found once in a transaction is well-formed: the changes above need not look again.
    private static Errno Find(Errno found, ReadOnlySpan<byte> bucket, ReadOnlySpan<byte> name, out ulong inode, out byte type)
    {
        inode = 0;
        type = 0;
        if (found != Errno.None) { return found; }
        if (bucket.Length > DirectoryBucket.MaxBytes) { return Errno.EIO; }
        if (DirectoryBucket.TryFind(bucket, name, out inode, out type, out bool malformed)) { return Errno.None; }
        return malformed ? Errno.EIO : Errno.ENOENT;
    }
}
