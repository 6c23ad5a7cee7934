namespace VhostFs.Blobstore;

/// <summary>How much one volume may hold; 0: no limit.</summary>
/// <remarks>Usage is not stored beside what it counts: blocks in use are those marked in the volume's own bitmaps, inodes are counted with the tree. It is exact after a crash.</remarks>
/// <param name="Blocks">Data blocks of 4 KiB.</param>
/// <param name="Inodes">Files, directories, links and everything else that has an inode; the root directory counts.</param>
public readonly record struct VolumeQuota(long Blocks, long Inodes)
{
    /// <summary>What metadata may take at least, beside the data blocks.</summary>
    private const long MinNodeBlocks = 4096;

    public static VolumeQuota None => default;

    /// <summary>Blocks of tree nodes that a volume may own: names, attributes and small files lie in nodes and are no data blocks, so a limit on bytes has to bound these as well.</summary>
    internal long MaxNodeBlocks => Blocks == 0 ? long.MaxValue : Math.Max(Blocks / 4, MinNodeBlocks);
}
