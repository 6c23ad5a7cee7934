using System.Buffers.Binary;
using VhostFs.Blobfs;
using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>What a user can see of a file system: names, inodes with a link, inline and block content, extended attributes. Not how it is stored.</summary>
public static class FileSystemContent
{
    private const int RecordBytes = 160;
    private const int ModeOffset = 0, LinkCountOffset = 12, SizeOffset = 16, BlocksOffset = 24, FlagsOffset = 36;
    private const int SizeAndModeBytes = 24;
    private const uint TypeMask = 0xF000, Regular = 0x8000;

    /// <summary>Opens and mounts (which ends interrupted operations), then hashes.</summary>
    public static async IoTask<(ulong Hash, string? Problem)> MountAndHashAsync(Pool pool)
    {
        OpenResult<Volume> volume = await pool.OpenVolumeAsync(RawWorkload.VolumeName);
        if (volume.Value is null) { return (0, volume.Error); }
        FsResult<VhostFs.Blobfs.Blobfs> mounted = await VhostFs.Blobfs.Blobfs.MountAsync(volume.Value, new BlobfsOptions());
        if (mounted.IsError) { return (0, $"mounting: {mounted.Errno}"); }
        (ulong, string?) result = await HashAsync(volume.Value);
        Errno closed = await mounted.Value.CloseAsync();
        return closed == Errno.None ? result : (0, $"unmounting: {closed}");
    }

    public static async IoTask<(ulong Hash, string? Problem)> HashAsync(Volume volume)
    {
        var files = new List<(ulong Inode, long Size)>();
        ContentHash hash;
        for (;;)
        {
            Errno hashed = TryHashItems(volume, out hash, files);
            if (hashed == Errno.None) { break; }
            if (hashed == Residency.NotResident) { hashed = await volume.LoadMissingAsync(); }
            if (hashed != Errno.None) { return (0, $"an item cannot be read: {hashed}"); }
        }
        foreach ((ulong inode, long size) in files)
        {
            byte[] content = new byte[size];
            if (volume.TryGet(new TreeKey(inode, ItemType.Inline, 0), out ReadOnlySpan<byte> inline) == Errno.None) { inline.CopyTo(content); }
            else if (await VolumeContent.ReadBlobAsync(volume, inode, content) is { } problem) { return (0, problem); }
            VolumeContent.HashBlob(ref hash, inode, content);
        }
        return (hash.Value, null);
    }

    private static Errno TryHashItems(Volume volume, out ContentHash hash, List<(ulong Inode, long Size)> files)
    {
        hash = default;
        files.Clear();
        TreeKey from = new(1, 0);
        ulong hidden = 0;
        for (;;)
        {
            Errno found = volume.TryNext(from, TreeKey.Max, out TreeKey key, out ReadOnlySpan<byte> value);
            if (found == Errno.ENOENT) { return Errno.None; }
            if (found != Errno.None) { return found; }
            from = key.Next();
            if (key.Type == ItemType.Inode)
            {
                if (value.Length != RecordBytes) { return Errno.EIO; }
                // An inode without a name is nobody's business; how its deletion goes on is not content.
                if (BinaryPrimitives.ReadUInt32LittleEndian(value[LinkCountOffset..]) == 0) { hidden = key.Object; }
                else { AddInode(ref hash, key.Object, value, files); }
            }
            else if (key.Object != hidden && key.Type != ItemType.Extent && !(key.Type == ItemType.Inline && files.Count > 0 && files[^1].Inode == key.Object))
            {
                hash.Add(key.Object);
                hash.Add(key.Item);
                hash.Add(value);
            }
        }
    }

    private static void AddInode(ref ContentHash hash, ulong inode, ReadOnlySpan<byte> value, List<(ulong Inode, long Size)> files)
    {
        hash.Add(inode);
        hash.Add(value[..SizeAndModeBytes]);
        hash.Add(value[(BlocksOffset + sizeof(ulong))..FlagsOffset]);
        hash.Add(value[(FlagsOffset + sizeof(uint))..]);
        if ((BinaryPrimitives.ReadUInt32LittleEndian(value[ModeOffset..]) & TypeMask) == Regular)
        {
            files.Add((inode, BinaryPrimitives.ReadInt64LittleEndian(value[SizeOffset..])));
        }
    }
}
