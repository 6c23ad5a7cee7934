using VhostFs.Fuse;

namespace VhostFs.Model.Tests;

/// <summary>One inode of the specification. Byte arrays are never changed in place, so that copies of the specification may share them.</summary>
internal sealed class SpecNode(int id, uint mode)
{
    public int Id { get; } = id;

    /// <summary>What the file system calls it; 0 until it has said so.</summary>
    public ulong Inode { get; set; }

    public uint Mode { get; set; } = mode;
    public uint Uid { get; set; }
    public uint Gid { get; set; }
    public uint Device { get; set; }
    public uint Links { get; set; }
    public FsTime Access { get; set; }
    public FsTime Modify { get; set; }
    public FsTime Change { get; set; }
    public FsTime Birth { get; set; }

    /// <summary>Of a file its bytes, of a symbolic link its target.</summary>
    public byte[] Content { get; set; } = [];

    /// <summary>Of a directory: names, what they stand for, and a number that no other entry ever has.</summary>
    public Dictionary<string, (int Node, int Birth)> Children { get; private init; } = [];

    /// <summary>Of a directory.</summary>
    public int Parent { get; set; }

    public Dictionary<string, byte[]> Xattrs { get; private init; } = [];

    public List<SpecAclEntry>? AccessAcl { get; set; }

    public List<SpecAclEntry>? DefaultAcl { get; set; }

    /// <summary>Made without a name, and never had one: it may get one.</summary>
    public bool MayBeNamed { get; set; }

    public ulong[] Lookups { get; private init; } = new ulong[Spec.MaxSessions];

    public int[] Opens { get; private init; } = new int[Spec.MaxSessions];

    public bool IsDirectory => (Mode & 0xF000) == 0x4000;
    public bool IsFile => (Mode & 0xF000) == 0x8000;
    public bool IsLink => (Mode & 0xF000) == 0xA000;
    public bool IsReferenced => Lookups.Any(static n => n > 0) || Opens.Any(static n => n > 0);

    public bool IsSameAs(SpecNode other) =>
        (Inode, Mode, Uid, Gid, Device, Links, Access, Modify, Change, Birth, Parent, MayBeNamed) == (other.Inode, other.Mode, other.Uid, other.Gid, other.Device, other.Links, other.Access, other.Modify, other.Change, other.Birth, other.Parent, other.MayBeNamed)
        && Content.AsSpan().SequenceEqual(other.Content)
        && Children.Count == other.Children.Count && Children.All(child => other.Children.TryGetValue(child.Key, out (int Node, int Birth) same) && same == child.Value)
        && Xattrs.Count == other.Xattrs.Count && Xattrs.All(xattr => other.Xattrs.TryGetValue(xattr.Key, out byte[]? same) && same.AsSpan().SequenceEqual(xattr.Value))
        && (AccessAcl ?? []).SequenceEqual(other.AccessAcl ?? []) && (DefaultAcl ?? []).SequenceEqual(other.DefaultAcl ?? [])
        && Lookups.AsSpan().SequenceEqual(other.Lookups) && Opens.AsSpan().SequenceEqual(other.Opens);

    public SpecNode Clone() => new(Id, Mode)
    {
        Inode = Inode, Uid = Uid, Gid = Gid, Device = Device, Links = Links, Access = Access, Modify = Modify, Change = Change, Birth = Birth,
        Content = Content, Children = new(Children), Parent = Parent, Xattrs = new(Xattrs), AccessAcl = AccessAcl, DefaultAcl = DefaultAcl,
        MayBeNamed = MayBeNamed, Lookups = [.. Lookups], Opens = [.. Opens],
    };
}

/// <summary>One entry of an ACL, in words: "user", "group", "mask", "other"; an id for named ones.</summary>
internal sealed record SpecAclEntry(string Tag, uint Bits, uint? Id = null);
