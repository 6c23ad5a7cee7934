using System.Buffers.Binary;

namespace VhostFs.Blobstore.Check;

/// <summary>SharedBlocks items: a count for each block that more than one extent names, exactly as many as name it, and for no other block.</summary>
internal sealed class SharedBlockChecker(CheckReport report, string volume, Header header, ClusterMap clusters)
{
    private const int GroupBlocks = 128;
    private const int ValueBytes = GroupBlocks * sizeof(ushort);
    private const ulong MaxGroup = (1UL << 52) / GroupBlocks; // a byte offset on a device has 63 bits

    private readonly Dictionary<ulong, int> _counts = [];
    private readonly Dictionary<ulong, int> _references = [];
    private bool _isReported;

    public static ItemKey KeyOf(ulong block) => new(0, ItemKey.SharedBlocks, block / GroupBlocks);

    /// <summary>0: the item does not go as far.</summary>
    public static int CountOf(ReadOnlySpan<byte> counts, ulong block)
    {
        int at = (int)(block % GroupBlocks) * sizeof(ushort);
        return counts.Length < at + sizeof(ushort) ? 0 : BinaryPrimitives.ReadUInt16LittleEndian(counts[at..]);
    }

    public void Add(ItemKey key, ReadOnlySpan<byte> value, bool isAllowed)
    {
        string where = $"{volume}, counts of blocks from {key.Sub * GroupBlocks}";
        if (!_isReported && !isAllowed) { Error(where, "blocks are shared, but the superblock does not say that they may be"); }
        if (!_isReported && !header.HasDataChecksums) { Error(where, "blocks are shared in a volume without data checksums"); }
        _isReported = true;
        if (value.Length != ValueBytes || key.Sub > MaxGroup)
        {
            Error(where, key.Sub > MaxGroup ? "is beyond any device" : $"has {value.Length} bytes");
            return;
        }
        if (!value.ContainsAnyExcept((byte)0)) { Error(where, "counts nothing; such an item is deleted"); }
        for (ulong block = key.Sub * GroupBlocks; block < (key.Sub + 1) * GroupBlocks; block++)
        {
            int count = CountOf(value, block);
            if (count == 0) { continue; }
            if (count == 1) { Error(where, $"block {block} has a count of one"); }
            if (!clusters.Holds(block, 1, ClusterKind.Data, header.VolumeId)) { Error(where, $"block {block} is not in a data cluster of the volume"); }
            _counts.Add(block, count);
        }
    }

    /// <summary>An extent names the block. False: it has no count.</summary>
    public bool TryClaim(ulong block)
    {
        if (!_counts.ContainsKey(block)) { return false; }
        _references[block] = _references.GetValueOrDefault(block) + 1;
        return true;
    }

    /// <summary>After all extents.</summary>
    public void Finish()
    {
        foreach ((ulong block, int count) in _counts)
        {
            int references = _references.GetValueOrDefault(block);
            if (references != count) { Error($"{volume}, block {block}", $"has a count of {count}, and {references} extents name it"); }
        }
    }

    private void Error(string where, string sentence) => report.Error("shared", where, sentence);
}
