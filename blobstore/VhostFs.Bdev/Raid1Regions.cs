using System.Buffers.Binary;
using System.Numerics;

namespace VhostFs.Bdev;

/// <summary>Which regions of a raid1 its legs may differ in: a bit each, marked before anything is written there.</summary>
/// <remarks>
/// <para>Three things are known of a region: whether it should be marked, whether it is, on every leg (<see cref="IsDurable"/>), and who is writing to it. It is written to only while it is
/// marked on every leg.</para>
/// <para>On disk: sectors of 512 bytes, each with 4,032 bits, its number and a checksum. So a power cut leaves each sector old or new; one that is neither says that everything in it may differ.</para>
/// </remarks>
internal sealed class Raid1Regions
{
    /// <summary>What is written at once: a block, or several.</summary>
    public const int PageBytes = 4096;

    /// <summary>Where they begin on a leg.</summary>
    public const long FirstByte = 64 << 10;

    public const int MaxCount = 1 << 16;

    private const long LeastRegionBytes = 1 << 20;
    private const int SectorBytes = 512, NumberOffset = 504, ChecksumOffset = 508, BitsPerSector = NumberOffset * 8;

    private readonly ulong[] _marked;
    private readonly ulong[] _durable;
    private readonly int[] _writers;
    private readonly long[] _lastUse;
    private readonly bool[] _isPageDirty;
    private readonly int _shift;
    private long _clock;

    public Raid1Regions(long sizeBytes)
    {
        _shift = BitOperations.Log2((ulong)RegionBytesOf(sizeBytes));
        Count = (int)((sizeBytes + RegionBytesOf(sizeBytes) - 1) >> _shift);
        _marked = new ulong[(Count + 63) / 64];
        _durable = new ulong[_marked.Length];
        _writers = new int[Count];
        _lastUse = new long[Count];
        int sectors = (Count + BitsPerSector - 1) / BitsPerSector;
        _isPageDirty = new bool[(sectors + (PageBytes / SectorBytes) - 1) / (PageBytes / SectorBytes)];
        SetAllDirty();
    }

    public int Count { get; }

    /// <summary>As many are marked before the first is not any more: what is copied after a crash.</summary>
    public int MostIdle { get; set; } = 256;

    public int MarkedCount { get; private set; }

    public int PageCount => _isPageDirty.Length;

    /// <summary>Some page on the legs is not what it should be.</summary>
    public bool IsDirty => Array.IndexOf(_isPageDirty, true) >= 0;

    public long RegionBytes => 1L << _shift;

    /// <summary>A power of two: a MiB, or what makes 65,536 of them.</summary>
    public static long RegionBytesOf(long sizeBytes) => Math.Max(LeastRegionBytes, (long)BitOperations.RoundUpToPowerOf2((ulong)(sizeBytes + MaxCount - 1) / MaxCount));

    public bool IsMarked(int region) => Has(_marked, region);

    /// <summary>From this region on, this one included: the first that is marked; <see cref="Count"/>: none is.</summary>
    public int NextMarked(int region)
    {
        while (region < Count && !IsMarked(region)) { region = (region & 63) == 0 && _marked[region >> 6] == 0 ? region + 64 : region + 1; }
        return Math.Min(region, Count);
    }

    /// <summary>All of a range is marked on the legs.</summary>
    public bool IsDurable(long offset, long length)
    {
        (int first, int last) = Of(offset, length);
        for (int i = first; i <= last; i++)
        {
            if (!Has(_durable, i)) { return false; }
        }
        return true;
    }

    public void BeginWrite(long offset, long length)
    {
        (int first, int last) = Of(offset, length);
        for (int i = first; i <= last; i++)
        {
            _writers[i]++;
            Mark(i);
        }
    }

    public void EndWrite(long offset, long length)
    {
        (int first, int last) = Of(offset, length);
        _clock++;
        for (int i = first; i <= last; i++)
        {
            _writers[i]--;
            _lastUse[i] = _clock;
        }
    }

    public void Mark(int region)
    {
        if (IsMarked(region)) { return; }
        _marked[region >> 6] |= 1UL << region;
        MarkedCount++;
        _isPageDirty[PageOf(region)] = true;
    }

    /// <summary>Those that nobody writes to, the longest-unused first.</summary>
    public int[] Idle() => [.. Enumerable.Range(0, Count).Where(i => IsMarked(i) && _writers[i] == 0).OrderBy(i => _lastUse[i])];

    /// <summary>A moment, for <see cref="Unmark"/>.</summary>
    public long Now => _clock;

    /// <summary>The legs are equal in it, and durably so, as of a moment: unless somebody has written to it since.</summary>
    public void Unmark(int region, long asOf)
    {
        if (!IsMarked(region) || _writers[region] > 0 || _lastUse[region] > asOf) { return; }
        _marked[region >> 6] &= ~(1UL << region);
        _durable[region >> 6] &= ~(1UL << region);
        MarkedCount--;
        _isPageDirty[PageOf(region)] = true;
    }

    public bool IsPageDirty(int page) => _isPageDirty[page];

    /// <summary>The page as it should be on the legs; from here on it is not dirty.</summary>
    public void WritePage(int page, Span<byte> target)
    {
        _isPageDirty[page] = false;
        target.Clear();
        for (int i = 0; i < PageBytes / SectorBytes; i++)
        {
            int number = (page * PageBytes / SectorBytes) + i;
            Span<byte> sector = target.Slice(i * SectorBytes, SectorBytes);
            for (int region = NextMarked(number * BitsPerSector); region < Math.Min(Count, (number + 1) * BitsPerSector); region = NextMarked(region + 1))
            {
                int bit = region % BitsPerSector;
                sector[bit >> 3] |= (byte)(1 << (bit & 7));
            }
            BinaryPrimitives.WriteInt32LittleEndian(sector[NumberOffset..], number);
            BinaryPrimitives.WriteUInt32LittleEndian(sector[ChecksumOffset..], Crc32.Of(sector[..ChecksumOffset]));
        }
    }

    /// <summary>The page is on every leg, as it was written: what it marks is marked there, as long as it still should be.</summary>
    public void SetDurable(int page, ReadOnlySpan<byte> written)
    {
        for (int i = 0; i < PageBytes / SectorBytes; i++) { ForEachBit(page, i, written, region => _durable[region >> 6] |= _marked[region >> 6] & (1UL << region)); }
    }

    /// <summary>It is not on every leg after all.</summary>
    public void SetDirty(int page) => _isPageDirty[page] = true;

    /// <summary>There is a leg that has none of it.</summary>
    public void SetAllDirty() => Array.Fill(_isPageDirty, true);

    /// <summary>Marks what a page of a leg marks; of a sector that is not as it was written, everything.</summary>
    public void Read(int page, ReadOnlySpan<byte> source)
    {
        for (int i = 0; i < PageBytes / SectorBytes; i++)
        {
            int number = (page * PageBytes / SectorBytes) + i;
            ReadOnlySpan<byte> sector = source.Slice(i * SectorBytes, SectorBytes);
            bool isWhole = BinaryPrimitives.ReadInt32LittleEndian(sector[NumberOffset..]) == number && BinaryPrimitives.ReadUInt32LittleEndian(sector[ChecksumOffset..]) == Crc32.Of(sector[..ChecksumOffset]);
            if (isWhole) { ForEachBit(page, i, source, Mark); }
            else { MarkAll(number * BitsPerSector, (number + 1) * BitsPerSector); }
        }
    }

    private void MarkAll(int first, int limit)
    {
        for (int region = first; region < Math.Min(limit, Count); region++) { Mark(region); }
    }

    private void ForEachBit(int page, int sectorInPage, ReadOnlySpan<byte> source, Action<int> act)
    {
        int first = ((page * PageBytes / SectorBytes) + sectorInPage) * BitsPerSector;
        ReadOnlySpan<byte> bits = source.Slice(sectorInPage * SectorBytes, NumberOffset);
        for (int at = 0; at < bits.Length; at++)
        {
            for (int left = bits[at]; left != 0; left &= left - 1)
            {
                int region = first + (at * 8) + BitOperations.TrailingZeroCount(left);
                if (region < Count) { act(region); }
            }
        }
    }

    private (int First, int Last) Of(long offset, long length) => ((int)(offset >> _shift), (int)((offset + length - 1) >> _shift));

    private static int PageOf(int region) => region / BitsPerSector / (PageBytes / SectorBytes);

    private static bool Has(ulong[] bits, int region) => (bits[region >> 6] >> region & 1) != 0;
}
