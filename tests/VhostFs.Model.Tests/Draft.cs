using VhostFs.Fuse;

namespace VhostFs.Model.Tests;

/// <summary>An operation before it is known what there is to work on: numbers that choose, so that it still means something when those before it are taken away.</summary>
/// <param name="Together">Starts while the one before it is still under way.</param>
internal sealed record Draft(int Kind, int A, int B, bool Together)
{
    private static readonly int[] s_sizes = [0, 1, 100, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 12_345, 40_000, 70_000];
    private static readonly int[] s_places = [0, 0, 0, 1, 100, 2000, 4096, 5000, 8192, 20_000, 65_536, 100_001];
    private static readonly uint[] s_modes = [0x1A4, 0x1ED, 0x180, 0xDED, 0x5ED, 0x5E5, 0x9FF, 0x200, 0x1FF, 0];
    private static readonly FuseCaller[] s_callers = [new(0, 0, 1), new(1000, 1000, 2), new(1000, 100, 2, 1001), new(2000, 1001, 3)];
    private static readonly string[] s_xattrs = ["user.a", "user.b", "user.c", "trusted.t", "security.capability", "security.x", "user.", "other.x", "system.posix_acl_access", "system.posix_acl_default"];

    private static readonly IReadOnlyList<SpecAclEntry>?[] s_acls =
    [
        [new("user", 6), new("group", 4), new("other", 0)],
        [new("user", 7), new("user", 5, 1000), new("group", 5), new("mask", 7), new("other", 0)],
        [new("user", 6), new("group", 4), new("group", 6, 1001), new("mask", 4), new("other", 4)],
        [new("user", 7), new("user", 7, 1000), new("user", 0, 2000), new("group", 0), new("group", 7, 100), new("mask", 5), new("other", 1)],
        [new("user", 7), new("group", 7), new("mask", 2), new("other", 7)],
        [],
        null,
    ];

    private static readonly IReadOnlyList<SpecAclEntry>[] s_brokenAcls =
    [
        [new("user", 7), new("user", 5, 1000), new("group", 5), new("other", 0)],
        [new("group", 7), new("user", 5), new("other", 0)],
        [new("user", 7), new("user", 7), new("group", 5), new("other", 0)],
        [new("user", 7), new("user", 5, 2000), new("user", 5, 1000), new("group", 5), new("mask", 1), new("other", 0)],
        [new("user", 7), new("group", 5)],
    ];

    /// <summary>How often each kind comes, among a hundred and some.</summary>
    private static readonly CommandKind[] s_kinds = [.. new (CommandKind Kind, int Weight)[]
    {
        (CommandKind.Lookup, 6), (CommandKind.Forget, 4), (CommandKind.GetAttributes, 3), (CommandKind.SetAttributes, 5), (CommandKind.SetSize, 5), (CommandKind.ReadLink, 1),
        (CommandKind.Symlink, 2), (CommandKind.MakeNode, 7), (CommandKind.MakeDirectory, 6), (CommandKind.Unlink, 6), (CommandKind.RemoveDirectory, 3), (CommandKind.Rename, 8),
        (CommandKind.Link, 4), (CommandKind.Open, 3), (CommandKind.Create, 6), (CommandKind.Temporary, 2), (CommandKind.Read, 6), (CommandKind.Write, 12), (CommandKind.Release, 3),
        (CommandKind.OpenDirectory, 1), (CommandKind.ReadDirectory, 4), (CommandKind.ReleaseDirectory, 1), (CommandKind.GetXattr, 2), (CommandKind.ListXattr, 2),
        (CommandKind.SetXattr, 4), (CommandKind.SetAcl, 4), (CommandKind.RemoveXattr, 2), (CommandKind.Fallocate, 5), (CommandKind.Seek, 3), (CommandKind.Copy, 6),
        (CommandKind.Fsync, 1), (CommandKind.SyncFs, 1), (CommandKind.StatFs, 1), (CommandKind.Flush, 1),
    }.SelectMany(static k => Enumerable.Repeat(k.Kind, k.Weight))];

    public bool IsRemount => Kind % 500 == 499;

    public bool IsEndOfSession => Kind % 150 == 149;

    public bool IsClean => A % 2 == 0;

    /// <summary>Chooses among what there is.</summary>
    public Command ToCommand(Spec spec, ModelSetting setting, IReadOnlyList<ulong> gone)
    {
        var pick = new Random((A * 31) + B); // the numbers are few and small after shrinking
        CommandKind kind = s_kinds[Kind % s_kinds.Length];
        SpecNode[] nodes = [.. spec.Nodes.OrderBy(static n => n.Id)];
        bool usesGone = gone.Count > 0 && A % 40 == 39;
        SpecNode node = Choose(nodes, kind, A);
        SpecNode other = Choose(nodes, kind, B);
        var command = new Command(kind, A % setting.Sessions)
        {
            Caller = s_callers[B % s_callers.Length],
            Umask = B % 3 == 0 ? 0x12u : 0,
            Node = usesGone ? 0 : node.Id,
            Inode = usesGone ? gone[B % gone.Count] : node.Inode,
            Name = Name(kind, node, pick),
            Node2 = other.Id,
            Inode2 = other.Inode,
            Name2 = pick.Next(3) == 0 ? Name(kind, other, pick) : $"n{pick.Next(8)}",
            Mode = s_modes[pick.Next(s_modes.Length)],
            Kill = pick.Next(2) == 0,
        };
        return Complete(command, node, other, pick);
    }

    private static Command Complete(Command c, SpecNode node, SpecNode other, Random pick)
    {
        int place = pick.Next(2) == 0 ? s_places[pick.Next(s_places.Length)] : pick.Next(Math.Max(node.Content.Length, 1)), size = s_sizes[pick.Next(s_sizes.Length)];
        switch (c.Kind)
        {
            case CommandKind.Forget: return c with { Length = pick.Next(3) == 0 ? 1000 : 1 };
            case CommandKind.SetAttributes: return c with { Changes = pick.Next(8) == 0 ? new SetAttributes(KillPrivileges: c.Kill, DropPrivileges: true) : Changes(pick, null) };
            case CommandKind.SetSize: return c with { Changes = pick.Next(3) == 0 ? Changes(pick, size) : new SetAttributes(SizeBytes: pick.Next(30) == 0 ? -1 : size, KillPrivileges: c.Kill) };
            case CommandKind.Symlink: return c with { Data = Bytes(pick, new[] { 1, 20, 3900, 3901, 4095, 0, 4096 }[pick.Next(7)]) };
            case CommandKind.MakeNode:
                uint type = new uint[] { 0x8000, 0x8000, 0x8000, 0, 0x1000, 0x2000, 0x6000, 0xC000, 0x4000, 0xA000 }[pick.Next(10)];
                return c with { Mode = c.Mode | type, Flags = type is 0x2000 or 0x6000 ? 0x501u : 0 };
            case CommandKind.Rename: return c with { Flags = new uint[] { 0, 0, 0, 1, 2, 4, 3, 8, 5 }[pick.Next(9)] };
            case CommandKind.Open: return c with { Flags = pick.Next(3) == 0 ? 0x202u : 2 };
            case CommandKind.Create: return c with { Flags = new uint[] { 0x42, 0xC2, 0x242 }[pick.Next(3)] };
            case CommandKind.Temporary: return c with { Flags = 2 };
            case CommandKind.Read: return c with { Offset = place, Length = Math.Max(size, 1) };
            case CommandKind.Write:
                return c with { Offset = place, Data = Bytes(pick, size), Flags = pick.Next(4) == 0 ? 0x402u : 2 };
            case CommandKind.ReadDirectory: return c with { Length = pick.Next(1, 12) };
            case CommandKind.GetXattr: return c with { Name = s_xattrs[pick.Next(s_xattrs.Length)], Length = new[] { 0, 10, 65536 }[pick.Next(3)] };
            case CommandKind.ListXattr: return c with { Length = new[] { 0, 20, 65536 }[pick.Next(3)] };
            case CommandKind.SetXattr:
                int length = pick.Next(12) == 0 ? new[] { 40_960, 40_961, 65_536, 65_537 }[pick.Next(4)] : pick.Next(300);
                return c with { Name = s_xattrs[pick.Next(8)], Data = Bytes(pick, length), Flags = (uint)new[] { 0, 0, 1, 2, 4 }[pick.Next(5)] };
            case CommandKind.SetAcl: return Acl(c, pick);
            case CommandKind.RemoveXattr: return c with { Name = s_xattrs[pick.Next(s_xattrs.Length)] };
            case CommandKind.Fallocate: return c with { Mode = new uint[] { 0, 1, 3, 0x10, 0x11, 2, 0x20 }[pick.Next(7)], Offset = place, Length = size };
            case CommandKind.Seek: return c with { Offset = place, Flags = pick.Next(10) == 0 ? 1u : (uint)pick.Next(3, 5) };
            case CommandKind.Copy:
                // Half of them so that blocks can be shared: both offsets lie equally in theirs.
                int to = s_places[pick.Next(s_places.Length)];
                if (pick.Next(2) == 0) { to = (to / 4096 * 4096) + (place % 4096); }
                return c with { Offset = place, Offset2 = to, Length = size };
            default: return c;
        }
    }

    private static Command Acl(Command c, Random pick)
    {
        c = c with { Name = s_xattrs[pick.Next(8, 10)], Flags = pick.Next(6) == 0 ? (uint)pick.Next(1, 3) : 0 };
        if (pick.Next(6) == 0)
        {
            byte[] broken = SpecAcl.ToBytes(s_brokenAcls[pick.Next(s_brokenAcls.Length)]);
            if (pick.Next(4) == 0) { broken[0] = 3; }
            return c with { Data = pick.Next(4) == 0 ? broken[..^3] : broken };
        }
        IReadOnlyList<SpecAclEntry>? acl = s_acls[pick.Next(s_acls.Length)];
        return c with { Acl = acl, Data = acl is null ? [] : SpecAcl.ToBytes(acl) };
    }

    private static SetAttributes Changes(Random pick, long? size) => new(
        Mode: pick.Next(2) == 0 ? s_modes[pick.Next(s_modes.Length)] : null, Uid: pick.Next(4) == 0 ? 1000u : null, Gid: pick.Next(4) == 0 ? 1001u : null, SizeBytes: size,
        AccessTime: pick.Next(4) == 0 ? new FsTime(pick.Next(2_000_000), (uint)(pick.Next(12) == 0 ? 1_000_000_000 : 5)) : null,
        ModifyTime: pick.Next(4) == 0 ? new FsTime(-pick.Next(1000), 7) : null,
        AccessTimeNow: pick.Next(6) == 0, ModifyTimeNow: pick.Next(6) == 0, KillPrivileges: pick.Next(3) == 0);

    /// <summary>Mostly of the kind that the operation is about.</summary>
    private static SpecNode Choose(SpecNode[] nodes, CommandKind kind, int number)
    {
        bool wantsDirectory = kind is CommandKind.Lookup or CommandKind.Symlink or CommandKind.MakeNode or CommandKind.MakeDirectory or CommandKind.Unlink or CommandKind.RemoveDirectory
            or CommandKind.Rename or CommandKind.Create or CommandKind.Temporary or CommandKind.OpenDirectory or CommandKind.ReadDirectory or CommandKind.Link;
        bool wantsFile = kind is CommandKind.Read or CommandKind.Write or CommandKind.SetSize or CommandKind.Fallocate or CommandKind.Seek or CommandKind.Copy or CommandKind.Open;
        bool strict = number % 10 != 9;
        SpecNode[] some = strict && wantsDirectory ? [.. nodes.Where(static n => n.IsDirectory)] : strict && wantsFile ? [.. nodes.Where(static n => n.IsFile)] : nodes;
        return some.Length > 0 ? some[number / 10 % some.Length] : nodes[number % nodes.Length];
    }

    private static string Name(CommandKind kind, SpecNode directory, Random pick)
    {
        if (kind == CommandKind.Lookup && pick.Next(6) == 0) { return pick.Next(2) == 0 ? "." : ".."; }
        if (pick.Next(25) == 0) { return new string('l', 250) + $"n{pick.Next(3)}"; }
        bool wantsOld = kind is CommandKind.Lookup or CommandKind.Unlink or CommandKind.RemoveDirectory or CommandKind.Rename;
        if (wantsOld && directory.Children.Count > 0 && pick.Next(5) > 0) { return directory.Children.Keys.Order(StringComparer.Ordinal).ElementAt(pick.Next(directory.Children.Count)); }
        return $"n{pick.Next(8)}";
    }

    private static byte[] Bytes(Random pick, int length)
    {
        var bytes = new byte[length];
        if (pick.Next(8) > 0) { pick.NextBytes(bytes); }
        if (length is > 0 and <= 4096) { bytes.AsSpan().Replace((byte)0, (byte)1); }
        return bytes;
    }
}
