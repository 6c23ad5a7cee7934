using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>How long a file system is used, and where.</summary>
public sealed record FileSystemLifeProfile(string Name, long DiskBytes, long NodeCacheBytes, int Operations, Slowness Slowness)
{
    public static IReadOnlyList<FileSystemLifeProfile> All { get; } =
    [
        new("roomy", 14 << 20, 16 << 20, 220, new Slowness()),
        new("full", 8 << 20, 16 << 20, 220, new Slowness()),
        new("slow flushes", 14 << 20, 16 << 20, 220, new Slowness(Writes: 4, Flushes: 1000)),
        new("small cache", 16 << 20, 128 << 10, 260, new Slowness(Reads: 2)),
    ];

    public override string ToString() => Name;
}

/// <summary>Hundreds of random operations on a growing and shrinking tree of files: everything that a guest does to a file system, fsync of single files included.</summary>
public sealed class FileSystemLife(FileSystemLifeProfile profile, FileSystemClient client, Random random)
{
    private const int MaxNames = 60;
    private const int MaxDepth = 4;
    private const int MaxFileBytes = 400_000;
    private const int LongNameOneIn = 4;

    private static readonly string s_longName = new('n', 200);

    private readonly FileSystemModel _model = client.Model;
    private List<(ModelNode Parent, string Name, ModelNode Node)> _names = [];

    public static DiskImage Format(FileSystemLifeProfile profile) => FileSystemRun.Format(profile.DiskBytes, static async (client, _) =>
        await client.MakeDirectoryAsync(client.Model.Root, "first") is null ? "no room" : null);

    /// <param name="left">In log memory, by a life before.</param>
    public static CrashTrace Run(FileSystemLifeProfile profile, DiskImage disk, int seed, IReadOnlyList<VhostFs.Blobstore.StagedBatch>? left = null)
    {
        var random = new Random(seed);
        return FileSystemRun.Run(disk, random, profile.Slowness, PlayedLogMemory.ForLife(seed, left ?? []), new VhostFs.Blobstore.NodeCache(profile.NodeCacheBytes),
            async (client, _) => await new FileSystemLife(profile, client, random).RunAsync()).Trace;
    }

    private async IoTask<string?> RunAsync()
    {
        for (int i = 0; i < profile.Operations; i++)
        {
            _names = [.. _model.Names()];
            ModelNode? touched = await StepAsync();
            int persist = random.Next(12);
            if (touched is null || persist > 2) { continue; }
            Errno done = await client.PersistAsync((Persistence)(persist + 1), random.Next(3) == 0 ? _model.Root : touched);
            if (done != Errno.None) { return $"persisting: {done}"; }
        }
        return null;
    }

    private async IoTask<ModelNode?> StepAsync()
    {
        // A full tree shrinks, an empty one grows.
        bool grows = random.Next(MaxNames) >= _names.Count;
        return random.Next(100) switch
        {
            < 16 => grows ? await CreateAsync() : await RemoveAsync(),
            < 22 => grows ? await LinkAsync() : await RemoveAsync(),
            < 28 => await RenameAsync(),
            < 32 => await RemoveAsync(),
            < 60 => await OnFileAsync(async node => await client.WriteAsync(node, Offset(node), Bytes(Length()))),
            < 66 => await OnFileAsync(async node => await client.TruncateAsync(node, random.Next(3) switch { 0 => 0, 1 => random.Next(node.Content.Length + 1), _ => random.Next(MaxFileBytes) })),
            < 71 => await OnFileAsync(FallocateAsync),
            < 76 => await CopyAsync(),
            < 81 => await XattrAsync(),
            < 83 => await OnFileAsync(async node => await client.SetModeAsync(node, 0x100 + (uint)random.Next(0x100))),
            < 88 => await OpenAsync(),
            < 92 => await CloseAsync(),
            < 95 => await TemporaryAsync(),
            < 98 => await ReadAsync(),
            _ => await WaitAsync(),
        };
    }

    private async IoTask<ModelNode?> CreateAsync()
    {
        (ModelNode parent, int depth) = AnyDirectory();
        if (NewName(parent) is not { } name) { return null; }
        return random.Next(10) switch
        {
            < 2 when depth < MaxDepth => await client.MakeDirectoryAsync(parent, name),
            2 => await client.SymlinkAsync(parent, name, new string('t', random.Next(1, 4000))),
            _ => await client.CreateAsync(parent, name),
        };
    }

    private async IoTask<ModelNode?> LinkAsync()
    {
        if (Any(node => node.Entries is null) is not { } found) { return null; }
        ModelNode parent = AnyDirectory().Directory;
        return NewName(parent) is { } name && await client.LinkAsync(found.Node, parent, name) == Errno.None ? found.Node : null;
    }

    private async IoTask<ModelNode?> RemoveAsync()
    {
        if (Any(node => node.Entries is null or { Count: 0 }) is not { } found) { return null; }
        Errno done = found.Node.Entries is null ? await client.UnlinkAsync(found.Parent, found.Name) : await client.RemoveDirectoryAsync(found.Parent, found.Name);
        return done == Errno.None ? found.Parent : null;
    }

    private async IoTask<ModelNode?> RenameAsync()
    {
        if (Any(_ => true) is not { } from) { return null; }
        if (random.Next(3) == 0)
        {
            ModelNode target = AnyDirectory().Directory;
            if (NewName(target) is not { } name || IsBelow(target, from.Node)) { return null; }
            return await client.RenameAsync(from.Parent, from.Name, target, name, 0) == Errno.None ? from.Node : null;
        }
        if (Any(_ => true) is not { } to || (to.Parent == from.Parent && to.Name == from.Name) || IsBelow(to.Parent, from.Node)) { return null; }
        if (random.Next(3) == 0)
        {
            return !IsBelow(from.Parent, to.Node) && await client.RenameAsync(from.Parent, from.Name, to.Parent, to.Name, FileSystemClient.Exchange) == Errno.None ? from.Node : null;
        }
        bool isLegal = from.Node.Entries is null ? to.Node.Entries is null : to.Node.Entries is { Count: 0 };
        return isLegal && await client.RenameAsync(from.Parent, from.Name, to.Parent, to.Name, 0) == Errno.None ? from.Node : null;
    }

    private async IoTask<Errno> FallocateAsync(ModelNode node)
    {
        long offset = random.Next(node.Content.Length + 1), length = random.Next(1, 100_000);
        // On a full disk a range may be zeroed and then not be reserved: not a mistake, but two outcomes.
        uint mode = random.Next(profile.DiskBytes < 10 << 20 ? 3 : 5) switch
        {
            0 => 0,
            1 => FileSystemClient.KeepSize,
            2 => FileSystemClient.PunchHole,
            3 => FileSystemClient.ZeroRange,
            _ => FileSystemClient.ZeroRange | FileSystemClient.KeepSize,
        };
        return await client.FallocateAsync(node, mode, offset, length);
    }

    private async IoTask<ModelNode?> CopyAsync()
    {
        if (AnyFile() is not { } source || AnyFile() is not { } target || source == target || source.Content.Length == 0) { return null; }
        int offset = random.Next(source.Content.Length), targetOffset = random.Next(MaxFileBytes);
        // Blocks can be shared where both offsets lie equally in theirs; most copies are of whole files.
        if (random.Next(4) > 0) { targetOffset = (random.Next(30) * 4096) + (offset % 4096); }
        if (random.Next(3) == 0) { offset = targetOffset = 0; }
        return await client.CopyAsync(source, offset, target, targetOffset, Math.Min(random.Next(1, 100_000), source.Content.Length - offset)) == Errno.None ? target : null;
    }

    private async IoTask<ModelNode?> XattrAsync()
    {
        if (Any(node => !FileSystemModel.IsDirectory(node.Mode) ? FileSystemModel.IsRegular(node.Mode) : true) is not { } found) { return null; }
        ModelNode node = found.Node;
        if (random.Next(3) == 0 && node.Xattrs.Keys.FirstOrDefault() is { } old) { return await client.RemoveXattrAsync(node, old) == Errno.None ? node : null; }
        return await client.SetXattrAsync(node, $"user.{random.Next(4)}", Bytes(random.Next(4) == 0 ? random.Next(20_000) : random.Next(200))) == Errno.None ? node : null;
    }

    private async IoTask<ModelNode?> OpenAsync()
    {
        if (client.Open.Count > 6 || Any(node => FileSystemModel.IsRegular(node.Mode)) is not { } found) { return null; }
        return await client.OpenAsync(found.Node) == Errno.None ? found.Node : null;
    }

    private async IoTask<ModelNode?> CloseAsync()
    {
        if (client.Open.Count == 0) { return null; }
        await client.CloseAsync(client.Open[random.Next(client.Open.Count)]);
        return null;
    }

    private async IoTask<ModelNode?> TemporaryAsync()
    {
        ModelNode parent = AnyDirectory().Directory;
        if (await client.TemporaryFileAsync(parent) is not { } file) { return null; }
        await client.WriteAsync(file, 0, Bytes(Length()));
        if (random.Next(2) == 0 || NewName(parent) is not { } name) { return null; }
        return await client.LinkAsync(file, parent, name) == Errno.None ? file : null;
    }

    private async IoTask<ModelNode?> ReadAsync()
    {
        if (AnyFile() is { } file && await client.ReadAsync(file) is { } problem) { throw new InvalidOperationException(problem); }
        return null;
    }

    private async IoTask<ModelNode?> WaitAsync()
    {
        await VhostFs.Reactor.Reactor.Current.DelayAsync(random.Next(300) * 1_000_000L);
        return null;
    }

    private async IoTask<ModelNode?> OnFileAsync(Func<ModelNode, IoTask<Errno>> run) => AnyFile() is { } file && await run(file) == Errno.None ? file : null;

    /// <summary>A regular file: one with a name, or one that is open and has none any more.</summary>
    private ModelNode? AnyFile() => client.Open.Count > 0 && random.Next(4) == 0 ? client.Open[random.Next(client.Open.Count)] : Any(node => FileSystemModel.IsRegular(node.Mode))?.Node;

    private (ModelNode Parent, string Name, ModelNode Node)? Any(Func<ModelNode, bool> isWanted)
    {
        (ModelNode, string, ModelNode)[] wanted = [.. _names.Where(name => isWanted(name.Node))];
        return wanted.Length == 0 ? null : wanted[random.Next(wanted.Length)];
    }

    private (ModelNode Directory, int Depth) AnyDirectory()
    {
        ModelNode directory = _model.Root;
        int depth = 0;
        while (random.Next(3) != 0)
        {
            ModelNode[] below = [.. directory.Entries!.Values.Where(node => node.Entries is not null)];
            if (below.Length == 0) { break; }
            directory = below[random.Next(below.Length)];
            depth++;
        }
        return (directory, depth);
    }

    private string? NewName(ModelNode directory)
    {
        string name = $"{random.Next(30)}{(random.Next(LongNameOneIn) == 0 ? s_longName : "")}";
        return directory.Entries!.ContainsKey(name) ? null : name;
    }

    private static bool IsBelow(ModelNode node, ModelNode directory) => node == directory || (directory.Entries?.Values.Any(child => IsBelow(node, child)) ?? false);

    private long Offset(ModelNode node) => random.Next(4) switch
    {
        0 => node.Content.Length,
        1 => random.Next(60) * 4096,
        2 => random.Next(Math.Max(node.Content.Length, 1)),
        _ => random.Next(MaxFileBytes / 2),
    };

    private int Length() => random.Next(6) switch
    {
        0 => random.Next(1, 60_000),
        1 => random.Next(1, 8) * 4096,
        2 => random.Next(1, 300),
        _ => random.Next(1, 9000),
    };

    private byte[] Bytes(int length)
    {
        byte[] bytes = new byte[length];
        random.NextBytes(bytes);
        return bytes;
    }
}
