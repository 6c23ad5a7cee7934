using VhostFs.Linux;

namespace VhostFs.Bdev;

/// <summary>Counters of one bdev, touched only by its reactor; names follow SPDK's <c>bdev_get_iostat</c>.</summary>
public sealed class BdevStatistics
{
    public long ReadOperations { get; set; }
    public long BytesRead { get; set; }
    public long WriteOperations { get; set; }
    public long BytesWritten { get; set; }
    public long FlushOperations { get; set; }
    public long UnmapOperations { get; set; }
    public long BytesUnmapped { get; set; }
    public long IoErrors { get; set; }

    /// <summary>Everything counts from 0 again.</summary>
    public void Reset() => (ReadOperations, BytesRead, WriteOperations, BytesWritten, FlushOperations, UnmapOperations, BytesUnmapped, IoErrors) = (0, 0, 0, 0, 0, 0, 0, 0);

    public void Read(long bytes)
    {
        ReadOperations++;
        BytesRead += bytes;
    }

    public void Written(long bytes)
    {
        WriteOperations++;
        BytesWritten += bytes;
    }

    public void Unmapped(long bytes)
    {
        UnmapOperations++;
        BytesUnmapped += bytes;
    }

    /// <summary>Counts an error and passes it on.</summary>
    public IoResult Error(Errno errno)
    {
        IoErrors++;
        return errno;
    }
}
