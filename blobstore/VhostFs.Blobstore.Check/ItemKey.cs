namespace VhostFs.Blobstore.Check;

/// <summary>Key of an item: object, then type (top four bits) and sub-key; ordered as one 128-bit number.</summary>
internal readonly record struct ItemKey(ulong Object, ulong Item) : IComparable<ItemKey>
{
    public const int Inode = 0, Inline = 1, Xattr = 2, Extent = 3, DirectoryEntry = 4;
    public const int Orphan = 8, Allocation = 9, Snapshot = 10, Volume = 11, ClusterRun = 12, SharedBlocks = 13;

    private const ulong SubMask = (1UL << 60) - 1;

    public ItemKey(ulong @object, int type, ulong sub)
        : this(@object, ((ulong)type << 60) | (sub & SubMask))
    {
    }

    public int Type => (int)(Item >> 60);

    public ulong Sub => Item & SubMask;

    public int CompareTo(ItemKey other) => Object != other.Object ? Object.CompareTo(other.Object) : Item.CompareTo(other.Item);

    public override string ToString() => $"({Object}, {Type}, {Sub})";

    public static bool operator <(ItemKey left, ItemKey right) => left.CompareTo(right) < 0;

    public static bool operator >(ItemKey left, ItemKey right) => left.CompareTo(right) > 0;

    public static bool operator <=(ItemKey left, ItemKey right) => left.CompareTo(right) <= 0;

    public static bool operator >=(ItemKey left, ItemKey right) => left.CompareTo(right) >= 0;
}
