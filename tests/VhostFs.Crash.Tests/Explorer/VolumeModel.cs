using System.Numerics;
using System.Text;
using VhostFs.Blobstore;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>What a volume holds as its users see it: items, and the bytes of blobs. The engine has no part in it.</summary>
/// <remarks>The hash is a sum over all parts, so that a change costs only itself.</remarks>
public sealed class VolumeModel(string name)
{
    private readonly Dictionary<TreeKey, ulong> _items = [];
    private readonly Dictionary<ulong, (byte[] Content, ulong Hash)> _blobs = [];
    private readonly List<(ulong Blob, List<byte[]> Seen)> _readers = [];

    public ulong Hash { get; private set; } = HashOf(Encoding.UTF8.GetBytes(name), 1, 0);

    public IReadOnlyCollection<ulong> Blobs => _blobs.Keys;

    public bool Contains(TreeKey key) => _items.ContainsKey(key);

    public byte[] Blob(ulong blob) => _blobs.TryGetValue(blob, out (byte[] Content, ulong) found) ? found.Content : [];

    public void Put(TreeKey key, ReadOnlySpan<byte> value)
    {
        Delete(key);
        ulong hash = HashOf(value, key.Object, key.Item);
        _items.Add(key, hash);
        Hash += hash;
    }

    public void Delete(TreeKey key)
    {
        if (_items.Remove(key, out ulong old)) { Hash -= old; }
    }

    public void SetBlob(ulong blob, byte[] content)
    {
        if (_blobs.TryGetValue(blob, out (byte[], ulong Hash) old)) { Hash -= old.Hash; }
        ulong hash = HashOf(content, blob, ulong.MaxValue);
        _blobs[blob] = (content, hash);
        Hash += hash;
        foreach ((ulong watched, List<byte[]> seen) in _readers)
        {
            if (watched == blob) { seen.Add(content); }
        }
    }

    /// <summary>Collects every content that the blob has until <see cref="EndRead"/>.</summary>
    public List<byte[]> BeginRead(ulong blob)
    {
        List<byte[]> seen = [Blob(blob)];
        _readers.Add((blob, seen));
        return seen;
    }

    public void EndRead(List<byte[]> seen) => _readers.RemoveAll(reader => reader.Seen == seen);

    private static ulong HashOf(ReadOnlySpan<byte> bytes, ulong first, ulong second)
    {
        ContentHash hash = default;
        hash.Add(first);
        hash.Add(second);
        hash.Add(bytes);
        // Sums of unmixed states could cancel each other out.
        ulong mixed = hash.Value * 0xD6E8FEB86659FD93;
        return BitOperations.RotateLeft(mixed ^ (mixed >> 32), 17) * 0xD6E8FEB86659FD93;
    }
}
