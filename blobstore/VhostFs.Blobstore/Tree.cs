using System.Buffers.Binary;
using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Where a node is and what it must be: the content of an internal entry, and of the header for the root.</summary>
internal readonly record struct NodePointer(ulong Address, ulong BirthEpoch, uint Crc)
{
    public static NodePointer Read(ReadOnlySpan<byte> value) => new(
        BinaryPrimitives.ReadUInt64LittleEndian(value),
        BinaryPrimitives.ReadUInt64LittleEndian(value[8..]),
        BinaryPrimitives.ReadUInt32LittleEndian(value[16..]));

    public void Write(Span<byte> value)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(value, Address);
        BinaryPrimitives.WriteUInt64LittleEndian(value[8..], BirthEpoch);
        BinaryPrimitives.WriteUInt32LittleEndian(value[16..], Crc);
    }
}

/// <summary>The keys that may be below an entry: from the first on, below the second; null: no bound.</summary>
internal readonly record struct KeyBounds(TreeKey? Lower, TreeKey? Limit);

/// <summary>The B+tree of one volume: nodes in memory as far as they fit, changed in place there, written to new places by checkpoints.</summary>
/// <remarks>All calls are synchronous. One that needs a node that is not in memory answers <see cref="Residency.NotResident"/>, has changed
/// nothing, and has remembered the node for <see cref="LoadMissingAsync"/>. Invariants: the ancestors of a resident node are resident; the ancestors of a dirty
/// node are dirty; a node that is part of the last durable tree is never overwritten (its address goes to <see cref="TakeObsolete"/> when it changes).</remarks>
internal sealed class Tree
{
    /// <summary>At least four of these fit in a node.</summary>
    public const int MaxValueBytes = 3900;

    /// <summary>Enough for 2^64 nodes with the smallest fan-out that occurs.</summary>
    private const int MaxHeight = 16;

    /// <summary>No tree that was ever written is higher (it would have more than 100^11 leaves); a hostile one must not leave us without room to grow.</summary>
    private const int MaxStoredHeight = 12;

    private readonly ulong _volumeId;
    private readonly NodeCache _cache;
    private readonly NodeReader _reader;
    private readonly Node[] _path = new Node[MaxHeight];
    private readonly int[] _index = new int[MaxHeight];
    private readonly List<Node> _dirty = [];

    /// <summary>Addresses of the last durable tree that are no longer in use; they become free with the next durable header.</summary>
    private readonly List<ulong> _obsolete = [];

    private readonly Dictionary<ulong, Node> _loaded = [];
    private readonly Dictionary<ulong, WaitQueue> _loading = [];
    private NodePointer _missing;
    private int _missingLevel;
    private KeyBounds _missingBounds;
    private ulong _freezeRound;
    private ulong _freezeEpoch;
    private int _sealed;
    private ulong _touchRound;

    /// <summary>Where the open transaction found its keys, the latest ones: it asks for the same few again and again (what is there, what becomes of it, apply).</summary>
    private readonly FoundKey[] _found = new FoundKey[8];
    private int _foundCount;
    private int _nextFound;
    private bool _isRemembering;

    public Tree(ulong volumeId, NodeCache cache, NodeReader reader)
    {
        _volumeId = volumeId;
        _cache = cache;
        _reader = reader;
        Root = NewNode(0);
    }

    public Node Root { get; private set; }

    public int Height { get; private set; } = 1;

    public int DirtyCount => _dirty.Count;

    /// <summary>Takes the root of a durable tree; the empty root made by the constructor goes away.</summary>
    public async IoTask<Errno> OpenAsync(NodePointer root, int height)
    {
        if (height is < 1 or > MaxStoredHeight) { return Errno.EIO; }
        Errno read = await ReadNodeAsync(root, height - 1, default, isRoot: true);
        if (read != Errno.None) { return read; }
        ClearDirty();
        _cache.Remove(Root);
        _loaded.Remove(root.Address, out Node? node);
        Root = node!;
        Height = height;
        return Errno.None;
    }

    public Errno TryGet(TreeKey key, out ReadOnlySpan<byte> value)
    {
        value = default;
        Errno found = Locate(key, out Node? leaf, out int index, out bool isThere);
        if (found != Errno.None) { return found; }
        if (!isThere) { return Errno.ENOENT; }
        value = leaf!.Page.ValueAt(index);
        return Errno.None;
    }

    /// <summary>The first item with from &lt;= key &lt; limit.</summary>
    public Errno TryNext(TreeKey from, TreeKey limit, out TreeKey key, out ReadOnlySpan<byte> value)
    {
        key = default;
        value = default;
        Errno found = Descend(from);
        if (found != Errno.None) { return found; }
        int index = _path[0].Page.LowerBound(from);
        if (index == _path[0].Page.Count)
        {
            found = NextLeaf(limit);
            if (found != Errno.None) { return found; }
            index = 0;
        }
        NodePage leaf = _path[0].Page;
        key = leaf.KeyAt(index);
        if (!(key < limit)) { return Errno.ENOENT; }
        value = leaf.ValueAt(index);
        return Errno.None;
    }

    /// <summary>Makes sure that a later change of this key cannot miss a node.</summary>
    public Errno Touch(TreeKey key)
    {
        Node leaf;
        int place = Remembered(key);
        if (place >= 0) { leaf = _found[place].Leaf; }
        else
        {
            Errno found = Descend(key);
            if (found != Errno.None) { return found; }
            leaf = _path[0];
            Remember(key, leaf, -1);
        }
        // The ancestors of a dirty node are dirty, and those of a touched one are counted.
        for (Node? node = leaf; node is not null && !node.IsDirty && node.TouchRound != _touchRound; node = node.Parent)
        {
            node.TouchRound = _touchRound;
            TouchedCount++;
        }
        return Errno.None;
    }

    /// <summary>Nodes that the keys touched since <see cref="BeginTouches"/> would make dirty.</summary>
    public int TouchedCount { get; private set; }

    /// <summary>A transaction begins: until <see cref="EndTouches"/> nothing is awaited, so no node goes, and a leaf that was found stays found while the tree keeps its shape.</summary>
    public void BeginTouches()
    {
        TouchedCount = 0;
        _touchRound++;
        _foundCount = 0;
        _isRemembering = true;
    }

    public void EndTouches()
    {
        _foundCount = 0;
        _isRemembering = false;
    }

    /// <summary>Inserts or replaces. The path was touched.</summary>
    public bool Put(TreeKey key, ReadOnlySpan<byte> value)
    {
        Invariant.That(value.Length <= MaxValueBytes);
        Node node = LocateTouched(key, out int index, out bool isThere);
        MakePathWritable(node);
        NodePage leaf = node.Page;
        Span<byte> room;
        if (isThere)
        {
            if (leaf.TryResize(index, value.Length, out room)) { value.CopyTo(room); return false; }
            leaf.Remove(index);
        }
        if (!leaf.TryInsert(index, key, value.Length, out room))
        {
            DescendTouched(key);
            room = SplitAndInsert(index, key, value.Length);
        }
        value.CopyTo(room);
        return !isThere;
    }

    /// <summary>Overwrites bytes inside an existing value; false when there is no such value. The path was touched.</summary>
    public bool Patch(TreeKey key, int offset, ReadOnlySpan<byte> bytes)
    {
        Node leaf = LocateTouched(key, out int index, out bool isThere);
        if (!isThere || offset + bytes.Length > leaf.Page.ValueAt(index).Length) { return false; }
        MakePathWritable(leaf);
        bytes.CopyTo(leaf.Page.ValueAt(index)[offset..]);
        return true;
    }

    /// <summary>Removes; false when there is no such key. The path was touched.</summary>
    public bool Delete(TreeKey key)
    {
        Node leaf = LocateTouched(key, out int index, out bool isThere);
        if (!isThere) { return false; }
        MakePathWritable(leaf);
        leaf.Page.Remove(index);
        if (Height > 1 && (IsSmall(leaf) || Root.Page.Count == 1))
        {
            DescendTouched(key);
            Shrink();
        }
        return true;
    }

    /// <summary>Loads the node that the last NotResident was about.</summary>
    public IoTask<Errno> LoadMissingAsync() => ReadNodeAsync(_missing, _missingLevel, _missingBounds);

    /// <summary>Gives every dirty node a new address and lists them, children first. Changes after this clone; <see cref="Seal"/> makes the pages fit to be written.</summary>
    public unsafe void Freeze(NodeSpace space, ulong epoch, List<FrozenNode> frozen)
    {
        _freezeRound++;
        _freezeEpoch = epoch;
        _sealed = 0;
        // Stays when nothing is dirty; else the root is the last one that is sealed.
        FrozenRoot = new NodePointer(Root.Address, Root.Page.BirthEpoch, Root.Page.Crc);
        for (int level = 0; level < Height; level++)
        {
            foreach (Node node in _dirty)
            {
                if (node.Level == level && !node.IsDead) { Freeze(node, space, frozen); }
            }
        }
        foreach (Node node in _dirty) { node.IsDirty = false; }
        ClearDirty();
    }

    /// <summary>Which root the frozen nodes have. Known when all are sealed.</summary>
    public NodePointer FrozenRoot { get; private set; }

    /// <summary>Completes the page of a frozen node, in the order of the list, and enters its place and checksum into its parent's page. Just before it is written: one way
    /// through the caches for both, and the freeze takes no time for it.</summary>
    public unsafe void Seal(List<FrozenNode> frozen, int index)
    {
        Invariant.That(index == _sealed, "children are sealed before their parents");
        _sealed++;
        FrozenNode entry = frozen[index];
        var page = new NodePage((byte*)entry.Page) { Address = entry.Address, BirthEpoch = _freezeEpoch };
        var pointer = new NodePointer(entry.Address, _freezeEpoch, page.Seal());
        if (entry.ParentPage == 0) { FrozenRoot = pointer; }
        else { pointer.Write(new NodePage((byte*)entry.ParentPage).ValueAt(entry.Slot)); }
    }

    /// <summary>The pages are written (or will never be): nodes that did not change meanwhile are clean, the others have their own page.</summary>
    public unsafe void Thaw(List<FrozenNode> frozen)
    {
        // After an error: what is clean from now on must have its own checksum, or an old node could be read in its place.
        while (_sealed < frozen.Count) { Seal(frozen, _sealed); }
        foreach (FrozenNode entry in frozen)
        {
            Node node = entry.Node;
            if (node.Bytes != (byte*)entry.Page || node.IsDead) { _cache.ReturnPage((byte*)entry.Page); continue; }
            node.IsFrozen = false;
            // A parent that changed since the freeze has a page of its own, made perhaps before this one was sealed.
            if (node.Parent is { } parent && parent.Bytes != (byte*)entry.ParentPage) { EnterPlace(parent, node, entry.Slot); }
        }
        // Only now can what was created be evicted: without this a volume that is only written to would never let go of a node.
        _cache.Trim();
    }

    /// <summary>Moves the list of obsolete addresses out; what changes from now on is obsolete for the next checkpoint.</summary>
    public void TakeObsolete(List<ulong> target)
    {
        target.AddRange(_obsolete);
        _obsolete.Clear();
    }

    /// <summary>Returns all memory; the tree is not used any more.</summary>
    public void Close()
    {
        ClearDirty();
        foreach (Node node in _loaded.Values) { _cache.Remove(node); }
        _loaded.Clear();
        Discard(Root);
    }

    /// <summary>Visits the address of every node: the internal nodes of the durable tree name all of them. Loads them; used at mount.</summary>
    public async IoTask<Errno> VisitAddressesAsync(Func<ulong, bool> visit)
    {
        if (!visit(Root.Address)) { return Errno.EIO; }
        if (Height == 1) { return Errno.None; }
        return await VisitChildrenAsync(Root, visit);
    }

    private async IoTask<Errno> VisitChildrenAsync(Node node, Func<ulong, bool> visit)
    {
        node.Pins++;
        Errno result = Errno.None;
        for (int i = 0; i < node.Page.Count && result == Errno.None; i++)
        {
            NodePointer pointer = NodePointer.Read(node.Page.ValueAt(i));
            if (!visit(pointer.Address)) { result = Errno.EIO; }
            else if (node.Level > 1)
            {
                Node? child = ResidentChild(node, i);
                if (child is null)
                {
                    result = await ReadNodeAsync(pointer, node.Level - 1, BoundsOf(node, i));
                    child = ResidentChild(node, i);
                }
                if (child is not null) { result = await VisitChildrenAsync(child, visit); }
            }
        }
        node.Pins--;
        return result;
    }

    private unsafe void Freeze(Node node, NodeSpace space, List<FrozenNode> frozen)
    {
        for (int i = 0; node.Level > 0 && i < node.Page.Count; i++)
        {
            if (node.Children![i] is { } child && child.FreezeRound == _freezeRound)
            {
                ref FrozenNode below = ref CollectionsMarshal.AsSpan(frozen)[child.FrozenIndex];
                below = below with { ParentPage = (nint)node.Bytes, Slot = i };
            }
        }
        node.Address = space.Allocate();
        node.FreezeRound = _freezeRound;
        node.FrozenIndex = frozen.Count;
        node.IsFrozen = true;
        frozen.Add(new FrozenNode(node, (nint)node.Bytes, node.Address));
    }

    private static void EnterPlace(Node parent, Node child, int slotAtFreeze)
    {
        Invariant.That(parent.IsDirty, "a parent whose page is not the frozen one has changed");
        int slot = slotAtFreeze < parent.Page.Count && parent.Children![slotAtFreeze] == child ? slotAtFreeze : Array.IndexOf(parent.Children!, child, 0, parent.Page.Count);
        new NodePointer(child.Address, child.Page.BirthEpoch, child.Page.Crc).Write(parent.Page.ValueAt(slot));
    }

    private Errno Descend(TreeKey key)
    {
        Node node = Root;
        for (int level = Height - 1; level > 0; level--)
        {
            int index = node.Page.ChildIndex(key);
            _path[level] = node;
            _index[level] = index;
            node.IsReferenced = true;
            Node? child = node.Children![index] ?? ResidentChild(node, index);
            if (child is null) { return Miss(node, index); }
            node = child;
        }
        node.IsReferenced = true;
        _path[0] = node;
        return Errno.None;
    }

    /// <summary>The leaf under which a key belongs, and where in it the key is, or would be.</summary>
    private Errno Locate(TreeKey key, out Node? leaf, out int index, out bool isThere)
    {
        int place = Remembered(key);
        if (place >= 0)
        {
            // What the transaction has applied since may have moved the key within its leaf.
            leaf = _found[place].Leaf;
            index = _found[place].Index;
            isThere = index >= 0 && index < leaf.Page.Count && leaf.Page.KeyAt(index) == key;
            if (isThere) { return Errno.None; }
            isThere = leaf.Page.Find(key, out index);
            _found[place].Index = index;
            return Errno.None;
        }
        Errno found = Descend(key);
        if (found != Errno.None)
        {
            leaf = null;
            index = -1;
            isThere = false;
            return found;
        }
        leaf = _path[0];
        isThere = leaf.Page.Find(key, out index);
        Remember(key, leaf, index);
        return Errno.None;
    }

    private Node LocateTouched(TreeKey key, out int index, out bool isThere)
    {
        Errno found = Locate(key, out Node? leaf, out index, out isThere);
        Invariant.That(found == Errno.None, "a change's path is resident");
        return leaf!;
    }

    private int Remembered(TreeKey key)
    {
        for (int i = 0; i < _foundCount; i++)
        {
            if (_found[i].Key == key) { return i; }
        }
        return -1;
    }

    private void Remember(TreeKey key, Node leaf, int index)
    {
        if (!_isRemembering) { return; }
        if (_foundCount < _found.Length) { _nextFound = _foundCount++; }
        else { _nextFound = (_nextFound + 1) % _found.Length; }
        _found[_nextFound] = new FoundKey { Key = key, Leaf = leaf, Index = index };
    }

    private void DescendTouched(TreeKey key)
    {
        Errno found = Descend(key);
        Invariant.That(found == Errno.None, "a change's path is resident");
    }

    /// <summary>Moves the path to the leaf behind the current one, unless that begins at or after the limit.</summary>
    private Errno NextLeaf(TreeKey limit)
    {
        int level = 1;
        while (level < Height && _index[level] + 1 >= _path[level].Page.Count) { level++; }
        if (level >= Height || !(_path[level].Page.KeyAt(_index[level] + 1) < limit)) { return Errno.ENOENT; }
        _index[level]++;
        for (; level > 0; level--)
        {
            Node node = _path[level];
            Node? child = ResidentChild(node, _index[level]);
            if (child is null) { return Miss(node, _index[level]); }
            child.IsReferenced = true;
            _path[level - 1] = child;
            _index[level - 1] = 0;
        }
        return Errno.None;
    }

    private Errno Miss(Node parent, int index)
    {
        _missing = NodePointer.Read(parent.Page.ValueAt(index));
        _missingLevel = parent.Level - 1;
        _missingBounds = BoundsOf(parent, index);
        return Residency.NotResident;
    }

    /// <summary>Where the keys below this entry must lie. While a child is not resident its bounds can only widen: separators come from the splits of resident nodes.</summary>
    private static KeyBounds BoundsOf(Node parent, int index)
    {
        TreeKey? lower = null, limit = null;
        for (Node? node = parent; node is not null && (lower is null || limit is null);)
        {
            if (lower is null && index > 0) { lower = node.Page.KeyAt(index); }
            if (limit is null && index + 1 < node.Page.Count) { limit = node.Page.KeyAt(index + 1); }
            Node child = node;
            node = node.Parent;
            if (node is not null) { index = Array.IndexOf(node.Children!, child, 0, node.Page.Count); }
        }
        return new KeyBounds(lower, limit);
    }

    private Node? ResidentChild(Node parent, int index)
    {
        if (parent.Children![index] is { } child) { return child; }
        if (_loaded.Count == 0 || !_loaded.Remove(NodePointer.Read(parent.Page.ValueAt(index)).Address, out Node? loaded)) { return null; }
        parent.Attach(index, loaded);
        return loaded;
    }

    private async IoTask<Errno> ReadNodeAsync(NodePointer pointer, int level, KeyBounds bounds, bool isRoot = false)
    {
        if (_loaded.ContainsKey(pointer.Address)) { return Errno.None; }
        if (_loading.TryGetValue(pointer.Address, out WaitQueue? others)) { return await others.WaitAsync(); }
        var waiters = new WaitQueue();
        _loading.Add(pointer.Address, waiters);
        Node node = RentForRead(level);
        Errno read = await _reader.ReadAsync(pointer, level, isRoot, bounds, Vec(node));
        _loading.Remove(pointer.Address);
        if (read == Errno.None)
        {
            node.Address = pointer.Address;
            _loaded.Add(pointer.Address, node);
            _cache.Trim();
        }
        else { _cache.Remove(node); }
        waiters.CompleteAll(read);
        return read;
    }

    private unsafe Node RentForRead(int level)
    {
        var node = new Node(_cache.RentPage(), level);
        _cache.AddLoaded(node);
        return node;
    }

    private static unsafe IoVec Vec(Node node) => new((nuint)node.Bytes, NodePage.Bytes);

    private unsafe Node NewNode(int level)
    {
        var node = new Node(_cache.RentPage(), level);
        node.Page.Initialize(level, _volumeId);
        SetDirty(node);
        _cache.Add(node);
        return node;
    }

    private void MakePathWritable(Node leaf)
    {
        for (Node? node = leaf; node is not null && !node.IsDirty; node = node.Parent) { MakeWritable(node); }
    }

    private void ClearDirty()
    {
        _cache.DirtyCount -= _dirty.Count;
        _dirty.Clear();
    }

    private void SetDirty(Node node)
    {
        node.IsDirty = true;
        _dirty.Add(node);
        _cache.DirtyCount++;
    }

    private unsafe void MakeWritable(Node node)
    {
        if (node.IsDirty) { return; }
        SetDirty(node);
        if (node.Address != 0) { _obsolete.Add(node.Address); }
        node.Address = 0;
        if (node.IsFrozen)
        {
            byte* copy = _cache.RentPage();
            Buffer.MemoryCopy(node.Bytes, copy, NodePage.Bytes, NodePage.Bytes);
            node.Bytes = copy; // the checkpoint keeps and returns the old page
            node.IsFrozen = false;
        }
    }

    private Span<byte> SplitAndInsert(int index, TreeKey key, int valueBytes)
    {
        _foundCount = 0;
        Node left = _path[0];
        Node right = NewNode(0);
        // Ascending keys (a growing file, new inodes) fill nodes completely; otherwise both halves get the same share.
        int middle = index == left.Page.Count ? index : left.Page.MiddleByBytes();
        left.Page.MoveTail(middle, right.Page);
        TreeKey separator = middle == index && right.Page.Count == 0 ? key : right.Page.KeyAt(0);
        bool goesRight = index > middle || (index == middle && (right.Page.Count == 0 || !(key < separator)));
        AddChild(1, separator, right);
        Node target = goesRight ? right : left;
        bool fits = target.Page.TryInsert(goesRight ? index - middle : index, key, valueBytes, out Span<byte> room);
        if (fits) { return room; }
        // Large neighbours left no room on this side: split once more, now with the path to that side.
        DescendTouched(key);
        return SplitAndInsert(_path[0].Page.LowerBound(key), key, valueBytes);
    }

    /// <summary>Enters a new right sibling of the node on the path at <paramref name="level"/> - 1 into its parent.</summary>
    private void AddChild(int level, TreeKey separator, Node child)
    {
        if (level == Height)
        {
            Invariant.That(Height < MaxHeight);
            Node top = NewNode(level);
            bool first = top.Page.TryInsert(0, TreeKey.Min, NodePage.ChildBytes, out Span<byte> oldRoot);
            Invariant.That(first);
            default(NodePointer).Write(oldRoot);
            top.InsertChild(0, Root);
            Root = top;
            Height++;
            _path[level] = top;
            _index[level] = 0;
        }
        Node parent = _path[level];
        int index = _index[level] + 1;
        if (parent.Page.Count >= NodePage.MaxChildren || !parent.Page.TryInsert(index, separator, NodePage.ChildBytes, out Span<byte> value))
        {
            Node right = NewNode(level);
            int middle = index == parent.Page.Count ? parent.Page.Count - 1 : parent.Page.Count / 2;
            MoveChildren(parent, middle, right);
            AddChild(level + 1, right.Page.KeyAt(0), right);
            if (index > middle)
            {
                parent = right;
                index -= middle;
            }
            bool fits = parent.Page.TryInsert(index, separator, NodePage.ChildBytes, out value);
            Invariant.That(fits);
        }
        default(NodePointer).Write(value); // a dirty child has no address yet; the freeze fills it in
        parent.InsertChild(index, child);
    }

    private static void MoveChildren(Node from, int first, Node to)
    {
        int count = from.Page.Count, start = to.Page.Count;
        from.Page.MoveTail(first, to.Page);
        for (int i = first; i < count; i++)
        {
            Node? child = from.Children![i];
            from.Children[i] = null;
            to.Children![start + i - first] = child;
            if (child is null) { continue; }
            child.Parent = to;
            from.ResidentChildren--;
            to.ResidentChildren++;
        }
    }

    /// <summary>After a removal: takes an empty leaf out, joins a small one with a resident neighbour, lowers the tree.</summary>
    private void Shrink()
    {
        _foundCount = 0;
        Node node = _path[0];
        for (int level = 1; level < Height && node.Page.Count == 0; level++)
        {
            Node parent = _path[level];
            parent.Page.Remove(_index[level]);
            parent.RemoveChild(_index[level]);
            Kill(node);
            node = parent;
        }
        if (node.Level == 0 && IsSmall(node)) { JoinNeighbour(); }
        if (Root.Level > 0 && Root.Page.Count == 0)
        {
            // Everything is gone: the root becomes an empty leaf.
            Kill(Root);
            Root = NewNode(0);
            Height = 1;
        }
        while (Root.Level > 0 && Root.Page.Count == 1 && Root.Children![0] is { } only)
        {
            Kill(Root);
            only.Parent = null;
            Root = only;
            Height--;
        }
    }

    private static bool IsSmall(Node leaf) => leaf.Page.UsedBytes < NodePage.CapacityBytes / 4;

    private void JoinNeighbour()
    {
        Node parent = _path[1];
        int index = _index[1];
        for (int leftIndex = index; leftIndex >= index - 1; leftIndex--)
        {
            if (leftIndex < 0 || leftIndex + 1 >= parent.Page.Count) { continue; }
            if (parent.Children![leftIndex] is not { } left || parent.Children[leftIndex + 1] is not { } right) { continue; }
            if (left.Page.UsedBytes + right.Page.UsedBytes > NodePage.CapacityBytes * 3 / 4) { continue; }
            MakeWritable(left);
            MakeWritable(right);
            right.Page.MoveTail(0, left.Page);
            parent.Page.Remove(leftIndex + 1);
            parent.RemoveChild(leftIndex + 1);
            Kill(right);
            return;
        }
    }

    /// <summary>The node is no longer part of the tree. It is writable, so its old address is already listed as obsolete.</summary>
    private void Kill(Node node)
    {
        MakeWritable(node);
        node.IsDead = true;
        node.Parent = null;
        _cache.Remove(node);
    }

    private void Discard(Node node)
    {
        if (node.Children is { } children)
        {
            foreach (Node? child in children)
            {
                if (child is not null) { Discard(child); }
            }
        }
        node.Parent = null;
        _cache.Remove(node);
    }

    /// <summary>A key under which leaf, and where in it; -1: nobody has looked yet.</summary>
    private struct FoundKey
    {
        public TreeKey Key;
        public Node Leaf;
        public int Index;
    }
}

/// <summary>A node's page as it was at the freeze, and where in its parent's page (0: the root has none) its place is entered.</summary>
internal readonly record struct FrozenNode(Node Node, nint Page, ulong Address, nint ParentPage = 0, int Slot = 0)
{
    public IoVec Vec => new((nuint)Page, NodePage.Bytes);
}
