using VhostFs.Image.Tests.Images;

namespace VhostFs.Image.Tests.Mutation;

/// <summary>Where the numbers of each structure are: offset and size in bytes (docs/blobstore-format.md, docs/blobfs-format.md). Checksums are left out: they are made right afterwards.</summary>
internal static class FieldTables
{
    public static readonly (int At, int Size)[] Superblock =
        [(8, 4), (12, 4), (16, 8), (24, 8), (32, 8), (40, 8), (56, 8), (64, 8), (72, 8), (80, 8), (88, 4), (92, 4), (96, 8), (104, 4), (108, 4), (112, 8), (120, 4), (124, 4), (128, 4)];

    public static readonly (int At, int Size)[] Header =
        [(8, 4), (12, 4), (16, 8), (32, 8), (40, 8), (48, 8), (56, 8), (64, 8), (76, 4), (80, 8), (88, 8), (96, 4), (100, 4), (104, 8), (112, 8), (120, 8), (128, 8)];

    public static readonly (int At, int Size)[] Node = [(0, 4), (4, 2), (6, 2), (8, 8), (16, 8), (24, 8), (32, 4), (36, 4), (40, 8)];

    public static readonly (int At, int Size)[] Slot = [(0, 8), (8, 8), (16, 2), (18, 2)];

    public static readonly (int At, int Size)[] Batch = [(0, 8), (8, 8), (24, 8), (32, 8), (40, 4), (44, 4), (48, 4), (52, 4), (56, 8), (64, 8), (72, 4)];

    private static readonly (int At, int Size)[] s_pointer = [(0, 8), (8, 8)];

    private static readonly (int At, int Size)[] s_inode =
    [
        (0, 4), (4, 4), (8, 4), (12, 4), (16, 8), (24, 8), (32, 4), (36, 4), (40, 4), (44, 4), (48, 8), (56, 8), (64, 8), (72, 4), (76, 4), (80, 8), (88, 8), (96, 4), (100, 4), (104, 8),
        (112, 4), (116, 4), (120, 8), (128, 8),
    ];

    private static readonly (int At, int Size)[] s_entry = [(0, 1), (1, 1), (2, 1), (3, 1), (4, 8), (12, 1), (13, 1), (14, 1)];
    private static readonly (int At, int Size)[] s_xattr = [(0, 1), (1, 1), (2, 2), (4, 4), (8, 1), (9, 8), (12, 1)];
    private static readonly (int At, int Size)[] s_orphan = [(0, 1), (1, 8)];
    private static readonly (int At, int Size)[] s_volume = [(0, 8), (8, 4), (12, 4), (16, 8), (24, 8), (32, 8), (40, 8), (48, 2), (50, 1)];
    private static readonly (int At, int Size)[] s_clusters = [(0, 4), (4, 4), (8, 8)];

    /// <summary>The fields of an item's value; of a child pointer for an internal node.</summary>
    public static IReadOnlyList<(int At, int Size)> OfValue(int level, TreeItem item) => level > 0 ? s_pointer : item.Type switch
    {
        DiskFormat.Inode => s_inode,
        DiskFormat.Extent => Extent(item.Value),
        DiskFormat.DirectoryEntry => s_entry,
        DiskFormat.Xattr => s_xattr,
        DiskFormat.Orphan => s_orphan,
        DiskFormat.Volume => s_volume,
        DiskFormat.ClusterRun => s_clusters,
        DiskFormat.SharedBlocks => Counts(item.Value),
        _ => [.. Enumerable.Range(0, Math.Min(item.Value.Length, 16)).Select(at => (at, 1))],
    };

    /// <summary>The counts that are there, and one that is not.</summary>
    private static List<(int At, int Size)> Counts(byte[] counts)
    {
        List<(int At, int Size)> fields = [.. Enumerable.Range(0, counts.Length / 2).Where(i => DiskFormat.U16(counts, 2 * i) != 0).Select(i => (2 * i, 2))];
        if (fields.Count > 0) { fields.Add(((fields[^1].At + 2) % counts.Length, 2)); }
        return fields;
    }

    private static List<(int At, int Size)> Extent(byte[] group)
    {
        var fields = new List<(int, int)> { (0, 2), (2, 2), (4, 4) };
        int runs = group.Length >= 2 ? DiskFormat.U16(group, 0) : 0;
        for (int i = 0; i < runs; i++)
        {
            int run = DiskFormat.ExtentHeaderBytes + (i * DiskFormat.ExtentRunBytes);
            fields.AddRange([(run, 1), (run + 1, 1), (run + 2, 2), (run + 8, 8), (run + 16, 8)]);
        }
        int crcs = DiskFormat.ExtentHeaderBytes + (runs * DiskFormat.ExtentRunBytes);
        if (crcs + 4 <= group.Length) { fields.Add((crcs, 4)); }
        return fields;
    }
}
