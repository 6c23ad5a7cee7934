using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>A 4 KiB block of private memory on its way to or from the device. Reference counted by its owners, all on one reactor.</summary>
/// <param name="number">What it is called in log memory (<see cref="LogChunk.PageNumber"/>); 0: it ends with the process.</param>
internal sealed class Page(IoVec memory, int number)
{
    public IoVec Memory { get; } = memory;

    public int Number => number;

    public Span<byte> Span => Memory.Span;

    public int References { get; set; }

    internal Page? NextFree { get; set; }
}

/// <summary>Pages cut from slabs; returned pages are kept for reuse. Bounded by the requests and the log that hold them.</summary>
internal sealed class PagePool(LogMemory? memory)
{
    private const int SlabPages = LogBatch.BufferBytes / BlobData.BlockBytes;
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

    public void Release(Page page)
    {
        Invariant.That(page.References > 0);
        if (--page.References > 0) { return; }
        page.NextFree = _free;
        _free = page;
        PagesInUse--;
    }

    private void AddSlab()
    {
        bool isStaged = false;
        LogChunk chunk = default;
        if (memory is not null) { isStaged = memory.TryRent(out chunk); }
        IoVec slab = isStaged ? chunk.Memory : AddPrivateSlab();
        // In reverse, so that pages rented one after the other are neighbours and merge into one segment.
        for (int i = SlabPages - 1; i >= 0; i--)
        {
            _free = new Page(slab.Slice(i * BlobData.BlockBytes, BlobData.BlockBytes), isStaged ? chunk.PageNumber(i) : 0) { NextFree = _free };
        }
    }

    private IoVec AddPrivateSlab()
    {
        var slab = new NativeBuffer(SlabPages * BlobData.BlockBytes);
        _slabs.Add(slab);
        return slab.Vec;
    }
}
