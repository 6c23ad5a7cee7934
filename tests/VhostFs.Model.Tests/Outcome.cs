using VhostFs.Fuse;
using VhostFs.Linux;

namespace VhostFs.Model.Tests;

/// <summary>What an operation answered, or what the specification says that it should.</summary>
/// <param name="Node">The specification's name of the inode in question; 0: none.</param>
/// <param name="Attributes">With the inode number that the file system told; blocks are not compared.</param>
internal sealed record Outcome(Errno Errno, int Node = 0, InodeAttributes? Attributes = null, long Number = 0, byte[]? Bytes = null, IReadOnlyList<string>? Names = null)
{
    public static Outcome Ok { get; } = new(Errno.None);

    /// <summary>For a seek, which may tell any place that is not wrong: the specification's check of the number.</summary>
    public Func<long, bool>? IsNumber { get; init; }

    public static implicit operator Outcome(Errno errno) => errno == Errno.None ? Ok : new Outcome(errno);

    public override string ToString()
    {
        if (Errno != Errno.None) { return Errno.ToString(); }
        string text = "ok";
        if (Attributes is { } a)
        {
            text += $" (inode {a.Inode} mode {Convert.ToString(a.Mode, 8)} links {a.LinkCount} owner {a.Uid}:{a.Gid} device {a.DeviceNumber} size {a.SizeBytes} " +
                $"atime {a.AccessTime.Seconds}.{a.AccessTime.Nanoseconds} mtime {a.ModifyTime.Seconds}.{a.ModifyTime.Nanoseconds} ctime {a.ChangeTime.Seconds} btime {a.BirthTime.Seconds})";
        }
        if (Bytes is not null) { text += $" {Bytes.Length} bytes, sum {Bytes.Sum(static b => (long)b)}"; }
        if (Names is not null) { text += $" [{string.Join(", ", Names)}]"; }
        return Number == 0 ? text : $"{text} {Number}";
    }
}
