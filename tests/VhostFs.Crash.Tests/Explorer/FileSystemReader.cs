using VhostFs.Blobfs;
using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Reads a whole file system through a session, as a user would: names, then what is behind them.</summary>
public static class FileSystemReader
{
    public const string VolumeName = "v";

    private const ulong RootInode = 1;

    /// <summary>Opens, mounts (which ends interrupted operations) and reads: the file system's hash under its volume's name.</summary>
    public static async IoTask<string?> ReadPoolAsync(Pool pool, Dictionary<string, ulong> found)
    {
        OpenResult<Volume> volume = await pool.OpenVolumeAsync(VolumeName);
        if (volume.Value is null) { return volume.Error; }
        FsResult<VhostFs.Blobfs.Blobfs> mounted = await VhostFs.Blobfs.Blobfs.MountAsync(volume.Value, new BlobfsOptions());
        if (mounted.IsError) { return $"mounting: {mounted.Errno}"; }
        if (await FindOrphanAsync(volume.Value) is { } orphan) { return orphan; }
        BlobfsSession session = mounted.Value.OpenSession(isReadOnly: true);
        using var calls = new FileSystemCalls(session);
        var model = new FileSystemModel(RootInode);
        string? problem = await ReadAsync(calls, model);
        session.EndSession();
        Errno closed = await mounted.Value.CloseAsync();
        if (problem is not null || closed != Errno.None) { return problem ?? $"unmounting: {closed}"; }
        found.Add(VolumeName, model.Hash());
        return null;
    }

    /// <summary>Null, or what cannot be read.</summary>
    public static async IoTask<string?> ReadAsync(FileSystemCalls calls, FileSystemModel model)
    {
        var known = new Dictionary<ulong, ModelNode>();
        var directories = new Queue<ModelNode>([model.Root]);
        while (directories.TryDequeue(out ModelNode? directory))
        {
            if (await calls.ListAsync(directory.Inode) is not { } names) { return $"directory {directory.Inode} cannot be listed"; }
            foreach (string name in names)
            {
                FsResult<InodeAttributes> found = await calls.LookupAsync(directory.Inode, name);
                if (found.IsError) { return $"'{name}' in directory {directory.Inode} is listed and not found: {found.Errno}"; }
                if (!known.TryGetValue(found.Value.Inode, out ModelNode? node))
                {
                    node = new ModelNode(found.Value.Inode, found.Value.Mode);
                    known.Add(node.Inode, node);
                    if (await ReadNodeAsync(calls, node, found.Value) is { } problem) { return $"'{name}' in directory {directory.Inode}: {problem}"; }
                    if (node.Entries is not null) { directories.Enqueue(node); }
                }
                if (!directory.Entries!.TryAdd(name, node)) { return $"'{name}' is twice in directory {directory.Inode}"; }
            }
        }
        return null;
    }

    /// <summary>A mount deletes what has no name and finishes what was interrupted.</summary>
    private static async IoTask<string?> FindOrphanAsync(Volume volume)
    {
        for (;;)
        {
            Errno found = volume.TryNext(new TreeKey(0, ItemType.Orphan, 0), new TreeKey(0, ItemType.Allocation, 0), out TreeKey key, out _);
            if (found == Errno.ENOENT) { return null; }
            if (found == Errno.None) { return $"the mount left the orphan item of inode {key.Sub}"; }
            if (found == Residency.NotResident) { found = await volume.LoadMissingAsync(); }
            if (found != Errno.None) { return $"orphan items cannot be read: {found}"; }
        }
    }

    private static async IoTask<string?> ReadNodeAsync(FileSystemCalls calls, ModelNode node, InodeAttributes attributes)
    {
        if (await calls.XattrsAsync(node.Inode) is not { } xattrs) { return "extended attributes cannot be read"; }
        foreach ((string name, byte[] value) in xattrs) { node.Xattrs[name] = value; }
        if (node.Entries is not null) { return null; }
        byte[]? content = FileSystemModel.IsRegular(node.Mode) ? await calls.ReadAsync(node.Inode, attributes.SizeBytes) : await calls.ReadLinkAsync(node.Inode);
        if (content is null) { return "its content cannot be read"; }
        node.SetContent(content);
        return null;
    }
}
