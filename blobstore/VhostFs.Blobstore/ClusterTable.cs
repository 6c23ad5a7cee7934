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
internal sealed class ClusterTable
{
    public const int ValueBytes = 16;
    private ClusterKind[] _kind;
    private ulong[] _owner;
    private uint _hint;

    public ClusterTable(PoolGeometry geometry)
    {
        _kind = new ClusterKind[geometry.ClusterCount];
        _owner = new ulong[geometry.ClusterCount];
        FreeCount = geometry.ClusterCount;
        foreach (ClusterExtent extent in geometry.Nodes0Clusters) { Set(extent, ClusterKind.Node, 0); }
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
        Set(extent, (ClusterKind)kind, BinaryPrimitives.ReadUInt64LittleEndian(value[8..]));
        return true;
    }

    public void Set(ClusterExtent extent, ClusterKind kind, ulong owner)
    {
        for (uint i = extent.First; i < extent.First + extent.Count; i++)
        {
            if ((_kind[i] == ClusterKind.Free) != (kind == ClusterKind.Free)) { FreeCount = kind == ClusterKind.Free ? FreeCount + 1 : FreeCount - 1; }
            _kind[i] = kind;
            _owner[i] = owner;
        }
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

    public IEnumerable<(ClusterExtent Extent, ClusterKind Kind)> OwnedBy(ulong owner)
    {
        for (uint at = 0; at < Count;)
        {
            if (_kind[at] == ClusterKind.Free || _owner[at] != owner) { at++; continue; }
            uint first = at;
            ClusterKind kind = _kind[at];
            while (at < Count && _kind[at] == kind && _owner[at] == owner) { at++; }
            yield return (new ClusterExtent(first, at - first), kind);
        }
    }

    public bool Is(uint cluster, ClusterKind kind, ulong owner) => _kind[cluster] == kind && _owner[cluster] == owner;

    /// <summary>How many clusters everybody has who has any; one look at each cluster, whoever is asked for.</summary>
    public Dictionary<ulong, long> CountByOwner()
    {
        var counts = new Dictionary<ulong, long>();
        for (uint i = 0; i < Count; i++)
        {
            if (_kind[i] != ClusterKind.Free) { CollectionsMarshal.GetValueRefOrAddDefault(counts, _owner[i], out _)++; }
        }
        return counts;
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
