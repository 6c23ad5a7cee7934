using System.Text;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>A file, directory or symbolic link as a user sees it.</summary>
public sealed class ModelNode(ulong inode, uint mode)
{
    /// <summary>The file system's number: to ask for it, not part of the content.</summary>
    public ulong Inode => inode;

    public uint Mode { get; set; } = mode;

    public byte[] Content { get; private set; } = [];

    /// <summary>Of a directory; null for others.</summary>
    public SortedDictionary<string, ModelNode>? Entries { get; } = FileSystemModel.IsDirectory(mode) ? new(StringComparer.Ordinal) : null;

    public SortedDictionary<string, byte[]> Xattrs { get; } = new(StringComparer.Ordinal);

    public ulong ContentHash { get; private set; }

    public void SetContent(byte[] content)
    {
        Content = content;
        ContentHash hash = default;
        hash.Add(content);
        ContentHash = hash.Value;
    }
}

/// <summary>A file system in plain collections: what must be found after a crash. Inodes without a name are not in it.</summary>
public sealed class FileSystemModel(ulong rootInode)
{
    public const uint TypeMask = 0xF000, Regular = 0x8000, Directory = 0x4000, Link = 0xA000;

    public ModelNode Root { get; } = new(rootInode, Directory | 0x1ED);

    public static bool IsDirectory(uint mode) => (mode & TypeMask) == Directory;

    public static bool IsRegular(uint mode) => (mode & TypeMask) == Regular;

    /// <summary>Every name, in order, with its directory and its node.</summary>
    public IEnumerable<(ModelNode Parent, string Name, ModelNode Node)> Names() => NamesBelow(Root);

    /// <summary>Names, types, modes, link counts, contents and attributes; not times, inode numbers and where bytes are stored.</summary>
    public ulong Hash()
    {
        var order = new Dictionary<ModelNode, int>();
        var links = new Dictionary<ModelNode, int>();
        foreach ((_, _, ModelNode node) in Names()) { links[node] = links.GetValueOrDefault(node) + 1; }
        ContentHash hash = default;
        Add(ref hash, Root, links, order);
        return hash.Value;
    }

    /// <summary>One line per name, for people.</summary>
    public string Describe() => string.Join("\n", Names().Select(n => $"{n.Node.Inode} {n.Node.Mode:x} {n.Name} {n.Node.Content.Length} bytes {n.Node.ContentHash:x} {string.Join(",", n.Node.Xattrs.Keys)}"));

    private static IEnumerable<(ModelNode Parent, string Name, ModelNode Node)> NamesBelow(ModelNode directory)
    {
        foreach ((string name, ModelNode node) in directory.Entries!)
        {
            yield return (directory, name, node);
            if (node.Entries is null) { continue; }
            foreach ((ModelNode, string, ModelNode) below in NamesBelow(node)) { yield return below; }
        }
    }

    private static void Add(ref ContentHash hash, ModelNode node, Dictionary<ModelNode, int> links, Dictionary<ModelNode, int> order)
    {
        hash.Add(node.Mode);
        hash.Add((ulong)node.Content.Length);
        hash.Add(node.ContentHash);
        foreach ((string name, byte[] value) in node.Xattrs)
        {
            hash.Add(Encoding.UTF8.GetBytes(name));
            hash.Add(value);
        }
        if (node.Entries is null)
        {
            hash.Add((ulong)links.GetValueOrDefault(node));
            return;
        }
        hash.Add((ulong)node.Entries.Count);
        foreach ((string name, ModelNode child) in node.Entries)
        {
            hash.Add(Encoding.UTF8.GetBytes(name));
            // Two names of one file are told from two files with equal content.
            if (order.TryGetValue(child, out int seen)) { hash.Add((ulong)seen); continue; }
            order.Add(child, order.Count);
            Add(ref hash, child, links, order);
        }
    }
}
