using System.Buffers.Binary;
using VhostFs.Reactor;

namespace VhostFs.Blobstore.Check;

/// <summary>Section 4 of the format: reads a volume's tree from its root, checks every node against the pointer that led to it, and collects the items.</summary>
internal sealed class TreeWalker
{
    public const int MaxHeight = 12;

    private const int NodeBytes = 16384;
    private const int NodeBlocks = 4;
    private const int HeaderBytes = 64;
    private const int SlotBytes = 20;
    private const int HeapLimit = NodeBytes - 4;
    private const int PointerBytes = 20;
    private const int MaxValueBytes = 3900;

    private readonly BlockReader _reader;
    private readonly CheckReport _report;
    private readonly string _volume;
    private readonly ulong _volumeId;
    private readonly Func<ulong, bool> _isNodeSpace;
    private readonly HashSet<ulong> _seen = [];

    /// <param name="reader">The device.</param>
    /// <param name="report">Takes the findings.</param>
    /// <param name="volume">How findings name the volume.</param>
    /// <param name="volumeId">What every node must carry.</param>
    /// <param name="isNodeSpace">A node of this volume may lie at this block.</param>
    public TreeWalker(BlockReader reader, CheckReport report, string volume, ulong volumeId, Func<ulong, bool> isNodeSpace)
    {
        _reader = reader;
        _report = report;
        _volume = volume;
        _volumeId = volumeId;
        _isNodeSpace = isNodeSpace;
    }

    public ItemTable Items { get; } = new();

    public async IoTask<bool> WalkAsync(Header header) =>
        await WalkNodeAsync(new Pointer(header.RootAddress, header.RootBirth, header.RootCrc), (int)header.Height - 1, null, null, header.SnapshotEpoch, isRoot: true);

    // Every subtree is walked even when its neighbour is broken: one check names all the damage. A node is entered once, so the walk ends.
    private async IoTask<bool> WalkNodeAsync(Pointer pointer, int level, ItemKey? lower, ItemKey? upper, ulong parentBirth, bool isRoot)
    {
        string where = $"{_volume}, node {pointer.Address}";
        if (pointer.Address % NodeBlocks != 0 || !_isNodeSpace(pointer.Address)) { return Error(where, "the address is not in a node cluster of the volume"); }
        if (!_seen.Add(pointer.Address)) { return Error(where, "two pointers lead to this node"); }
        var page = new byte[NodeBytes];
        if (!await _reader.ReadAsync(pointer.Address, page)) { return Error(where, "cannot be read"); }
        _report.Counts.Nodes++;
        if (PageError(page, pointer, level) is { } wrong) { return Error(where, wrong); }
        if (pointer.Birth > parentBirth) { Error(where, $"born in epoch {pointer.Birth}, after its parent ({parentBirth})"); }

        int count = BinaryPrimitives.ReadUInt16LittleEndian(page.AsSpan(6));
        if (count == 0 && !(isRoot && level == 0)) { return Error(where, "an empty node that is not the root of an empty tree"); }
        if (SlotError(page, count, level) is { } slotError) { return Error(where, slotError); }
        if (BoundsError(page, count, level, lower, upper) is { } boundsError) { return Error(where, boundsError); }
        if (level == 0)
        {
            AddItems(page, count, where);
            return true;
        }
        bool sound = true;
        for (int i = 0; i < count; i++)
        {
            ItemKey? from = i == 0 ? lower : KeyAt(page, i);
            ItemKey? limit = i + 1 < count ? KeyAt(page, i + 1) : upper;
            sound &= await WalkNodeAsync(PointerAt(page, i), level - 1, from, limit, pointer.Birth, isRoot: false);
        }
        return sound;
    }

    private string? PageError(ReadOnlySpan<byte> page, Pointer pointer, int level)
    {
        if (!page[..4].SequenceEqual("VFSN"u8)) { return "no node here: the magic is wrong"; }
        uint crc = BinaryPrimitives.ReadUInt32LittleEndian(page[HeapLimit..]);
        if (crc != Checksum.Of(page[..HeapLimit])) { return "the checksum of the node is wrong"; }
        if (crc != pointer.Crc) { return "an intact node, but not the one the parent names (checksum): a lost or stale write"; }
        if (BinaryPrimitives.ReadUInt64LittleEndian(page[8..]) != _volumeId) { return "belongs to another volume"; }
        if (BinaryPrimitives.ReadUInt64LittleEndian(page[16..]) != pointer.Birth) { return "its birth epoch is not the one its parent names"; }
        if (BinaryPrimitives.ReadUInt64LittleEndian(page[24..]) != pointer.Address) { return "was written for another address"; }
        int foundLevel = BinaryPrimitives.ReadUInt16LittleEndian(page[4..]);
        return foundLevel == level ? null : $"is of level {foundLevel}, expected {level}";
    }

    private static string? SlotError(ReadOnlySpan<byte> page, int count, int level)
    {
        int slotLimit = HeaderBytes + count * SlotBytes;
        uint heapStart = BinaryPrimitives.ReadUInt32LittleEndian(page[32..]);
        uint dead = BinaryPrimitives.ReadUInt32LittleEndian(page[36..]);
        if (slotLimit > heapStart || heapStart > HeapLimit) { return $"{count} slots and a heap from byte {heapStart} do not fit"; }
        var used = new (int First, int Limit)[count];
        int usedBytes = 0;
        for (int i = 0; i < count; i++)
        {
            (int first, int length) = ValueAt(page, i);
            if (first < heapStart || length > HeapLimit - first) { return $"value {i} is outside of the heap"; }
            if (level > 0 && length != PointerBytes) { return $"child pointer {i} has {length} bytes"; }
            if (level == 0 && length > MaxValueBytes) { return $"value {i} has {length} bytes"; }
            used[i] = (first, first + length);
            usedBytes += length;
        }
        Array.Sort(used);
        for (int i = 1; i < count; i++)
        {
            if (used[i].First < used[i - 1].Limit) { return "two values overlap"; }
        }
        return usedBytes + dead == HeapLimit - heapStart ? null : $"the heap has {HeapLimit - heapStart} bytes, but {usedBytes} in use and {dead} dead";
    }

    private static string? BoundsError(ReadOnlySpan<byte> page, int count, int level, ItemKey? lower, ItemKey? upper)
    {
        int firstBound = level == 0 ? 0 : 1; // the first key of an internal node counts as minus infinity
        for (int i = 0; i < count; i++)
        {
            ItemKey key = KeyAt(page, i);
            if (i > 0 && key <= KeyAt(page, i - 1)) { return $"key {key} does not come after the one before it"; }
            if (i < firstBound) { continue; }
            if (lower is { } from && key < from) { return $"key {key} is below the bound {from} of its parent"; }
            if (upper is { } limit && key >= limit) { return $"key {key} is not below the bound {limit} of its parent"; }
        }
        return null;
    }

    private void AddItems(byte[] page, int count, string where)
    {
        for (int i = 0; i < count; i++)
        {
            ItemKey key = KeyAt(page, i);
            if (Items.LastTreeKey is { } last && key <= last)
            {
                Error(where, $"key {key} does not come after {last} of an earlier leaf");
                return;
            }
            (int first, int length) = ValueAt(page, i);
            Items.AddFromTree(key, page.AsMemory(first, length));
        }
    }

    private bool Error(string where, string sentence)
    {
        _report.Error("node", where, sentence);
        return false;
    }

    private static ItemKey KeyAt(ReadOnlySpan<byte> page, int index)
    {
        ReadOnlySpan<byte> slot = page.Slice(HeaderBytes + index * SlotBytes, SlotBytes);
        return new ItemKey(BinaryPrimitives.ReadUInt64LittleEndian(slot), BinaryPrimitives.ReadUInt64LittleEndian(slot[8..]));
    }

    private static (int First, int Length) ValueAt(ReadOnlySpan<byte> page, int index)
    {
        ReadOnlySpan<byte> slot = page.Slice(HeaderBytes + index * SlotBytes, SlotBytes);
        return (BinaryPrimitives.ReadUInt16LittleEndian(slot[16..]), BinaryPrimitives.ReadUInt16LittleEndian(slot[18..]));
    }

    private static Pointer PointerAt(ReadOnlySpan<byte> page, int index)
    {
        ReadOnlySpan<byte> value = page[ValueAt(page, index).First..];
        return new Pointer(BinaryPrimitives.ReadUInt64LittleEndian(value), BinaryPrimitives.ReadUInt64LittleEndian(value[8..]), BinaryPrimitives.ReadUInt32LittleEndian(value[16..]));
    }

    private readonly record struct Pointer(ulong Address, ulong Birth, uint Crc);
}
