using System.Runtime.InteropServices;

namespace VhostFs.Blobstore;

/// <summary>Memory of tree nodes, shared by all volumes of one reactor: a budget, a free list, and a clock that evicts clean nodes.</summary>
public sealed unsafe class NodeCache(long budgetBytes)
{
    private const int MaxFreePages = 256;

    /// <summary>The nodes loaded last stay, whatever the budget (1 MiB more at most): an operation starts over after each load, and if that evicted what it loaded
    /// before, n nodes would take 2^n loads when dirty ones fill the cache. More than a transaction touches without asking.</summary>
    private const ulong KeptLoads = 64;
    private readonly List<Node> _nodes = [];
    private readonly Stack<nint> _freePages = new();
    private int _hand;
    private ulong _loads;

    /// <summary>Nobody refers to the cache any more, so nobody uses its pages.</summary>
    ~NodeCache()
    {
        foreach (nint page in _freePages) { NativeMemory.AlignedFree((void*)page); }
        foreach (Node node in _nodes)
        {
            if (node.Bytes is not null) { NativeMemory.AlignedFree(node.Bytes); }
        }
    }

    public long BudgetBytes { get; } = budgetBytes;

    public long UsedBytes { get; private set; }

    public int NodeCount => _nodes.Count;

    /// <summary>Dirty nodes of all trees: memory that only their checkpoints can give back.</summary>
    internal int DirtyCount { get; set; }

    /// <summary>How many of them there should be at most: an eighth of the budget. A checkpoint under way may hold as many, reading needs the rest; and the longer a checkpoint, the longer its freeze
    /// and its end hold others up (a million names at depth 32: with a quarter, renames are 7 % faster, and their p99.9 is 12 ms instead of 6).</summary>
    internal int DirtyLimit => (int)(BudgetBytes / 8 / NodePage.Bytes);

    internal byte* RentPage()
    {
        UsedBytes += NodePage.Bytes;
        return _freePages.TryPop(out nint page) ? (byte*)page : (byte*)NativeMemory.AlignedAlloc(NodePage.Bytes, 4096);
    }

    internal void ReturnPage(byte* page)
    {
        UsedBytes -= NodePage.Bytes;
        if (_freePages.Count < MaxFreePages) { _freePages.Push((nint)page); }
        else { NativeMemory.AlignedFree(page); }
    }

    internal void Add(Node node)
    {
        node.CacheIndex = _nodes.Count;
        node.IsReferenced = true;
        _nodes.Add(node);
    }

    internal void AddLoaded(Node node)
    {
        node.LoadNumber = ++_loads + KeptLoads;
        Add(node);
    }

    /// <summary>Forgets a node; its page goes back unless a checkpoint still writes it.</summary>
    internal void Remove(Node node)
    {
        if (node.CacheIndex >= 0)
        {
            Node last = _nodes[^1];
            _nodes[node.CacheIndex] = last;
            last.CacheIndex = node.CacheIndex;
            _nodes.RemoveAt(_nodes.Count - 1);
            node.CacheIndex = -1;
        }
        if (!node.IsFrozen && node.Bytes is not null)
        {
            ReturnPage(node.Bytes);
            node.Bytes = null;
        }
    }

    /// <summary>Evicts clean nodes without resident children until the budget is met or two rounds found nothing more. Called only between operations.</summary>
    internal void Trim()
    {
        int looks = 2 * _nodes.Count;
        while (UsedBytes > BudgetBytes && looks-- > 0)
        {
            if (_hand >= _nodes.Count) { _hand = 0; }
            Node node = _nodes[_hand];
            if (node.Parent is null || node.IsDirty || node.IsFrozen || node.Pins > 0 || node.ResidentChildren > 0 || node.LoadNumber > _loads) { _hand++; }
            else if (node.IsReferenced) { node.IsReferenced = false; _hand++; }
            else
            {
                node.Parent.Detach(node);
                node.Parent = null;
                Remove(node);
            }
        }
    }
}
