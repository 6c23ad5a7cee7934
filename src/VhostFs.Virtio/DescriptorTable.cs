using System.Runtime.CompilerServices;

namespace VhostFs.Virtio;

/// <summary>Descriptors of 16 bytes in a row: the table of a split ring, or an indirect table, which may lie across regions (virtio 1.2, 2.7.5.3 and 2.8.8).</summary>
internal readonly unsafe struct DescriptorTable
{
    private const int EntryBytes = 16;
    private const int MaxEntries = 65536; // a split chain's next is 16 bits wide, and a packed one is bounded by what is walked

    private readonly byte* _at; // null: entry by entry, from guest addresses
    private readonly ulong _guestAddress;

    public DescriptorTable(byte* at, int count)
    {
        _at = at;
        Count = count;
    }

    private DescriptorTable(byte* at, ulong guestAddress, int count)
        : this(at, count) => _guestAddress = guestAddress;

    public int Count { get; }

    /// <summary>False: no table has this length. Whether its entries are in memory is seen when they are read.</summary>
    public static bool TryOpen(GuestMemory memory, ulong guestAddress, uint lengthBytes, out DescriptorTable table)
    {
        table = default;
        if (lengthBytes == 0 || lengthBytes % EntryBytes != 0 || lengthBytes / EntryBytes > MaxEntries) { return false; }
        table = new DescriptorTable(memory.FindGuest(guestAddress, lengthBytes), guestAddress, (int)(lengthBytes / EntryBytes));
        return true;
    }

    /// <summary>A copy of the entry; false: it is not in guest memory. The index is below <see cref="Count"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryRead<T>(GuestMemory memory, int index, out T descriptor)
        where T : unmanaged
    {
        byte* at = _at is not null ? _at + ((long)index * EntryBytes) : memory.FindGuest(_guestAddress + ((ulong)index * EntryBytes), EntryBytes);
        descriptor = at is null ? default : Unsafe.ReadUnaligned<T>(at);
        return at is not null;
    }
}
