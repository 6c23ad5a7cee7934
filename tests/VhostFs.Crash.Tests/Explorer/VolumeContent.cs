using System.Buffers.Binary;
using VhostFs.Blobstore;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Everything in a volume of the raw workload: all items of the tree, and the bytes of its blobs, whose sizes are in their Inode items.</summary>
public static class VolumeContent
{
    public const int SizeItemBytes = 16;

    /// <summary>Hashes all items; adds the blobs that they announce. The nodes must be in memory (else NotResident).</summary>
    public static Errno HashItems(Volume volume, ref ContentHash hash, Dictionary<ulong, long>? blobSizes)
    {
        TreeKey from = TreeKey.Min;
        for (;;)
        {
            Errno found = volume.TryNext(from, TreeKey.Max, out TreeKey key, out ReadOnlySpan<byte> value);
            if (found == Errno.ENOENT) { return Errno.None; }
            if (found != Errno.None) { return found; }
            hash.Add(key.Object);
            hash.Add(key.Item);
            hash.Add(value);
            if (blobSizes is not null && key.Object != 0 && key.Type == ItemType.Inode && value.Length == SizeItemBytes)
            {
                blobSizes[key.Object] = BinaryPrimitives.ReadInt64LittleEndian(value);
            }
            from = key.Next();
        }
    }

    public static void HashBlob(ref ContentHash hash, ulong blob, ReadOnlySpan<byte> content)
    {
        hash.Add(blob);
        hash.Add(content);
    }

    /// <summary>Reads the whole volume: its hash, and the blobs' bytes into <paramref name="blobs"/>.</summary>
    public static async IoTask<(ulong Hash, string? Problem)> ReadAsync(Volume volume, SortedDictionary<ulong, byte[]> blobs)
    {
        var sizes = new Dictionary<ulong, long>();
        ContentHash hash = default;
        for (;;)
        {
            hash = default;
            sizes.Clear();
            Errno hashed = HashItems(volume, ref hash, sizes);
            if (hashed == Errno.None) { break; }
            if (hashed != Residency.NotResident) { return (0, $"an item cannot be read: {hashed}"); }
            Errno loaded = await volume.LoadMissingAsync();
            if (loaded != Errno.None) { return (0, $"a node cannot be loaded: {loaded}"); }
        }
        foreach ((ulong blob, long size) in sizes.OrderBy(entry => entry.Key))
        {
            byte[] content = new byte[size];
            if (await ReadBlobAsync(volume, blob, content) is { } problem) { return (0, problem); }
            blobs[blob] = content;
            HashBlob(ref hash, blob, content);
        }
        return (hash.Value, null);
    }

    public static async IoTask<string?> ReadBlobAsync(Volume volume, ulong blob, byte[] content)
    {
        const int ChunkBytes = 256 * 1024;
        if (content.Length == 0) { return null; }
        using var buffer = new NativeBuffer(Math.Min(content.Length, ChunkBytes));
        using var vectors = new IoVecList(1);
        for (int done = 0; done < content.Length;)
        {
            int length = Math.Min(buffer.Length, content.Length - done);
            vectors.Clear();
            vectors.Add(buffer.Slice(0, length));
            IoResult read = await volume.Data.ReadAsync(blob, content.Length, done, vectors.View());
            if (read.IsError || read.Bytes != length) { return $"blob {blob} cannot be read at {done}: {read}"; }
            buffer.Span[..length].CopyTo(content.AsSpan(done));
            done += length;
        }
        return null;
    }
}
