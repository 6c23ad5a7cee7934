using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>Takes every write and keeps nothing; reads leave the buffer as it is. For measuring what lies above a bdev.</summary>
public sealed class NullBdev : IBdev
{
    private readonly BdevClaim _claim = new();

    public NullBdev(string name, long sizeBytes, int blockSize = 4096)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(sizeBytes);
        if (!BdevChecks.IsBlockSize(blockSize)) { throw new ArgumentException("the block size is 512 or 4096", nameof(blockSize)); }
        if (sizeBytes % blockSize != 0) { throw new ArgumentException($"the size must be a multiple of {blockSize} bytes", nameof(sizeBytes)); }
        Name = name;
        BlockSize = blockSize;
        SizeBytes = sizeBytes;
    }

    public event Action<long>? Resized;

    public string Name { get; }

    public int BlockSize { get; }

    public long SizeBytes { get; private set; }

    public int BufferAlignment => 1;

    public bool HasWriteCache => false;

    public bool SupportsUnmap => true;

    public bool UnmapReadsZero => false;

    public BdevStatistics Statistics { get; } = new();

    public IoTask<IoResult> ReadAsync(long offsetBytes, IoVecs target)
    {
        Errno refused = BdevChecks.Read(this, offsetBytes, target);
        if (refused != Errno.None) { return new(Statistics.Error(refused)); }
        int bytes = (int)target.LengthBytes;
        Statistics.Read(bytes);
        return new(new IoResult(bytes));
    }

    public IoTask<IoResult> WriteAsync(long offsetBytes, IoVecs source)
    {
        Errno refused = BdevChecks.Write(this, offsetBytes, source);
        if (refused != Errno.None) { return new(Statistics.Error(refused)); }
        int bytes = (int)source.LengthBytes;
        Statistics.Written(bytes);
        return new(new IoResult(bytes));
    }

    public IoTask<Errno> FlushAsync()
    {
        Statistics.FlushOperations++;
        return new(Errno.None);
    }

    public IoTask<Errno> UnmapAsync(long offsetBytes, long lengthBytes)
    {
        Errno refused = BdevChecks.Range(this, offsetBytes, lengthBytes);
        if (refused != Errno.None) { return new(Statistics.Error(refused).Errno); }
        Statistics.Unmapped(lengthBytes);
        return new(Errno.None);
    }

    public IoTask<Errno> WriteZeroesAsync(long offsetBytes, long lengthBytes)
    {
        Errno refused = BdevChecks.Range(this, offsetBytes, lengthBytes);
        if (refused != Errno.None) { return new(Statistics.Error(refused).Errno); }
        Statistics.Written(lengthBytes);
        return new(Errno.None);
    }

    public IoTask<Errno> ResizeAsync(long newSizeBytes)
    {
        if (newSizeBytes < 0 || newSizeBytes % BlockSize != 0) { return new(Errno.EINVAL); }
        SizeBytes = newSizeBytes;
        Resized?.Invoke(newSizeBytes);
        return new(Errno.None);
    }

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
