using System.Buffers.Binary;
using System.Text;

namespace VhostFs.Blobstore.Check;

/// <summary>What volume 0 says: which volumes there are and which clusters they own.</summary>
internal sealed class PoolCatalogue
{
    private const int RecordBytes = 50;
    private const int RunBytes = 16;
    private const int MaxNameBytes = 255;

    /// <summary>The years 1 to 9999.</summary>
    private const long MinSeconds = -62_135_596_800, MaxSeconds = 253_402_300_799;

    private readonly CheckReport _report;
    private readonly ClusterMap _clusters;
    private readonly Dictionary<ulong, VolumeEntry> _volumes = [];

    public PoolCatalogue(CheckReport report, ClusterMap clusters)
    {
        _report = report;
        _clusters = clusters;
    }

    public IEnumerable<VolumeEntry> Volumes => _volumes.Values;

    public void Read(ItemTable items)
    {
        var runs = new List<(ulong First, uint Count, uint Kind, ulong Owner)>();
        var names = new HashSet<string>();
        foreach ((ItemKey key, ReadOnlyMemory<byte> value) in items.InOrder())
        {
            _report.Counts.Items++;
            if (key.Object == 0 && key.Type == ItemKey.Volume) { ReadVolume(key.Sub, value.Span, names); }
            else if (key.Object == 0 && key.Type == ItemKey.ClusterRun)
            {
                if (value.Length != RunBytes) { _report.Error("cluster run", $"cluster {key.Sub}", $"the item has {value.Length} bytes"); }
                else
                {
                    runs.Add((key.Sub, BinaryPrimitives.ReadUInt32LittleEndian(value.Span), BinaryPrimitives.ReadUInt32LittleEndian(value.Span[4..]),
                        BinaryPrimitives.ReadUInt64LittleEndian(value.Span[8..])));
                }
            }
            else { _report.Error("pool metadata", $"key {key}", "this kind of item does not belong into volume 0"); }
        }
        foreach ((ulong first, uint count, uint kind, ulong owner) in runs) { Claim(first, count, kind, owner); }
        foreach (VolumeEntry volume in _volumes.Values)
        {
            if (!_clusters.Holds(volume.AnchorFirst, volume.AnchorBlocks, ClusterKind.Anchor, volume.Id))
            {
                _report.Error("volume record", $"volume {volume.Id}", $"its anchor at block {volume.AnchorFirst} is not in anchor clusters of the volume");
            }
        }
    }

    private void ReadVolume(ulong id, ReadOnlySpan<byte> value, HashSet<string> names)
    {
        string where = $"volume {id}";
        int nameLength = value.Length < RecordBytes ? 0 : BinaryPrimitives.ReadUInt16LittleEndian(value[48..]);
        bool limitsInodes = value.Length == RecordBytes + nameLength + sizeof(long);
        if (id == 0 || value.Length < RecordBytes || (!limitsInodes && value.Length != RecordBytes + nameLength))
        {
            _report.Error("volume record", where, $"the record of {value.Length} bytes is malformed");
            return;
        }
        bool isNegative = BinaryPrimitives.ReadInt64LittleEndian(value[40..]) < 0 || (limitsInodes && BinaryPrimitives.ReadInt64LittleEndian(value[(RecordBytes + nameLength)..]) <= 0);
        if (isNegative) { _report.Error("volume record", where, "a limit that is no number of blocks or inodes"); }
        ReadOnlySpan<byte> name = value.Slice(RecordBytes, nameLength);
        if (name.Length is 0 or > MaxNameBytes) { _report.Error("volume record", where, $"a name of {name.Length} bytes"); }
        if (BinaryPrimitives.ReadInt64LittleEndian(value[16..]) is < MinSeconds or > MaxSeconds) { _report.Error("volume record", where, "was made at a time that no calendar has"); }
        bool beingDeleted = (BinaryPrimitives.ReadUInt32LittleEndian(value[12..]) & 1) != 0;
        string text = Encoding.UTF8.GetString(name);
        if (text.Any(c => c is < ' ' or '/' or '\uFFFD')) { _report.Error("volume record", where, "a name that no volume can have"); }
        if (!beingDeleted && !names.Add(text)) { _report.Error("volume record", where, "another volume has the same name"); }
        _volumes[id] = new VolumeEntry(id, BinaryPrimitives.ReadUInt64LittleEndian(value), BinaryPrimitives.ReadUInt32LittleEndian(value[8..]), beingDeleted, new Guid(value.Slice(24, 16)));
    }

    private void Claim(ulong first, uint count, uint kind, ulong owner)
    {
        string where = $"cluster {first}";
        if (kind is < (uint)ClusterKind.Anchor or > (uint)ClusterKind.Data) { _report.Error("cluster run", where, $"unknown kind {kind}"); }
        else if (count == 0 || first > _clusters.Count || count > _clusters.Count - first) { _report.Error("cluster run", where, $"{count} clusters do not exist there"); }
        else
        {
            if (!_volumes.ContainsKey(owner)) { _report.Error("cluster run", where, $"belongs to volume {owner}, which does not exist"); }
            for (uint cluster = (uint)first; cluster < first + count; cluster++)
            {
                if (!_clusters.TryClaim(cluster, (ClusterKind)kind, owner)) { _report.Error("cluster run", $"cluster {cluster}", $"belongs to volume {_clusters.OwnerOf(cluster)} and to volume {owner}"); }
            }
        }
    }
}

/// <summary>A volume record of volume 0.</summary>
internal sealed record VolumeEntry(ulong Id, ulong AnchorFirst, uint AnchorBlocks, bool IsBeingDeleted, Guid Uuid);
