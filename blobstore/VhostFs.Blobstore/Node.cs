using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>A tree node in memory. Its identity stays while its page may be cloned under a checkpoint that writes the old bytes.</summary>
internal sealed unsafe class Node
{
    private byte* _page;

    public Node(byte* page, int level)
    {
        Bytes = page;
        Level = level;
        if (level > 0) { Children = new Node?[NodePage.MaxChildren + 1]; }
    }

    public byte* Bytes
    {
        get => _page;
        set => _page = value;
    }

    public NodePage Page => new(_page);

    public int Level { get; }

    /// <summary>Resident children, parallel to the page's entries; null in a leaf, null entries are on disk only.</summary>
    public Node?[]? Children { get; }

    public int ResidentChildren { get; set; }

    public Node? Parent { get; set; }

    /// <summary>Where the current content is (or is being written); 0 when it changed since.</summary>
    public ulong Address { get; set; }

    /// <summary>Changed since the last freeze.</summary>
    public bool IsDirty { get; set; }

    /// <summary>The page is shared with a checkpoint that is writing it: clone before a change.</summary>
    public bool IsFrozen { get; set; }

    /// <summary>No longer part of the tree.</summary>
    public bool IsDead { get; set; }

    /// <summary>Which freeze gave this node its address.</summary>
    public ulong FreezeRound { get; set; }

    /// <summary>Where it is in the list of that freeze.</summary>
    public int FrozenIndex { get; set; }

    /// <summary>Which transaction touched it last.</summary>
    public ulong TouchRound { get; set; }

    /// <summary>Used since the cache's clock hand came by.</summary>
    public bool IsReferenced { get; set; }

    /// <summary>It is among the nodes loaded last until the cache has loaded this many.</summary>
    public ulong LoadNumber { get; set; }

    /// <summary>Somebody holds on to the node across an await: it is not evicted.</summary>
    public int Pins { get; set; }

    /// <summary>Position in the cache's list.</summary>
    public int CacheIndex { get; set; } = -1;

    public void InsertChild(int index, Node? child)
    {
        int count = Page.Count; // already includes the new entry
        Array.Copy(Children!, index, Children!, index + 1, count - 1 - index);
        Children![index] = child;
        if (child is not null) { Adopt(child); }
    }

    public void RemoveChild(int index)
    {
        int count = Page.Count; // already without the entry
        if (Children![index] is not null) { ResidentChildren--; }
        Array.Copy(Children!, index + 1, Children!, index, count - index);
        Children![count] = null;
    }

    public void Attach(int index, Node child)
    {
        Invariant.That(Children![index] is null);
        Children[index] = child;
        Adopt(child);
    }

    public void Detach(Node child)
    {
        int index = Array.IndexOf(Children!, child, 0, Page.Count);
        Invariant.That(index >= 0);
        Children![index] = null;
        ResidentChildren--;
    }

    private void Adopt(Node child)
    {
        child.Parent = this;
        ResidentChildren++;
    }
}
