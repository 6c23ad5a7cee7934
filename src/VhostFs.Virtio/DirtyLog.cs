using VhostFs.Linux;

namespace VhostFs.Virtio;

/// <summary>The bitmap in which the front-end wants to see what we write to guest memory while it migrates the guest (vhost-user.rst, "Migration"): a bit per 4 KiB, from guest address 0 on.</summary>
/// <remarks>The front-end reads and clears it at any time, and may take it away: it is mapped as guest memory is. A page is marked after it was written to, or its content could be sent before.</remarks>
public sealed unsafe class DirtyLog : IDisposable
{
    private const int PageShift = 12, WordShift = 5; // pages in a word: 32

    /// <summary>Enough for guest addresses up to 128 TiB.</summary>
    private const ulong MaxBytes = 1UL << 32;

    private readonly GuestMapping _mapping;
    private readonly ulong _pages;
    private readonly uint* _words; // the first holds the bit of page _bias, which is page 0 of the log
    private readonly ulong _bias;

    private DirtyLog(GuestMapping mapping, ulong lengthBytes)
    {
        _mapping = mapping;
        _pages = lengthBytes * 8;
        nuint misaligned = (nuint)mapping.Data & 3; // what is atomic must be aligned, and the mapping begins and ends at pages
        _words = (uint*)(mapping.Data - misaligned);
        _bias = misaligned * 8;
    }

    /// <summary>Maps the front-end's bitmap into the life of <paramref name="memory"/>; the caller keeps (and may close) the fd.</summary>
    public static Errno TryMap(GuestMemory memory, SafeFd fd, ulong offset, ulong lengthBytes, out DirtyLog? log, out string reason)
    {
        log = null;
        reason = "no size that a log may have";
        if (lengthBytes is 0 or > MaxBytes || offset > long.MaxValue - lengthBytes) { return Errno.EINVAL; }
        Errno mapped = memory.TryMapBeside(fd, offset, lengthBytes, out GuestMapping? mapping, out reason);
        if (mapped == Errno.None) { log = new DirtyLog(mapping!, lengthBytes); }
        return mapped;
    }

    /// <summary>These bytes have been written. Pages behind the end of the bitmap are not marked.</summary>
    public void Mark(ulong guestAddress, long lengthBytes)
    {
        if (lengthBytes <= 0) { return; }
        ulong first = guestAddress >> PageShift;
        if (first >= _pages) { return; }
        ulong last = Math.Min((guestAddress + (ulong)lengthBytes - 1) >> PageShift, _pages - 1) + _bias;
        for (first += _bias; first <= last;)
        {
            ulong word = first >> WordShift, end = Math.Min(last, (word << WordShift) | 31);
            uint bits = (uint.MaxValue << (int)(first & 31)) & (uint.MaxValue >> (31 - (int)(end & 31)));
            Interlocked.Or(ref _words[word], bits);
            first = end + 1;
        }
    }

    public void Dispose() => _mapping.Dispose();
}
