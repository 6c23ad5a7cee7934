using VhostFs.Fuse;
using VhostFs.Linux;

namespace VhostFs.Model.Tests;

/// <summary>Attributes and contents.</summary>
internal sealed partial class Spec
{
    private const long MaxFileBytes = (1L << 44) - 1;

    private static Errno CheckSize(long? size) => size is null ? Errno.None : size < 0 ? Errno.EINVAL : size > MaxFileBytes ? Errno.EFBIG : Errno.None;

    private static Errno CheckFallocate(Command c)
    {
        if (c.Mode is not (0 or 1 or 3 or 0x10 or 0x11)) { return Errno.EOPNOTSUPP; }
        if (c.Offset < 0 || c.Length <= 0) { return Errno.EINVAL; }
        return c.Offset > MaxFileBytes - c.Length ? Errno.EFBIG : Errno.None;
    }

    private static Errno CheckFile(SpecNode node) => node.IsFile ? Errno.None : node.IsDirectory ? Errno.EISDIR : Errno.EINVAL;

    private static void Kill(SpecNode node)
    {
        node.Mode &= ~SetUid;
        if ((node.Mode & GroupExecute) != 0) { node.Mode &= ~SetGid; }
    }

    private Outcome SetAttributes(Command c, SpecNode node)
    {
        SetAttributes s = c.Changes;
        if (s == default) { return Told(node); }
        if (s.DropPrivileges) { return Drop(node, s.KillPrivileges); }
        bool newOwner = s.Uid is not null || s.Gid is not null;
        if (s.Mode is { } mode)
        {
            node.Mode = (node.Mode & 0xF000) | (mode & 0xFFF);
            if (node.AccessAcl is { } acl) { node.AccessAcl = SpecAcl.Replaced(acl, mode); }
        }
        else if (!node.IsDirectory && (newOwner || s.KillPrivileges)) { Kill(node); }
        node.Uid = s.Uid ?? node.Uid;
        node.Gid = s.Gid ?? node.Gid;
        node.Access = s.AccessTimeNow ? Now : s.AccessTime ?? node.Access;
        node.Modify = s.ModifyTimeNow ? Now : s.ModifyTime ?? node.Modify;
        node.Change = s.ChangeTime ?? Now;
        if (!node.IsDirectory && (newOwner || s.KillPrivileges || s.SizeBytes is not null)) { node.Xattrs.Remove("security.capability"); }
        return Told(node);
    }

    private Outcome Drop(SpecNode node, bool marks)
    {
        if (node.IsDirectory) { return Told(node); }
        uint before = node.Mode;
        Kill(node);
        if (marks) { node.Mode &= ~SetGid; }
        if (node.Xattrs.Remove("security.capability") || node.Mode != before) { node.Change = Now; }
        return Told(node);
    }

    private Outcome SetSize(Command c, SpecNode node)
    {
        if (CheckFile(node) is var bad && bad != Errno.None) { return bad; }
        Resize(node, (int)c.Changes.SizeBytes!.Value);
        node.Modify = Now;
        return SetAttributes(c, node);
    }

    private static void Resize(SpecNode node, int size)
    {
        byte[] content = node.Content;
        Array.Resize(ref content, size);
        node.Content = content;
    }

    private Outcome Open(Command c, SpecNode node)
    {
        if (!node.IsFile) { return node.IsDirectory ? Errno.EISDIR : node.IsLink ? Errno.ELOOP : Errno.ENXIO; }
        if ((c.Flags & 0x200) != 0) { SetSize(c with { Changes = new SetAttributes(SizeBytes: 0, KillPrivileges: c.Kill) }, node); }
        node.Opens[c.Session]++;
        return Outcome.Ok;
    }

    private Outcome Create(Command c, SpecNode directory)
    {
        if (CheckLive(directory) is var bad && bad != Errno.None && !(bad == Errno.ENOENT && directory.Children.ContainsKey(c.Name))) { return bad; }
        if (!directory.Children.TryGetValue(c.Name, out (int Node, int Birth) entry))
        {
            SpecNode made = NewNode(c, directory, 0x8000 | (c.Mode & 0xFFF));
            Enter(directory, c.Name, made);
            made.Opens[c.Session]++;
            return Referred(c, made);
        }
        if ((c.Flags & 0x80) != 0) { return Errno.EEXIST; }
        Outcome opened = Open(c, _nodes[entry.Node]);
        return opened.Errno == Errno.None ? Referred(c, _nodes[entry.Node]) : opened;
    }

    private Outcome Temporary(Command c, SpecNode directory)
    {
        if (CheckLive(directory) is var bad && bad != Errno.None) { return bad; }
        SpecNode made = NewNode(c, directory, 0x8000 | (c.Mode & 0xFFF));
        made.Links = 0;
        made.MayBeNamed = true;
        made.Opens[c.Session]++;
        return Referred(c, made);
    }

    private Outcome ReadLink(SpecNode node)
    {
        if (!node.IsLink) { return Errno.EINVAL; }
        Touch(node);
        return new Outcome(Errno.None, Bytes: node.Content);
    }

    private Outcome Read(Command c, SpecNode node)
    {
        if (CheckFile(node) is var bad && bad != Errno.None) { return bad; }
        if (c.Offset < 0) { return Errno.EINVAL; }
        Touch(node);
        int from = (int)Math.Min(c.Offset, node.Content.Length), to = (int)Math.Min(c.Offset + c.Length, node.Content.Length);
        return new Outcome(Errno.None, Bytes: node.Content[from..Math.Max(from, to)]);
    }

    private Outcome Write(Command c, SpecNode node)
    {
        if (c.Offset < 0) { return Errno.EINVAL; }
        if (CheckFile(node) is var bad && bad != Errno.None) { return bad; }
        long at = (c.Flags & 0x400) != 0 ? node.Content.Length : c.Offset;
        if (at > MaxFileBytes - c.Data.Length) { return Errno.EFBIG; }
        if (c.Data.Length > 0) { Put(node, (int)at, c.Data, c.Kill); }
        return new Outcome(Errno.None, Number: c.Data.Length);
    }

    private void Put(SpecNode node, int at, byte[] data, bool kill)
    {
        byte[] content = new byte[Math.Max(node.Content.Length, at + data.Length)];
        node.Content.CopyTo(content, 0);
        data.CopyTo(content, at);
        node.Content = content;
        Changed(node, kill);
    }

    private void Changed(SpecNode node, bool kill)
    {
        node.Modify = node.Change = Now;
        if (kill) { Kill(node); }
        node.Xattrs.Remove("security.capability");
    }

    private Outcome Fallocate(Command c, SpecNode node)
    {
        if (CheckFile(node) is var bad && bad != Errno.None) { return bad; }
        int from = (int)Math.Min(c.Offset, node.Content.Length), to = (int)Math.Min(c.Offset + c.Length, node.Content.Length);
        if ((c.Mode & 0x12) != 0 && from < to)
        {
            byte[] content = [.. node.Content];
            Array.Clear(content, from, to - from);
            node.Content = content;
        }
        if ((c.Mode & 1) == 0 && c.Offset + c.Length > node.Content.Length) { Resize(node, (int)(c.Offset + c.Length)); }
        Changed(node, kill: c.Caller.Uid != 0);
        return Outcome.Ok;
    }

    /// <summary>Which holes a file system remembers is its own affair; but what it calls a hole is zero.</summary>
    private Outcome Seek(Command c, SpecNode node)
    {
        if (CheckFile(node) is var bad && bad != Errno.None) { return bad; }
        byte[] content = node.Content;
        if (c.Offset < 0 || c.Offset >= content.Length) { return Errno.ENXIO; }
        int from = (int)c.Offset;
        bool allZero = !content.AsSpan(from).ContainsAnyExcept((byte)0);
        if (c.Flags == 3)
        {
            return new Outcome(Errno.None, Number: allZero ? -1 : 0)
            {
                IsNumber = at => at >= from && at < content.Length && !content.AsSpan(from, (int)at - from).ContainsAnyExcept((byte)0),
            };
        }
        return new Outcome(Errno.None)
        {
            IsNumber = at => at >= from && at <= content.Length && (at == content.Length || content[(int)at] == 0),
        };
    }

    private Outcome Copy(Command c, SpecNode source)
    {
        if (Find(c.Node2) is not { } target) { return Errno.ESTALE; }
        if (CheckFile(source) is var bad && bad != Errno.None) { return bad; }
        if (CheckFile(target) is var bad2 && bad2 != Errno.None) { return bad2; }
        if (c.Offset < 0 || c.Offset2 < 0 || c.Length < 0) { return Errno.EINVAL; }
        long length = Math.Min(c.Length, Math.Max(source.Content.Length - c.Offset, 0));
        if (length == 0) { return Outcome.Ok; }
        if (source == target && Math.Abs(c.Offset - c.Offset2) < length) { return Errno.EINVAL; }
        byte[] data = source.Content[(int)c.Offset..(int)(c.Offset + length)];
        Touch(source);
        Put(target, (int)c.Offset2, data, kill: false);
        return new Outcome(Errno.None, Number: length);
    }
}
