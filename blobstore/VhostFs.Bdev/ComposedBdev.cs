using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>A bdev made of others, or of a part of one: what all such modules do alike, which is refusing, counting and the claim.</summary>
/// <remarks>The bases belong to whoever made them, outlive it, and are used on its reactor. Its size is that at creation: bases that grow later are not looked at, and of one that shrinks the
/// requests beyond its end fail.</remarks>
public abstract class ComposedBdev : IBdev
{
    private readonly BdevClaim _claim = new();

    protected ComposedBdev(string name, int blockSize, long sizeBytes)
    {
        Invariant.That(BdevChecks.IsBlockSize(blockSize) && sizeBytes > 0 && sizeBytes % blockSize == 0);
        Name = name;
        BlockSize = blockSize;
        SizeBytes = sizeBytes;
    }

    /// <summary>Never raised.</summary>
    public event Action<long>? Resized
    {
        add { }
        remove { }
    }

    public string Name { get; }

    public int BlockSize { get; }

    public long SizeBytes { get; }

    /// <summary>Requests are cut where it suits the bases, so that no alignment survives: they must take any buffer.</summary>
    public int BufferAlignment => 1;

    public abstract int OptimalBufferAlignment { get; }

    public abstract bool HasWriteCache { get; }

    public abstract bool SupportsUnmap { get; }

    public abstract bool UnmapReadsZero { get; }

    public abstract bool IsReadOnly { get; }

    public BdevStatistics Statistics { get; } = new();

    public async IoTask<IoResult> ReadAsync(long offsetBytes, IoVecs target)
    {
        Errno refused = BdevChecks.Read(this, offsetBytes, target);
        if (refused != Errno.None) { return Statistics.Error(refused); }
        IoResult result = await ReadCoreAsync(offsetBytes, target);
        if (result.IsError) { return Statistics.Error(result.Errno); }
        Statistics.Read(result.Bytes);
        return result;
    }

    public async IoTask<IoResult> WriteAsync(long offsetBytes, IoVecs source)
    {
        Errno refused = IsReadOnly ? Errno.EROFS : BdevChecks.Write(this, offsetBytes, source);
        if (refused != Errno.None) { return Statistics.Error(refused); }
        IoResult result = await WriteCoreAsync(offsetBytes, source);
        if (result.IsError) { return Statistics.Error(result.Errno); }
        Statistics.Written(result.Bytes);
        return result;
    }

    public async IoTask<Errno> FlushAsync()
    {
        Statistics.FlushOperations++;
        return Count(await FlushCoreAsync());
    }

    public async IoTask<Errno> UnmapAsync(long offsetBytes, long lengthBytes)
    {
        Errno refused = RefuseChange(offsetBytes, lengthBytes);
        if (refused == Errno.None && !SupportsUnmap) { refused = Errno.EOPNOTSUPP; }
        Errno result = refused == Errno.None && lengthBytes > 0 ? await UnmapCoreAsync(offsetBytes, lengthBytes) : refused;
        if (result == Errno.None) { Statistics.Unmapped(lengthBytes); }
        return Count(result);
    }

    public async IoTask<Errno> WriteZeroesAsync(long offsetBytes, long lengthBytes)
    {
        Errno refused = RefuseChange(offsetBytes, lengthBytes);
        Errno result = refused == Errno.None && lengthBytes > 0 ? await WriteZeroesCoreAsync(offsetBytes, lengthBytes) : refused;
        if (result == Errno.None) { Statistics.Written(lengthBytes); }
        return Count(result);
    }

    /// <summary>False: access past the operations would go unseen by the module.</summary>
    public bool TryGetMemory(long offsetBytes, int lengthBytes, out IoVec memory)
    {
        memory = default;
        return false;
    }

    public bool TryClaim(string claimant, out string owner) => _claim.TryTake(claimant, out owner);

    public void ReleaseClaim() => _claim.Release();

    public abstract void Dispose();

    /// <summary>The range is inside, and may be empty.</summary>
    protected abstract IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target);

    protected abstract IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source);

    protected abstract IoTask<Errno> FlushCoreAsync();

    /// <summary>The range is inside, and not empty.</summary>
    protected abstract IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes);

    protected abstract IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes);

    private Errno RefuseChange(long offsetBytes, long lengthBytes) => IsReadOnly ? Errno.EROFS : BdevChecks.Range(this, offsetBytes, lengthBytes);

    private Errno Count(Errno result)
    {
        if (result != Errno.None) { Statistics.Error(result); }
        return result;
    }
}
