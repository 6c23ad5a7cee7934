using System.Runtime.InteropServices;

namespace VhostFs.Virtio;

/// <summary>Where a chain of a packed ring is in the record: entries that are linked, the number of them, and which is the last.</summary>
internal readonly record struct PackedChain(ushort First, ushort Last, ushort Count);

/// <summary>The in-flight record of one packed queue (vhost-user.rst, "Queue region for packed virtqueue"): the descriptors of all chains that are in flight, and where the used ones end.</summary>
/// <remarks>
/// Invariant: at any instruction at which this process may be killed, the first entry of a chain is recorded as in flight exactly when the driver waits for it and we have taken it; but for two steps:
/// a chain whose entries are still on the free list was not taken, and for one that is being returned the ring tells whether the driver has it.
/// Free list and used position change together with what they were before, in one store each, so that there is nothing between. Nothing in it is trusted: indexes are checked at each use.
/// </remarks>
internal sealed unsafe class PackedInflight
{
    public const int HeaderBytes = 32, EntryBytes = 32;

    private const ushort Version = 1;

    /// <summary>Of no queue.</summary>
    public static readonly PackedInflight None = new((byte*)null, 0);

    private readonly byte[]? _own;
    private readonly byte* _region;
    private ulong _counter;
    private ulong _usedBefore;

    public PackedInflight(byte* region, int size)
    {
        _region = region;
        Size = size;
    }

    private PackedInflight(byte[] own, int size)
        : this((byte*)Marshal.UnsafeAddrOfPinnedArrayElement(own, 0), size) => _own = own;

    public int Size { get; }

    /// <summary>The entry that the next descriptor is written to.</summary>
    public ushort FreeHead { get; private set; }

    private Header* Head => (Header*)_region;

    /// <summary>A record that ends with the process.</summary>
    public static PackedInflight InOwnMemory(int size) => new(GC.AllocateUninitializedArray<byte>(HeaderBytes + (size * EntryBytes), pinned: true), size);

    /// <summary>Nothing is in flight.</summary>
    public void Begin(int usedIndex, bool usedWrap)
    {
        new Span<byte>(_region, HeaderBytes + (Size * EntryBytes)).Clear();
        for (int i = 0; i < Size; i++) { At(i)->Next = (ushort)(i + 1); }
        Head->DescriptorCount = (ushort)Size;
        Open(0, UsedPosition(usedIndex, usedWrap));
        Volatile.Write(ref Head->Version, Version);
    }

    /// <summary>What a process before us has left undone, oldest first.</summary>
    /// <param name="ring">The descriptors of the queue.</param>
    /// <returns>False: the area is new, or its content is nonsense.</returns>
    public bool TryRecover(PackedDescriptor* ring, out int usedIndex, out bool usedWrap, out List<(ushort Id, PackedChain Chain)> left)
    {
        left = [];
        (usedIndex, usedWrap) = (0, false);
        Header header = *Head;
        if (header.Version != Version || header.DescriptorCount != Size || header.UsedIndex >= Size || header.OldUsedIndex >= Size) { return false; }
        bool isReturning = (header.UsedIndex, header.UsedWrap) != (header.OldUsedIndex, header.OldUsedWrap);
        bool isCommitted = isReturning && IsPublished(ring[header.OldUsedIndex].Flags, header.OldUsedWrap != 0);
        (ushort free, usedIndex, usedWrap) = isCommitted ? (header.FreeHead, header.UsedIndex, header.UsedWrap != 0) : (header.OldFreeHead, header.OldUsedIndex, header.OldUsedWrap != 0);
        int next = free;
        for (int i = 0; i < Size && next < Size; i++)
        {
            At(next)->InFlight = 0;
            next = At(next)->Next;
        }
        if (!TryCollect(left)) { return false; }
        Open(free, UsedPosition(usedIndex, usedWrap));
        return true;
    }

    /// <summary>The next descriptor of a chain that is being read goes to a free entry, which stays free until the chain is taken.</summary>
    /// <returns>False: there is no such entry.</returns>
    public bool TryWrite(ushort entry, PackedDescriptor descriptor, out ushort next)
    {
        next = 0;
        if (entry >= Size) { return false; }
        Entry* at = At(entry);
        (at->Address, at->Length, at->Id, at->Flags) = (descriptor.Address, descriptor.Length, descriptor.Id, descriptor.Flags);
        next = at->Next;
        return true;
    }

    /// <summary>A copy of an entry, and the one behind it.</summary>
    public bool TryRead(ushort entry, out PackedDescriptor descriptor, out ushort next)
    {
        (descriptor, next) = (default, 0);
        if (entry >= Size) { return false; }
        Entry* at = At(entry);
        descriptor = new PackedDescriptor { Address = at->Address, Length = at->Length, Id = at->Id, Flags = at->Flags };
        next = at->Next;
        return true;
    }

    /// <summary>The chain has been taken from the ring; it begins at <see cref="FreeHead"/>.</summary>
    public void Take(PackedChain chain)
    {
        Entry* first = At(chain.First);
        first->Last = chain.Last;
        first->Count = chain.Count;
        first->Counter = ++_counter;
        Volatile.Write(ref first->InFlight, 1);
        FreeHead = At(chain.Last)->Next;
        WriteFree(FreeHead, FreeHead);
    }

    /// <summary>Before its used descriptor is published; the used position is given as it will be then.</summary>
    public void Returning(PackedChain chain, int usedIndex, bool usedWrap)
    {
        At(chain.Last)->Next = FreeHead;
        WriteFree(chain.First, FreeHead);
        ulong after = UsedPosition(usedIndex, usedWrap);
        WriteUsed(after, _usedBefore);
        _usedBefore = after;
    }

    /// <summary>After it.</summary>
    public void Returned(PackedChain chain)
    {
        Volatile.Write(ref At(chain.First)->InFlight, 0);
        FreeHead = chain.First;
        WriteFree(FreeHead, FreeHead);
        WriteUsed(_usedBefore, _usedBefore);
    }

    private static bool IsPublished(ushort flags, bool wrap) =>
        (flags & (DescriptorFlags.Available | DescriptorFlags.Used)) != (wrap ? DescriptorFlags.Available : DescriptorFlags.Used);

    private bool TryCollect(List<(ushort Id, PackedChain Chain)> left)
    {
        var found = new List<(ulong Counter, ushort Id, PackedChain Chain)>();
        var ids = new HashSet<ushort>();
        int descriptors = 0;
        for (int i = 0; i < Size; i++)
        {
            Entry first = *At(i);
            if (first.InFlight != 1) { continue; }
            descriptors += first.Count;
            if (first.Count == 0 || descriptors > Size || first.Last >= Size) { return false; }
            ushort id = At(first.Last)->Id;
            if (id >= Size || !ids.Add(id)) { return false; }
            found.Add((first.Counter, id, new PackedChain((ushort)i, first.Last, first.Count)));
            _counter = Math.Max(_counter, first.Counter);
        }
        left.AddRange(found.OrderBy(f => f.Counter).Select(f => (f.Id, f.Chain)));
        return true;
    }

    private void Open(ushort free, ulong used)
    {
        FreeHead = free;
        _usedBefore = used;
        WriteFree(free, free);
        WriteUsed(used, used);
    }

    // Both heads in one store.
    private void WriteFree(ushort now, ushort before) => Volatile.Write(ref Head->FreeHeads, now | ((uint)before << 16));

    // Both indexes and both wrap counters in one store.
    private void WriteUsed(ulong now, ulong before) => Volatile.Write(ref Head->UsedPositions, now | ((before & 0xffff) << 16) | (before >> 32 << 40));

    private static ulong UsedPosition(int index, bool wrap) => (uint)index | (wrap ? 1UL << 32 : 0);

    private Entry* At(int entry) => (Entry*)(_region + HeaderBytes + ((long)entry * EntryBytes));

    /// <summary>QueueRegionPacked, with the fields that are stored together also as one.</summary>
    [StructLayout(LayoutKind.Explicit, Size = HeaderBytes)]
    private struct Header
    {
        [FieldOffset(8)] public ushort Version;
        [FieldOffset(10)] public ushort DescriptorCount;
        [FieldOffset(12)] public ushort FreeHead;
        [FieldOffset(12)] public uint FreeHeads;
        [FieldOffset(14)] public ushort OldFreeHead;
        [FieldOffset(16)] public ushort UsedIndex;
        [FieldOffset(16)] public ulong UsedPositions;
        [FieldOffset(18)] public ushort OldUsedIndex;
        [FieldOffset(20)] public byte UsedWrap;
        [FieldOffset(21)] public byte OldUsedWrap;
    }

    /// <summary>DescStatePacked.</summary>
    [StructLayout(LayoutKind.Explicit, Size = EntryBytes)]
    private struct Entry
    {
        [FieldOffset(0)] public byte InFlight;
        [FieldOffset(2)] public ushort Next;
        [FieldOffset(4)] public ushort Last;
        [FieldOffset(6)] public ushort Count;
        [FieldOffset(8)] public ulong Counter;
        [FieldOffset(16)] public ushort Id;
        [FieldOffset(18)] public ushort Flags;
        [FieldOffset(20)] public uint Length;
        [FieldOffset(24)] public ulong Address;
    }
}
