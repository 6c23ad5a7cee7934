namespace VhostFs.Blobfs.Tests;

/// <summary>One inode of the plain tree.</summary>
internal sealed class ModelNode(ulong inode, uint mode)
{
    public ulong Inode { get; } = inode;

    public uint Mode { get; set; } = mode;

    public uint Links { get; set; } = 1;

    public bool WasTemporary { get; set; }

    public byte[] Content { get; set; } = [];

    public SortedDictionary<string, ModelNode>? Children { get; init; }

    public ModelNode? Parent { get; set; }

    public Dictionary<string, byte[]> Xattrs { get; } = [];

    /// <summary>References per session.</summary>
    public ulong[] Lookups { get; } = new ulong[4];

    public int[] Opens { get; } = new int[4];

    public bool IsDirectory => Children is not null;

    public bool IsRegular => (Mode & FileMode.S_IFMT) == FileMode.S_IFREG;

    public bool IsReferenced => Lookups.Any(static l => l > 0) || Opens.Any(static o => o > 0);

    public bool IsUnder(ModelNode directory)
    {
        for (ModelNode? node = this; node is not null; node = node.Parent)
        {
            if (node == directory) { return true; }
        }
        return false;
    }

    public void Write(long offset, byte[] data)
    {
        if (offset + data.Length > Content.Length) { Resize(offset + data.Length); }
        data.CopyTo(Content, (int)offset);
    }

    public void Resize(long size)
    {
        byte[] content = Content;
        Array.Resize(ref content, (int)size);
        Content = content;
    }

    public void Zero(long offset, long length)
    {
        long limit = Math.Min(offset + length, Content.Length);
        if (offset < limit) { Array.Clear(Content, (int)offset, (int)(limit - offset)); }
    }
}
