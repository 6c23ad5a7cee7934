using VhostFs.Reactor;

namespace VhostFs.Blobstore.Check;

/// <summary>The rules of the file system above the tree: docs/blobfs-format.md. Fed with all items in key order, then finished.</summary>
internal sealed class BlobfsChecker
{
    private const ulong RootInode = 1;
    private const ulong MaxInlineBytes = 2048;
    private const ulong MaxLinkBytes = 4095;
    private const ulong FirstLinkBytes = 3900;
    private const byte OrphanDelete = 1, OrphanTruncate = 2;

    private readonly CheckReport _report;
    private readonly string _volume;
    private readonly ulong _nextInode;
    private readonly DirectoryChecker _directories;
    private readonly XattrChecker _xattrs;
    private readonly Dictionary<ulong, InodeFacts> _inodes = [];
    private readonly Dictionary<ulong, byte> _orphans = [];
    private readonly List<(ulong Inode, ulong SizeBytes, ulong Block)> _tails = []; // last blocks that reach beyond the end of their file
    private ulong _missing;

    public BlobfsChecker(CheckReport report, string volume, Header header, ulong nextInode)
    {
        _report = report;
        _volume = volume;
        _nextInode = nextInode;
        byte[] hashKey = header.HashKey();
        _directories = new DirectoryChecker(report, volume, hashKey);
        _xattrs = new XattrChecker(report, volume, hashKey);
    }

    /// <summary>Every item but extents and the Allocation items.</summary>
    public void Add(ItemKey key, ReadOnlyMemory<byte> value)
    {
        if (key.Object == 0)
        {
            AddVolumeItem(key, value.Span);
            return;
        }
        if (key.Type == ItemKey.Inode)
        {
            AddInode(key, value.Span);
            return;
        }
        InodeFacts? inode = Find(key.Object);
        switch (key.Type)
        {
            case ItemKey.Inline:
                if (key.Sub == 1 && inode?.InlineBytes != FirstLinkBytes) { Error(key.Object, "its second inline item does not go on from a full first one"); }
                if (inode is not null) { inode.InlineBytes = (inode.InlineBytes ?? 0) + (ulong)value.Length; }
                if (key.Sub > 1) { Error(key.Object, $"inline item {key.Sub} is not possible"); }
                break;
            case ItemKey.Xattr:
                if (_xattrs.Add(key, value.Span, inode is { HasXattrDebris: true }))
                {
                    _report.Counts.Xattrs++;
                    if (inode is not null)
                    {
                        inode.XattrsFound++;
                        inode.XattrNameBytesFound = _xattrs.NameBytes;
                    }
                }
                break;
            case ItemKey.DirectoryEntry:
                int names = _directories.Add(key, value.Span);
                _report.Counts.DirectoryEntries += names;
                if (inode is not null) { inode.EntriesFound += (ulong)names; }
                if (inode is not null && inode.Type != InodeFacts.Directory) { Error(key.Object, "has names in it, but is not a directory"); }
                break;
            default:
                Error(key.Object, $"an item of unknown type {key.Type}");
                break;
        }
    }

    /// <summary>All items of an inode have been added; <paramref name="mapped"/> is what its extents add up to.</summary>
    public void EndInode(ulong number, MappedBlocks mapped)
    {
        if (number == 0) { return; }
        _xattrs.End();
        if (Find(number) is not { } inode) { return; }
        // A deletion takes the attributes in steps, and its count is not kept right on the way.
        if (inode.XattrsFound != inode.XattrCount && _orphans.GetValueOrDefault(number) != OrphanDelete) { Error(number, $"counts {inode.XattrCount} extended attributes, and has {inode.XattrsFound}"); }
        else if (inode.XattrNameBytes != inode.XattrNameBytesFound && _orphans.GetValueOrDefault(number) != OrphanDelete) { Error(number, $"counts {inode.XattrNameBytes} bytes of names of attributes, and has {inode.XattrNameBytesFound}"); }
        if (inode.Blocks != mapped.Blocks) { Error(number, $"counts {inode.Blocks} blocks, and maps {mapped.Blocks}"); }
        if (inode.Type != InodeFacts.Regular && mapped.Blocks != 0) { Error(number, "maps blocks, but is not a regular file"); }
        bool mustBeInline = inode.Type == InodeFacts.SymbolicLink;
        if (inode.Type != InodeFacts.Regular && inode.IsInline != mustBeInline) { Error(number, mustBeInline ? "a link that is not marked as inline" : "is marked as inline, but is neither a file nor a link"); }
        switch (inode.Type)
        {
            case InodeFacts.Regular:
                CheckContent(number, inode, mapped);
                break;
            case InodeFacts.SymbolicLink:
                if (inode.SizeBytes is 0 or > MaxLinkBytes || inode.InlineBytes != inode.SizeBytes) { Error(number, $"a link of {inode.SizeBytes} bytes, with a target of {inode.InlineBytes ?? 0}"); }
                break;
            case InodeFacts.Directory:
                if (inode.EntriesFound != inode.EntryCount) { Error(number, $"counts {inode.EntryCount} names, and has {inode.EntriesFound}"); }
                if (inode.InlineBytes is not null) { Error(number, "a directory with file content"); }
                break;
            default:
                if (inode.InlineBytes is not null) { Error(number, "a special file with content"); }
                break;
        }
    }

    /// <summary>The rules that need all inodes, and the bytes behind the end of files.</summary>
    public async IoTask<bool> FinishAsync(BlockReader reader, IReadOnlyDictionary<ulong, ReadOnlyMemory<byte>> images)
    {
        CountNames();
        foreach ((ulong number, byte kind) in _orphans)
        {
            if (!_inodes.TryGetValue(number, out InodeFacts? inode)) { Error(number, "has an Orphan item, but does not exist"); }
            else { inode.OrphanKind = kind; }
        }
        if (_inodes.Count > 0 && (!_inodes.TryGetValue(RootInode, out InodeFacts? root) || root.Type != InodeFacts.Directory)) { Error(RootInode, "the root directory is missing"); }
        foreach ((ulong number, InodeFacts inode) in _inodes) { CheckLinks(number, inode); }

        var bytes = new byte[BlockReader.BlockBytes];
        foreach ((ulong number, ulong size, ulong block) in _tails)
        {
            ReadOnlyMemory<byte> content = bytes;
            if (images.TryGetValue(block, out ReadOnlyMemory<byte> image)) { content = image; }
            else if (!await reader.ReadAsync(block, bytes)) { continue; }
            if (content.Span[(int)(size % BlockReader.BlockBytes)..].ContainsAnyExcept((byte)0)) { Error(number, $"bytes behind its end ({size}) are not zero"); }
        }
        return true;
    }

    private void AddVolumeItem(ItemKey key, ReadOnlySpan<byte> value)
    {
        if (key.Type == ItemKey.Snapshot) { return; } // reserved
        if (key.Type != ItemKey.Orphan)
        {
            _report.Error("item", $"{_volume}, key {key}", "this kind of item does not belong to the volume itself");
            return;
        }
        _report.Counts.Orphans++;
        if (value.Length != 1 + sizeof(ulong) || value[0] is not (OrphanDelete or OrphanTruncate)) { Error(key.Sub, "its Orphan item is malformed"); }
        else { _orphans[key.Sub] = value[0]; }
    }

    private void AddInode(ItemKey key, ReadOnlySpan<byte> value)
    {
        _report.Counts.Inodes++;
        if (key.Sub != 0) { Error(key.Object, $"an inode item with sub-key {key.Sub}"); }
        else if (InodeFacts.Parse(value) is not { } inode) { Error(key.Object, $"its record has {value.Length} bytes"); }
        else
        {
            _inodes[key.Object] = inode;
            if (key.Object >= _nextInode) { Error(key.Object, $"has a number that is to be given out again (next is {_nextInode})"); }
            if (inode.Type is not (InodeFacts.Fifo or InodeFacts.CharacterDevice or InodeFacts.Directory or InodeFacts.BlockDevice or InodeFacts.Regular or InodeFacts.SymbolicLink or InodeFacts.Socket))
            {
                Error(key.Object, $"unknown type in mode {inode.Mode:x}");
            }
            if (inode.SizeBytes > long.MaxValue) { Error(key.Object, "has a negative size"); }
        }
    }

    private void CheckContent(ulong number, InodeFacts inode, MappedBlocks mapped)
    {
        byte orphan = _orphans.GetValueOrDefault(number); // object 0 comes first in key order
        bool beingDeleted = orphan == OrphanDelete;
        if (inode.IsInline)
        {
            if (mapped.Blocks != 0) { Error(number, "has its content inline, and blocks as well"); }
            if (!beingDeleted && (inode.SizeBytes > MaxInlineBytes || (inode.InlineBytes ?? 0) != inode.SizeBytes)) { Error(number, $"has {inode.InlineBytes ?? 0} bytes inline, and a size of {inode.SizeBytes}"); }
            return;
        }
        if (inode.InlineBytes is not null) { Error(number, "has inline content, but is not marked so"); }
        if (beingDeleted || orphan == OrphanTruncate || mapped.WrittenLimit == 0) { return; }
        ulong lastOffset = (mapped.WrittenLimit - 1) * BlockReader.BlockBytes;
        if (lastOffset >= inode.SizeBytes) { Error(number, $"has written blocks up to byte {lastOffset + BlockReader.BlockBytes}, and a size of {inode.SizeBytes}"); }
        else if (inode.SizeBytes - lastOffset < BlockReader.BlockBytes) { _tails.Add((number, inode.SizeBytes, mapped.LastWritten)); }
    }

    private void CountNames()
    {
        foreach (NameFacts name in _directories.Names)
        {
            if (!_inodes.TryGetValue(name.Inode, out InodeFacts? target))
            {
                Error(name.Directory, $"a name in it leads to inode {name.Inode}, which does not exist");
                continue;
            }
            target.Names++;
            target.NamedIn = name.Directory;
            if (name.Type != target.Type >> 12) { Error(name.Directory, $"a name in it says type {name.Type}, but inode {name.Inode} is of type {target.Type >> 12}"); }
            if (target.Type == InodeFacts.Directory && _inodes.TryGetValue(name.Directory, out InodeFacts? directory)) { directory.Subdirectories++; }
        }
    }

    private void CheckLinks(ulong number, InodeFacts inode)
    {
        bool isDeleted = inode.OrphanKind == OrphanDelete;
        if (isDeleted != (inode.LinkCount == 0)) { Error(number, isDeleted ? $"is an orphan with {inode.LinkCount} links" : "has no link, and no Orphan item"); }
        if (inode.Type != InodeFacts.Directory)
        {
            if (inode.LinkCount != inode.Names) { Error(number, $"counts {inode.LinkCount} links, and has {inode.Names} names"); }
            return;
        }
        if (isDeleted)
        {
            if (inode.Names != 0 || inode.EntriesFound != 0) { Error(number, "a deleted directory that still has names"); }
            return;
        }
        if (inode.LinkCount != 2 + inode.Subdirectories) { Error(number, $"counts {inode.LinkCount} links, and has {inode.Subdirectories} subdirectories"); }
        ulong expectedNames = number == RootInode ? 0UL : 1UL;
        if (inode.Names != expectedNames) { Error(number, $"a directory with {inode.Names} names"); }
        else if (number != RootInode && inode.Parent != inode.NamedIn) { Error(number, $"names {inode.Parent} as its parent, but lies in {inode.NamedIn}"); }
        else { CheckReachesRoot(number, inode); }
    }

    private void CheckReachesRoot(ulong number, InodeFacts inode)
    {
        var path = new List<InodeFacts>();
        var onPath = new HashSet<InodeFacts>();
        ulong at = number;
        while (at != RootInode && !inode.ReachesRoot && onPath.Add(inode))
        {
            path.Add(inode);
            at = inode.NamedIn;
            if (!_inodes.TryGetValue(at, out InodeFacts? parent)) { break; }
            inode = parent;
        }
        if (at == RootInode || inode.ReachesRoot)
        {
            foreach (InodeFacts step in path) { step.ReachesRoot = true; }
        }
        else { Error(number, "is not below the root directory: its parents form a circle"); }
    }

    // Items of an inode that is not there are reported once per inode.
    private InodeFacts? Find(ulong number)
    {
        if (_inodes.TryGetValue(number, out InodeFacts? inode)) { return inode; }
        if (_missing != number) { Error(number, "has items, but no inode record"); }
        _missing = number;
        return null;
    }

    private void Error(ulong inode, string sentence) => _report.Error("inode", $"{_volume}, inode {inode}", sentence);
}
