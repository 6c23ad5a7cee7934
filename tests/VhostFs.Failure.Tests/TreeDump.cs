using System.Text;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Failure.Tests;

/// <summary>Everything a user can see of a file system, as a text of one line per name: not inode numbers and not how it is stored, so that two volumes with the same content have the same dump.</summary>
public static class TreeDump
{
    private const int BlockBytes = 4096;

    /// <summary>The client's session is to be a read-only one: looking must not change access times.</summary>
    public static async IoTask<string> ReadAsync(FileClient client)
    {
        var lines = new StringBuilder();
        var names = new Dictionary<ulong, string>();
        string? problem = await AddAsync(client, FileClient.Root, "/", lines, names);
        client.ForgetFound();
        return problem ?? lines.ToString();
    }

    private static async IoTask<string?> AddAsync(FileClient client, ulong node, string path, StringBuilder lines, Dictionary<ulong, string> names)
    {
        FsResult<InodeAttributes> found = await client.Session.GetAttributesAsync(node);
        if (found.IsError) { return $"{path}: attributes: {found.Errno}"; }
        InodeAttributes attributes = found.Value;
        lines.Append(path).Append(' ').Append(FileClient.Text(attributes));
        if (!names.TryAdd(node, path))
        {
            lines.Append(" is ").Append(names[node]).Append('\n');
            return null;
        }
        if (await AddXattrsAsync(client, node, lines) is { } bad) { return $"{path}: {bad}"; }
        switch (attributes.Mode & 0xF000)
        {
            case 0x8000:
                if (await AddContentAsync(client, node, attributes.SizeBytes, lines) is { } unreadable) { return $"{path}: {unreadable}"; }
                break;
            case 0xA000:
                IoVec target = client.Room(4096);
                IoResult read = await client.Session.ReadLinkAsync(node, target);
                if (read.IsError) { return $"{path}: readlink: {read.Errno}"; }
                lines.Append($" target {FileClient.Hash(target.Span[..read.Bytes]):x}");
                break;
        }
        lines.Append('\n');
        return (attributes.Mode & 0xF000) == 0x4000 ? await AddChildrenAsync(client, node, path, lines, names) : null;
    }

    private static async IoTask<string?> AddChildrenAsync(FileClient client, ulong node, string path, StringBuilder lines, Dictionary<ulong, string> names)
    {
        var children = new List<string>();
        for (ulong cookie = 0; ;)
        {
            var writer = new NameWriter(plus: false);
            Errno listed = await client.Session.ReadDirectoryAsync(node, 0, cookie, writer);
            if (listed != Errno.None) { return $"{path}: readdir: {listed}"; }
            if (writer.Names.Count == 0) { break; }
            children.AddRange(writer.Names.Select(static name => name[..name.LastIndexOf(':')]));
            cookie = writer.LastCookie;
        }
        foreach (string child in children.Where(static name => name is not ("." or "..")).Order(StringComparer.Ordinal))
        {
            FsResult<InodeAttributes> found = await client.Session.LookupAsync(node, client.Text(child));
            if (found.IsError) { return $"{path}{child}: lookup: {found.Errno}"; }
            string? problem = await AddAsync(client, found.Value.Inode, $"{path}{child}{((found.Value.Mode & 0xF000) == 0x4000 ? "/" : "")}", lines, names);
            client.Session.Forget(found.Value.Inode, 1);
            if (problem is not null) { return problem; }
        }
        return null;
    }

    private static async IoTask<string?> AddXattrsAsync(FileClient client, ulong node, StringBuilder lines)
    {
        IoResult length = await client.Session.ListXattrAsync(client.Caller, node, default);
        if (length.IsError) { return $"listxattr: {length.Errno}"; }
        if (length.Bytes == 0) { return null; }
        IoVec list = client.Room(65536), value = client.Room(65536);
        IoResult listed = await client.Session.ListXattrAsync(client.Caller, node, list);
        if (listed.IsError) { return $"listxattr: {listed.Errno}"; }
        foreach (string name in Encoding.UTF8.GetString(list.Span[..listed.Bytes]).Split('\0', StringSplitOptions.RemoveEmptyEntries).Order(StringComparer.Ordinal))
        {
            IoResult got = await client.Session.GetXattrAsync(node, client.Text(name), value);
            if (got.IsError) { return $"getxattr {name}: {got.Errno}"; }
            lines.Append($" {name}={got.Bytes},{FileClient.Hash(value.Span[..got.Bytes]):x}");
        }
        return null;
    }

    private static async IoTask<string?> AddContentAsync(FileClient client, ulong node, long size, StringBuilder lines)
    {
        const int ChunkBytes = 1 << 20;
        IoVec target = client.Room((int)Math.Min(ChunkBytes, Math.Max(size, 1)));
        for (long done = 0; done < size;)
        {
            if (size > ChunkBytes)
            {
                // Sparse: only where there is data, and of that only what is not zero.
                FsResult<long> data = await client.Session.SeekAsync(node, 0, done, 3);
                if (data.Errno == Errno.ENXIO) { return null; }
                if (data.IsError) { return $"seek from {done}: {data.Errno}"; }
                done = data.Value / BlockBytes * BlockBytes;
            }
            int length = (int)Math.Min(size > ChunkBytes ? BlockBytes : target.Length, size - done);
            IoResult read = await client.Session.ReadAsync(node, 0, done, client.List(target.Slice(0, length)));
            if (read.IsError) { return $"read at {done}: {read.Errno}"; }
            if (read.Bytes != length) { return $"read at {done}: {read.Bytes} of {length} bytes"; }
            if (target.Span[..length].ContainsAnyExcept((byte)0)) { lines.Append($" {done}:{FileClient.Hash(target.Span[..length]):x}"); }
            done += length;
        }
        return null;
    }
}
