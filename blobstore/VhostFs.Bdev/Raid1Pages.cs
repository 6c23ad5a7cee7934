using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>What one round writes to each leg: the superblock, and the pages of the log of dirty regions that have changed.</summary>
internal sealed class Raid1Pages : IDisposable
{
    private readonly Raid1MemoryPool _pool;
    private readonly Raid1Regions _regions;
    private readonly Raid1Superblock _superblock;
    private readonly Raid1Memory?[] _dirty;

    public Raid1Pages(Raid1MemoryPool pool, Raid1Regions regions, Raid1Superblock superblock)
    {
        (_pool, _regions, _superblock) = (pool, regions, superblock);
        _dirty = new Raid1Memory?[regions.PageCount];
        for (int i = 0; i < _dirty.Length; i++)
        {
            if (regions.IsPageDirty(i)) { _dirty[i] = Fill(i); }
        }
    }

    public ulong Sequence => _superblock.Sequence;

    /// <summary>Durable when it is done.</summary>
    public async IoTask<Errno> WriteAsync(Raid1Leg leg)
    {
        Errno errno = Errno.None;
        for (int i = 0; i < _dirty.Length && errno == Errno.None; i++)
        {
            if (_dirty[i] is { } page) { errno = await leg.WriteRecordAsync(Raid1Regions.FirstByte + ((long)i * Raid1Regions.PageBytes), page); }
        }
        if (errno == Errno.None && leg.Recorded?.Sequence != Sequence)
        {
            errno = await leg.FlushAsync(); // never believed before its log says what it must
            if (errno == Errno.None) { errno = await WriteSuperblockAsync(leg); }
        }
        return errno == Errno.None && leg.Bdev.HasWriteCache ? await leg.FlushAsync() : errno;
    }

    /// <param name="isWritten">On every leg that there still is.</param>
    public void Settle(bool isWritten)
    {
        for (int i = 0; i < _dirty.Length; i++)
        {
            if (_dirty[i] is not { } page) { continue; }
            if (isWritten) { _regions.SetDurable(i, page.Span); }
            else { _regions.SetDirty(i); }
        }
    }

    public void Dispose()
    {
        foreach (Raid1Memory? page in _dirty) { page?.Release(); }
    }

    // Over the older copy; over both where there may be something of another array, or of another time of this one.
    private async IoTask<Errno> WriteSuperblockAsync(Raid1Leg leg)
    {
        int copy = leg.Recorded is { } recorded ? 1 - recorded.Copy : 0;
        Raid1Memory page = _pool.RentNow(Raid1Superblock.Bytes);
        _superblock.WriteTo(page.Span, leg.Slot);
        Errno errno = await leg.WriteRecordAsync((long)copy * Raid1Superblock.Bytes, page);
        if (errno == Errno.None && leg.Recorded is null) { errno = await leg.WriteRecordAsync((long)(1 - copy) * Raid1Superblock.Bytes, page); }
        page.Release();
        if (errno == Errno.None) { leg.Recorded = _superblock with { Copy = copy }; }
        return errno;
    }

    private Raid1Memory Fill(int page)
    {
        Raid1Memory memory = _pool.RentNow(Raid1Regions.PageBytes);
        _regions.WritePage(page, memory.Span);
        return memory;
    }
}
