using System.Collections.Immutable;
using System.Text;

namespace VhostFs.Simulation.Tests.Model;

/// <summary>The directory of one worker at one moment: which paths name which inodes. Immutable.</summary>
internal sealed class ModelState
{
    private readonly ImmutableSortedDictionary<string, int> _paths;
    private readonly ImmutableDictionary<int, ModelInode> _inodes;
    private ulong? _hash;

    private ModelState(bool exists, ImmutableSortedDictionary<string, int> paths, ImmutableDictionary<int, ModelInode> inodes)
    {
        Exists = exists;
        _paths = paths;
        _inodes = inodes;
    }

    /// <summary>The worker's directory is not there.</summary>
    public static ModelState Absent { get; } = new(false, ImmutableSortedDictionary.Create<string, int>(StringComparer.Ordinal), ImmutableDictionary<int, ModelInode>.Empty);

    public static ModelState Empty { get; } = new(true, ImmutableSortedDictionary.Create<string, int>(StringComparer.Ordinal), ImmutableDictionary<int, ModelInode>.Empty);

    public bool Exists { get; }

    public IEnumerable<string> Paths => _paths.Keys;

    public int Count => _paths.Count;

    public ulong Hash => _hash ??= ComputeHash();

    public static string Parent(string path) => path.LastIndexOf('/') is var slash and >= 0 ? path[..slash] : "";

    public static string Name(string path) => path[(path.LastIndexOf('/') + 1)..];

    public ModelInode? Find(string path) => _paths.TryGetValue(path, out int inode) ? _inodes[inode] : null;

    public bool AreSame(string first, string second) => _paths[first] == _paths[second];

    public uint LinkCount(string path)
    {
        int inode = _paths[path];
        return _inodes[inode].Kind == InodeKind.Directory
            ? 2 + (uint)Children(path).Count(child => _inodes[_paths[child]].Kind == InodeKind.Directory)
            : (uint)_paths.Values.Count(other => other == inode);
    }

    /// <summary>Full paths of what lies directly in a directory ("": the worker's own).</summary>
    public IEnumerable<string> Children(string directory) => _paths.Keys.Where(path => Parent(path) == directory);

    public ModelState Add(string path, ModelInode inode)
    {
        int number = _inodes.IsEmpty ? 1 : _inodes.Keys.Max() + 1;
        return new ModelState(true, _paths.Add(path, number), _inodes.Add(number, inode.Changed()));
    }

    public ModelState AddLink(string path, string existing) => new(true, _paths.Add(path, _paths[existing]), _inodes);

    public ModelState Change(string path, ModelInode inode) => new(true, _paths, _inodes.SetItem(_paths[path], inode.Changed()));

    public ModelState Remove(string path)
    {
        int inode = _paths[path];
        ImmutableSortedDictionary<string, int> paths = _paths.Remove(path);
        return new ModelState(true, paths, paths.ContainsValue(inode) ? _inodes : _inodes.Remove(inode));
    }

    /// <summary>With everything below it; what was at the target is gone.</summary>
    public ModelState Rename(string source, string target)
    {
        ModelState cleared = Find(target) is null ? this : Remove(target);
        return new ModelState(true, cleared._paths.ToImmutableSortedDictionary(
            pair => pair.Key == source ? target : pair.Key.StartsWith(source + "/", StringComparison.Ordinal) ? target + pair.Key[source.Length..] : pair.Key,
            pair => pair.Value, StringComparer.Ordinal), cleared._inodes);
    }

    public ModelState Exchange(string first, string second) =>
        new(true, _paths.SetItem(first, _paths[second]).SetItem(second, _paths[first]), _inodes);

    /// <summary>What two states differ in, for people.</summary>
    public string Describe(ModelState other)
    {
        if (Exists != other.Exists) { return $"the directory {(Exists ? "is there" : "is not there")}"; }
        var text = new StringBuilder();
        foreach (string path in Paths.Union(other.Paths))
        {
            ModelInode? mine = Find(path), its = other.Find(path);
            if (mine?.Hash == its?.Hash && (mine is null || LinkCount(path) == other.LinkCount(path))) { continue; }
            if (text.Length > 0) { text.Append("; "); }
            text.Append(path).Append(": ").Append(Describe(this, path)).Append(" against ").Append(Describe(other, path));
            if (mine is { Kind: InodeKind.File } && its is { Kind: InodeKind.File } && mine.Content.Length == its.Content.Length && !mine.Content.AsSpan().SequenceEqual(its.Content))
            {
                text.Append(" (first difference at byte ").Append(mine.Content.AsSpan().CommonPrefixLength(its.Content)).Append(')');
            }
        }
        return text.Length == 0 ? "nothing" : text.ToString();
    }

    private static string Describe(ModelState state, string path)
    {
        if (state.Find(path) is not { } inode) { return "nothing"; }
        return $"{inode.Kind} mode {Convert.ToString(inode.Mode, 8)} owner {inode.Uid}:{inode.Gid} links {state.LinkCount(path)} size {inode.Content.Length} content {ModelInode.HashOf(inode.Content, 0) >> 48:x4} target '{inode.Target}' xattrs [{string.Join(", ", inode.Xattrs.Select(pair => $"{pair.Key}={pair.Value.Length}"))}]";
    }

    private ulong ComputeHash()
    {
        ulong hash = Exists ? 1u : 0u;
        var first = new Dictionary<int, int>();
        int position = 0;
        foreach ((string path, int inode) in _paths)
        {
            // Which paths are one inode is part of the state; its number is not.
            if (!first.TryGetValue(inode, out int at)) { first[inode] = at = position; }
            hash = ModelInode.HashOf(Encoding.UTF8.GetBytes(path), hash ^ _inodes[inode].Hash ^ ((ulong)at << 20));
            position++;
        }
        return hash;
    }
}
