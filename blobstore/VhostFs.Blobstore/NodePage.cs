using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>The bytes of one tree node, in memory as on disk (docs/blobstore-format.md, section 4).</summary>
/// <remarks>Slots grow up from the header in key order, values grow down from the end. Invariants: slots end at or below HeapStart;
/// live value bytes + DeadBytes = HeapEnd - HeapStart; keys strictly ascend.</remarks>
internal readonly unsafe struct NodePage(byte* page)
{
    public const int Bytes = 16384;
    public const int Blocks = Bytes / 4096;
    public const uint Magic = 0x4E534656; // "VFSN"
    public const int HeaderBytes = 64;
    public const int SlotBytes = 20;
    public const int HeapEnd = Bytes - 4;
    public const int ChildBytes = 20;

    /// <summary>An internal node never has more entries.</summary>
    public const int MaxChildren = (HeapEnd - HeaderBytes) / (SlotBytes + ChildBytes);

    private readonly byte* _page = page;

    public int Level
    {
        get => *(ushort*)(_page + 4);
        private set => *(ushort*)(_page + 4) = (ushort)value;
    }

    public int Count
    {
        get => *(ushort*)(_page + 6);
        private set => *(ushort*)(_page + 6) = (ushort)value;
    }

    public ulong VolumeId => *(ulong*)(_page + 8);

    public ulong BirthEpoch
    {
        get => *(ulong*)(_page + 16);
        set => *(ulong*)(_page + 16) = value;
    }

    public ulong Address
    {
        get => *(ulong*)(_page + 24);
        set => *(ulong*)(_page + 24) = value;
    }

    public uint Crc
    {
        get => *(uint*)(_page + HeapEnd);
        private set => *(uint*)(_page + HeapEnd) = value;
    }

    private int HeapStart
    {
        get => *(int*)(_page + 32);
        set => *(int*)(_page + 32) = value;
    }

    private int DeadBytes
    {
        get => *(int*)(_page + 36);
        set => *(int*)(_page + 36) = value;
    }

    /// <summary>Bytes in slots and live values.</summary>
    public int UsedBytes => (Count * SlotBytes) + HeapEnd - HeapStart - DeadBytes;

    public static int CapacityBytes => HeapEnd - HeaderBytes;

    public void Initialize(int level, ulong volumeId)
    {
        new Span<byte>(_page, HeaderBytes).Clear();
        *(uint*)_page = Magic;
        Level = level;
        *(ulong*)(_page + 8) = volumeId;
        HeapStart = HeapEnd;
    }

    public uint Seal()
    {
        // What is between slots and heap must not carry old bytes to the disk.
        int slotsEnd = HeaderBytes + (Count * SlotBytes);
        new Span<byte>(_page + slotsEnd, HeapStart - slotsEnd).Clear();
        return Crc = ComputeCrc();
    }

    public uint ComputeCrc() => Crc32C.Compute(new ReadOnlySpan<byte>(_page, HeapEnd));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public TreeKey KeyAt(int index)
    {
        byte* slot = _page + HeaderBytes + (index * SlotBytes);
        return new TreeKey(Unsafe.ReadUnaligned<ulong>(slot), Unsafe.ReadUnaligned<ulong>(slot + 8));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Span<byte> ValueAt(int index)
    {
        byte* slot = _page + HeaderBytes + (index * SlotBytes);
        return new Span<byte>(_page + *(ushort*)(slot + 16), *(ushort*)(slot + 18));
    }

    /// <summary>First entry whose key is not less than <paramref name="key"/>; Count when there is none.</summary>
    public int LowerBound(TreeKey key)
    {
        int low = 0, high = Count;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            byte* slot = _page + HeaderBytes + (middle * SlotBytes);
            ulong @object = Unsafe.ReadUnaligned<ulong>(slot);
            bool less = @object != key.Object ? @object < key.Object : Unsafe.ReadUnaligned<ulong>(slot + 8) < key.Item;
            if (less) { low = middle + 1; }
            else { high = middle; }
        }
        return low;
    }

    public bool Find(TreeKey key, out int index)
    {
        index = LowerBound(key);
        return index < Count && KeyAt(index) == key;
    }

    /// <summary>The child under which <paramref name="key"/> belongs.</summary>
    public int ChildIndex(TreeKey key)
    {
        int index = LowerBound(key);
        return index < Count && KeyAt(index) == key ? index : Math.Max(index - 1, 0);
    }

    /// <summary>Makes an entry with room for a value; the caller fills it. False: no room, split first.</summary>
    public bool TryInsert(int index, TreeKey key, int valueBytes, out Span<byte> value)
    {
        int needed = SlotBytes + valueBytes;
        int slotsEnd = HeaderBytes + (Count * SlotBytes);
        if (HeapStart - slotsEnd < needed)
        {
            if (HeapStart - slotsEnd + DeadBytes < needed) { value = default; return false; }
            Compact();
        }
        byte* slot = _page + HeaderBytes + (index * SlotBytes);
        int tail = (Count - index) * SlotBytes;
        Buffer.MemoryCopy(slot, slot + SlotBytes, tail, tail);
        HeapStart -= valueBytes;
        Unsafe.WriteUnaligned(slot, key.Object);
        Unsafe.WriteUnaligned(slot + 8, key.Item);
        *(ushort*)(slot + 16) = (ushort)HeapStart;
        *(ushort*)(slot + 18) = (ushort)valueBytes;
        Count++;
        value = new Span<byte>(_page + HeapStart, valueBytes);
        return true;
    }

    /// <summary>Gives the entry a value of this length without moving others; false: remove and insert.</summary>
    public bool TryResize(int index, int valueBytes, out Span<byte> value)
    {
        byte* slot = _page + HeaderBytes + (index * SlotBytes);
        int old = *(ushort*)(slot + 18);
        if (valueBytes > old) { value = default; return false; }
        *(ushort*)(slot + 18) = (ushort)valueBytes;
        DeadBytes += old - valueBytes;
        value = ValueAt(index);
        return true;
    }

    public void Remove(int index)
    {
        byte* slot = _page + HeaderBytes + (index * SlotBytes);
        DeadBytes += *(ushort*)(slot + 18);
        int tail = (Count - index - 1) * SlotBytes;
        Buffer.MemoryCopy(slot + SlotBytes, slot, tail, tail);
        Count--;
        if (Count == 0)
        {
            HeapStart = HeapEnd;
            DeadBytes = 0;
        }
    }

    public void SetKey(int index, TreeKey key)
    {
        byte* slot = _page + HeaderBytes + (index * SlotBytes);
        Unsafe.WriteUnaligned(slot, key.Object);
        Unsafe.WriteUnaligned(slot + 8, key.Item);
    }

    /// <summary>Moves entries from <paramref name="from"/> on to the end of another page, which has room.</summary>
    public void MoveTail(int from, NodePage target)
    {
        int count = Count;
        for (int i = from; i < count; i++)
        {
            Span<byte> value = ValueAt(i);
            bool fits = target.TryInsert(target.Count, KeyAt(i), value.Length, out Span<byte> room);
            Invariant.That(fits);
            value.CopyTo(room);
            DeadBytes += value.Length;
        }
        Count = from;
        Compact();
    }

    /// <summary>Where to split for an even share of bytes: the first entry that goes to the right page; at least one stays on each side.</summary>
    public int MiddleByBytes()
    {
        int half = UsedBytes / 2, sum = 0;
        for (int i = 0; i < Count - 1; i++)
        {
            sum += SlotBytes + ValueAt(i).Length;
            if (sum >= half) { return i + 1; }
        }
        return Count - 1;
    }

    /// <summary>Checks everything the code above relies on: the page may come from a hostile disk.</summary>
    public bool IsWellFormed(ulong volumeId, int level, ulong address, bool isRoot, out string problem)
    {
        problem = "";
        if (*(uint*)_page != Magic) { problem = "wrong magic"; }
        else if (VolumeId != volumeId) { problem = $"belongs to volume {VolumeId}"; }
        else if (Level != level) { problem = $"level {Level} instead of {level}"; }
        else if (Address != address) { problem = $"misplaced: written for block {Address}"; }
        else if (HeaderBytes + (Count * SlotBytes) > HeapStart || HeapStart > HeapEnd) { problem = "slots and heap overlap"; }
        // Negative dead bytes would let overlapping values add up to more than the heap: compacting would then write outside of the page.
        else if (DeadBytes < 0) { problem = "negative count of dead bytes"; }
        // A cursor steps to the first entry of the next leaf without looking: only a root may have none.
        else if (level == 0 && Count == 0 && !isRoot) { problem = "an empty leaf that is not the root"; }
        if (problem.Length > 0) { return false; }
        int live = 0;
        for (int i = 0; i < Count; i++)
        {
            byte* slot = _page + HeaderBytes + (i * SlotBytes);
            int offset = *(ushort*)(slot + 16), length = *(ushort*)(slot + 18);
            if (offset < HeapStart || offset + length > HeapEnd) { problem = $"entry {i} lies outside of the heap"; return false; }
            if (level > 0 ? length != ChildBytes : length > Tree.MaxValueBytes) { problem = $"entry {i} has {length} bytes"; return false; }
            if (i > 0 && !(KeyAt(i - 1) < KeyAt(i))) { problem = $"keys out of order at entry {i}"; return false; }
            live += length;
        }
        if (live + DeadBytes != HeapEnd - HeapStart) { problem = "heap sizes do not add up"; return false; }
        if (level > 0 && (Count == 0 || Count > MaxChildren)) { problem = $"internal node with {Count} children"; return false; }
        return true;
    }

    /// <summary>Of a well-formed page: its keys ascend. The first one of an internal node counts as minus infinity.</summary>
    public bool KeysLieIn(KeyBounds bounds)
    {
        int first = Level > 0 ? 1 : 0;
        return Count <= first || ((bounds.Lower is not { } lower || lower <= KeyAt(first)) && (bounds.Limit is not { } limit || KeyAt(Count - 1) < limit));
    }

    /// <summary>Closes the gaps that removed values left.</summary>
    private void Compact()
    {
        byte* scratch = Scratch();
        int count = Count, heap = HeapEnd;
        for (int i = 0; i < count; i++)
        {
            byte* slot = _page + HeaderBytes + (i * SlotBytes);
            int length = *(ushort*)(slot + 18);
            heap -= length;
            Buffer.MemoryCopy(_page + *(ushort*)(slot + 16), scratch + heap, length, length);
            *(ushort*)(slot + 16) = (ushort)heap;
        }
        Buffer.MemoryCopy(scratch + heap, _page + heap, HeapEnd - heap, HeapEnd - heap);
        HeapStart = heap;
        DeadBytes = 0;
    }

    [ThreadStatic] private static byte* t_scratch;

    private static byte* Scratch() => t_scratch is null ? t_scratch = (byte*)NativeMemory.Alloc(Bytes) : t_scratch;
}
