using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>Blocks whose newest content is in the log but not yet in place. Reads look here first; a checkpoint writes them in place.</summary>
internal sealed class ImageOverlay
{
    private static readonly Comparer<ImageBlock> s_byBlock = Comparer<ImageBlock>.Create(Compare);
    private readonly Dictionary<ulong, Page> _images = [];

    /// <summary>What a checkpoint writes in place at the moment, in block order.</summary>
    private List<ImageBlock>? _copied;

    public int Count => _images.Count;

    public bool TryGet(ulong block, out Page page) => _images.TryGetValue(block, out page!);

    /// <summary>This page is the block's content from now on.</summary>
    public void Set(ulong block, Page page)
    {
        page.References++;
        if (_images.Remove(block, out Page? old)) { PagePool.Release(old); }
        _images.Add(block, page);
    }

    /// <summary>The block was freed: its image must never be written (the revoke rule).</summary>
    public void Forget(ulong block)
    {
        if (_images.Remove(block, out Page? old)) { PagePool.Release(old); }
    }

    /// <summary>All images as they are now, each with a reference, in block order.</summary>
    public void CopyTo(List<ImageBlock> target)
    {
        foreach ((ulong block, Page page) in _images)
        {
            page.References++;
            target.Add(new ImageBlock(block, page));
        }
        target.Sort(Compare);
        _copied = target;
    }

    /// <summary>A checkpoint writes an image of this block, an older one perhaps: between <see cref="CopyTo"/> and <see cref="Drop"/> nobody else may.</summary>
    public bool IsCopied(ImageBlock image) => _copied is { Count: > 0 } && _copied.BinarySearch(image, s_byBlock) >= 0;

    /// <summary>Gives back the references of <see cref="CopyTo"/>; images that are in place now are forgotten, newer ones of their blocks stay.</summary>
    public void Drop(List<ImageBlock> copied, bool inPlace)
    {
        _copied = null;
        foreach (ImageBlock image in copied)
        {
            if (inPlace && IsNewest(image)) { Forget(image.Block); }
            PagePool.Release(image.Page);
        }
    }

    /// <summary>It is the content of its block: the block was not freed since, and there is no newer image.</summary>
    public bool IsNewest(ImageBlock image) => _images.TryGetValue(image.Block, out Page? current) && current == image.Page;

    public void Clear()
    {
        foreach (Page page in _images.Values) { PagePool.Release(page); }
        _images.Clear();
    }

    private static int Compare(ImageBlock a, ImageBlock b) => a.Block.CompareTo(b.Block);
}

internal readonly record struct ImageBlock(ulong Block, Page Page);
