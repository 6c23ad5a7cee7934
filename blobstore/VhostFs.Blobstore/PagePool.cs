using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>A 4 KiB block of private memory on its way to or from the device. Reference counted by its owners, all on one reactor.</summary>
/// <param name="number">What it is called in log memory (<see cref="LogChunk.PageNumber"/>); 0: it ends with the process.</param>
internal sealed class Page(PagePool pool, IoVec memory, int number)
{
    public PagePool Pool => pool;

    public IoVec Memory { get; } = memory;

    public int Number => number;

    public Span<byte> Span => Memory.Span;

    public int References { get; set; }

    internal Page? NextFree { get; set; }
}

/// <summary>Pages cut from slabs; returned pages are kept for reuse. Bounded by the requests and the log that hold them.</summary>
/// <param name="memory">Where images are to lie that the log names; null: content that goes to the device as it is, in memory that the kernel pins quickly.</param>
internal sealed class PagePool(LogMemory? memory)
{
    private const int LargeSlabBytes = 2 << 20; // a huge page of x86 and of ARM with 4 KiB pages
    private readonly List<NativeBuffer> _slabs = []; // keeps them alive
    private Page? _free;

    public int PagesInUse { get; private set; }

    public Page Rent()
    {
        if (_free is null) { AddSlab(); }
        Page page = _free!;
        _free = page.NextFree;
        page.NextFree = null;
        page.References = 1;
        PagesInUse++;
        return page;
    }

    /// <summary>Whichever pool it is from.</summary>
    public static void Release(Page page)
    {
        Invariant.That(page.References > 0);
        if (--page.References > 0) { return; }
        PagePool pool = page.Pool;
        page.NextFree = pool._free;
        pool._free = page;
        pool.PagesInUse--;
    }

    private void AddSlab()
    {
        bool isStaged = false;
        LogChunk chunk = default;
        if (memory is not null) { isStaged = memory.TryRent(out chunk); }
        IoVec slab = isStaged ? chunk.Memory : AddPrivateSlab();
        // In reverse, so that pages rented one after the other are neighbours and merge into one segment.
        for (int i = (slab.Length / BlobData.BlockBytes) - 1; i >= 0; i--)
        {
            _free = new Page(this, slab.Slice(i * BlobData.BlockBytes, BlobData.BlockBytes), isStaged ? chunk.PageNumber(i) : 0) { NextFree = _free };
        }
    }

    private IoVec AddPrivateSlab()
    {
        // Who needs few has few.
        NativeBuffer slab = memory is null && _slabs.Count > 0 ? NativeBuffer.Huge(LargeSlabBytes) : new NativeBuffer(LogBatch.BufferBytes);
        _slabs.Add(slab);
        return slab.Vec;
    }
}
