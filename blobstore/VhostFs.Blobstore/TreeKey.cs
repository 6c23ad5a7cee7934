using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace VhostFs.Blobstore;

/// <summary>Kinds of items in a volume's tree, the top four bits of <see cref="TreeKey.Item"/>. See docs/blobstore-format.md.</summary>
public enum ItemType : byte
{
    Inode = 0,
    Inline = 1,
    Xattr = 2,
    Extent = 3,
    DirectoryEntry = 4,

    // Of object 0, the volume itself:
    Orphan = 8,
    Allocation = 9,
    Snapshot = 10,
    SharedBlocks = 13,

    // Of object 0 in volume 0, the pool's own metadata:
    Volume = 11,
    ClusterRun = 12,
}

/// <summary>Key of one item: the object (inode number; 0 is the volume itself), then type and a 60-bit sub-key. Ordered as a 128-bit number.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct TreeKey(ulong Object, ulong Item) : IComparable<TreeKey>
{
    public const ulong SubMask = (1UL << 60) - 1;

    public TreeKey(ulong @object, ItemType type, ulong sub)
        : this(@object, ((ulong)type << 60) | (sub & SubMask))
    {
    }

    public static TreeKey Min => default;

    public static TreeKey Max => new(ulong.MaxValue, ulong.MaxValue);

    public ItemType Type => (ItemType)(Item >> 60);

    public ulong Sub => Item & SubMask;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int CompareTo(TreeKey other) =>
        Object != other.Object ? (Object < other.Object ? -1 : 1) : Item == other.Item ? 0 : Item < other.Item ? -1 : 1;

    /// <summary>The next key in order.</summary>
    public TreeKey Next() => Item == ulong.MaxValue ? new TreeKey(Object + 1, 0) : new TreeKey(Object, Item + 1);

    public static bool operator <(TreeKey left, TreeKey right) => left.CompareTo(right) < 0;

    public static bool operator >(TreeKey left, TreeKey right) => left.CompareTo(right) > 0;

    public static bool operator <=(TreeKey left, TreeKey right) => left.CompareTo(right) <= 0;

    public static bool operator >=(TreeKey left, TreeKey right) => left.CompareTo(right) >= 0;
}
