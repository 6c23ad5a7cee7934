using VhostFs.Image.Tests.Images;
using static VhostFs.Image.Tests.Images.DiskFormat;

namespace VhostFs.Image.Tests.Checker;

/// <summary>One way to break each rule, and what the checker must say.</summary>
/// <param name="Says">Part of its sentence.</param>
/// <param name="Break">Breaks the image, a clean one unless <paramref name="Crashed"/>.</param>
/// <param name="Crashed">The image has a log.</param>
/// <param name="IsWarning">Legal after a crash: the pool still counts as clean.</param>
internal sealed record CheckerRule(string Says, Action<BrokenImage> Break, bool Crashed = false, bool IsWarning = false)
{
    private static readonly Func<TreeItem, bool> s_file = item => item.Type == Inode && (U32(item.Value, 0) & 0xF000) == 0x8000;
    private static readonly Func<TreeItem, bool> s_inlineFile = item => s_file(item) && (U32(item.Value, 36) & 1) != 0 && U64(item.Value, 16) > 0;
    private static readonly Func<TreeItem, bool> s_blockFile = item => s_file(item) && (U32(item.Value, 36) & 1) == 0;
    private static readonly Func<TreeItem, bool> s_directory = item => item.Type == Inode && item.Object > 1 && (U32(item.Value, 0) & 0xF000) == 0x4000;
    private static readonly Func<TreeItem, bool> s_link = item => item.Type == Inode && (U32(item.Value, 0) & 0xF000) == 0xA000;
    private static readonly Func<TreeItem, bool> s_fifo = item => item.Type == Inode && (U32(item.Value, 0) & 0xF000) == 0x1000;
    private static readonly Func<TreeItem, bool> s_several = item => item.Type == Extent && U16(item.Value, 0) > 1;
    private static readonly Func<TreeItem, bool> s_large = item => item.Type == Xattr && (item.Sub & 31) == 0 && U16(item.Value, 2) > 1;

    public static IReadOnlyList<CheckerRule> All { get; } =
    [
        // ---- superblock
        new("no valid copy of the superblock", i => { i.KeepRaw(); foreach (int copy in Enumerable.Range(0, 4)) { i.Zero(ImageLayout.SuperblockPlace(copy, i.Layout.DeviceBlocks)); } }),
        new("there is only one copy of generation", i => { i.KeepRaw(); i.Spoil(ImageLayout.SuperblockPlace(i.Layout.NewestSuperblock, i.Layout.DeviceBlocks)); }, IsWarning: true),
        new("the next write replaces it", i => i.Spoil(ImageLayout.SuperblockPlace((i.Layout.NewestSuperblock + 1) % 4, i.Layout.DeviceBlocks)), IsWarning: true),
        new("belongs to another pool", i => { i.KeepRaw(); i.WriteSealed((ulong)i.Layout.NewestSuperblock % 2, BrokenImage.Put([.. i.Superblock], 40, 8, 77)); }, IsWarning: true),
        new("the two copies of generation", i => { i.KeepRaw(); i.WriteSealed((ulong)i.Layout.NewestSuperblock % 2, BrokenImage.Put([.. i.Superblock], 64, 8, 77)); }),
        new("unknown incompatible features 0x4", i => Put64(i.Superblock, 16, 4)),
        new("unknown read-only compatible features 0x4", i => Put64(i.Superblock, 24, 4)),
        new("a counter that no pool reaches", i => Put64(i.Superblock, 64, 1UL << 62)),
        new("is not a power of two in 32..4096", i => Put32(i.Superblock, 88, 48)),
        new("is not a multiple of the cluster size", i => Put64(i.Superblock, 80, i.Layout.DataStart + 1)),
        new("do not fit on the device", i => Put32(i.Superblock, 92, 100_000)),
        new("the anchor of volume 0 is not between", i => Put64(i.Superblock, 96, 1)),
        new("the node area of volume 0 is not between", i => Put64(i.Superblock, 112, i.Layout.DataStart)),
        new("anchor and node area of volume 0 overlap", i => Put64(i.Superblock, 112, 100)),
        new("an anchor of volume 0 of 255 blocks", i => Put32(i.Superblock, 104, 255)),
        new("is not made of whole nodes", i => Put32(i.Superblock, 120, 9)),
        new("the node clusters of volume 0 overlap or do not exist", i => { Put64(i.Superblock, 16, 2); Put32(i.Superblock, 108, 1); Put32(i.Superblock, 256, 100_000); Put32(i.Superblock, 260, 1); }),
        new("the next write replaces it", i => { Put64(i.Superblock, 16, 2); Put32(i.Superblock, 108, 129); }, IsWarning: true),
        new("and to volume 1", i => { Put64(i.Superblock, 16, 2); Put32(i.Superblock, 108, 1); Put32(i.Superblock, 256, 0); Put32(i.Superblock, 260, 1); }),
        new("growing the pool was interrupted", i =>
        {
            i.KeepRaw();
            byte[] older = BrokenImage.Put([.. i.Superblock], 56, 8, U64(i.Superblock, 56) - 1);
            i.WriteSealed((ulong)(i.Layout.NewestSuperblock + 1) % 2, BrokenImage.Put(older, 72, 8, i.Layout.DeviceBlocks - 100));
        }, IsWarning: true),

        // ---- header
        new("no valid header in any of the four slots", i => { i.KeepRaw(); foreach (int slot in Enumerable.Range(0, 4)) { i.Zero(i.A.Slot(slot)); } }),
        new("there is only one copy of generation", i => { i.KeepRaw(); i.Spoil(i.A.Slot(i.A.NewestSlot)); }, IsWarning: true),
        new("the next checkpoint replaces it", i => i.Spoil(i.A.Slot((i.A.NewestSlot + 1) % 4)), IsWarning: true),
        new("the two copies of generation", i => { i.KeepRaw(); i.WriteSealed(i.A.Slot(i.A.NewestSlot), BrokenImage.Put([.. i.Header], 104, 8, 777)); }),
        new("is behind the checkpoint", i => Put64(i.Header, 88, U64(i.Header, 80) + 2)),
        new("is outside of the ring", i => Put32(i.Header, 96, (uint)i.A.RingBlocks + 1)),
        new("is above the pool's epoch", i => Put64(i.Header, 48, 1000)),
        new("a counter that no volume reaches", i => Put64(i.Header, 104, 0)),
        new("a tree of height 13 is not possible", i => Put32(i.Header, 76, 13)),
        new("after the volume's epoch", i => Put64(i.Header, 112, 0)),

        // ---- log
        new("the log cannot be read", i => i.MakeUnreadable(i.A.RingFirst + 200), Crashed: true),
        new("blocks of the log, which is empty, cannot be read", i => i.MakeUnreadable(i.A.RingFirst + 200), IsWarning: true),
        new("closed cleanly, but its log holds records", i => Put32(i.Header, 12, 3), Crashed: true),
        new("acknowledged changes are lost", i => { i.KeepRaw(); i.Zero(i.A.RingFirst + (ulong)i.A.Log[1].Position); }, Crashed: true),
        new("the pool is at", i => { Put64(i.A.Log[^1].Bytes, 24, 1000); i.SealLog(i.A.Log.Count - 1); }, Crashed: true),
        new("does not fit into the batch", i => { Put32(i.A.Log[^1].Bytes, BatchHeaderBytes, 1 << 30); i.SealLog(i.A.Log.Count - 1); }, Crashed: true),
        new("operation 0 of record 0 is malformed", i => { i.A.Log[^1].Bytes[BatchHeaderBytes + 8] = 99; i.SealLog(i.A.Log.Count - 1); }, Crashed: true),
        new("is longer than its operations", i => { byte[] b = i.A.Log[^1].Bytes; Put16(b, BatchHeaderBytes + 4, (ushort)(U16(b, BatchHeaderBytes + 4) - 1)); i.SealLog(i.A.Log.Count - 1); }, Crashed: true),
        new("bytes behind the last record", i => { byte[] b = i.A.Log[^1].Bytes; Put32(b, 40, U32(b, 40) - 1); i.SealLog(i.A.Log.Count - 1); }, Crashed: true),
        new("names image 9 of", i => i.EditLog((b, at) => b[at] == 7 && Done(() => Put16(b, at + 2, 9))), Crashed: true),
        new("which does not exist", i => i.EditLog((b, at) => b[at] == 3 && Done(() => Put64(b, at + 4, 4711))), Crashed: true),
        new("outside of its value", i => i.EditLog((b, at) => b[at] == 3 && Done(() => Put32(b, at + 20, 3899))), Crashed: true),
        new("deletes (4711", i => i.EditLog((b, at) => b[at] == 2 && Done(() => Put64(b, at + 4, 4711))), Crashed: true),
        new("is not within one data cluster of the volume", i => i.EditLog((b, at) => b[at] == 4 && Done(() => Put64(b, at + 4, i.A.AnchorFirst))), Crashed: true),
        new("which is allocated already", i => i.EditLog((b, at) => b[at] == 4 && Done(() => Put16(b, at + 2, 1)) && Done(() => Put64(b, at + 4, (ulong)BlockMap.Of(Images(true)).Of(BlockKind.UnwrittenData, 1).First()))), Crashed: true),
        new("which is free already", i => i.EditLog((b, at) => b[at] == 4 && Done(() => b[at] = 5)), Crashed: true),
        new("are not the volume's", i => i.EditLog((b, at) => b[at] == 6 && Done(() => Put64(b, at + 4, 0))), Crashed: true),
        new("is not the volume's", i => i.EditLog((b, at) => b[at] == 7 && Done(() => Put64(b, at + 4, 0))), Crashed: true),
        new("which it names, cannot be read", i => i.MakeUnreadable((ulong)BlockMap.Of(Images(true)).Of(BlockKind.LogTailData, 1).First()), Crashed: true),

        // ---- tree
        new("the address is not in a node cluster of the volume", i => Put64(i.Inner.Bytes, i.Inner.ValueOffset(0), i.A.AnchorFirst)),
        new("two pointers lead to this node", i => i.Inner.Bytes.AsSpan(i.Inner.ValueOffset(1), 20).CopyTo(i.Inner.Bytes.AsSpan(i.Inner.ValueOffset(0)))),
        new("cannot be read", i => i.MakeUnreadable(i.Leaf.Address)),
        new("the magic is wrong", i => Put32(i.Leaf.Bytes, 0, 0)),
        new("the checksum of the node is wrong", i => { i.KeepRaw(); i.Spoil(i.Leaf.Address); }),
        new("a lost or stale write", i => { i.KeepRaw(); i.WriteNode(i.Leaf.Address, i.A.Tree.Leaves.First().Bytes); }),
        new("belongs to another volume", i => Put64(i.Leaf.Bytes, 8, 2)),
        new("its birth epoch is not the one its parent names", i => Put64(i.Leaf.Bytes, 16, 0)),
        new("was written for another address", i => Put64(i.Leaf.Bytes, 24, 4)),
        new("is of level 3, expected 0", i => Put16(i.Leaf.Bytes, 4, 3)),
        new("after its parent", i => { Put64(i.Leaf.Bytes, 16, 9); Put64(i.Leaf.Parent!.Bytes, i.Leaf.Parent.ValueOffset(i.Leaf.IndexInParent) + 8, 9); }),
        new("an empty node that is not the root", i => i.Leaf.TrySetItems([])),
        new("slots and a heap from byte", i => Put16(i.Leaf.Bytes, 6, 900)),
        new("is outside of the heap", i => Put16(i.Leaf.Bytes, ImageNode.SlotAt(0) + 16, 65000)),
        new("child pointer 0 has 19 bytes", i => Put16(i.Inner.Bytes, ImageNode.SlotAt(0) + 18, 19)),
        new("value 0 has 3901 bytes", i => i.Leaf.TrySetItems([i.Leaf.Items()[0] with { Value = new byte[3901] }, .. i.Leaf.Items().Skip(20)])),
        new("two values overlap", i => { Put16(i.Leaf.Bytes, ImageNode.SlotAt(1) + 16, (ushort)i.Leaf.ValueOffset(0)); }),
        new("in use and", i => Put32(i.Leaf.Bytes, 36, 1)),
        new("does not come after the one before it", i => Put64(i.Leaf.Bytes, ImageNode.SlotAt(1), 0)),
        new("is below the bound", i => Put64(i.Leaf.Bytes, ImageNode.SlotAt(0), 0)),
        new("is not below the bound", i => Put64(i.Leaf.Bytes, ImageNode.SlotAt(i.Leaf.Count - 1), ulong.MaxValue)),

        // ---- catalogue
        new("bytes is malformed", i => i.Edit(Volume, static value => value[..^1], volume: i.Layout.Catalogue)),
        new("a name that no volume can have", i => i.Set(Volume, 50, 1, '/', volume: i.Layout.Catalogue)),
        new("another volume has the same name", i => i.Set(Volume, 50, 1, 'b', volume: i.Layout.Catalogue)),
        new("at a time that no calendar has", i => i.Set(Volume, 16, 8, long.MaxValue, volume: i.Layout.Catalogue)),
        new("is not in anchor clusters of the volume", i => i.Set(Volume, 0, 8, 4, volume: i.Layout.Catalogue)),
        new("does not belong into volume 0", i => i.Insert(5, Inode, 0, new byte[160], i.Layout.Catalogue)),
        new("the item has 15 bytes", i => i.Edit(ClusterRun, static value => value[..15], volume: i.Layout.Catalogue)),
        new("unknown kind 4", i => i.Set(ClusterRun, 4, 4, 4, volume: i.Layout.Catalogue)),
        new("clusters do not exist there", i => i.Set(ClusterRun, 0, 4, 1 << 20, volume: i.Layout.Catalogue)),
        new("belongs to volume 9, which does not exist", i => i.Set(ClusterRun, 8, 8, 9, volume: i.Layout.Catalogue)),
        new("belongs to volume 1 and to volume 1", i => i.Set(ClusterRun, 0, 4, 11, volume: i.Layout.Catalogue)),
        new("an anchor of 255 blocks is not possible", i => i.Set(Volume, 8, 4, 255, volume: i.Layout.Catalogue)),
        new("belongs to nobody, but is not zero", i => i.Spoil(i.Layout.DataStart + (ulong)(Array.IndexOf(i.Layout.Clusters, (0, 0UL)) * i.Layout.ClusterBlocks) + 3)),

        // ---- extents and allocation
        new("is beyond the largest file", i => i.Insert(60, Extent, 1UL << 50, new byte[8])),
        new("has only 7 bytes", i => i.Edit(Extent, static value => value[..7])),
        new("runs and", i => i.Edit(Extent, static value => value[..^1])),
        new("has no run; such a group is deleted", i => i.Edit(Extent, static _ => new byte[8])),
        new("is out of order or outside of the group", i => i.Set(Extent, 8, 1, 127)),
        new("has unknown flags 2", i => i.Set(Extent, 10, 2, 2)),
        new("was born in epoch 9", i => i.Set(Extent, 24, 8, 9)),
        new("which are not in data clusters of the volume", i => i.Set(Extent, 16, 8, i.B.AnchorFirst)),
        new("is mapped twice", i => { byte[]? first = null; i.Edit(Extent, value => first = value); i.Edit(Extent, value => BrokenImage.Put([.. value], 16, 8, U64(first!, 16)), item => !item.Value.AsSpan().SequenceEqual(first)); }),
        new("checksums for", i => i.Edit(Extent, static value => BrokenImage.Put([.. value[..^4]], 2, 2, (ulong)U16(value, 2) - 1))),
        new("has an Allocation item but is not a data cluster", i => i.Insert(0, Allocation, 1, new byte[4])),
        new("has an Allocation item of 3 bytes", i => i.Edit(Allocation, static value => value[..3])),
        new("are allocated, but no extent names them", i => i.Edit(Allocation, static value => [.. value.Select(_ => (byte)255)])),
        new("are in use, but not allocated", i => i.Edit(Allocation, static value => new byte[value.Length])),
        new("the cluster has no Allocation item", i => i.Edit(Allocation, static _ => null)),
        new("does not match its checksum", i => i.Spoil((ulong)BlockMap.Of(Images(false)).Of(BlockKind.Data, 1).First())),
        new("cannot be read", i => i.MakeUnreadable((ulong)BlockMap.Of(Images(false)).Of(BlockKind.Data, 1).First())),

        // ---- shared blocks
        new("blocks are shared, but the superblock does not say", i => Put64(i.Superblock, 16, 0)),
        new("in a volume without data checksums", i => Put32(i.Header, 12, U32(i.Header, 12) & ~1u)),
        new("has 255 bytes", i => i.Edit(SharedBlocks, static value => value[..255])),
        new("is beyond any device", i => i.Insert(0, SharedBlocks, 1UL << 57, new byte[256])),
        new("counts nothing; such an item is deleted", i => i.Edit(SharedBlocks, static _ => new byte[256])),
        new("has a count of one", i => i.Edit(SharedBlocks, static value => WithCount(value, 1))),
        new("has a count of 9, and 2 extents name it", i => i.Edit(SharedBlocks, static value => WithCount(value, 9))),
        new("has a count of 2, and 3 extents name it", i => i.Edit(SharedBlocks, static value => [.. Enumerable.Range(0, 256).Select(at => at % 2 == 0 && value[at] == 3 ? (byte)2 : value[at])])),
        new("has a count of 2, and 0 extents name it", i => i.Insert(0, SharedBlocks, FreeBlock(i) / SharedGroupBlocks, BrokenImage.Put(new byte[256], (int)(FreeBlock(i) % SharedGroupBlocks) * 2, 2, 2))),
        new("is mapped twice", i => i.Edit(SharedBlocks, static _ => null)),
        new("is not in a data cluster of the volume", i => i.Insert(0, SharedBlocks, i.A.AnchorFirst / SharedGroupBlocks, BrokenImage.Put(new byte[256], (int)(i.A.AnchorFirst % SharedGroupBlocks) * 2, 2, 2))),
        new("is shared, and not written", i => i.Set(Extent, 10, 2, 1, item => IsShared(i, U64(item.Value, 16)))),
        new("writes to block", i => i.EditLog((b, at) => b[at] == 7 && Done(() => Put64(b, at + 4, SharedBlock(i)))), Crashed: true),

        // ---- inodes
        new("an inode item with sub-key 5", i => i.Insert(60, Inode, 5, new byte[160])),
        new("its record has 159 bytes", i => i.Edit(Inode, static value => value[..159], s_file)),
        new("has a number that is to be given out again", i => Put64(i.Header, 104, 2)),
        new("unknown type in mode", i => i.Set(Inode, 0, 4, 0xF000, s_fifo)),
        new("has a negative size", i => i.Set(Inode, 16, 8, 1UL << 63, s_blockFile)),
        new("has items, but no inode record", i => i.Edit(Inode, static _ => null, s_inlineFile)),
        new("inline item 2 is not possible", i => i.Insert(First(i, s_inlineFile), Inline, 2, [])),
        new("does not go on from a full first one", i => i.Insert(First(i, s_inlineFile), Inline, 1, [])),
        new("an item of unknown type 6", i => i.Insert(First(i, s_inlineFile), 6, 0, [])),
        new("does not belong to the volume itself", i => i.Insert(0, 14, 0, [])),
        new("its Orphan item is malformed", i => i.Insert(0, Orphan, 1, [9, 0, 0, 0, 0, 0, 0, 0, 0])),
        new("has an Orphan item, but does not exist", i => i.Insert(0, Orphan, 4711, [1, 0, 0, 0, 0, 0, 0, 0, 0])),
        new("the root directory is missing", i => i.Edit(Inode, static _ => null, static item => item.Object == 1)),
        new("blocks, and maps", i => i.Set(Inode, 24, 8, 99, s_blockFile)),
        new("maps blocks, but is not a regular file", i => i.Set(Inode, 0, 4, 0x1000, s_blockFile)),
        new("has its content inline, and blocks as well", i => i.Set(Inode, 36, 4, 1, s_blockFile)),
        new("bytes inline, and a size of", i => i.Set(Inode, 16, 8, 7, s_inlineFile)),
        new("has inline content, but is not marked so", i => i.Set(Inode, 36, 4, 0, s_inlineFile)),
        new("has written blocks up to byte", i => i.Set(Inode, 16, 8, 1, s_blockFile)),
        new("are not zero", i => i.Set(Inode, 16, 8, 4095, static item => s_blockFile(item) && U64(item.Value, 16) == 4096)),
        new("a link of", i => i.Set(Inode, 16, 8, 3, s_link)),
        new("a link that is not marked as inline", i => i.Set(Inode, 36, 4, 0, s_link)),
        new("is marked as inline, but is neither a file nor a link", i => i.Set(Inode, 36, 4, 1, s_fifo)),
        new("a directory with file content", i => i.Insert(First(i, s_directory), Inline, 0, [1])),
        new("a special file with content", i => i.Insert(First(i, s_fifo), Inline, 0, [1])),
        new("extended attributes, and has", i => i.Set(Inode, 112, 4, 9, s_blockFile)),
        new("bytes of names of attributes", i => i.Set(Inode, 116, 4, 9, s_blockFile)),

        // ---- names
        new("an item without names", i => i.Edit(DirectoryEntry, static _ => [])),
        new("a name is malformed", i => i.Set(DirectoryEntry, 2, 1, 0)),
        new("slot 9 is out of order", i => i.Set(DirectoryEntry, 0, 1, 9)),
        new("a name that does not hash to its key", i => i.Set(DirectoryEntry, 12, 1, 'Z')),
        new("a name that no file can have", i => i.Set(DirectoryEntry, 12, 1, '/')),
        new("the same name twice", i => i.Edit(DirectoryEntry, static value => [.. value, .. BrokenImage.Put([.. value], 0, 1, 1)])),
        new("has names in it, but is not a directory", i => i.Set(Inode, 0, 4, 0x8000, s_directory)),
        new("names, and has", i => i.Set(Inode, 120, 8, 99, s_directory)),
        new("leads to inode 4711, which does not exist", i => i.Set(DirectoryEntry, 4, 8, 4711)),
        new("says type 1", i => i.Set(DirectoryEntry, 1, 1, 1, static item => item.Value[1] == 8)),
        new("has no link, and no Orphan item", i => i.Set(Inode, 12, 4, 0, s_inlineFile)),
        new("is an orphan with 1 links", i => i.Insert(0, Orphan, First(i, s_inlineFile), [1, 0, 0, 0, 0, 0, 0, 0, 0])),
        new("links, and has", i => i.Set(Inode, 12, 4, 9, s_inlineFile)),
        new("subdirectories", i => i.Set(Inode, 12, 4, 9, s_directory)),
        new("a directory with 0 names", i => i.Edit(DirectoryEntry, static _ => null, static item => item.Value[1] == 4)),
        new("as its parent, but lies in", i => i.Set(Inode, 48, 8, 3, s_directory)),
        new("its parents form a circle", i =>
        {
            // The deeper directory moves into itself.
            ulong deeper = i.A.Tree.Items().Last(s_directory).Object;
            byte[] name = i.A.Tree.Items().First(item => item.Type == DirectoryEntry && U64(item.Value, 4) == deeper).Value;
            TreeItem entry = i.A.Tree.Items().First(item => item.Type == DirectoryEntry && U64(item.Value, 4) == deeper);
            i.Edit(DirectoryEntry, static _ => null, item => item.Object == entry.Object && item.Item == entry.Item);
            i.Insert(deeper, DirectoryEntry, entry.Sub, name);
            i.Set(Inode, 48, 8, deeper, item => item.Object == deeper);
        }),
        new("a deleted directory that still has names", i =>
        {
            i.Set(Inode, 12, 4, 0, s_directory);
            i.Insert(0, Orphan, First(i, s_directory), [1, 0, 0, 0, 0, 0, 0, 0, 0]);
        }),

        // ---- extended attributes
        new("the first chunk is malformed", i => i.Set(Xattr, 0, 1, 0)),
        new("do not add up to the length of the value", i => i.Set(Xattr, 4, 4, 1)),
        new("a value of 65537 bytes", i => i.Set(Xattr, 4, 4, 65537)),
        new("lies where its name does not hash to", i => i.Set(Xattr, 8, 1, 'q')),
        new("a chunk without the one before it", i => i.Edit(Xattr, static _ => null, static item => (item.Sub & 31) == 1)),
        new("chunks of an attribute are missing", i => i.Edit(Xattr, static _ => null, static item => (item.Sub & 31) == 2)),
        new("a second attribute of the same name", i =>
        {
            TreeItem first = i.A.Tree.Items().First(static item => item.Type == Xattr && (item.Sub & 31) == 0 && U16(item.Value, 2) == 1);
            i.Insert(first.Object, Xattr, first.Sub + 32, first.Value);
        }),
    ];

    public override string ToString() => Says;

    internal static byte[] Images(bool crashed) => crashed ? s_images.Value.Crashed : s_images.Value.Clean;

    private static readonly Lazy<BaseImages> s_images = new(static () => ImageBuilder.Build(1));

    private static ulong First(BrokenImage image, Func<TreeItem, bool> where) => image.A.Tree.Items().First(where).Object;

    /// <summary>The counts with another one for the first block that has one.</summary>
    private static byte[] WithCount(byte[] counts, ushort count)
    {
        int first = Enumerable.Range(0, SharedGroupBlocks).First(block => U16(counts, 2 * block) != 0);
        return BrokenImage.Put([.. counts], 2 * first, 2, count);
    }

    private static bool IsShared(BrokenImage image, ulong block) =>
        image.A.Tree.Items().Any(item => item.Type == SharedBlocks && item.Sub == block / SharedGroupBlocks && U16(item.Value, (int)(block % SharedGroupBlocks) * 2) != 0);

    private static ulong SharedBlock(BrokenImage image)
    {
        TreeItem counts = image.A.Tree.Items().First(static item => item.Type == SharedBlocks);
        // The last: the log of the crashed image takes owners from the first ones.
        return (counts.Sub * SharedGroupBlocks) + (ulong)Enumerable.Range(0, SharedGroupBlocks).Last(block => U16(counts.Value, 2 * block) != 0);
    }

    /// <summary>A block of "a" that nothing uses, in a group of which no block is shared.</summary>
    private static ulong FreeBlock(BrokenImage image) => (ulong)BlockMap.Of(Images(false)).Of(BlockKind.DataUnused, 1)
        .First(block => !image.A.Tree.Items().Any(item => item.Type == SharedBlocks && item.Sub == (ulong)block / SharedGroupBlocks));

    private static bool Done(Action change)
    {
        change();
        return true;
    }
}
