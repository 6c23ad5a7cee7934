using VhostFs.Blobstore;

namespace VhostFs.Blobfs;

/// <summary>Keys of the file system's items (docs/blobfs-format.md).</summary>
public static class BlobfsKeys
{
    public const ulong RootInode = 1;

    /// <summary>Sub-key bits of a chunk number in an XATTR key.</summary>
    public const int XattrChunkBits = 5;

    public const ulong MaxEntryHash = TreeKey.SubMask;

    /// <summary>Probing adds up to 7, and the limit of a scan is one more: none may carry out of the 55 bits.</summary>
    public const ulong MaxXattrHash = (1UL << 55) - 9;

    public static TreeKey Inode(ulong inode) => new(inode, ItemType.Inode, 0);

    public static TreeKey Inline(ulong inode, ulong chunk = 0) => new(inode, ItemType.Inline, chunk);

    public static TreeKey Xattr(ulong inode, ulong position, int chunk) =>
        new(inode, ItemType.Xattr, (position << XattrChunkBits) | (uint)chunk);

    public static TreeKey XattrLimit(ulong inode) => new(inode, ItemType.Extent, 0);

    public static TreeKey Entry(ulong directory, ulong hash) => new(directory, ItemType.DirectoryEntry, hash);

    public static TreeKey EntryLimit(ulong directory) => new(directory, (ItemType)((int)ItemType.DirectoryEntry + 1), 0);

    public static TreeKey Orphan(ulong inode) => new(0, ItemType.Orphan, inode);

    public static TreeKey OrphanLimit => new(0, (ItemType)((int)ItemType.Orphan + 1), 0);

    /// <summary>60 bits, never 0: cookies 1 and 2 stay free for "." and "..".</summary>
    public static ulong EntryHash(ulong nameHash) => Math.Max(nameHash >> 4, 1);

    public static ulong XattrHash(ulong nameHash) => Math.Min(nameHash >> 9, MaxXattrHash);
}
