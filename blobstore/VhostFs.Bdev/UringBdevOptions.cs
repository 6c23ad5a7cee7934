namespace VhostFs.Bdev;

public enum UringCacheMode
{
    /// <summary>Direct where the file system can, buffered elsewhere.</summary>
    Auto,

    /// <summary>O_DIRECT, or an error at creation.</summary>
    Direct,

    /// <summary>Through the host's page cache.</summary>
    Buffered,
}

public sealed record UringBdevOptions(string Name, string Path)
{
    public UringCacheMode Cache { get; init; }

    /// <summary>512 or 4096; 0: 4096 for a file, the logical block size for a device.</summary>
    public int BlockSize { get; init; }

    /// <summary>Above 0: makes a (sparse) file of this size when there is none or an empty one.</summary>
    public long CreateSizeBytes { get; init; }

    public bool ReadOnly { get; init; }
}
