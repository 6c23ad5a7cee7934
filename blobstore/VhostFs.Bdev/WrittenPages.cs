namespace VhostFs.Bdev;

/// <summary>Which pages of a file certainly exist, because they were written through this set's owner and no hole was made since. One bit a page: 32 KiB for each GiB.</summary>
internal sealed class WrittenPages(long lengthBytes)
{
    private const int PageShift = 12;
    private readonly ulong[] _bits = new ulong[(lengthBytes >> (PageShift + 6)) + 1];

    /// <summary>All pages that the range touches exist.</summary>
    public bool Contains(long offsetBytes, long lengthBytes)
    {
        for (long page = offsetBytes >> PageShift, last = (offsetBytes + lengthBytes - 1) >> PageShift; page <= last; page = (page | 63) + 1)
        {
            ulong mask = Mask(page, last);
            if ((_bits[page >> 6] & mask) != mask) { return false; }
        }
        return true;
    }

    public void Add(long offsetBytes, long lengthBytes)
    {
        for (long page = offsetBytes >> PageShift, last = (offsetBytes + lengthBytes - 1) >> PageShift; page <= last; page = (page | 63) + 1) { _bits[page >> 6] |= Mask(page, last); }
    }

    public void Remove(long offsetBytes, long lengthBytes)
    {
        for (long page = offsetBytes >> PageShift, last = (offsetBytes + lengthBytes - 1) >> PageShift; page <= last; page = (page | 63) + 1) { _bits[page >> 6] &= ~Mask(page, last); }
    }

    /// <summary>The bits of <paramref name="page"/>'s word from it up to <paramref name="last"/>.</summary>
    private static ulong Mask(long page, long last)
    {
        ulong from = ulong.MaxValue << (int)(page & 63);
        return (last >> 6) > (page >> 6) ? from : from & (ulong.MaxValue >> (63 - (int)(last & 63)));
    }
}
