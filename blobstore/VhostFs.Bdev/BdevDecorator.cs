using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>A bdev on a bdev: passes everything on, and keeps statistics of its own.</summary>
public abstract class BdevDecorator : IBdev
{
    private readonly string _name;

    protected BdevDecorator(IBdev inner, string name)
    {
        Inner = inner;
        _name = name;
        inner.Resized += PassOn;
    }

    public event Action<long>? Resized;

    public IBdev Inner { get; }

    /// <summary>The bdev below is disposed of with this one.</summary>
    public bool OwnsInner { get; init; } = true;

    public string Name => _name;

    public int BlockSize => Inner.BlockSize;

    public long SizeBytes => Inner.SizeBytes;

    public int BufferAlignment => Inner.BufferAlignment;

    public int OptimalBufferAlignment => Inner.OptimalBufferAlignment;

    public virtual bool HasWriteCache => Inner.HasWriteCache;

    public bool SupportsUnmap => Inner.SupportsUnmap;

    public bool IsReadOnly => Inner.IsReadOnly;

    public virtual bool UnmapReadsZero => Inner.UnmapReadsZero;

    /// <summary>None: what a bdev does to what is below it may not survive the process, or be meant to leave no copy of it.</summary>
    public virtual string? Identity => null;

    public BdevStatistics Statistics { get; } = new();

    public async IoTask<IoResult> ReadAsync(long offsetBytes, IoVecs target)
    {
        IoResult result = await ReadCoreAsync(offsetBytes, target);
        if (result.IsError) { return Statistics.Error(result.Errno); }
        Statistics.Read(result.Bytes);
        return result;
    }

    public async IoTask<IoResult> WriteAsync(long offsetBytes, IoVecs source)
    {
        IoResult result = await WriteCoreAsync(offsetBytes, source);
        if (result.IsError) { return Statistics.Error(result.Errno); }
        Statistics.Written(result.Bytes);
        return result;
    }

    public async IoTask<Errno> FlushAsync()
    {
        Statistics.FlushOperations++;
        Errno result = await FlushCoreAsync();
        if (result != Errno.None) { Statistics.Error(result); }
        return result;
    }

    public async IoTask<Errno> UnmapAsync(long offsetBytes, long lengthBytes)
    {
        Errno result = await UnmapCoreAsync(offsetBytes, lengthBytes);
        if (result != Errno.None) { Statistics.Error(result); }
        else { Statistics.Unmapped(lengthBytes); }
        return result;
    }

    public async IoTask<Errno> WriteZeroesAsync(long offsetBytes, long lengthBytes)
    {
        Errno result = await WriteZeroesCoreAsync(offsetBytes, lengthBytes);
        if (result != Errno.None) { Statistics.Error(result); }
        else { Statistics.Written(lengthBytes); }
        return result;
    }

    public IoTask<Errno> ResizeAsync(long newSizeBytes) => Inner.ResizeAsync(newSizeBytes);

    /// <summary>False: access past the operations would go unseen by the module.</summary>
    public bool TryGetMemory(long offsetBytes, int lengthBytes, out IoVec memory)
    {
        memory = default;
        return false;
    }

    public bool TryClaim(string claimant, out string owner) => Inner.TryClaim(claimant, out owner);

    public void ReleaseClaim() => Inner.ReleaseClaim();

    public void Dispose()
    {
        Inner.Resized -= PassOn;
        DisposeCore();
        if (OwnsInner) { Inner.Dispose(); }
        GC.SuppressFinalize(this);
    }

    /// <summary>What the module itself owns; nothing is under way.</summary>
    protected virtual void DisposeCore()
    {
    }

    protected abstract IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target);

    protected abstract IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source);

    protected abstract IoTask<Errno> FlushCoreAsync();

    protected abstract IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes);

    protected abstract IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes);

    private void PassOn(long newSizeBytes) => Resized?.Invoke(newSizeBytes);
}
