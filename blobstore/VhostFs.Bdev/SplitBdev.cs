using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>Consecutive blocks of another bdev as a bdev of their own. A flush is one of the whole base.</summary>
/// <param name="inner">Used by all its splits; goes after the last of them.</param>
/// <param name="firstByte">Where in <paramref name="inner"/> it begins; as <paramref name="sizeBytes"/> a multiple of the block size.</param>
public sealed class SplitBdev(IBdev inner, string name, long firstByte, long sizeBytes) : ComposedBdev(name, inner.BlockSize, sizeBytes)
{
    public override int OptimalBufferAlignment => inner.OptimalBufferAlignment;

    public override bool HasWriteCache => inner.HasWriteCache;

    public override bool SupportsUnmap => inner.SupportsUnmap;

    public override bool UnmapReadsZero => inner.UnmapReadsZero;

    public override bool IsReadOnly => inner.IsReadOnly;

    public override void Dispose()
    {
    }

    protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target) => inner.ReadAsync(firstByte + offsetBytes, target);

    protected override IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source) => inner.WriteAsync(firstByte + offsetBytes, source);

    protected override IoTask<Errno> FlushCoreAsync() => inner.FlushAsync();

    protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes) => inner.UnmapAsync(firstByte + offsetBytes, lengthBytes);

    protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes) => inner.WriteZeroesAsync(firstByte + offsetBytes, lengthBytes);
}
