using System.Collections.Immutable;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;

namespace VhostFs.Simulation.Tests.Model;

internal enum InodeKind
{
    File,
    Directory,
    Link,
}

/// <summary>What a guest was promised about one inode. Immutable: a change is a new one, so that many states share what is equal.</summary>
internal sealed record ModelInode(InodeKind Kind, uint Mode, uint Uid, uint Gid)
{
    private ulong? _hash;
    private byte[] _content = [];

    /// <summary>Of a file.</summary>
    public byte[] Content
    {
        get => _content;
        init
        {
            _content = value;
            _hash = null;
        }
    }

    /// <summary>Of a symbolic link.</summary>
    public string Target { get; init; } = "";

    public ImmutableSortedDictionary<string, byte[]> Xattrs { get; init; } = ImmutableSortedDictionary.Create<string, byte[]>(StringComparer.Ordinal);

    public ulong Hash => _hash ??= ComputeHash();

    /// <summary>The content after a write, or after truncation when <paramref name="data"/> is empty and <paramref name="size"/> is given.</summary>
    public static byte[] Written(byte[] content, long offset, byte[] data)
    {
        byte[] next = new byte[Math.Max(content.Length, offset + data.Length)];
        content.CopyTo(next, 0);
        data.CopyTo(next, offset);
        return next;
    }

    public static byte[] Resized(byte[] content, long size)
    {
        byte[] next = new byte[size];
        content.AsSpan(0, (int)Math.Min(size, content.Length)).CopyTo(next);
        return next;
    }

    // A record copy takes the field along: it must be computed anew.
    public ModelInode Changed()
    {
        _hash = null;
        return this;
    }

    private ulong ComputeHash()
    {
        ulong hash = HashOf(Content, ((ulong)Kind << 32) ^ Mode ^ ((ulong)Uid << 40) ^ ((ulong)Gid << 48));
        hash = HashOf(Encoding.UTF8.GetBytes(Target), hash);
        foreach ((string name, byte[] value) in Xattrs) { hash = HashOf(value, HashOf(Encoding.UTF8.GetBytes(name), hash)); }
        return hash;
    }

    public static ulong HashOf(ReadOnlySpan<byte> bytes, ulong seed)
    {
        ulong hash = (seed + 0x9E3779B97F4A7C15) ^ (ulong)bytes.Length;
        ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(bytes);
        foreach (ulong word in words) { hash = BitOperations.RotateLeft((hash ^ word) * 0x9FB21C651E98DF25, 29); }
        ulong last = 0;
        foreach (byte b in bytes[(words.Length * 8)..]) { last = (last << 8) | b; }
        hash = (hash ^ last) * 0xBF58476D1CE4E5B9;
        return hash ^ (hash >> 31);
    }
}
