namespace VhostFs.Blobfs;

/// <summary>Limits of the format.</summary>
public static class FileLimits
{
    public const long BlockBytes = 4096;

    /// <summary>16 TiB - 1.</summary>
    public const long MaxFileBytes = (1L << 44) - 1;

    public const long MaxBlocks = (MaxFileBytes + 1) / BlockBytes;

    /// <summary>Of a file; a directory's count is bounded by the inode numbers.</summary>
    public const uint MaxLinks = 65000;

    public const int MaxNameBytes = 255;

    public const int MaxLinkTargetBytes = 4095;

    /// <summary>A link target longer than this goes on in a second INLINE item.</summary>
    public const int LinkChunkBytes = 3900;

    /// <summary>A directory that lies deeper cannot be moved (ELOOP): bounds the walk that looks for loops.</summary>
    public const int MaxDepth = 65536;

    /// <summary>What a directory may hold: no path, no end of string in the middle, neither "." nor "..".</summary>
    public static bool IsName(ReadOnlySpan<byte> name) =>
        name.Length is > 0 and <= MaxNameBytes && !name.ContainsAny((byte)'/', (byte)0) && !(name[0] == '.' && (name.Length == 1 || (name.Length == 2 && name[1] == '.')));

    public static long BlockFloor(long bytes) => bytes & ~(BlockBytes - 1);

    /// <summary>For offsets up to MaxFileBytes.</summary>
    public static long BlockCeiling(long bytes) => (bytes + BlockBytes - 1) & ~(BlockBytes - 1);
}
