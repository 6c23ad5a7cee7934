using VhostFs.Fuse;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobfs.Tests;

/// <summary>A file system and its model, kept in step by random operations.</summary>
internal sealed class ModelRun
{
    private const int MaxFileBytes = 400_000;
    private readonly BlobfsHarness _fs;
    private readonly Random _random;
    private readonly ModelNode _root = new(1, FileMode.S_IFDIR | 0x1ED) { Children = [], Links = 2 };
    private readonly List<ModelNode> _all = [];
    private readonly BlobfsSession[] _sessions = new BlobfsSession[4];
    private int _session;

    public ModelRun(BlobfsHarness fs, int seed)
    {
        _fs = fs;
        _random = new Random(seed);
        OpenSessions();
    }

    public string Last { get; private set; } = "start";

    /// <summary>How often each kind of operation was expected to succeed, and did.</summary>
    public Dictionary<string, int> Succeeded { get; } = [];

    public void Step()
    {
        _session = _random.Next(4);
        _fs.Session = _sessions[_session];
        int pick = _random.Next(1000);
        if (pick < 2) { Remount(clean: _random.Next(2) == 0); return; }
        if (pick < 5) { Last = "compare"; CompareAll(); return; }
        if (pick < 8) { Say("end session"); _fs.EndSession(_sessions[_session]); DropReferences(_session); return; }
        switch (pick % 22)
        {
            case 0 or 1: Make(); break;
            case 2: MakeDirectory(); break;
            case 3: Symlink(); break;
            case 4: Link(); break;
            case 5 or 6: Unlink(); break;
            case 7: RemoveDirectory(); break;
            case 8 or 9: Rename(); break;
            case 10 or 11 or 12: Write(); break;
            case 13: Truncate(); break;
            case 14: Fallocate(); break;
            case 15: Read(); break;
            case 16: SetXattr(); break;
            case 17: RemoveXattr(); break;
            case 18: Chmod(); break;
            case 19: Temporary(); break;
            case 20: OpenOrRelease(); break;
            default: Forget(); break;
        }
    }

    public void CompareAll()
    {
        _fs.Session = _sessions[0];
        Compare(_root);
        foreach (ModelNode node in _all.Where(static n => n.Links == 0)) { CompareInode(node); }
    }

    /// <summary>The count of blocks must come out even.</summary>
    public void EmptyAllFiles()
    {
        foreach (ModelNode node in _all.Where(static n => n.IsRegular && n.Links > 0))
        {
            Assert.Equal(Errno.None, _fs.Truncate(node.Inode, 0));
            Assert.Equal(0, _fs.Stat(node.Inode).Value.Blocks512);
        }
    }

    private void Ok(string kind) => Succeeded[kind] = Succeeded.GetValueOrDefault(kind) + 1;

    private void Say(string text) => Last = $"session {_session}: {text}";

    /// <summary>Mostly a name that is there and passes the filter, else any.</summary>
    private string NameIn(ModelNode directory, Func<ModelNode, bool> filter)
    {
        string[] names = directory.Children!.Where(c => filter(c.Value)).Select(static c => c.Key).ToArray();
        return names.Length == 0 || _random.Next(3) == 0 ? Name() : names[_random.Next(names.Length)];
    }

    private string Name() => $"n{_random.Next(40)}";

    private ModelNode Directory()
    {
        ModelNode[] directories = _all.Where(static n => n.IsDirectory).Append(_root).ToArray();
        return directories[_random.Next(directories.Length)];
    }

    private ModelNode? Any(Func<ModelNode, bool> filter)
    {
        ModelNode[] some = _all.Where(filter).ToArray();
        return some.Length == 0 ? null : some[_random.Next(some.Length)];
    }

    private ModelNode? File() => Any(static n => n.IsRegular);

    private void Make()
    {
        ModelNode parent = Directory();
        string name = Name();
        Say($"create {name} in {parent.Inode}");
        Add(parent, name, _fs.MakeFile(parent.Inode, name), () => new ModelNode(0, 0));
    }

    private void MakeDirectory()
    {
        ModelNode parent = Directory();
        string name = Name();
        Say($"mkdir {name} in {parent.Inode}");
        ModelNode? made = Add(parent, name, _fs.MakeDirectory(parent.Inode, name), () => null);
        if (made is not null) { parent.Links++; }
    }

    private void Symlink()
    {
        ModelNode parent = Directory();
        string name = Name(), target = new('t', _random.Next(1, 4096));
        Say($"symlink {name} in {parent.Inode}");
        ModelNode? made = Add(parent, name, _fs.Symlink(parent.Inode, name, target), () => null);
        if (made is not null) { made.Content = System.Text.Encoding.UTF8.GetBytes(target); }
    }

    private ModelNode? Add(ModelNode parent, string name, FsResult<InodeAttributes> result, Func<ModelNode?> _)
    {
        if (parent.Links == 0) { Assert.Equal(Errno.ENOENT, result.Errno); return null; }
        if (parent.Children!.ContainsKey(name)) { Assert.Equal(Errno.EEXIST, result.Errno); return null; }
        Assert.Equal(Errno.None, result.Errno);
        bool isDirectory = (result.Value.Mode & FileMode.S_IFMT) == FileMode.S_IFDIR;
        var node = new ModelNode(result.Value.Inode, result.Value.Mode) { Children = isDirectory ? [] : null, Links = isDirectory ? 2u : 1u, Parent = isDirectory ? parent : null };
        node.Lookups[_session]++;
        parent.Children[name] = node;
        _all.Add(node);
        Ok(isDirectory ? "mkdir" : node.IsRegular ? "create" : "symlink");
        return node;
    }

    private void Link()
    {
        ModelNode? node = Any(static n => true);
        if (node is null) { return; }
        ModelNode parent = Directory();
        string name = Name();
        Say($"link {node.Inode} as {name} in {parent.Inode}");
        FsResult<InodeAttributes> linked = _fs.Link(node.Inode, parent.Inode, name);
        Errno expected = node.IsDirectory ? Errno.EPERM
            : parent.Links == 0 ? Errno.ENOENT
            : parent.Children!.ContainsKey(name) ? Errno.EEXIST
            : node.Links == 0 && !node.WasTemporary ? Errno.ENOENT : Errno.None;
        Assert.Equal(expected, linked.Errno);
        if (expected != Errno.None) { return; }
        node.Links++;
        node.WasTemporary = false;
        node.Lookups[_session]++;
        parent.Children![name] = node;
        Assert.Equal(node.Links, linked.Value.LinkCount);
        Ok("link");
    }

    private void Unlink()
    {
        ModelNode parent = Directory();
        string name = NameIn(parent, static n => !n.IsDirectory);
        Say($"unlink {name} in {parent.Inode}");
        Errno expected = parent.Links == 0 || !parent.Children!.TryGetValue(name, out ModelNode? node) ? Errno.ENOENT
            : node.IsDirectory ? Errno.EISDIR : Errno.None;
        Assert.Equal(expected, _fs.Unlink(parent.Inode, name));
        if (expected != Errno.None) { return; }
        node = parent.Children![name];
        parent.Children.Remove(name);
        NameGone(node);
        Ok("unlink");
    }

    private void RemoveDirectory()
    {
        ModelNode parent = Directory();
        for (int i = 0; i < 5 && !parent.Children!.Values.Any(static n => n.IsDirectory); i++) { parent = Directory(); }
        string name = NameIn(parent, static n => n.IsDirectory);
        Say($"rmdir {name} in {parent.Inode}");
        Errno expected = parent.Links == 0 || !parent.Children!.TryGetValue(name, out ModelNode? node) ? Errno.ENOENT
            : !node.IsDirectory ? Errno.ENOTDIR : node.Children!.Count > 0 ? Errno.ENOTEMPTY : Errno.None;
        Assert.Equal(expected, _fs.RemoveDirectory(parent.Inode, name));
        if (expected != Errno.None) { return; }
        node = parent.Children![name];
        parent.Children.Remove(name);
        parent.Links--;
        NameGone(node);
        Ok("rmdir");
    }

    private void NameGone(ModelNode node)
    {
        node.Links = node.IsDirectory ? 0 : node.Links - 1;
        if (node.Links == 0 && node.IsDirectory) { node.Parent = null; }
        DropIfDead(node);
    }

    private void DropIfDead(ModelNode node)
    {
        if (node.Links > 0 || node.IsReferenced) { return; }
        _all.Remove(node);
        Ok("delete");
        _fs.Settle();
        Assert.Equal(Errno.ESTALE, _fs.Stat(node.Inode).Errno);
    }

    private void Rename()
    {
        ModelNode from = Directory(), to = _random.Next(2) == 0 ? from : Directory();
        string name = NameIn(from, static n => true), newName = _random.Next(2) == 0 ? Name() : NameIn(to, static n => true);
        uint flags = _random.Next(6) switch { 0 => Renames.NoReplace, 1 => Renames.Exchange, 2 => Renames.Whiteout, _ => 0 };
        Say($"rename {name} in {from.Inode} to {newName} in {to.Inode}, flags {flags}");
        Errno expected = ExpectedRename(from, name, to, newName, flags, out bool isNoop);
        Assert.Equal(expected, _fs.Rename(from.Inode, name, to.Inode, newName, flags));
        if (expected != Errno.None || isNoop) { return; }
        Ok($"rename {flags}");
        ModelNode source = from.Children![name];
        to.Children!.TryGetValue(newName, out ModelNode? target);
        if (flags == Renames.Exchange)
        {
            from.Children[name] = target!;
            to.Children[newName] = source;
            Move(source, from, to);
            Move(target!, to, from);
            return;
        }
        from.Children.Remove(name);
        to.Children[newName] = source;
        Move(source, from, to);
        if (target is not null)
        {
            if (target.IsDirectory) { to.Links--; }
            NameGone(target);
        }
        if (flags == Renames.Whiteout)
        {
            FsResult<InodeAttributes> whiteout = _fs.Lookup(from.Inode, name);
            Assert.Equal(FileMode.S_IFCHR, whiteout.Value.Mode & FileMode.S_IFMT);
            var node = new ModelNode(whiteout.Value.Inode, whiteout.Value.Mode);
            node.Lookups[_session]++;
            from.Children[name] = node;
            _all.Add(node);
        }
    }

    private static void Move(ModelNode node, ModelNode from, ModelNode to)
    {
        if (!node.IsDirectory) { return; }
        from.Links--;
        to.Links++;
        node.Parent = to;
    }

    private static Errno ExpectedRename(ModelNode from, string name, ModelNode to, string newName, uint flags, out bool isNoop)
    {
        isNoop = false;
        if (from.Links == 0 || to.Links == 0 || !from.Children!.TryGetValue(name, out ModelNode? source)) { return Errno.ENOENT; }
        bool hasTarget = to.Children!.TryGetValue(newName, out ModelNode? target);
        if (hasTarget && flags == Renames.NoReplace) { return Errno.EEXIST; }
        if (!hasTarget && flags == Renames.Exchange) { return Errno.ENOENT; }
        if (target == source) { isNoop = true; return Errno.None; }
        if (source.IsDirectory && to.IsUnder(source)) { return Errno.EINVAL; }
        if (flags == Renames.Exchange) { return target!.IsDirectory && from.IsUnder(target) ? Errno.EINVAL : Errno.None; }
        if (target is null) { return Errno.None; }
        if (source.IsDirectory != target.IsDirectory) { return source.IsDirectory ? Errno.ENOTDIR : Errno.EISDIR; }
        return target.IsDirectory && target.Children!.Count > 0 ? Errno.ENOTEMPTY : Errno.None;
    }

    private void Write()
    {
        if (File() is not { } node) { return; }
        bool append = _random.Next(4) == 0;
        int length = _random.Next(3) switch { 0 => _random.Next(1, 300), 1 => _random.Next(1, 9000), _ => _random.Next(1, 60_000) };
        long offset = append ? node.Content.Length : _random.Next(4) == 0 ? _random.Next(MaxFileBytes - length) : _random.Next(Math.Min(node.Content.Length, MaxFileBytes - length) + 1);
        if (offset + length > MaxFileBytes) { return; }
        var data = new byte[length];
        _random.NextBytes(data);
        Say($"write {length} at {offset} of {node.Inode}, append {append}");
        Assert.Equal(length, _fs.Write(node.Inode, append ? 0 : offset, data, append ? 0x400u : 0).Value);
        node.Write(offset, data);
        Ok(append ? "append" : "write");
    }

    private void Truncate()
    {
        if (File() is not { } node) { return; }
        long size = _random.Next(4) switch { 0 => 0, 1 => _random.Next(3000), 2 => _random.Next(node.Content.Length + 1), _ => _random.Next(MaxFileBytes) };
        Say($"truncate {node.Inode} to {size}");
        Assert.Equal(Errno.None, _fs.Truncate(node.Inode, size));
        node.Resize(size);
        Ok("truncate");
    }

    private void Fallocate()
    {
        if (File() is not { } node) { return; }
        long offset = _random.Next(MaxFileBytes - 1), length = _random.Next(1, (int)(MaxFileBytes - offset));
        if (_random.Next(2) == 0) { offset &= ~4095; }
        uint mode = _random.Next(5) switch { 0 => 0, 1 => Allocation.KeepSize, 2 => Allocation.ZeroRange, 3 => Allocation.ZeroRange | Allocation.KeepSize, _ => Allocation.PunchHole | Allocation.KeepSize };
        Say($"fallocate {node.Inode} mode {mode} at {offset} + {length}");
        Assert.Equal(Errno.None, _fs.Fallocate(node.Inode, mode, offset, length));
        if ((mode & Allocation.KeepSize) == 0 && offset + length > node.Content.Length) { node.Resize(offset + length); }
        Ok($"fallocate {mode}");
        if (mode >= Allocation.PunchHole) { node.Zero(offset, length); }
    }

    private void Read()
    {
        if (File() is not { } node) { return; }
        int offset = _random.Next(node.Content.Length + 100), length = _random.Next(1, 70_000);
        Say($"read {length} at {offset} of {node.Inode}");
        byte[] read = _fs.Read(node.Inode, offset, length);
        byte[] expected = offset >= node.Content.Length ? [] : node.Content[offset..Math.Min(offset + length, node.Content.Length)];
        Assert.True(expected.AsSpan().SequenceEqual(read), $"content differs, {read.Length} bytes for {expected.Length}");
    }

    private void SetXattr()
    {
        if (Any(static n => true) is not { } node) { return; }
        string name = $"user.x{_random.Next(8)}";
        var value = new byte[_random.Next(5) switch { 0 => 0, 1 => 65536, 2 => _random.Next(65536), 3 => _random.Next(10_000), _ => _random.Next(100) }];
        _random.NextBytes(value);
        uint flags = (uint)_random.Next(3);
        Say($"setxattr {name} of {node.Inode}, {value.Length} bytes, flags {flags}");
        bool exists = node.Xattrs.ContainsKey(name);
        Errno expected = exists && flags == 1 ? Errno.EEXIST : !exists && flags == 2 ? Errno.ENODATA : Errno.None;
        Assert.Equal(expected, _fs.SetXattr(node.Inode, name, value, flags));
        if (expected != Errno.None) { return; }
        node.Xattrs[name] = value;
        Ok(value.Length > XattrItems.MaxSingleBytes ? "setxattr large" : "setxattr");
    }

    private void RemoveXattr()
    {
        if (Any(static n => true) is not { } node) { return; }
        string name = $"user.x{_random.Next(8)}";
        Say($"removexattr {name} of {node.Inode}");
        Assert.Equal(node.Xattrs.Remove(name) ? Errno.None : Errno.ENODATA, _fs.RemoveXattr(node.Inode, name));
    }

    private void Chmod()
    {
        if (Any(static n => true) is not { } node) { return; }
        uint mode = (uint)_random.Next(0x1000);
        Say($"chmod {node.Inode}");
        node.Mode = (node.Mode & FileMode.S_IFMT) | mode;
        Assert.Equal(node.Mode, _fs.Set(node.Inode, new SetAttributes(Mode: mode)).Value.Mode);
    }

    private void Temporary()
    {
        ModelNode parent = Directory();
        Say($"tmpfile in {parent.Inode}");
        FsResult<CreatedFile> made = _fs.Temporary(parent.Inode);
        Assert.Equal(parent.Links == 0 ? Errno.ENOENT : Errno.None, made.Errno);
        if (made.IsError) { return; }
        var node = new ModelNode(made.Value.Attributes.Inode, made.Value.Attributes.Mode) { Links = 0, WasTemporary = true };
        node.Lookups[_session]++;
        node.Opens[_session]++;
        _all.Add(node);
        Ok("tmpfile");
    }

    private void OpenOrRelease()
    {
        if (File() is not { } node) { return; }
        if (node.Opens[_session] > 0)
        {
            Say($"release {node.Inode}");
            Assert.Equal(Errno.None, _fs.Run(() => _fs.Session.ReleaseAsync(node.Inode, 0)));
            node.Opens[_session]--;
            DropIfDead(node);
            return;
        }
        Say($"open {node.Inode}");
        Assert.Equal(Errno.None, _fs.Open(node.Inode));
        node.Opens[_session]++;
    }

    private void Forget()
    {
        if (Any(n => n.Lookups[_session] > 0) is not { } node) { return; }
        Say($"forget {node.Inode}");
        ulong count = _random.Next(3) == 0 ? ulong.MaxValue : 1;
        _fs.Forget(node.Inode, count);
        node.Lookups[_session] -= Math.Min(count, node.Lookups[_session]);
        DropIfDead(node);
    }

    private void DropReferences(int session)
    {
        foreach (ModelNode node in _all.ToArray())
        {
            node.Lookups[session] = 0;
            node.Opens[session] = 0;
            DropIfDead(node);
        }
    }

    private void Remount(bool clean)
    {
        Say($"remount, clean {clean}");
        if (clean)
        {
            foreach (BlobfsSession session in _sessions) { _fs.EndSession(session); }
        }
        _fs.Remount(clean);
        Ok("remount");
        OpenSessions();
        for (int session = 0; session < 4; session++) { DropReferences(session); }
        CompareAll();
    }

    private void OpenSessions()
    {
        for (int i = 0; i < 4; i++) { _sessions[i] = _fs.Fs.OpenSession(); }
        _fs.Session = _sessions[0];
    }

    private void Compare(ModelNode directory)
    {
        CompareInode(directory);
        List<ListedEntry> listed = _fs.List(directory.Inode, perCall: _random.Next(1, 30));
        Assert.Equal(new[] { ".", ".." }, listed.Take(2).Select(static e => e.Name));
        var names = listed.Skip(2).OrderBy(static e => e.Name, StringComparer.Ordinal).Select(static e => (e.Name, e.Inode, e.Type));
        var expected = directory.Children!.OrderBy(static c => c.Key, StringComparer.Ordinal).Select(static c => (c.Key, c.Value.Inode, c.Value.Mode >> 12));
        Assert.Equal(expected, names);
        foreach (ModelNode child in directory.Children!.Values)
        {
            if (child.IsDirectory) { Compare(child); }
            else { CompareInode(child); }
        }
    }

    private void CompareInode(ModelNode node)
    {
        InodeAttributes attributes = _fs.Stat(node.Inode).Value;
        Assert.Equal((node.Inode, node.Mode, node.Links), (attributes.Inode, attributes.Mode, attributes.LinkCount));
        Assert.Equal(node.Xattrs.Keys.Order(StringComparer.Ordinal), _fs.ListXattr(node.Inode));
        foreach ((string name, byte[] value) in node.Xattrs) { Assert.True(value.AsSpan().SequenceEqual(_fs.GetXattr(node.Inode, name).Value), $"{name} of {node.Inode} differs"); }
        if (node.IsDirectory) { return; }
        Assert.Equal(node.Content.Length, attributes.SizeBytes);
        if (node.IsRegular)
        {
            byte[] content = _fs.Read(node.Inode, 0, MaxFileBytes + 1);
            Assert.True(node.Content.AsSpan().SequenceEqual(content), $"content of {node.Inode} differs");
        }
        else if (node.Content.Length > 0)
        {
            IoVec room = _fs.Room(4096);
            IoResult read = _fs.Run(() => _fs.Session.ReadLinkAsync(node.Inode, room));
            Assert.True(node.Content.AsSpan().SequenceEqual(room.Span[..read.Bytes]));
        }
    }
}
