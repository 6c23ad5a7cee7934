namespace VhostFs.Blobstore.Check;

/// <summary>All items of a volume: those of the tree as they were read, and over them what the log says.</summary>
/// <remarks>Its size is bounded by the device: a node is read at most once, and the log is no longer than its ring.</remarks>
internal sealed class ItemTable
{
    private readonly List<ItemKey> _keys = [];
    private readonly List<ReadOnlyMemory<byte>> _values = [];
    private readonly SortedDictionary<ItemKey, byte[]?> _overlay = []; // null: deleted by the log

    /// <summary>Inodes in the tree, before the log.</summary>
    public long InodesInTree => _keys.LongCount(static key => key is { Type: ItemKey.Inode, Object: not 0 });

    public ItemKey? LastTreeKey => _keys.Count == 0 ? null : _keys[^1];

    /// <summary>Adds an item of the tree; the caller has made sure that keys ascend.</summary>
    public void AddFromTree(ItemKey key, ReadOnlyMemory<byte> value)
    {
        _keys.Add(key);
        _values.Add(value);
    }

    public bool TryGet(ItemKey key, out ReadOnlyMemory<byte> value)
    {
        if (_overlay.TryGetValue(key, out byte[]? changed))
        {
            value = changed;
            return changed is not null;
        }
        int at = _keys.BinarySearch(key);
        value = at >= 0 ? _values[at] : default;
        return at >= 0;
    }

    public void Put(ItemKey key, byte[] value) => _overlay[key] = value;

    public void Delete(ItemKey key) => _overlay[key] = null;

    /// <summary>A copy of a value that may be changed in place.</summary>
    public bool TryGetForChange(ItemKey key, out byte[] value)
    {
        if (_overlay.TryGetValue(key, out byte[]? changed))
        {
            value = changed ?? [];
            return changed is not null;
        }
        if (!TryGet(key, out ReadOnlyMemory<byte> original))
        {
            value = [];
            return false;
        }
        value = original.ToArray();
        _overlay[key] = value;
        return true;
    }

    /// <summary>Every item in key order.</summary>
    public IEnumerable<(ItemKey Key, ReadOnlyMemory<byte> Value)> InOrder()
    {
        int at = 0;
        foreach ((ItemKey key, byte[]? value) in _overlay)
        {
            for (; at < _keys.Count && _keys[at] < key; at++) { yield return (_keys[at], _values[at]); }
            if (at < _keys.Count && _keys[at] == key) { at++; }
            if (value is not null) { yield return (key, value); }
        }
        for (; at < _keys.Count; at++) { yield return (_keys[at], _values[at]); }
    }
}
