using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>What is left of a bdev that was taken away under its user: it looks as it did, and every operation fails.</summary>
public sealed class GoneBdev(IBdev bdev) : IBdev
{
    private readonly BdevClaim _claim = new();

    /// <summary>Never raised.</summary>
    public event Action<long>? Resized
    {
        add { }
        remove { }
    }

    public string Name { get; } = bdev.Name;

    public int BlockSize { get; } = bdev.BlockSize;

    public long SizeBytes { get; } = bdev.SizeBytes;

    public int BufferAlignment { get; } = bdev.BufferAlignment;

    public int OptimalBufferAlignment { get; } = bdev.OptimalBufferAlignment;

    public bool HasWriteCache { get; } = bdev.HasWriteCache;

    public bool SupportsUnmap { get; } = bdev.SupportsUnmap;

    public bool IsReadOnly { get; } = bdev.IsReadOnly;

    public bool UnmapReadsZero { get; } = bdev.UnmapReadsZero;

    public BdevStatistics Statistics { get; } = new();

    public IoTask<IoResult> ReadAsync(long offsetBytes, IoVecs target) => new(Statistics.Error(Errno.EIO));

    public IoTask<IoResult> WriteAsync(long offsetBytes, IoVecs source) => new(Statistics.Error(Errno.EIO));

    public IoTask<Errno> FlushAsync() => new(Statistics.Error(Errno.EIO).Errno);

    public IoTask<Errno> UnmapAsync(long offsetBytes, long lengthBytes) => new(Statistics.Error(Errno.EIO).Errno);

    public IoTask<Errno> WriteZeroesAsync(long offsetBytes, long lengthBytes) => new(Statistics.Error(Errno.EIO).Errno);

    public bool TryGetMemory(long offsetBytes, int lengthBytes, out IoVec memory)
    {
        memory = default;
        return false;
    }

    public bool TryClaim(string claimant, out string owner) => _claim.TryTake(claimant, out owner);

    public void ReleaseClaim() => _claim.Release();

    public void Dispose()
    {
    }
}
