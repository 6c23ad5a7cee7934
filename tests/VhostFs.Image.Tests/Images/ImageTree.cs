namespace VhostFs.Image.Tests.Images;

/// <summary>A node of a tree on a disk, as it was found there; its bytes may be changed, and <see cref="ImageTree.Seal"/> makes all checksums right again.</summary>
internal sealed class ImageNode(ulong address, int level, byte[] bytes, ImageNode? parent, int indexInParent)
{
    public ulong Address => address;

    public int Level => level;

    public byte[] Bytes => bytes;

    public ImageNode? Parent => parent;

    public int IndexInParent => indexInParent;

    public int Count => DiskFormat.U16(bytes, 6);

    public static int SlotAt(int index) => DiskFormat.SlotsAt + (index * DiskFormat.SlotBytes);

    public int ValueOffset(int index) => DiskFormat.U16(bytes, SlotAt(index) + 16);

    public int ValueLength(int index) => DiskFormat.U16(bytes, SlotAt(index) + 18);

    /// <summary>All entries, in the order of their slots.</summary>
    public List<TreeItem> Items()
    {
        var items = new List<TreeItem>(Count);
        for (int i = 0; i < Count; i++)
        {
            items.Add(new TreeItem(DiskFormat.U64(bytes, SlotAt(i)), DiskFormat.U64(bytes, SlotAt(i) + 8), bytes.AsSpan(ValueOffset(i), ValueLength(i)).ToArray()));
        }
        return items;
    }

    /// <summary>Makes these the entries; false when they do not fit.</summary>
    public bool TrySetItems(IReadOnlyList<TreeItem> items)
    {
        int total = items.Sum(item => item.Value.Length);
        if (DiskFormat.SlotsAt + (items.Count * DiskFormat.SlotBytes) + total > DiskFormat.NodeCrc) { return false; }
        bytes.AsSpan(DiskFormat.SlotsAt).Clear();
        int heap = DiskFormat.NodeCrc;
        for (int i = 0; i < items.Count; i++)
        {
            heap -= items[i].Value.Length;
            items[i].Value.CopyTo(bytes, heap);
            DiskFormat.Put64(bytes, SlotAt(i), items[i].Object);
            DiskFormat.Put64(bytes, SlotAt(i) + 8, items[i].Item);
            DiskFormat.Put16(bytes, SlotAt(i) + 16, (ushort)heap);
            DiskFormat.Put16(bytes, SlotAt(i) + 18, (ushort)items[i].Value.Length);
        }
        DiskFormat.Put16(bytes, 6, (ushort)items.Count);
        DiskFormat.Put32(bytes, 32, (uint)heap);
        DiskFormat.Put32(bytes, 36, 0);
        return true;
    }
}

/// <summary>The durable tree of one volume on a disk.</summary>
internal sealed class ImageTree
{
    /// <summary>More cannot be in a node, whatever its count says.</summary>
    private const int MaxSlots = (DiskFormat.NodeCrc - DiskFormat.SlotsAt) / DiskFormat.SlotBytes;

    /// <summary>Parents before children.</summary>
    private readonly List<ImageNode> _nodes = [];
    private readonly Dictionary<ulong, ImageNode> _byAddress = [];

    private ImageTree(byte[] header) => Header = header;

    /// <summary>The newest header; <see cref="Seal"/> writes the root's checksum to it.</summary>
    public byte[] Header { get; }

    public IReadOnlyList<ImageNode> Nodes => _nodes;

    public ImageNode Root => _nodes[0];

    public IEnumerable<ImageNode> Leaves => _nodes.Where(node => node.Level == 0);

    public static ImageTree Read(ReadOnlySpan<byte> disk, byte[] header)
    {
        var tree = new ImageTree(header);
        tree.Add(disk, DiskFormat.U64(header, 56), (int)DiskFormat.U32(header, 76) - 1, null, 0);
        return tree;
    }

    public IEnumerable<TreeItem> Items() => Leaves.SelectMany(leaf => leaf.Items());

    public ImageNode? NodeAt(ulong address) => _byAddress.GetValueOrDefault(address);

    /// <summary>Makes every checksum right, from the leaves to the header, whatever was changed: this is what an attacker does.</summary>
    /// <param name="strangers">Also finds nodes that a changed pointer leads to in other trees.</param>
    public void Seal(Func<ulong, ImageNode?> strangers)
    {
        for (int i = _nodes.Count - 1; i >= 0; i--)
        {
            ImageNode node = _nodes[i];
            for (int child = 0; node.Level > 0 && child < Math.Min(node.Count, MaxSlots); child++)
            {
                int at = node.ValueOffset(child);
                if (at > DiskFormat.NodeCrc - 20) { continue; }
                ulong address = DiskFormat.U64(node.Bytes, at);
                if ((NodeAt(address) ?? strangers(address)) is { } found) { DiskFormat.Put32(node.Bytes, at + 16, DiskFormat.U32(found.Bytes, DiskFormat.NodeCrc)); }
            }
            DiskFormat.Put32(node.Bytes, DiskFormat.NodeCrc, DiskFormat.Crc(node.Bytes.AsSpan(0, DiskFormat.NodeCrc)));
        }
        ulong root = DiskFormat.U64(Header, 56);
        if ((NodeAt(root) ?? strangers(root)) is { } top) { DiskFormat.Put32(Header, 72, DiskFormat.U32(top.Bytes, DiskFormat.NodeCrc)); }
        DiskFormat.Put32(Header, DiskFormat.BlockCrc, DiskFormat.Crc(Header.AsSpan(0, DiskFormat.BlockCrc)));
    }

    private void Add(ReadOnlySpan<byte> disk, ulong address, int level, ImageNode? parent, int index)
    {
        byte[] bytes = disk.Slice((int)address * DiskFormat.BlockBytes, DiskFormat.NodeBytes).ToArray();
        var node = new ImageNode(address, level, bytes, parent, index);
        _nodes.Add(node);
        _byAddress.Add(address, node);
        for (int i = 0; level > 0 && i < node.Count; i++) { Add(disk, DiskFormat.U64(bytes, node.ValueOffset(i)), level - 1, node, i); }
    }
}
