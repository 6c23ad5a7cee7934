using VhostFs.Fuse;

namespace VhostFs.Model.Tests;

internal enum CommandKind
{
    Lookup, Forget, GetAttributes, SetAttributes, SetSize, ReadLink, Symlink, MakeNode, MakeDirectory, Unlink, RemoveDirectory, Rename, Link, Open, Create, Temporary,
    Read, Write, Release, OpenDirectory, ReadDirectory, ReleaseDirectory, GetXattr, ListXattr, SetXattr, SetAcl, RemoveXattr, Fallocate, Seek, Copy, Fsync, SyncFs, StatFs, Flush,
}

/// <summary>One operation of one session, in terms of the specification (node 0: an inode that is gone) and of the file system (inode numbers).</summary>
internal sealed record Command(CommandKind Kind, int Session)
{
    public FuseCaller Caller { get; init; }
    public uint Umask { get; init; }
    public int Node { get; init; }
    public ulong Inode { get; init; }
    public string Name { get; init; } = "";
    public int Node2 { get; init; }
    public ulong Inode2 { get; init; }
    public string Name2 { get; init; } = "";
    public uint Mode { get; init; }
    public uint Flags { get; init; }
    public long Offset { get; init; }
    public long Offset2 { get; init; }
    public long Length { get; init; }
    public bool Kill { get; init; }
    public byte[] Data { get; init; } = [];
    public SetAttributes Changes { get; init; }
    public IReadOnlyList<SpecAclEntry>? Acl { get; init; }

    /// <summary>It is one transaction, or one look: it can be taken to happen at one moment, whatever happens beside it.</summary>
    public bool IsAtomic => Kind switch
    {
        CommandKind.Copy or CommandKind.Fallocate or CommandKind.Temporary or CommandKind.StatFs or CommandKind.Seek or CommandKind.Forget or CommandKind.ReadDirectory or CommandKind.Release or CommandKind.ReleaseDirectory => false,
        CommandKind.Create => (Flags & 0x80) != 0,
        CommandKind.Open => (Flags & 0x200) == 0,
        CommandKind.Read => (Offset / 4096) == ((Offset + Math.Max(Length, 1) - 1) / 4096),
        _ => true,
    };

    public override string ToString()
    {
        string where = Kind switch
        {
            CommandKind.Rename => $"\"{Name}\" in {Inode} to \"{Name2}\" in {Inode2}, flags {Flags}",
            CommandKind.Link => $"{Inode} as \"{Name2}\" in {Inode2}",
            CommandKind.Copy => $"{Length} bytes from {Offset} of {Inode} to {Offset2} of {Inode2}",
            CommandKind.SetAttributes or CommandKind.SetSize => $"{Inode}: {Changes}",
            CommandKind.Write => $"{Data.Length} bytes at {Offset} of {Inode}, flags {Flags:x}{(Kill ? ", kill" : "")}",
            CommandKind.Read or CommandKind.Seek or CommandKind.Fallocate => $"{Length} bytes at {Offset} of {Inode}, mode {Mode:x} {Flags}",
            CommandKind.SetXattr => $"\"{Name}\" of {Inode}, {Data.Length} bytes, flags {Flags}",
            CommandKind.SetAcl => $"\"{Name}\" of {Inode}: {(Acl is null ? $"{Data.Length} bytes" : string.Join(' ', Acl))}, flags {Flags}{(Kill ? ", kill" : "")}",
            _ => $"{(Name.Length > 0 ? $"\"{Name}\" in " : "")}{Inode}, mode {Convert.ToString(Mode, 8)}, flags {Flags:x}",
        };
        return $"session {Session} ({Caller.Uid}:{Caller.Gid}): {Kind} {where}";
    }
}
