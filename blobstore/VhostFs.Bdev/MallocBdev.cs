using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>Memory as a disk. Pages exist once written to, so an idle one costs address space only; everything completes at once.</summary>
/// <remarks>Address space for growth is reserved at creation: views from <see cref="TryGetMemory"/> stay where they are across a resize.</remarks>
public sealed class MallocBdev : IBdev
{
    private const long PageBytes = 4096;
    private const long MinReservedBytes = 16L << 30;
    private const int ChunkBytes = 1 << 30;
    private readonly BdevClaim _claim = new();
    private readonly nuint _address;
    private readonly long _reservedBytes;
    private bool _disposed;

    public MallocBdev(string name, long sizeBytes, int blockSize = 4096)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(sizeBytes);
        if (!BdevChecks.IsBlockSize(blockSize)) { throw new ArgumentException("the block size is 512 or 4096", nameof(blockSize)); }
        if (sizeBytes % blockSize != 0) { throw new ArgumentException($"the size must be a multiple of {blockSize} bytes", nameof(sizeBytes)); }
        Name = name;
        BlockSize = blockSize;
        SizeBytes = sizeBytes;
        _reservedBytes = Math.Max(RoundUp(sizeBytes) * 4, MinReservedBytes);
        Errno errno = MemoryCalls.Map(null, 0, _reservedBytes, MemoryCalls.PROT_NONE, MemoryCalls.MAP_PRIVATE | MemoryCalls.MAP_NORESERVE, out _address);
        if (errno == Errno.None) { errno = Commit(0, RoundUp(sizeBytes)); }
        if (errno != Errno.None) { throw new BdevException(errno, $"malloc bdev {name}: no memory for {sizeBytes} bytes: {errno}"); }
    }

    ~MallocBdev() => Free();

    public event Action<long>? Resized;

    public string Name { get; }

    public int BlockSize { get; }

    public long SizeBytes { get; private set; }

    public int BufferAlignment => 1;

    public bool HasWriteCache => false;

    public bool SupportsUnmap => true;

    public bool UnmapReadsZero => true;

    public BdevStatistics Statistics { get; } = new();

    public IoTask<IoResult> ReadAsync(long offsetBytes, IoVecs target)
    {
        Errno refused = BdevChecks.Read(this, offsetBytes, target);
        if (refused != Errno.None) { return new(Statistics.Error(refused)); }
        int done = 0;
        foreach (IoVec vector in target.AsSpan())
        {
            At(offsetBytes + done, vector.Length).Span.CopyTo(vector.Span);
            done += vector.Length;
        }
        Statistics.Read(done);
        return new(new IoResult(done));
    }

    public IoTask<IoResult> WriteAsync(long offsetBytes, IoVecs source)
    {
        Errno refused = BdevChecks.Write(this, offsetBytes, source);
        if (refused != Errno.None) { return new(Statistics.Error(refused)); }
        int done = 0;
        foreach (IoVec vector in source.AsSpan())
        {
            StreamingCopy.Copy(vector.Span, At(offsetBytes + done, vector.Length).Span);
            done += vector.Length;
        }
        StreamingCopy.Order();
        Statistics.Written(done);
        return new(new IoResult(done));
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
        Zero(offsetBytes, lengthBytes);
        Statistics.Unmapped(lengthBytes);
        return new(Errno.None);
    }

    public IoTask<Errno> WriteZeroesAsync(long offsetBytes, long lengthBytes)
    {
        Errno refused = BdevChecks.Range(this, offsetBytes, lengthBytes);
        if (refused != Errno.None) { return new(Statistics.Error(refused).Errno); }
        Zero(offsetBytes, lengthBytes);
        Statistics.Written(lengthBytes);
        return new(Errno.None);
    }

    public IoTask<Errno> ResizeAsync(long newSizeBytes)
    {
        if (newSizeBytes < 0 || newSizeBytes % BlockSize != 0) { return new(Errno.EINVAL); }
        if (newSizeBytes > _reservedBytes) { return new(Errno.ENOMEM); }
        if (newSizeBytes == SizeBytes) { return new(Errno.None); }
        if (newSizeBytes < SizeBytes) { Zero(newSizeBytes, SizeBytes - newSizeBytes); } // a later growth shows zeroes
        long mapped = RoundUp(SizeBytes);
        if (RoundUp(newSizeBytes) > mapped)
        {
            Errno errno = Commit(mapped, RoundUp(newSizeBytes) - mapped);
            if (errno != Errno.None) { return new(errno); }
        }
        else if (RoundUp(newSizeBytes) < mapped)
        {
            Errno errno = Map(RoundUp(newSizeBytes), mapped - RoundUp(newSizeBytes), MemoryCalls.PROT_NONE);
            if (errno != Errno.None) { return new(errno); }
        }
        SizeBytes = newSizeBytes;
        Resized?.Invoke(newSizeBytes);
        return new(Errno.None);
    }

    public bool TryGetMemory(long offsetBytes, int lengthBytes, out IoVec memory)
    {
        bool inside = offsetBytes >= 0 && lengthBytes >= 0 && lengthBytes <= SizeBytes - offsetBytes;
        memory = inside ? At(offsetBytes, lengthBytes) : default;
        return inside;
    }

    public bool TryClaim(string claimant, out string owner) => _claim.TryTake(claimant, out owner);

    public void ReleaseClaim() => _claim.Release();

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private static long RoundUp(long bytes) => (bytes + PageBytes - 1) & ~(PageBytes - 1);

    private IoVec At(long offsetBytes, int lengthBytes)
    {
        Invariant.That(!_disposed);
        return new IoVec(_address + (nuint)offsetBytes, lengthBytes);
    }

    // Whole pages go back to the system; the edges are cleared by hand.
    private void Zero(long offsetBytes, long lengthBytes)
    {
        long limit = offsetBytes + lengthBytes;
        long firstPage = RoundUp(offsetBytes);
        long limitPage = limit & ~(PageBytes - 1);
        if (firstPage < limitPage && MemoryCalls.Advise(_address + (nuint)firstPage, limitPage - firstPage, MemoryCalls.MADV_DONTNEED) == Errno.None)
        {
            Clear(offsetBytes, firstPage);
            Clear(limitPage, limit);
        }
        else { Clear(offsetBytes, limit); }
    }

    private void Clear(long first, long limit)
    {
        for (long at = first; at < limit; at += ChunkBytes) { At(at, (int)Math.Min(ChunkBytes, limit - at)).Span.Clear(); }
    }

    private Errno Commit(long offset, long length) => length == 0 ? Errno.None : Map(offset, length, MemoryCalls.PROT_READ | MemoryCalls.PROT_WRITE);

    private Errno Map(long offset, long length, int protection) => MemoryCalls.Map(null, 0, length, protection,
        MemoryCalls.MAP_PRIVATE | MemoryCalls.MAP_NORESERVE | MemoryCalls.MAP_FIXED, out _, _address + (nuint)offset);

    private void Free()
    {
        if (_disposed || _address == 0) { return; }
        _disposed = true;
        MemoryCalls.Unmap(_address, _reservedBytes);
    }
}
