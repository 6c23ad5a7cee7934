using VhostFs.Bdev;
using VhostFs.Blobfs;
using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Fuse;
using VhostFs.Image.Tests.Images;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Image.Tests.Mutation;

/// <summary>Lets the checker and the engine loose on one mutated image: opens, walks, changes, closes. All of it may fail; none of it may do harm.</summary>
internal sealed class MutantJudge : IDisposable
{
    /// <summary>Everything that one image makes us allocate, freed or not.</summary>
    private const long MaxAllocatedBytes = 64L << 20;

    private readonly NodeCache _nodes = new(16 << 20);
    private readonly VolumeWalk _walk = new();
    private readonly NativeBuffer _memory = new(64 << 10, zeroed: true);
    private readonly IoVecList _list = new(1);
    private readonly List<string> _reports = [];
    private readonly List<string> _failures = [];

    /// <summary>How the checker looks; a test weakens it to see that this is noticed.</summary>
    public CheckOptions CheckOptions { get; init; } = CheckOptions.Default;

    /// <summary>The image opened and could be walked without an error.</summary>
    public bool WasUsable { get; private set; }

    /// <summary>The checker found nothing.</summary>
    public bool WasClean { get; private set; }

    public void Dispose()
    {
        _walk.Dispose();
        _memory.Dispose();
        _list.Dispose();
    }

    /// <summary>Null, or what must not be.</summary>
    public string? Judge(MutationScope scope, DiskImage image, ImageLayout layout)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        long nodes = _nodes.UsedBytes;
        int touched = image.TouchedBlocks.Count;
        using var bdev = new WatchedBdev(new ImageBdev(image));
        string? problem;
        using (var reactor = new IoReactor(new SimulatedDriver(), "mutant"))
        {
            problem = reactor.RunUntilComplete(() => RunAsync(bdev, scope == MutationScope.VolumeB ? "b" : "a"));
        }
        if (problem is not null) { return problem; }
        if (bdev.Outside > 0) { return $"{bdev.Outside} operations outside of the device"; }
        if (_nodes.UsedBytes != nodes) { return $"{_nodes.UsedBytes - nodes} bytes of nodes were not given back"; }
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        if (allocated > MaxAllocatedBytes) { return $"it took {allocated >> 20} MiB of memory"; }
        return scope == MutationScope.Pool ? null : Strayed(scope, image, touched, layout);
    }

    private async IoTask<string?> RunAsync(WatchedBdev bdev, string name)
    {
        (WasUsable, WasClean) = (false, false);
        _reports.Clear();
        _failures.Clear();
        CheckReport check = await PoolChecker.CheckAsync(bdev, CheckOptions);
        WasClean = check.IsClean;
        OpenResult<Pool> opened = await Pool.OpenAsync(bdev, new PoolOptions { NodeCache = _nodes, Report = _reports.Add });
        if (opened.Value is { } pool)
        {
            string? problem = await UseAsync(pool, name);
            Errno closed = await pool.CloseAsync();
            if (problem is not null) { return problem; }
            if (closed != Errno.None) { _failures.Add($"closing: {closed}"); }
        }
        else { _failures.Add(opened.Error!); }
        // No device has failed here: a volume that ends itself has met something that it should have refused.
        if (_reports.FirstOrDefault(line => line.Contains("takes no more changes", StringComparison.Ordinal)) is { } ended) { return ended; }
        if (!check.IsClean) { return null; }
        if (_failures.Count > 0) { return $"the checker finds nothing, but: {string.Join("; ", _failures.Take(3))} ({string.Join("; ", _reports.Take(3))})"; }
        CheckReport after = await PoolChecker.CheckAsync(bdev, CheckOptions);
        return after.IsClean ? null : $"clean before it was opened, and then: {string.Join("; ", after.Findings.Take(3))}";
    }

    private async IoTask<string?> UseAsync(Pool pool, string name)
    {
        // Renamed, or being deleted: nothing to complain about.
        if (pool.Volumes.All(volume => volume.Name != name)) { return null; }
        OpenResult<Volume> volume = await pool.OpenVolumeAsync(name);
        if (volume.Value is null)
        {
            _failures.Add(volume.Error!);
            return null;
        }
        FsResult<VhostFs.Blobfs.Blobfs> mounted = await VhostFs.Blobfs.Blobfs.MountAsync(volume.Value, new BlobfsOptions { Clock = static () => new FsTime(1_800_000_000, 0) });
        if (mounted.IsError)
        {
            _failures.Add($"mounting: {mounted.Errno}");
            return null;
        }
        BlobfsSession fs = mounted.Value.OpenSession();
        await _walk.RunAsync(fs);
        WasUsable = _walk.Errors == 0;
        foreach ((string path, string value) in _walk.Found)
        {
            if (value.StartsWith('E')) { _failures.Add($"{path}: {value}"); }
        }
        if (_walk.BadName is { } bad) { return $"a name that no guest can use was handed out: '{bad}'"; }
        await ChangeAsync(fs);
        await fs.SyncFsAsync();
        fs.EndSession();
        await mounted.Value.CloseAsync();
        return null;
    }

    /// <summary>A little of everything that changes a volume, on what there is.</summary>
    private async IoTask<int> ChangeAsync(BlobfsSession fs)
    {
        var context = new CreateContext(new FuseCaller(0, 0, 1), 0);
        ulong directory = _walk.Directories.LastOrDefault(1UL);
        FsResult<InodeAttributes> made = await fs.MakeNodeAsync(context, directory, Name("new"), 0x81A4, 0);
        Note("creating", made.Errno);
        if (!made.IsError) { Note("writing a new file", await WriteAsync(fs, made.Value.Inode, 0, 12_000)); }
        for (int i = 0; i < _walk.Files.Count; i += 1 + (_walk.Files.Count / 6))
        {
            ulong file = _walk.Files[i];
            Note("writing", await WriteAsync(fs, file, 1_000 * i, 5_000));
            Note("shortening", (await fs.SetAttributesAsync(default, file, new SetAttributes(SizeBytes: 100 * i))).Errno);
            Note("setting an attribute", await fs.SetXattrAsync(file, Name("user.n"), _memory.Slice(1000, 500), 0, false));
            Note("punching", await fs.FallocateAsync(default, file, 0, 3, 0, 1 << 20));
            Note("linking", (await fs.LinkAsync(file, 1, Name($"link-{i}"))).Errno);
            await fs.RemoveXattrAsync(file, Name("user.small"));
        }
        Note("making a directory", (await fs.MakeDirectoryAsync(context, 1, Name("made"), 0x1ED)).Errno);
        foreach (string name in new[] { "blocks", "sparse", "short", "d", "file-1", "one-block", "newer", "fifo" })
        {
            Errno gone = await fs.UnlinkAsync(name.StartsWith('f') ? directory : 1, Name(name));
            if (gone == Errno.EIO) { Note($"unlinking {name}", gone); }
        }
        Note("renaming", await fs.RenameAsync(default, 1, Name("d"), 1, Name("e"), 0));
        Note("removing a directory", await fs.RemoveDirectoryAsync(1, Name("made")));
        return 0;
    }

    /// <summary>EIO is what damage gives; other errors can be an answer on a sound volume too.</summary>
    private void Note(string what, Errno result)
    {
        if (result == Errno.EIO) { _failures.Add($"{what}: {result}"); }
    }

    private async IoTask<Errno> WriteAsync(BlobfsSession fs, ulong file, long offset, int length)
    {
        _list.Clear();
        _list.Add(_memory.Slice(0, length));
        return (await fs.WriteAsync(file, 0, offset, _list.View(), 1, false, false)).Errno;
    }

    private IoVec Name(string name)
    {
        IoVec room = _memory.Slice(60_000, name.Length);
        System.Text.Encoding.ASCII.GetBytes(name, room.Span);
        return room;
    }

    /// <summary>The neighbour's blocks were written to: whose structures were changed in one volume only.</summary>
    private static string? Strayed(MutationScope scope, DiskImage image, int before, ImageLayout layout)
    {
        ulong neighbour = layout.Volume(scope == MutationScope.VolumeA ? "b" : "a").Id;
        for (int i = before; i < image.TouchedBlocks.Count; i++)
        {
            long inClusters = image.TouchedBlocks[i] - (long)layout.DataStart;
            if (inClusters < 0 || inClusters / layout.ClusterBlocks >= layout.Clusters.Length) { continue; }
            if (layout.Clusters[inClusters / layout.ClusterBlocks].Owner == neighbour) { return $"block {image.TouchedBlocks[i]} of the other volume was written"; }
        }
        return null;
    }
}
