using System.Text.Json;
using System.Text.Json.Nodes;
using VhostFs.Blobstore;
using VhostFs.Config;
using VhostFs.Hosting;
using VhostFs.Linux;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>Pools of file systems, their volumes, and the controllers that show them to VMs: fs_* and vhost_create_fs_controller. None of them is SPDK's; errors are as its bdev methods have them.</summary>
internal sealed class FsMethods(BdevRegistry bdevs, VhostControllers controllers, ControlTurn turn, NodeCaches nodeCaches, Log log)
{
    private const ulong MaxMiB = long.MaxValue >> 20;

    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.InvalidParams, RpcException.Text(Errno.EINVAL));

    private readonly List<RegisteredPool> _pools = [];

    public Dictionary<string, RpcMethod> Methods => new(StringComparer.Ordinal)
    {
        ["fs_create_pool"] = turn.Whole(call => OpenPoolAsync(call, creates: true)),
        ["fs_open_pool"] = turn.Whole(call => OpenPoolAsync(call, creates: false)),
        ["fs_close_pool"] = turn.Whole(ClosePoolAsync),
        ["fs_grow_pool"] = turn.Whole(GrowPoolAsync),
        ["fs_get_pools"] = turn.Whole(GetPoolsAsync),
        ["fs_create_volume"] = turn.Whole(CreateVolumeAsync),
        ["fs_delete_volume"] = turn.Whole(DeleteVolumeAsync),
        ["fs_set_quota"] = turn.Whole(SetQuotaAsync),
        ["vhost_create_fs_controller"] = turn.Whole(CreateControllerAsync),
    };

    /// <summary>A pool of the configuration. Before the first call.</summary>
    public void AddPool(PoolHost host, Reactor.Reactor reactor) => _pools.Add(new RegisteredPool(host, reactor, null));

    /// <summary>What opens all pools again, and then makes all controllers.</summary>
    public IEnumerable<JsonObject> SavedCalls() => _pools.Where(p => p.Below is not null)
        .Select(p => SavedCall.Of("fs_open_pool", new JsonObject { ["bdev_name"] = p.Below!.Name, ["pool_name"] = p.Name }))
        .Concat(controllers.All.OfType<FsController>().SelectMany(c => c.SavedCalls(controllers.MaskOf(c))));

    /// <summary>The end: controllers have gone, and bdevs are still there.</summary>
    public async Task StopAsync()
    {
        foreach (RegisteredPool pool in _pools.Where(p => p.Below is not null).ToArray())
        {
            Errno closed = await CloseAsync(pool);
            if (closed != Errno.None) { log.Error($"pool {pool.Name}", $"not closed cleanly ({closed}). What was acknowledged is in the log and is replayed when it is opened"); }
        }
    }

    private async Task<object?> OpenPoolAsync(RpcCall call, bool creates)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string bdevName = parameters.Text("bdev_name"), name = parameters.Text("pool_name");
        int clusterBytes = creates ? (int)(parameters.OptionalNumber("cluster_sz", int.MaxValue) ?? 0) : 0;
        parameters.End();
        RegisteredBdev below = bdevs.Find(bdevName) ?? throw RpcException.Of(Errno.ENODEV, $"there is no bdev '{bdevName}'");
        BdevRegistry.CheckFree(below);
        if (name.Length == 0 || name.Contains('/', StringComparison.Ordinal)) { throw RpcException.Of(Errno.EINVAL, $"'{name}' is no name for a pool: no '/', and at least one character"); }
        if (_pools.Exists(p => p.Name == name)) { throw RpcException.Of(Errno.EEXIST, $"there is a pool '{name}' already"); }
        var options = new PoolOptions { NodeCache = nodeCaches[below.Reactor], Report = line => log.Warn($"pool {name}", line) };
        OpenResult<PoolHost> opened = await below.Reactor.InvokeAsync(() => PoolHost.OpenOnAsync(name, below.Bdev, creates ? new FormatOptions { ClusterBytes = clusterBytes } : null, options));
        if (opened.Value is not { } host) { throw RpcException.Of(Errno.EINVAL, opened.Error!); }
        var pool = new RegisteredPool(host, below.Reactor, below);
        _pools.Add(pool);
        below.User = $"pool {name}";
        return true;
    }

    private async Task<object?> ClosePoolAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        RegisteredPool pool = FindPool(parameters.Text("pool_name"));
        parameters.End();
        if (pool.Below is null) { throw RpcException.Of(Errno.EBUSY, $"pool '{pool.Name}' is the configuration's"); }
        if (ControllerOn(pool.Name + "/") is { } user) { throw RpcException.Of(Errno.EBUSY, $"controller '{user.Name}' shows a volume of pool '{pool.Name}'; delete that first"); }
        Errno closed = await CloseAsync(pool);
        return closed == Errno.None ? true : throw RpcException.Of(closed, $"pool '{pool.Name}' was not closed cleanly");
    }

    private async Task<object?> GrowPoolAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        RegisteredPool pool = FindPool(parameters.Text("pool_name"));
        parameters.End();
        Errno grown = await pool.Reactor.InvokeAsync(pool.Host.Pool.GrowAsync);
        return grown == Errno.None ? true : throw RpcException.Of(grown, $"pool '{pool.Name}' cannot be grown");
    }

    private async Task<object?> GetPoolsAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string? name = parameters.OptionalText("pool_name");
        parameters.End();
        return await Task.WhenAll((name is null ? [.. _pools] : new[] { FindPool(name) }).Select(pool => pool.Reactor.InvokeAsync(() => new Reactor.IoTask<object>(Show(pool)))));
    }

    private async Task<object?> CreateVolumeAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        (RegisteredPool pool, string name) = FindVolume(parameters.Text("volume"));
        var options = new VolumeOptions { Quota = ReadQuota(parameters), DataChecksums = !parameters.Flag("no_data_checksums") };
        parameters.End();
        if (ConfigCheck.VolumeNameError(name) is { } error) { throw RpcException.Of(Errno.EINVAL, error); }
        if (pool.Host.Has(name)) { throw RpcException.Of(Errno.EEXIST, $"there is a volume '{pool.Name}/{name}' already"); }
        OpenResult<Volume> made = await pool.Reactor.InvokeAsync(() => pool.Host.Pool.CreateVolumeAsync(name, options));
        return made.Value is { } volume ? volume.Uuid.ToString() : throw RpcException.Of(Errno.ENOSPC, made.Error!);
    }

    private async Task<object?> DeleteVolumeAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        (RegisteredPool pool, string name) = FindVolume(parameters.Text("volume"));
        parameters.End();
        if (ControllerOn($"{pool.Name}/{name}") is { } user) { throw RpcException.Of(Errno.EBUSY, $"controller '{user.Name}' shows volume '{pool.Name}/{name}'; delete that first"); }
        Errno deleted = await pool.Reactor.InvokeAsync(() => pool.Host.DeleteVolumeAsync(name));
        return deleted == Errno.None ? true : throw RpcException.Of(deleted, deleted == Errno.EBUSY ? $"volume '{pool.Name}/{name}' is in use" : $"volume '{pool.Name}/{name}' cannot be deleted");
    }

    private async Task<object?> SetQuotaAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        (RegisteredPool pool, string name) = FindVolume(parameters.Text("volume"));
        VolumeQuota quota = ReadQuota(parameters);
        parameters.End();
        Errno set = await pool.Reactor.InvokeAsync(() => pool.Host.Pool.SetQuotaAsync(name, quota));
        return set == Errno.None ? true : throw RpcException.Of(set, $"the limits of volume '{pool.Name}/{name}' cannot be set");
    }

    private async Task<object?> CreateControllerAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = parameters.Text("ctrlr");
        (RegisteredPool pool, string volumeName) = FindVolume(parameters.Text("volume"));
        string tag = parameters.OptionalText("tag") ?? volumeName;
        FuseWishes wishes = ReadOptions(parameters);
        parameters.End();
        if (!QemuOptions.TryCheckTag(tag, out string error)) { throw RpcException.Of(Errno.EINVAL, error); }
        string path = controllers.SocketPathOf(name);
        controllers.CheckNew(name);
        if (!pool.Host.Has(volumeName)) { throw RpcException.Of(Errno.ENOENT, $"pool '{pool.Name}' has no volume '{volumeName}'"); }
        OpenResult<ServedVolume> mounted = await pool.Reactor.InvokeAsync(() => pool.Host.MountAsync(volumeName));
        if (mounted.Value is not { } volume) { throw RpcException.Of(Errno.EIO, mounted.Error!); }
        await controllers.AddAsync(new FsController(name, pool, volume, tag, wishes, path, log));
        return true;
    }

    private async Task<Errno> CloseAsync(RegisteredPool pool)
    {
        Errno closed = await pool.Reactor.InvokeAsync(pool.Host.CloseAsync);
        _pools.Remove(pool);
        pool.Below!.User = null;
        return closed;
    }

    private static Dictionary<string, object> Show(RegisteredPool pool) => new()
    {
        ["pool_name"] = pool.Name,
        ["uuid"] = pool.Host.Pool.Uuid.ToString(),
        ["base_bdev"] = pool.Host.Bdev.Name,
        ["size_bytes"] = pool.Host.Pool.SizeBytes,
        ["free_bytes"] = pool.Host.Pool.FreeBytes,
        ["cluster_size"] = pool.Host.Pool.ClusterBytes,
        ["volumes"] = pool.Host.Pool.Volumes.Select(v => new Dictionary<string, object>
        {
            ["name"] = v.Name,
            ["uuid"] = v.Uuid.ToString(),
            ["allocated_bytes"] = v.AllocatedBytes,
            ["quota_bytes"] = v.Quota.Blocks * BlobData.BlockBytes,
            ["quota_inodes"] = v.Quota.Inodes,
            ["users"] = pool.Host.UsersOf(v.Name),
        }).ToArray(),
    };

    private static VolumeQuota ReadQuota(RpcParameters parameters)
    {
        const long blocksPerMiB = (1 << 20) / BlobData.BlockBytes;
        return new VolumeQuota((long)(parameters.OptionalNumber("quota_mib", MaxMiB) ?? 0) * blocksPerMiB, (long)(parameters.OptionalNumber("quota_inodes", long.MaxValue) ?? 0));
    }

    // The keys of an export in a configuration file, and their messages.
    private static FuseWishes ReadOptions(RpcParameters parameters)
    {
        var errors = new List<ConfigError>();
        string text = parameters.Object("options") is { } options ? options.GetRawText() : "{}";
        if (ConfigParser.Parse("options", System.Text.Encoding.UTF8.GetBytes(text), errors) is not { } node) { throw Wrong(errors); }
        var section = new ConfigSection(node, errors);
        FuseWishes wishes = FuseSection.Read(section);
        section.End();
        if (ConfigCheck.OptionsError(wishes.Sharing, wishes.Settle()) is { } contradiction) { errors.Add(new ConfigError(section.At(contradiction.Key), contradiction.Message)); }
        return errors.Count == 0 ? wishes : throw Wrong(errors);

        static RpcException Wrong(List<ConfigError> errors) => RpcException.Of(Errno.EINVAL, string.Join("; ", errors));
    }

    private (RegisteredPool Pool, string Name) FindVolume(string volume)
    {
        int slash = volume.IndexOf('/', StringComparison.Ordinal);
        return slash < 0 ? throw RpcException.Of(Errno.EINVAL, $"'{volume}' is no volume; write POOL/VOLUME") : (FindPool(volume[..slash]), volume[(slash + 1)..]);
    }

    private RegisteredPool FindPool(string name) => _pools.Find(p => p.Name == name) ?? throw RpcException.Of(Errno.ENODEV, $"no pool '{name}' is open; open are {ConfigCheck.Names(_pools.Select(p => p.Name))}");

    /// <param name="volume">POOL/VOLUME, or POOL/ for any of it.</param>
    private FsController? ControllerOn(string volume) =>
        controllers.All.OfType<FsController>().FirstOrDefault(c => volume.EndsWith('/') ? c.Volume.StartsWith(volume, StringComparison.Ordinal) : c.Volume == volume);
}
