using System.Text;
using VhostFs.Linux;

namespace VhostFs.Model.Tests;

/// <summary>Extended attributes and ACLs.</summary>
internal sealed partial class Spec
{
    private const string AccessName = "system.posix_acl_access", DefaultName = "system.posix_acl_default";

    private static Errno CheckXattrName(string name)
    {
        if (name.Length is 0 or > 255) { return Errno.ERANGE; }
        if (name is AccessName or DefaultName) { return Errno.None; }
        string? prefix = new[] { "user.", "trusted.", "security." }.FirstOrDefault(p => name.StartsWith(p, StringComparison.Ordinal));
        return prefix is null ? Errno.EOPNOTSUPP : name == prefix ? Errno.EINVAL : Errno.None;
    }

    private static Errno CheckSetXattr(Command c)
    {
        if (CheckXattrName(c.Name) is var bad && bad != Errno.None) { return bad; }
        if (c.Flags > 3) { return Errno.EINVAL; }
        if (c.Data.Length > 65536) { return Errno.E2BIG; }
        if (c.Kind != CommandKind.SetAcl || c.Acl is not null || c.Data.Length == 0) { return Errno.None; }
        // Bytes that are no ACL: the generator makes a version that nobody knows, and lists that break the rules.
        return c.Data.Length >= 4 && c.Data[0] != 2 ? Errno.EOPNOTSUPP : c.Data.Length == 4 ? Errno.None : Errno.EINVAL;
    }

    private static Dictionary<string, byte[]> AllXattrs(SpecNode node)
    {
        var all = new Dictionary<string, byte[]>(node.Xattrs);
        if (node.AccessAcl is { } access) { all[AccessName] = SpecAcl.ToBytes(access); }
        if (node.DefaultAcl is { } inherited) { all[DefaultName] = SpecAcl.ToBytes(inherited); }
        return all;
    }

    private static Outcome GetXattr(Command c, SpecNode node)
    {
        if (!AllXattrs(node).TryGetValue(c.Name, out byte[]? value)) { return Errno.ENODATA; }
        if (c.Length == 0) { return new Outcome(Errno.None, Number: value.Length); }
        return value.Length > c.Length ? Errno.ERANGE : new Outcome(Errno.None, Bytes: value);
    }

    private static Outcome ListXattr(Command c, SpecNode node)
    {
        string[] names = [.. AllXattrs(node).Keys];
        int bytes = names.Sum(static name => Encoding.UTF8.GetByteCount(name) + 1);
        if (c.Length == 0) { return new Outcome(Errno.None, Number: bytes); }
        bool all = c.Caller.Uid is 0 or uint.MaxValue;
        if (!all) { names = [.. names.Where(static name => !name.StartsWith("trusted.", StringComparison.Ordinal))]; }
        if (names.Sum(static name => Encoding.UTF8.GetByteCount(name) + 1) > c.Length) { return Errno.ERANGE; }
        return new Outcome(Errno.None, Names: [.. names.Order(StringComparer.Ordinal)]);
    }

    private static Errno CheckFlags(Command c, SpecNode node)
    {
        bool exists = AllXattrs(node).ContainsKey(c.Name);
        return exists && (c.Flags & 1) != 0 ? Errno.EEXIST : !exists && (c.Flags & 2) != 0 ? Errno.ENODATA : Errno.None;
    }

    private Outcome SetXattr(Command c, SpecNode node)
    {
        if (CheckFlags(c, node) is var bad && bad != Errno.None) { return bad; }
        node.Xattrs[c.Name] = c.Data;
        node.Change = Now;
        return Outcome.Ok;
    }

    private Outcome SetAcl(Command c, SpecNode node)
    {
        if (CheckFlags(c, node) is var bad && bad != Errno.None) { return bad; }
        if (node.IsLink) { return Errno.EOPNOTSUPP; }
        List<SpecAclEntry>? acl = c.Acl is { Count: > 0 } given ? [.. given] : null;
        if (c.Name == DefaultName)
        {
            if (!node.IsDirectory && acl is not null) { return Errno.EACCES; }
            node.DefaultAcl = acl;
        }
        else
        {
            if (acl is not null) { node.Mode = (node.Mode & ~0x1FFu) | SpecAcl.Permissions(acl); }
            if (c.Kill) { node.Mode &= ~SetGid; }
            node.AccessAcl = acl is not null && SpecAcl.IsExtended(acl) ? acl : null;
        }
        node.Change = Now;
        return Outcome.Ok;
    }

    private Outcome RemoveXattr(Command c, SpecNode node)
    {
        if (!AllXattrs(node).ContainsKey(c.Name)) { return Errno.ENODATA; }
        node.Xattrs.Remove(c.Name);
        if (c.Name == AccessName) { node.AccessAcl = null; }
        if (c.Name == DefaultName) { node.DefaultAcl = null; }
        node.Change = Now;
        return Outcome.Ok;
    }
}
