using System.Buffers.Binary;
using VhostFs.Blobstore;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Reads volumes of the pool workload: all items that a user put there, and the bytes of its blobs, whose sizes are in their Inode items.</summary>
public static class VolumeContent
{
    public const int SizeItemBytes = 16;

    private const int ChunkBytes = 256 * 1024;

    /// <summary>Every volume of a pool.</summary>
    public static async IoTask<string?> ReadPoolAsync(Pool pool, Dictionary<string, ulong> found)
    {
        foreach (VolumeInfo info in pool.Volumes)
        {
            OpenResult<Volume> volume = await pool.OpenVolumeAsync(info.Name);
            if (volume.Value is null) { return volume.Error; }
            var model = new VolumeModel(info.Name);
            if (await ReadAsync(volume.Value, model) is { } problem) { return $"volume '{info.Name}': {problem}"; }
            found.Add(HistoryOf(info.Id), model.Hash);
        }
        return null;
    }

    public static string HistoryOf(ulong volumeId) => $"volume {volumeId}";

    public static async IoTask<string?> ReadAsync(Volume volume, VolumeModel model)
    {
        var sizes = new List<(ulong Blob, long Size)>();
        TreeKey from = new(1, 0);
        for (;;)
        {
            Errno found = TryReadItem(volume, model, sizes, ref from);
            if (found == Errno.None) { continue; }
            if (found == Errno.ENOENT) { break; }
            if (found == Residency.NotResident) { found = await volume.LoadMissingAsync(); }
            if (found != Errno.None) { return $"an item cannot be read: {found}"; }
        }
        foreach ((ulong blob, long size) in sizes)
        {
            byte[] content = new byte[size];
            if (await ReadBlobAsync(volume, blob, content) is { } problem) { return problem; }
            model.SetBlob(blob, content);
        }
        return null;
    }

    public static async IoTask<string?> ReadBlobAsync(Volume volume, ulong blob, byte[] content)
    {
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

    private static Errno TryReadItem(Volume volume, VolumeModel model, List<(ulong Blob, long Size)> sizes, ref TreeKey from)
    {
        Errno found = volume.TryNext(from, TreeKey.Max, out TreeKey key, out ReadOnlySpan<byte> value);
        if (found != Errno.None) { return found; }
        from = key.Next();
        if (key.Type == ItemType.Extent) { return Errno.None; } // how blobs are stored is not content
        if (key.Type == ItemType.Inode)
        {
            if (value.Length != SizeItemBytes) { return Errno.EIO; }
            sizes.Add((key.Object, BinaryPrimitives.ReadInt64LittleEndian(value)));
        }
        model.Put(key, value);
        return Errno.None;
    }
}
