using VhostFs.Crash.Tests.Explorer;
using VhostFs.Image.Tests.Images;

namespace VhostFs.Image.Tests.Mutation;

/// <summary>What an image is changed in.</summary>
internal enum MutationScope
{
    VolumeA,
    VolumeB,

    /// <summary>The superblock and volume 0.</summary>
    Pool,
}

/// <summary>Changes what an image says, and then makes every checksum right: the work of somebody who knows the format.</summary>
internal sealed class ImageMutator
{
    private readonly byte[] _disk;
    private readonly ImageLayout _layout;
    private readonly List<(byte[] Bytes, byte[] Pristine)> _pristine = [];
    private readonly List<string> _done = [];
    private readonly ulong[] _numbers;
    private Random _random = new(0);

    public ImageMutator(byte[] disk)
    {
        _disk = disk;
        _layout = ImageLayout.Read(disk);
        Remember(_layout.Superblock);
        foreach (ImageVolume volume in _layout.Volumes)
        {
            Remember(volume.Tree.Header);
            foreach (ImageNode node in volume.Tree.Nodes) { Remember(node.Bytes); }
            foreach (ImageBatch batch in volume.Log) { Remember(batch.Bytes); }
        }
        _numbers = Numbers();
    }

    public ImageLayout Layout => _layout;

    /// <summary>What was done to the last image.</summary>
    public string Description => string.Join("; ", _done);

    /// <summary>Puts a mutated image on the disk, which holds the base.</summary>
    public MutationScope Next(int seed, DiskImage image)
    {
        _random = new Random(seed);
        _done.Clear();
        foreach ((byte[] bytes, byte[] pristine) in _pristine) { pristine.CopyTo(bytes, 0); }
        image.Reset();
        var scope = (MutationScope)Math.Max(0, _random.Next(8) - 5); // six of eight for "a", whose tree is the higher one
        scope = scope switch { MutationScope.VolumeA when _random.Next(3) == 0 => MutationScope.VolumeB, _ => scope };
        ImageVolume volume = scope switch { MutationScope.VolumeA => _layout.Volume("a"), MutationScope.VolumeB => _layout.Volume("b"), _ => _layout.Catalogue };
        for (int i = _random.Next(1, 5); i > 0; i--) { Mutate(scope, volume); }
        Write(scope, volume, image);
        return scope;
    }

    private void Mutate(MutationScope scope, ImageVolume volume)
    {
        int kind = _random.Next(100);
        if (scope == MutationScope.Pool && kind < 25) { SetField("superblock", _layout.Superblock, 0, FieldTables.Superblock); }
        else if (kind < 12) { SetField("header", volume.Tree.Header, 0, FieldTables.Header); }
        else if (kind < 40 && volume.Log.Count > 0) { MutateLog(volume.Log); }
        else if (kind < 48) { MutateNode(Pick(volume.Tree.Nodes)); }
        else if (kind < 56 && volume.Tree.Nodes.Count > 1) { MutatePointers(volume, Pick(volume.Tree.Nodes.Where(node => node.Level > 0).ToList())); }
        else { MutateItems(volume, Pick(volume.Tree.Leaves.ToList())); }
    }

    private void MutateNode(ImageNode node)
    {
        if (_random.Next(2) == 0 || node.Count == 0)
        {
            SetField($"node {node.Address}", node.Bytes, 0, FieldTables.Node);
            return;
        }
        int slot = _random.Next(Math.Min(node.Count, 700));
        if (_random.Next(3) > 0)
        {
            SetField($"slot {slot} of node {node.Address}", node.Bytes, ImageNode.SlotAt(slot), FieldTables.Slot);
            return;
        }
        int other = _random.Next(Math.Min(node.Count, 700));
        Span<byte> one = node.Bytes.AsSpan(ImageNode.SlotAt(slot), 20), two = node.Bytes.AsSpan(ImageNode.SlotAt(other), 20);
        byte[] kept = one.ToArray();
        int bytes = Pick([16, 20]);
        two[..bytes].CopyTo(one);
        if (_random.Next(2) == 0) { kept.AsSpan(0, bytes).CopyTo(two); }
        _done.Add($"slots {slot} and {other} of node {node.Address} swapped");
    }

    private void MutatePointers(ImageVolume volume, ImageNode node)
    {
        if (node.Count == 0 || node.Count > 400) { return; }
        int at = node.ValueOffset(_random.Next(node.Count)), other = node.ValueOffset(_random.Next(node.Count));
        if (at > DiskFormat.NodeCrc - 20 || other > DiskFormat.NodeCrc - 20) { return; }
        ulong target = _random.Next(4) switch
        {
            0 => DiskFormat.U64(node.Bytes, other),
            1 => Pick(volume.Tree.Nodes).Address,
            2 => Pick(Pick(_layout.Volumes).Tree.Nodes).Address,
            _ => Number(8, DiskFormat.U64(node.Bytes, at)),
        };
        if (_random.Next(3) == 0)
        {
            byte[] kept = node.Bytes.AsSpan(at, 20).ToArray();
            node.Bytes.AsSpan(other, 20).CopyTo(node.Bytes.AsSpan(at));
            kept.CopyTo(node.Bytes, other);
            _done.Add($"children of node {node.Address} swapped");
            return;
        }
        DiskFormat.Put64(node.Bytes, at, target);
        _done.Add($"a child of node {node.Address} is {target}");
    }

    private void MutateItems(ImageVolume volume, ImageNode leaf)
    {
        if (leaf.Count is 0 or > 700) { return; }
        List<TreeItem> items;
        try { items = leaf.Items(); }
        catch (ArgumentOutOfRangeException) { return; } // an earlier mutation spoiled the slots
        int index = _random.Next(items.Count);
        // By type first: there are many inodes and names, and one of others.
        if (_random.Next(2) == 0)
        {
            int type = Pick(items.Select(item => item.Type).Distinct().ToList());
            index = Pick(Enumerable.Range(0, items.Count).Where(i => items[i].Type == type).ToList());
        }
        TreeItem old = items[index], other = _random.Next(3) == 0 ? old with { Value = [.. Pick(items).Value] } : Pick(items.Where(item => item.Type == old.Type).ToList());
        string what = $"item ({old.Object}, {old.Type}, {old.Sub:x}) of leaf {leaf.Address}";
        byte[] value = [.. old.Value];
        switch (_random.Next(14))
        {
            case < 7:
                SetField(what, value, 0, FieldTables.OfValue(0, old));
                items[index] = old with { Value = value };
                break;
            case 7:
                items.RemoveAt(index);
                _done.Add($"{what} removed");
                break;
            case 8:
                items[index] = old with { Value = other.Value };
                _done.Add($"{what} has the value of ({other.Object}, {other.Type}, {other.Sub:x})");
                break;
            case 9:
                items[index] = old with { Value = [.. value[..Math.Min(value.Length, _random.Next(value.Length + 1))]] };
                _done.Add($"{what} cut to {items[index].Value.Length} bytes");
                break;
            case 10:
                items[index] = old with { Value = [.. value, .. new byte[_random.Next(1, 200)]] };
                _done.Add($"{what} made longer, {items[index].Value.Length} bytes");
                break;
            case 11:
                ulong number = _random.Next(2) == 0 ? other.Object : Number(8, old.Object);
                TreeItem moved = old with { Object = number };
                AddInOrder(items, moved);
                _done.Add($"{what} copied to object {number}");
                break;
            case 12:
                ulong item = _random.Next(2) == 0 ? ((ulong)_random.Next(16) << 60) | old.Sub : (old.Item & (15UL << 60)) | (Number(8, old.Sub) >> 4);
                AddInOrder(items, old with { Item = item });
                _done.Add($"{what} copied to item {item:x}");
                break;
            default:
                for (int i = _random.Next(1, 6); i > 0 && value.Length > 0; i--) { value[_random.Next(value.Length)] = (byte)Pick(new[] { 0, 1, 255, '/', '.', _random.Next(256) }); }
                items[index] = old with { Value = value };
                _done.Add($"bytes of {what} changed");
                break;
        }
        leaf.TrySetItems(items);
    }

    private static void AddInOrder(List<TreeItem> items, TreeItem item)
    {
        items.RemoveAll(other => other.Object == item.Object && other.Item == item.Item);
        int at = items.FindIndex(other => other.Object > item.Object || (other.Object == item.Object && other.Item > item.Item));
        items.Insert(at < 0 ? items.Count : at, item);
    }

    private void MutateLog(IReadOnlyList<ImageBatch> log)
    {
        int index = _random.Next(log.Count);
        ImageBatch batch = log[index];
        string what = $"batch at ring block {batch.Position}";
        List<(int Record, int Operation)> operations = Operations(batch);
        switch (_random.Next(6))
        {
            case 0:
                SetField(what, batch.Bytes, 0, FieldTables.Batch);
                break;
            case 1 when operations.Count > 0:
                int record = Pick(operations).Record;
                SetField($"record of {what}", batch.Bytes, record, [(0, 4), (4, 2), (6, 2)]);
                break;
            case > 1 when operations.Count > 0:
                int at = Pick(operations).Operation;
                (int, int)[] fields = batch.Bytes[at] is 1 or 2 or 3 ? [(0, 1), (2, 2), (4, 8), (12, 8), (20, 4), (24, 4)] : [(0, 1), (2, 2), (4, 8), (12, 4)];
                SetField($"operation {batch.Bytes[at]} of {what}", batch.Bytes, at, fields);
                break;
            default:
                return;
        }
        // Each batch names the checksum of the one before.
        for (int i = index; i < log.Count; i++)
        {
            if (i > index) { DiskFormat.Put32(log[i].Bytes, 72, DiskFormat.U32(log[i - 1].Bytes, DiskFormat.BatchCrc)); }
            log[i].Seal();
        }
    }

    private static List<(int Record, int Operation)> Operations(ImageBatch batch)
    {
        var found = new List<(int, int)>();
        int at = DiskFormat.BatchHeaderBytes, limit = batch.Bytes.Length - 28;
        for (int i = 0; i < batch.RecordCount && at < limit; i++)
        {
            int record = at;
            long end = at + 4L + DiskFormat.U32(batch.Bytes, at);
            at += 8;
            while (at < end && at < limit)
            {
                found.Add((record, at));
                int number = DiskFormat.U16(batch.Bytes, at + 2);
                at += batch.Bytes[at] switch { 1 => 20 + number, 2 => 20, 3 => 24 + number, 4 or 5 => 12, 6 => 12 + (4 * number), 7 => 16, _ => 1 << 20 };
            }
        }
        return found;
    }

    private void SetField(string what, byte[] bytes, int start, IReadOnlyList<(int At, int Size)> fields)
    {
        if (fields.Count == 0) { return; }
        (int at, int size) = Pick(fields);
        if (start + at + size > bytes.Length) { return; }
        ulong old = 0;
        for (int i = size - 1; i >= 0; i--) { old = (old << 8) | bytes[start + at + i]; }
        ulong value = Number(size, old);
        for (int i = 0; i < size; i++) { bytes[start + at + i] = (byte)(value >> (8 * i)); }
        _done.Add($"{what}: bytes {at}..{at + size} from {old:x} to {value:x}");
    }

    private ulong Number(int size, ulong old)
    {
        ulong mask = size == 8 ? ulong.MaxValue : (1UL << (8 * size)) - 1;
        ulong value = _random.Next(16) switch
        {
            0 => 0,
            1 => 1,
            2 => 2,
            3 => ulong.MaxValue,
            4 => ulong.MaxValue - 1,
            5 => mask >> 1,
            6 => (mask >> 1) + 1,
            7 => old + 1,
            8 => old - 1,
            9 => old ^ (1UL << _random.Next(8 * size)),
            10 => old * 2,
            11 => (ulong)_random.Next(300),
            12 => (ulong)_random.NextInt64(),
            _ => Pick(_numbers),
        };
        return value & mask;
    }

    /// <summary>Numbers that mean something in this image, and limits.</summary>
    private ulong[] Numbers()
    {
        var numbers = new List<ulong>
        {
            _layout.DeviceBlocks, _layout.DeviceBlocks - 1, _layout.DataStart, _layout.NodeAreaFirst, (ulong)_layout.Clusters.Length, (ulong)_layout.ClusterBlocks,
            1UL << 44, (1UL << 44) - 1, 1UL << 52, 1UL << 60, (1UL << 62) - 1, 1UL << 62, 65000, 65001, 65535, 65536, 4096, 4095, 3900, 3901, 2048, 2049, 1_000_000_000, 999_999_999,
            0x41ED, 0x81A4, 0xA1FF, 0x11A4, 0x21A4, 0xF1A4, 127, 128, 255, 256,
        };
        foreach (ImageVolume volume in _layout.Volumes)
        {
            numbers.AddRange([volume.Id, volume.AnchorFirst, volume.RingFirst, (ulong)volume.AnchorBlocks, (ulong)volume.RingBlocks, DiskFormat.U64(volume.Tree.Header, 104), DiskFormat.U64(volume.Tree.Header, 80)]);
            numbers.AddRange(volume.Tree.Nodes.Select(node => node.Address));
            foreach (TreeItem item in volume.Tree.Items())
            {
                if (item.Type == DiskFormat.Extent) { numbers.Add(DiskFormat.U64(item.Value, 16)); }
                if (item.Type == DiskFormat.Inode && item.Object % 7 < 2) { numbers.Add(item.Object); }
                if (item.Type is DiskFormat.Allocation or DiskFormat.SharedBlocks) { numbers.Add(item.Sub); }
            }
        }
        return [.. numbers];
    }

    /// <summary>Seals what was changed and writes it where it was.</summary>
    private void Write(MutationScope scope, ImageVolume volume, DiskImage image)
    {
        if (scope == MutationScope.Pool)
        {
            DiskFormat.Put32(_layout.Superblock, DiskFormat.BlockCrc, DiskFormat.Crc(_layout.Superblock.AsSpan(0, DiskFormat.BlockCrc)));
            foreach (int copy in new[] { _layout.NewestSuperblock % 2, (_layout.NewestSuperblock % 2) + 2 })
            {
                WriteChanged(image, copy < 2 ? (ulong)copy : (ulong)(_disk.Length / DiskFormat.BlockBytes) - 4 + (ulong)copy, _layout.Superblock);
            }
        }
        volume.Tree.Seal(_layout.NodeAt);
        foreach (ImageNode node in volume.Tree.Nodes) { WriteChanged(image, node.Address, node.Bytes); }
        WriteChanged(image, volume.Slot(volume.NewestSlot), volume.Tree.Header);
        WriteChanged(image, volume.Slot((volume.NewestSlot + 2) % 4), volume.Tree.Header);
        foreach (ImageBatch batch in volume.Log) { WriteChanged(image, volume.RingFirst + (ulong)batch.Position, batch.Bytes); }
    }

    private void WriteChanged(DiskImage image, ulong block, byte[] bytes)
    {
        long at = (long)block * DiskFormat.BlockBytes;
        if (!_disk.AsSpan((int)at, bytes.Length).SequenceEqual(bytes)) { image.Write(at, bytes); }
    }

    private void Remember(byte[] bytes) => _pristine.Add((bytes, [.. bytes]));

    private T Pick<T>(IReadOnlyList<T> from) => from[_random.Next(from.Count)];
}
