using System.Buffers.Binary;
using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

internal enum ClusterKind : byte
{
    Free = 0,
    Anchor = 1,
    Node = 2,
    Data = 3,
}

/// <summary>Consecutive clusters.</summary>
internal readonly record struct ClusterExtent(uint First, uint Count);

/// <summary>Who owns which cluster: the ClusterRun items of volume 0, and its own clusters, in memory.</summary>
/// <remarks>Invariant: the extents of an owner are those that were given to it, and are taken away as they were given: each is an item.</remarks>
internal sealed class ClusterTable
{
    public const int ValueBytes = 16;
    private ClusterKind[] _kind;
    private ulong[] _owner;
    private readonly Dictionary<ulong, List<ClusterExtent>> _extents = [];
    private uint _hint;

    public ClusterTable(PoolGeometry geometry)
    {
        _kind = new ClusterKind[geometry.ClusterCount];
        _owner = new ulong[geometry.ClusterCount];
        FreeCount = geometry.ClusterCount;
        foreach (ClusterExtent extent in geometry.Nodes0Clusters) { Give(extent, ClusterKind.Node, 0); }
    }

    public uint FreeCount { get; private set; }

    public uint Count => (uint)_kind.Length;

    public static TreeKey Key(uint first) => new(0, ItemType.ClusterRun, first);

    public static void WriteValue(Span<byte> value, uint count, ClusterKind kind, ulong owner)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(value, count);
        BinaryPrimitives.WriteUInt32LittleEndian(value[4..], (uint)kind);
        BinaryPrimitives.WriteUInt64LittleEndian(value[8..], owner);
    }

    /// <summary>Enters an item found at mount; false when it is not possible.</summary>
    public bool TryAdd(uint first, ReadOnlySpan<byte> value)
    {
        if (value.Length != ValueBytes) { return false; }
        uint count = BinaryPrimitives.ReadUInt32LittleEndian(value);
        uint kind = BinaryPrimitives.ReadUInt32LittleEndian(value[4..]);
        if (count == 0 || first >= Count || count > Count - first || kind is 0 or > (uint)ClusterKind.Data) { return false; }
        var extent = new ClusterExtent(first, count);
        if (!IsFree(extent)) { return false; }
        Give(extent, (ClusterKind)kind, BinaryPrimitives.ReadUInt64LittleEndian(value[8..]));
        return true;
    }

    /// <summary>Free clusters become somebody's.</summary>
    public void Give(ClusterExtent extent, ClusterKind kind, ulong owner)
    {
        Invariant.That(kind != ClusterKind.Free && IsFree(extent), "only what is free is given");
        Set(extent, kind, owner);
        FreeCount -= extent.Count;
        ref List<ClusterExtent>? extents = ref CollectionsMarshal.GetValueRefOrAddDefault(_extents, owner, out _);
        (extents ??= []).Add(extent);
    }

    /// <summary>What was given to somebody is free again.</summary>
    public void TakeBack(IReadOnlyCollection<ClusterExtent> extents, ulong owner)
    {
        foreach (ClusterExtent extent in extents)
        {
            Set(extent, ClusterKind.Free, 0);
            FreeCount += extent.Count;
        }
        var gone = extents.ToHashSet();
        int left = _extents.TryGetValue(owner, out List<ClusterExtent>? owned) ? owned.Count - owned.RemoveAll(gone.Contains) : 0;
        if (left == 0) { _extents.Remove(owner); }
    }

    /// <summary>More clusters behind the ones that there are; nobody has them.</summary>
    public void Grow(uint clusterCount)
    {
        FreeCount += clusterCount - Count;
        Array.Resize(ref _kind, (int)clusterCount);
        Array.Resize(ref _owner, (int)clusterCount);
    }

    /// <summary>A free extent of at most <paramref name="wanted"/> clusters; with <paramref name="exact"/> of exactly that many.</summary>
    public bool TryFind(uint wanted, bool exact, out ClusterExtent extent)
    {
        for (uint pass = 0; pass < 2; pass++)
        {
            for (uint at = pass == 0 ? _hint : 0; at < Count; at++)
            {
                if (_kind[at] != ClusterKind.Free) { continue; }
                uint count = 1;
                while (count < wanted && at + count < Count && _kind[at + count] == ClusterKind.Free) { count++; }
                if (count == wanted || !exact)
                {
                    extent = new ClusterExtent(at, count);
                    _hint = at + count;
                    return true;
                }
                at += count;
            }
        }
        extent = default;
        return false;
    }

    /// <summary>In the order in which they were given; the opening of a volume looks at nobody else's.</summary>
    public IEnumerable<(ClusterExtent Extent, ClusterKind Kind)> OwnedBy(ulong owner) =>
        _extents.TryGetValue(owner, out List<ClusterExtent>? owned) ? owned.Select(extent => (extent, _kind[extent.First])) : [];

    public bool Is(uint cluster, ClusterKind kind, ulong owner) => _kind[cluster] == kind && _owner[cluster] == owner;

    public long CountOf(ulong owner) => _extents.TryGetValue(owner, out List<ClusterExtent>? owned) ? owned.Sum(static extent => (long)extent.Count) : 0;

    private void Set(ClusterExtent extent, ClusterKind kind, ulong owner)
    {
        _kind.AsSpan((int)extent.First, (int)extent.Count).Fill(kind);
        _owner.AsSpan((int)extent.First, (int)extent.Count).Fill(owner);
    }

    private bool IsFree(ClusterExtent extent)
    {
        for (uint i = extent.First; i < extent.First + extent.Count; i++)
        {
            if (_kind[i] != ClusterKind.Free) { return false; }
        }
        return true;
    }
}
