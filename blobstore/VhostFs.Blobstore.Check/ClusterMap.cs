namespace VhostFs.Blobstore.Check;

internal enum ClusterKind : byte
{
    Free = 0,
    Anchor = 1,
    Node = 2,
    Data = 3,
}

/// <summary>Who owns which cluster, as volume 0 and, of its own clusters, the superblock say.</summary>
internal sealed class ClusterMap
{
    private readonly ClusterKind[] _kinds;
    private readonly ulong[] _owners;

    public ClusterMap(Superblock superblock)
    {
        DataStart = superblock.DataStart;
        ClusterBlocks = superblock.ClusterBlocks;
        _kinds = new ClusterKind[superblock.ClusterCount];
        _owners = new ulong[superblock.ClusterCount];
        foreach ((uint first, uint count) in superblock.NodeClusters) { _kinds.AsSpan((int)first, (int)count).Fill(ClusterKind.Node); } // of volume 0
    }

    public ulong DataStart { get; }

    public uint ClusterBlocks { get; }

    public uint Count => (uint)_kinds.Length;

    public ClusterKind KindOf(uint cluster) => _kinds[cluster];

    public ulong OwnerOf(uint cluster) => _owners[cluster];

    /// <summary>False: the cluster has an owner already.</summary>
    public bool TryClaim(uint cluster, ClusterKind kind, ulong owner)
    {
        if (_kinds[cluster] != ClusterKind.Free) { return false; }
        _kinds[cluster] = kind;
        _owners[cluster] = owner;
        return true;
    }

    public bool TryClusterOf(ulong block, out uint cluster, out uint blockInCluster)
    {
        cluster = 0;
        blockInCluster = 0;
        if (block < DataStart || (block - DataStart) / ClusterBlocks >= Count) { return false; }
        cluster = (uint)((block - DataStart) / ClusterBlocks);
        blockInCluster = (uint)((block - DataStart) % ClusterBlocks);
        return true;
    }

    /// <summary>Every block of the range lies in clusters of this kind and owner.</summary>
    public bool Holds(ulong firstBlock, ulong count, ClusterKind kind, ulong owner)
    {
        if (count == 0 || count > (ulong)Count * ClusterBlocks) { return false; }
        if (!TryClusterOf(firstBlock, out uint first, out _) || !TryClusterOf(firstBlock + count - 1, out uint last, out _)) { return false; }
        for (uint cluster = first; cluster <= last; cluster++)
        {
            if (_kinds[cluster] != kind || _owners[cluster] != owner) { return false; }
        }
        return true;
    }
}
