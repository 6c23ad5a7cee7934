using VhostFs.Bdev;
using VhostFs.Blobstore.Check;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Image.Tests.Images;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Image.Tests.Checker;

/// <summary>A sound image that is broken by hand in one place; all checksums are made right before it is checked.</summary>
internal sealed class BrokenImage
{
    private readonly DiskImage _image;
    private readonly ErrorBdev _bdev;
    private bool _sealsHeaders = true;

    public BrokenImage(byte[] disk)
    {
        _image = new DiskImage(disk);
        _bdev = new ErrorBdev(new ImageBdev(_image));
        Layout = ImageLayout.Read(disk);
        A = Layout.Volume("a");
        B = Layout.Volume("b");
    }

    public ImageLayout Layout { get; }

    public ImageVolume A { get; }

    public ImageVolume B { get; }

    public byte[] Superblock => Layout.Superblock;

    public byte[] Header => A.Tree.Header;

    /// <summary>A leaf of "a" that is neither its first nor its last.</summary>
    public ImageNode Leaf => A.Tree.Leaves.ElementAt(2);

    public ImageNode Inner => A.Tree.Nodes.First(node => node.Level == 1);

    public CheckReport Check(CheckOptions? options = null)
    {
        Write();
        using var reactor = new IoReactor(new SimulatedDriver(), "check");
        return reactor.RunUntilComplete(() => PoolChecker.CheckAsync(_bdev, options ?? new CheckOptions { VerifyFreeClusters = true }));
    }

    /// <summary>Changes the value of the first item for which the predicate holds; null deletes it.</summary>
    public void Edit(int type, Func<byte[], byte[]?> change, Func<TreeItem, bool>? where = null, ImageVolume? volume = null)
    {
        foreach (ImageNode leaf in (volume ?? A).Tree.Leaves)
        {
            List<TreeItem> items = leaf.Items();
            int index = items.FindIndex(item => item.Type == type && (where?.Invoke(item) ?? true));
            if (index < 0) { continue; }
            if (change(items[index].Value) is { } value) { items[index] = items[index] with { Value = value }; }
            else { items.RemoveAt(index); }
            if (!leaf.TrySetItems(items)) { throw new InvalidOperationException("the item does not fit"); }
            return;
        }
        throw new InvalidOperationException($"no item of type {type}");
    }

    /// <summary>Writes a number into the value of an item.</summary>
    public void Set(int type, int at, int size, ulong number, Func<TreeItem, bool>? where = null, ImageVolume? volume = null) =>
        Edit(type, value => Put([.. value], at, size, number), where, volume);

    public void Insert(ulong @object, int type, ulong sub, byte[] value, ImageVolume? volume = null)
    {
        ulong key = ((ulong)type << 60) | sub;
        // The last leaf that begins at or before the key.
        ImageNode leaf = (volume ?? A).Tree.Leaves.LastOrDefault(leaf => leaf.Items() is [var first, ..] && (first.Object < @object || (first.Object == @object && first.Item <= key))) ?? (volume ?? A).Tree.Leaves.First();
        List<TreeItem> items = leaf.Items();
        int at = items.FindIndex(item => item.Object > @object || (item.Object == @object && item.Item > key));
        items.Insert(at < 0 ? items.Count : at, new TreeItem(@object, key, value));
        if (!leaf.TrySetItems(items)) { throw new InvalidOperationException("the item does not fit"); }
    }

    public static byte[] Put(byte[] bytes, int at, int size, ulong number)
    {
        for (int i = 0; i < size; i++) { bytes[at + i] = (byte)(number >> (8 * i)); }
        return bytes;
    }

    /// <summary>An item's value in the log: the first operation of this kind, wherever it is; its batch and all behind it are sealed anew.</summary>
    public void EditLog(Func<byte[], int, bool> tryChange)
    {
        for (int index = 0; index < A.Log.Count; index++)
        {
            byte[] bytes = A.Log[index].Bytes;
            int at = DiskFormat.BatchHeaderBytes;
            for (int i = 0; i < A.Log[index].RecordCount; i++)
            {
                int end = at + 4 + (int)DiskFormat.U32(bytes, at);
                for (at += 8; at < end;)
                {
                    int number = DiskFormat.U16(bytes, at + 2);
                    int length = bytes[at] switch { 1 => 20 + number, 2 => 20, 3 => 24 + number, 4 or 5 => 12, 6 => 12 + (4 * number), _ => 16 };
                    if (tryChange(bytes, at)) { SealLog(index); return; }
                    at += length;
                }
            }
        }
        throw new InvalidOperationException("no such operation in the log");
    }

    public void SealLog(int from)
    {
        for (int i = from; i < A.Log.Count; i++)
        {
            if (i > from) { DiskFormat.Put32(A.Log[i].Bytes, 72, DiskFormat.U32(A.Log[i - 1].Bytes, DiskFormat.BatchCrc)); }
            A.Log[i].Seal();
        }
    }

    public void Zero(ulong block) => _image.Clear((long)block * DiskFormat.BlockBytes, DiskFormat.BlockBytes);

    /// <summary>Changes a byte of the disk behind the back of all checksums.</summary>
    public void Spoil(ulong block, int at = 100)
    {
        var one = new byte[1];
        _image.Read(((long)block * DiskFormat.BlockBytes) + at, one);
        one[0] ^= 0xFF;
        _image.Write(((long)block * DiskFormat.BlockBytes) + at, one);
    }

    public void MakeUnreadable(ulong block) =>
        _bdev.Inject(new BdevFault(BdevOperations.Read, Errno.EIO, 0, BdevFault.Always) { FirstByte = (long)block * DiskFormat.BlockBytes, LimitByte = ((long)block + 1) * DiskFormat.BlockBytes });

    /// <summary>Leaves the disk as <see cref="Zero"/> and <see cref="Spoil"/> made it: nothing is written over it.</summary>
    public void KeepRaw() => _sealsHeaders = false;

    public void WriteNode(ulong address, byte[] bytes) => _image.Write((long)address * DiskFormat.BlockBytes, bytes);

    /// <summary>Writes a copy that differs from its twin.</summary>
    public void WriteSealed(ulong block, byte[] bytes)
    {
        byte[] copy = [.. bytes];
        DiskFormat.Put32(copy, DiskFormat.BlockCrc, DiskFormat.Crc(copy.AsSpan(0, DiskFormat.BlockCrc)));
        _image.Write((long)block * DiskFormat.BlockBytes, copy);
    }

    private void Write()
    {
        if (!_sealsHeaders) { return; }
        for (int copy = Layout.NewestSuperblock % 2; copy < 4; copy += 2) { WriteSealed(ImageLayout.SuperblockPlace(copy, (ulong)_image.LengthBytes / DiskFormat.BlockBytes), Superblock); }
        foreach (ImageVolume volume in Layout.Volumes)
        {
            volume.Tree.Seal(Layout.NodeAt);
            foreach (ImageNode node in volume.Tree.Nodes) { _image.Write((long)node.Address * DiskFormat.BlockBytes, node.Bytes); }
            for (int slot = volume.NewestSlot % 2; slot < 4; slot += 2) { _image.Write((long)volume.Slot(slot) * DiskFormat.BlockBytes, volume.Tree.Header); }
            foreach (ImageBatch batch in volume.Log) { _image.Write(((long)volume.RingFirst + batch.Position) * DiskFormat.BlockBytes, batch.Bytes); }
        }
    }
}
