using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>One operation of the bounded workloads. Run answers null when it cannot be done on the file system as it is now, else the node whose fsync belongs to it.</summary>
public sealed record AceOperation(string Name, Func<AceFiles, IoTask<ModelNode?>> Run)
{
    public override string ToString() => Name;
}

/// <summary>The names that bounded workloads work on: four files in three directories, one more directory to make, and one file that is not there yet.</summary>
/// <remarks>After CrashMonkey's ACE: few files, few operations, all combinations, a persistence point after each.</remarks>
public sealed class AceFiles(FileSystemClient client, Random random)
{
    public static readonly string[] Files = ["A/foo", "A/bar", "B/foo", "foo"];

    private static readonly Dictionary<string, int> s_firstSizes = new() { ["A/foo"] = 5000, ["A/bar"] = 100, ["B/foo"] = 80_000 };

    private readonly FileSystemClient _client = client;
    private readonly Random _random = random;

    public static IReadOnlyList<AceOperation> Operations { get; } = [.. All()];

    /// <summary>What all sequences begin with.</summary>
    public static async IoTask<string?> PrepareAsync(FileSystemClient client, CrashTrace trace)
    {
        ModelNode a = (await client.MakeDirectoryAsync(client.Model.Root, "A"))!;
        await client.MakeDirectoryAsync(client.Model.Root, "B");
        await client.MakeDirectoryAsync(a, "C");
        var files = new AceFiles(client, new Random(0));
        foreach ((string path, int size) in s_firstSizes)
        {
            (ModelNode? parent, string name, _) = files.Find(path);
            await client.CreateAsync(parent!, name);
            await files.WriteAsync(path, 0, size);
        }
        await client.SetXattrAsync(files.Find("A/foo").Node!, "user.first", [1, 2, 3]);
        return null;
    }

    private static IEnumerable<AceOperation> All()
    {
        foreach (string f in Files)
        {
            yield return new($"create {f}", x => x.MakeAsync(f, x._client.CreateAsync));
            yield return new($"symlink {f}", x => x.MakeAsync(f, (parent, name) => x._client.SymlinkAsync(parent, name, "A/foo")));
            yield return new($"link O_TMPFILE to {f}", x => x.LinkTemporaryAsync(f));
            yield return new($"unlink {f}", x => x.UnlinkAsync(f, isOpen: false));
            yield return new($"unlink {f} while open", x => x.UnlinkAsync(f, isOpen: true));
            yield return new($"overwrite the start of {f}", x => x.WriteAsync(f, 0, 1000));
            yield return new($"overwrite in {f}", x => x.WriteAsync(f, 3000, 3000));
            yield return new($"append little to {f}", x => x.WriteAsync(f, -1, 100));
            yield return new($"append much to {f}", x => x.WriteAsync(f, -1, 9000));
            yield return new($"rewrite {f}", x => x.WriteAsync(f, 0, 40_000));
            yield return new($"write far behind the end of {f}", x => x.WriteAsync(f, 300_001, 10));
            yield return new($"truncate {f} to 0", x => x.TruncateAsync(f, _ => 0));
            yield return new($"cut the end of {f}", x => x.TruncateAsync(f, size => size > 0 ? size - Math.Min(size, 1001) : -1));
            yield return new($"extend {f}", x => x.TruncateAsync(f, size => size + 7000));
            yield return new($"reserve behind the end of {f}", x => x.FallocateAsync(f, 0, -1, 20_000));
            yield return new($"reserve behind the end of {f}, keep size", x => x.FallocateAsync(f, FileSystemClient.KeepSize, -1, 20_000));
            yield return new($"punch {f}", x => x.FallocateAsync(f, FileSystemClient.PunchHole, 1000, 12_000));
            yield return new($"zero and extend {f}", x => x.FallocateAsync(f, FileSystemClient.ZeroRange, 2000, 90_000));
            yield return new($"zero {f}, keep size", x => x.FallocateAsync(f, FileSystemClient.ZeroRange | FileSystemClient.KeepSize, 100, 8000));
            yield return new($"setxattr {f}", x => x.SetXattrAsync(f, "user.small", 40));
            yield return new($"setxattr {f}, large", x => x.SetXattrAsync(f, "user.large", 9000));
            yield return new($"removexattr {f}", x => x.RemoveXattrAsync(f));
            yield return new($"chmod {f}", x => x.OnFileAsync(f, node => x._client.SetModeAsync(node, 0x1C0 + (uint)x._random.Next(8))));
            foreach (string g in Files)
            {
                if (f == g) { continue; }
                yield return new($"link {f} {g}", x => x.LinkAsync(f, g));
                yield return new($"rename {f} {g}", x => x.RenameAsync(f, g, 0));
                if (string.CompareOrdinal(f, g) < 0) { yield return new($"exchange {f} {g}", x => x.RenameAsync(f, g, FileSystemClient.Exchange)); }
                yield return new($"copy_file_range {f} {g}", x => x.CopyAsync(f, g, 10, 20));
                yield return new($"clone {f} {g}", x => x.CopyAsync(f, g, 0, 0));
            }
        }
        foreach (string d in new[] { "D", "B/C", "A/C/E" })
        {
            yield return new($"mkdir {d}", x => x.MakeAsync(d, x._client.MakeDirectoryAsync));
            yield return new($"rename A/C {d}", x => x.RenameAsync("A/C", d, 0));
        }
        yield return new("rmdir A/C", x => x.RemoveDirectoryAsync("A/C"));
        yield return new("rename A D", x => x.RenameAsync("A", "D", 0));
        yield return new("exchange A B", x => x.RenameAsync("A", "B", FileSystemClient.Exchange));
    }

    private (ModelNode? Parent, string Name, ModelNode? Node) Find(string path)
    {
        ModelNode? parent = _client.Model.Root;
        string[] parts = path.Split('/');
        foreach (string part in parts[..^1]) { parent = parent?.Entries?.GetValueOrDefault(part); }
        return (parent?.Entries is null ? null : parent, parts[^1], parent?.Entries?.GetValueOrDefault(parts[^1]));
    }

    private async IoTask<ModelNode?> MakeAsync(string path, Func<ModelNode, string, IoTask<ModelNode?>> make)
    {
        (ModelNode? parent, string name, ModelNode? node) = Find(path);
        return parent is null || node is not null ? null : await make(parent, name);
    }

    private async IoTask<ModelNode?> LinkTemporaryAsync(string path)
    {
        (ModelNode? parent, string name, ModelNode? node) = Find(path);
        if (parent is null || node is not null || await _client.TemporaryFileAsync(parent) is not { } file) { return null; }
        Errno done = await _client.WriteAsync(file, 0, Bytes(6000));
        if (done == Errno.None) { done = await _client.LinkAsync(file, parent, name); }
        return done == Errno.None ? file : null;
    }

    private async IoTask<ModelNode?> UnlinkAsync(string path, bool isOpen)
    {
        (ModelNode? parent, string name, ModelNode? node) = Find(path);
        if (node is null || node.Entries is not null || (isOpen && !FileSystemModel.IsRegular(node.Mode))) { return null; }
        if (isOpen && await _client.OpenAsync(node) != Errno.None) { return null; }
        if (await _client.UnlinkAsync(parent!, name) != Errno.None) { return null; }
        return isOpen && await _client.WriteAsync(node, 100, Bytes(5000)) != Errno.None ? null : parent;
    }

    private async IoTask<ModelNode?> RemoveDirectoryAsync(string path)
    {
        (ModelNode? parent, string name, ModelNode? node) = Find(path);
        return node?.Entries is { Count: 0 } && await _client.RemoveDirectoryAsync(parent!, name) == Errno.None ? parent : null;
    }

    private async IoTask<ModelNode?> LinkAsync(string from, string to)
    {
        ModelNode? node = Find(from).Node;
        (ModelNode? parent, string name, ModelNode? other) = Find(to);
        if (node is null || node.Entries is not null || parent is null || other is not null) { return null; }
        return await _client.LinkAsync(node, parent, name) == Errno.None ? node : null;
    }

    private async IoTask<ModelNode?> RenameAsync(string from, string to, uint flags)
    {
        (ModelNode? parent, string name, ModelNode? node) = Find(from);
        (ModelNode? newParent, string newName, ModelNode? other) = Find(to);
        if (node is null || newParent is null || IsBelow(newParent, node)) { return null; }
        if (flags == FileSystemClient.Exchange ? other is null || IsBelow(parent!, other) : other is not null && (other.Entries is not null || node.Entries is not null)) { return null; }
        return await _client.RenameAsync(parent!, name, newParent, newName, flags) == Errno.None ? node : null;
    }

    private IoTask<ModelNode?> WriteAsync(string path, long offset, int length) =>
        OnFileAsync(path, node => _client.WriteAsync(node, offset < 0 ? node.Content.Length : offset, Bytes(length)));

    private async IoTask<ModelNode?> TruncateAsync(string path, Func<long, long> size)
    {
        ModelNode? node = Find(path).Node;
        long wanted = node is null ? -1 : size(node.Content.Length);
        return wanted < 0 ? null : await OnFileAsync(path, file => _client.TruncateAsync(file, wanted));
    }

    private IoTask<ModelNode?> FallocateAsync(string path, uint mode, long offset, long length) =>
        OnFileAsync(path, node => _client.FallocateAsync(node, mode, offset < 0 ? node.Content.Length : offset, length));

    private IoTask<ModelNode?> SetXattrAsync(string path, string name, int length) => OnFileAsync(path, node => _client.SetXattrAsync(node, name, Bytes(length)));

    private async IoTask<ModelNode?> RemoveXattrAsync(string path) =>
        Find(path).Node?.Xattrs.Keys.FirstOrDefault() is { } name ? await OnFileAsync(path, node => _client.RemoveXattrAsync(node, name)) : null;

    private async IoTask<ModelNode?> CopyAsync(string from, string to, int sourceOffset, int targetOffset)
    {
        ModelNode? source = Find(from).Node;
        if (source is null || !FileSystemModel.IsRegular(source.Mode) || source.Content.Length < 50 || source == Find(to).Node) { return null; }
        return await OnFileAsync(to, target => _client.CopyAsync(source, sourceOffset, target, targetOffset, Math.Min(20_000, source.Content.Length - sourceOffset)));
    }

    private async IoTask<ModelNode?> OnFileAsync(string path, Func<ModelNode, IoTask<Errno>> run)
    {
        ModelNode? node = Find(path).Node;
        return node is not null && FileSystemModel.IsRegular(node.Mode) && await run(node) == Errno.None ? node : null;
    }

    private static bool IsBelow(ModelNode node, ModelNode directory) => node == directory || (directory.Entries?.Values.Any(child => IsBelow(node, child)) ?? false);

    private byte[] Bytes(int length)
    {
        byte[] bytes = new byte[length];
        _random.NextBytes(bytes);
        return bytes;
    }
}
