using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;
using MountedFs = VhostFs.Blobfs.Blobfs;

namespace VhostFs.Failure.Tests;

/// <summary>A pool with two volumes, "v" that a scenario works on and "w" that has nothing to do with it, opened and mounted on a bdev that may fail.</summary>
public sealed class FailureWorld(FaultBdev bdev, string[] names) : IDisposable
{
    public const string Main = "v";
    public const string Other = "w";

    /// <summary>What background work (sync, marker, unmap) needs to come to an end.</summary>
    private const long SettleNs = 2_500_000_000;

    private readonly FileClient _looker = new();
    private readonly List<(MountedFs FileSystem, FileClient Client)> _mounted = [];

    [ThreadStatic] private static NodeCache? t_nodes;

    /// <summary>Small, so that operations have to read nodes. Its memory is its own for ever, so a thread has one.</summary>
    public NodeCache Nodes { get; } = t_nodes is { UsedBytes: 0 } empty ? empty : t_nodes = new NodeCache(256 << 10);

    public FaultBdev Bdev => bdev;

    public Pool Pool { get; private set; } = null!;

    public FileClient Client { get; } = new();

    public FileClient OtherClient { get; } = new();

    public FileClient Files(int index) => _mounted[index].Client;

    public Volume VolumeAt(int index) => _mounted[index].FileSystem.Volume;

    public int MountedCount => _mounted.Count;

    public bool IsFailed => _mounted.Count == 0 || _mounted[0].FileSystem.Volume.Failed;

    public int OrphanCount => _mounted.Sum(static m => m.FileSystem.OrphanCount);

    /// <summary>Time as operations see it: a scenario's step, so that the same step leaves the same times.</summary>
    public long Clock { get; set; } = 1000;

    public int MaxInodes { get; set; } = 1 << 20;

    public List<string> Reports { get; } = [];

    /// <summary>Null, or why it cannot be opened.</summary>
    public async IoTask<string?> OpenAsync()
    {
        OpenResult<Pool> opened = await Pool.OpenAsync(bdev, new PoolOptions { NodeCache = Nodes, Report = Reports.Add });
        if (opened.Value is null) { return opened.Error; }
        Pool = opened.Value;
        foreach (string name in names)
        {
            // Only the other volume may have gone.
            if (name == Other && Pool.Volumes.All(static v => v.Name != Other)) { continue; }
            if (await MountAsync(name, name == Main ? Client : OtherClient) is { } problem)
            {
                await CloseAsync();
                return problem;
            }
        }
        return null;
    }

    public void Use(Pool pool) => Pool = pool;

    public async IoTask<string?> MountAsync(string name, FileClient client)
    {
        OpenResult<Volume> volume = await Pool.OpenVolumeAsync(name);
        return volume.Value is null ? volume.Error : await MountAsync(volume.Value, client);
    }

    public async IoTask<string?> MountAsync(Volume volume, FileClient client)
    {
        FsResult<MountedFs> mounted = await MountedFs.MountAsync(volume, new VhostFs.Blobfs.BlobfsOptions { Clock = () => new FsTime(Clock, 0), MaxInodesPerSession = MaxInodes });
        if (mounted.IsError) { return $"mounting '{volume.Name}': {mounted.Errno}"; }
        client.Session = mounted.Value.OpenSession();
        _mounted.Add((mounted.Value, client));
        return null;
    }

    /// <summary>What can be seen of a mounted volume right now; faults are off meanwhile.</summary>
    public async IoTask<string> LookAsync(int index)
    {
        bool paused = bdev.IsPaused;
        bdev.IsPaused = true;
        _looker.Session = _mounted[index].FileSystem.OpenSession(isReadOnly: true);
        string dump = await TreeDump.ReadAsync(_looker);
        _looker.EndSession();
        bdev.IsPaused = paused;
        return dump;
    }

    public static async IoTask<Errno> SettleAsync() => await IoReactor.Current.DelayAsync(SettleNs);

    /// <summary>Sessions end, deletions go on until nothing moves any more.</summary>
    public void EndSessions()
    {
        foreach ((_, FileClient client) in _mounted) { client.EndSession(); }
    }

    public async IoTask<Errno> CloseAsync()
    {
        EndSessions();
        foreach ((MountedFs fileSystem, _) in _mounted) { await fileSystem.CloseAsync(); }
        _mounted.Clear();
        return await Pool.CloseAsync();
    }

    /// <summary>Unmounts and closes the other volume, and nothing else.</summary>
    public async IoTask<Errno> CloseOtherAsync()
    {
        (MountedFs fileSystem, FileClient client) = _mounted[1];
        client.EndSession();
        Errno closed = await fileSystem.CloseAsync();
        return closed == Errno.None ? await fileSystem.Volume.CloseAsync() : closed;
    }

    public void Dispose()
    {
        _looker.Dispose();
        Client.Dispose();
        OtherClient.Dispose();
    }
}
