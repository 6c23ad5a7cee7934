using VhostFs.Blobstore;
using VhostFs.Linux;

namespace VhostFs.Blobfs;

/// <summary>Inode items of a volume's tree. An inode that is not there is ESTALE: its number came from a guest that should not have it any more.</summary>
internal static class InodeItems
{
    public static Errno TryGetInode(this Volume volume, ulong inode, out InodeRecord record)
    {
        Errno found = volume.TryGet(BlobfsKeys.Inode(inode), out ReadOnlySpan<byte> value);
        return Decode(found, value, out record);
    }

    public static Errno TryGetInode(this Transaction tx, ulong inode, out InodeRecord record)
    {
        Errno found = tx.TryGet(BlobfsKeys.Inode(inode), out ReadOnlySpan<byte> value);
        return Decode(found, value, out record);
    }

    /// <summary>A directory that still has its name, so that it can take entries.</summary>
    public static Errno TryGetLiveDirectory(this Transaction tx, ulong inode, out InodeRecord record)
    {
        Errno found = tx.TryGetInode(inode, out record);
        if (found != Errno.None) { return found; }
        if (!record.IsDirectory) { return Errno.ENOTDIR; }
        return record.LinkCount == 0 ? Errno.ENOENT : Errno.None;
    }

    public static Errno PutInode(this Transaction tx, ulong inode, in InodeRecord record)
    {
        Span<byte> value = stackalloc byte[InodeRecord.Size];
        record.Write(value);
        if ((record.Flags & (InodeFlags.Synchronous | InodeFlags.SynchronousDirectory)) != 0) { tx.DemandSync(); }
        return tx.Put(BlobfsKeys.Inode(inode), value);
    }

    private static Errno Decode(Errno found, ReadOnlySpan<byte> value, out InodeRecord record)
    {
        if (found != Errno.None)
        {
            record = default;
            return found == Errno.ENOENT ? Errno.ESTALE : found;
        }
        return InodeRecord.TryRead(value, out record) ? Errno.None : Errno.EIO;
    }
}
