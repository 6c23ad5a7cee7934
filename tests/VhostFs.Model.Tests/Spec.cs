using VhostFs.Fuse;
using VhostFs.Linux;

namespace VhostFs.Model.Tests;

/// <summary>What a file system does, in the simplest code that could be right. It shares nothing with blobfs but the types of its interface.</summary>
/// <remarks>Names, inodes and references; contents are in <c>SpecContent</c>, xattrs in <c>SpecXattrs</c>.</remarks>
internal sealed partial class Spec
{
    public const int MaxSessions = 4;
    public const int Root = 1;
    private const uint SetUid = 0x800, SetGid = 0x400, GroupExecute = 0x8;
    private Dictionary<int, SpecNode> _nodes = [];
    private int _nextId = Root + 1;
    private int _nextBirth = 1;

    public Spec(FsTime now) => _nodes[Root] = new SpecNode(Root, 0x41ED) { Inode = 1, Links = 2, Parent = Root, Access = now, Modify = now, Change = now, Birth = now };

    private Spec()
    {
    }

    public FsTime Now { get; set; }

    public IReadOnlyCollection<SpecNode> Nodes => _nodes.Values;

    public SpecNode? Find(int id) => _nodes.GetValueOrDefault(id);

    public Spec Clone() => new() { Now = Now, _nodes = _nodes.ToDictionary(static n => n.Key, static n => n.Value.Clone()), _nextId = _nextId, _nextBirth = _nextBirth };

    public bool IsSameAs(Spec other) => _nodes.Count == other._nodes.Count && _nodes.Values.All(node => other.Find(node.Id) is { } same && node.IsSameAs(same));

    public Outcome Run(Command c)
    {
        if (c.Kind is CommandKind.SyncFs or CommandKind.Fsync or CommandKind.Flush or CommandKind.StatFs) { return Outcome.Ok; }
        if (c.Kind == CommandKind.Forget) { return Forget(c); }
        if (c.Kind is CommandKind.Release or CommandKind.ReleaseDirectory) { return Release(c); }
        if (CheckArguments(c) is var bad && bad != Errno.None) { return bad; }
        if (Find(c.Node) is not { } node) { return Errno.ESTALE; }
        return c.Kind switch
        {
            CommandKind.Lookup => Lookup(c, node),
            CommandKind.GetAttributes => Told(node),
            CommandKind.SetAttributes => SetAttributes(c, node),
            CommandKind.SetSize => SetSize(c, node),
            CommandKind.ReadLink => ReadLink(node),
            CommandKind.Symlink => Make(c, node, 0xA1FF),
            CommandKind.MakeNode => Make(c, node, (c.Mode & 0xF000) == 0 ? c.Mode | 0x8000 : c.Mode),
            CommandKind.MakeDirectory => Make(c, node, 0x4000 | (c.Mode & 0xFFF)),
            CommandKind.Unlink => Remove(c, node, directory: false),
            CommandKind.RemoveDirectory => Remove(c, node, directory: true),
            CommandKind.Rename => Rename(c, node),
            CommandKind.Link => Link(c, node),
            CommandKind.Open => Open(c, node),
            CommandKind.Create => Create(c, node),
            CommandKind.Temporary => Temporary(c, node),
            CommandKind.Read => Read(c, node),
            CommandKind.Write => Write(c, node),
            CommandKind.OpenDirectory => OpenDirectory(c, node),
            CommandKind.ReadDirectory => ReadDirectory(node),
            CommandKind.GetXattr => GetXattr(c, node),
            CommandKind.ListXattr => ListXattr(c, node),
            CommandKind.SetXattr => SetXattr(c, node),
            CommandKind.SetAcl => SetAcl(c, node),
            CommandKind.RemoveXattr => RemoveXattr(c, node),
            CommandKind.Fallocate => Fallocate(c, node),
            CommandKind.Seek => Seek(c, node),
            CommandKind.Copy => Copy(c, node),
            _ => throw new InvalidOperationException($"{c.Kind}"),
        };
    }

    /// <summary>A session is over.</summary>
    public void EndSession(int session)
    {
        foreach (SpecNode node in _nodes.Values.ToArray())
        {
            node.Lookups[session] = 0;
            node.Opens[session] = 0;
            DropIfGone(node);
        }
    }

    /// <summary>What is wrong whatever the inodes are.</summary>
    private static Errno CheckArguments(Command c)
    {
        switch (c.Kind)
        {
            case CommandKind.Symlink: return c.Data.Length == 0 ? Errno.ENOENT : c.Data.Length > 4095 ? Errno.ENAMETOOLONG : Errno.None;
            case CommandKind.MakeNode:
                return (c.Mode & 0xF000) switch { 0 or 0x8000 or 0x1000 or 0x2000 or 0x6000 or 0xC000 => Errno.None, 0x4000 => Errno.EPERM, _ => Errno.EINVAL };
            case CommandKind.Rename: return c.Flags > 7 || ((c.Flags & 2) != 0 && c.Flags != 2) ? Errno.EINVAL : Errno.None;
            case CommandKind.SetAttributes or CommandKind.SetSize:
                return c.Changes.AccessTime?.Nanoseconds > 999_999_999 || c.Changes.ModifyTime?.Nanoseconds > 999_999_999 ? Errno.EINVAL : CheckSize(c.Changes.SizeBytes);
            case CommandKind.Fallocate: return CheckFallocate(c);
            case CommandKind.Seek: return c.Flags is 3 or 4 ? Errno.None : Errno.EINVAL;
            case CommandKind.GetXattr or CommandKind.RemoveXattr: return CheckXattrName(c.Name);
            case CommandKind.SetXattr or CommandKind.SetAcl: return CheckSetXattr(c);
            default: return Errno.None;
        }
    }

    private Outcome Told(SpecNode node) => new(Errno.None, node.Id, new InodeAttributes(node.Inode, 1, node.Mode, node.Links, node.Uid, node.Gid, node.Device,
        node.IsDirectory ? 0 : node.Content.Length, 0, node.Access, node.Modify, node.Change, node.Birth, 0));

    private Outcome Referred(Command c, SpecNode node)
    {
        node.Lookups[c.Session]++;
        return Told(node);
    }

    private Outcome Lookup(Command c, SpecNode directory)
    {
        if (c.Name == ".") { return Referred(c, directory); }
        if (!directory.IsDirectory) { return Errno.ENOTDIR; }
        if (c.Name == "..") { return directory.Links == 0 ? Errno.ENOENT : Referred(c, _nodes[directory.Parent]); }
        return directory.Children.TryGetValue(c.Name, out (int Node, int Birth) entry) ? Referred(c, _nodes[entry.Node]) : Errno.ENOENT;
    }

    private Outcome Forget(Command c)
    {
        if (Find(c.Node) is { } node)
        {
            node.Lookups[c.Session] -= Math.Min(node.Lookups[c.Session], (ulong)c.Length);
            DropIfGone(node);
        }
        return Outcome.Ok;
    }

    private Outcome Release(Command c)
    {
        if (Find(c.Node) is { } node && node.Opens[c.Session] > 0)
        {
            node.Opens[c.Session]--;
            DropIfGone(node);
        }
        return Outcome.Ok;
    }

    private void DropIfGone(SpecNode node)
    {
        if (node.Links == 0 && !node.IsReferenced) { _nodes.Remove(node.Id); }
    }

    private static Errno CheckLive(SpecNode? directory) =>
        directory is null ? Errno.ESTALE : !directory.IsDirectory ? Errno.ENOTDIR : directory.Links == 0 ? Errno.ENOENT : Errno.None;

    private Outcome Make(Command c, SpecNode directory, uint mode)
    {
        if (CheckLive(directory) is var bad && bad != Errno.None) { return bad; }
        if (directory.Children.ContainsKey(c.Name)) { return Errno.EEXIST; }
        SpecNode made = NewNode(c, directory, mode);
        Enter(directory, c.Name, made);
        return Referred(c, made);
    }

    private SpecNode NewNode(Command c, SpecNode directory, uint mode)
    {
        bool isDirectory = (mode & 0xF000) == 0x4000, isLink = (mode & 0xF000) == 0xA000, isDevice = (mode & 0xF000) is 0x2000 or 0x6000;
        uint gid = c.Caller.Gid;
        if ((directory.Mode & SetGid) != 0)
        {
            gid = directory.Gid;
            bool isMember = c.Caller.Uid == 0 || c.Caller.Gid == gid || c.Caller.SupplementaryGroup == gid;
            if (isDirectory) { mode |= SetGid; }
            else if ((mode & SetGid) != 0 && (mode & GroupExecute) != 0 && !isMember) { mode &= ~SetGid; }
        }
        List<SpecAclEntry>? access = null;
        if (directory.DefaultAcl is { } inherited && !isLink)
        {
            access = SpecAcl.Restricted(inherited, mode);
            mode = (mode & ~0x1FFu) | SpecAcl.Permissions(access);
            if (!SpecAcl.IsExtended(access)) { access = null; }
        }
        else if (!isLink) { mode &= ~(c.Umask & 0x1FF); }
        var node = new SpecNode(_nextId++, mode)
        {
            Uid = c.Caller.Uid, Gid = gid, Device = isDevice && c.Kind == CommandKind.MakeNode ? c.Flags : 0, Links = isDirectory ? 2u : 1u, Parent = isDirectory ? directory.Id : 0,
            Access = Now, Modify = Now, Change = Now, Birth = Now, Content = isLink ? c.Data : [], AccessAcl = access, DefaultAcl = isDirectory && !isLink ? directory.DefaultAcl : null,
        };
        _nodes.Add(node.Id, node);
        return node;
    }

    private void Enter(SpecNode directory, string name, SpecNode node)
    {
        directory.Children[name] = (node.Id, _nextBirth++);
        directory.Modify = directory.Change = Now;
        if (node.IsDirectory) { directory.Links++; node.Parent = directory.Id; }
    }

    private void Leave(SpecNode directory, string name)
    {
        if (_nodes[directory.Children[name].Node].IsDirectory) { directory.Links--; }
        directory.Children.Remove(name);
        directory.Modify = directory.Change = Now;
    }

    private void LoseName(SpecNode node)
    {
        node.Links = node.IsDirectory ? 0 : node.Links - 1;
        node.Change = Now;
        DropIfGone(node);
    }

    private Outcome Remove(Command c, SpecNode parent, bool directory)
    {
        if (CheckLive(parent) is var bad && bad != Errno.None) { return bad; }
        if (!parent.Children.TryGetValue(c.Name, out (int Node, int Birth) entry)) { return Errno.ENOENT; }
        SpecNode node = _nodes[entry.Node];
        if (node.IsDirectory != directory) { return directory ? Errno.ENOTDIR : Errno.EISDIR; }
        if (node.Children.Count > 0) { return Errno.ENOTEMPTY; }
        Leave(parent, c.Name);
        LoseName(node);
        return Outcome.Ok;
    }

    private Outcome Link(Command c, SpecNode node)
    {
        if (node.IsDirectory) { return Errno.EPERM; }
        SpecNode? parent = Find(c.Node2);
        if (CheckLive(parent) is var bad && bad != Errno.None) { return bad; }
        if (parent!.Children.ContainsKey(c.Name2)) { return Errno.EEXIST; }
        if (node.Links == 0 && !(node.MayBeNamed && node.IsReferenced)) { return Errno.ENOENT; }
        node.Links++;
        node.MayBeNamed = false;
        node.Change = Now;
        Enter(parent, c.Name2, node);
        return Referred(c, node);
    }

    private Outcome Rename(Command c, SpecNode from)
    {
        const uint NoReplace = 1, Exchange = 2, Whiteout = 4;
        if (CheckLive(from) is var bad && bad != Errno.None) { return bad; }
        SpecNode? to = Find(c.Node2);
        if (CheckLive(to) is var bad2 && bad2 != Errno.None) { return bad2; }
        if (!from.Children.TryGetValue(c.Name, out (int Node, int Birth) sourceEntry)) { return Errno.ENOENT; }
        SpecNode source = _nodes[sourceEntry.Node];
        SpecNode? target = to!.Children.TryGetValue(c.Name2, out (int Node, int Birth) targetEntry) ? _nodes[targetEntry.Node] : null;
        if (target is not null && (c.Flags & NoReplace) != 0) { return Errno.EEXIST; }
        if (target is null && c.Flags == Exchange) { return Errno.ENOENT; }
        if (target == source) { return Outcome.Ok; }
        if (IsAtOrBelow(to, source)) { return Errno.EINVAL; }
        if (c.Flags == Exchange)
        {
            if (IsAtOrBelow(from, target!)) { return Errno.EINVAL; }
            Leave(from, c.Name);
            Leave(to, c.Name2);
            Enter(from, c.Name, target!);
            Enter(to, c.Name2, source);
            source.Change = target!.Change = Now;
            return Outcome.Ok;
        }
        if (target is not null)
        {
            if (source.IsDirectory != target.IsDirectory) { return source.IsDirectory ? Errno.ENOTDIR : Errno.EISDIR; }
            if (target.Children.Count > 0) { return Errno.ENOTEMPTY; }
            Leave(to, c.Name2);
            LoseName(target);
        }
        Leave(from, c.Name);
        Enter(to, c.Name2, source);
        source.Change = Now;
        if ((c.Flags & Whiteout) != 0) { Enter(from, c.Name, NewNode(c with { Umask = 0 }, from, 0x2000)); }
        return Outcome.Ok;
    }

    private bool IsAtOrBelow(SpecNode directory, SpecNode top)
    {
        for (SpecNode node = directory; top.IsDirectory; node = _nodes[node.Parent])
        {
            if (node == top) { return true; }
            if (node.Id == Root) { return false; }
        }
        return false;
    }

    private Outcome OpenDirectory(Command c, SpecNode node)
    {
        if (!node.IsDirectory) { return Errno.ENOTDIR; }
        node.Opens[c.Session]++;
        return Outcome.Ok;
    }

    private Outcome ReadDirectory(SpecNode node)
    {
        if (!node.IsDirectory) { return Errno.ENOTDIR; }
        var names = node.Children.Select(child => $"{child.Key}:{_nodes[child.Value.Node].Mode >> 12}").Append(".:4").Append("..:4").Order(StringComparer.Ordinal).ToList();
        Touch(node);
        return new Outcome(Errno.None, Names: names);
    }

    /// <summary>"relatime": a reading leaves its time when the one that is there is not newer than the last change, or a day old.</summary>
    private void Touch(SpecNode node)
    {
        bool isFresh = IsLater(node.Access, node.Modify) && IsLater(node.Access, node.Change) && node.Access.Seconds > Now.Seconds - 86_400;
        if (!isFresh && node.Links > 0) { node.Access = Now; }
    }

    private static bool IsLater(FsTime a, FsTime b) => (a.Seconds, a.Nanoseconds).CompareTo((b.Seconds, b.Nanoseconds)) > 0;
}
