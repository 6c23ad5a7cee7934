using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Hosting;
using VhostFs.Linux;
using VhostFs.Lvol;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>The bdev_lvol_* methods: stores of logical volumes on bdevs, and their volumes as bdevs.</summary>
internal sealed class LvolMethods
{
    private const long MiB = 1 << 20;

    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.InternalError, "spdk_json_decode_object failed");
    private static readonly Dictionary<string, string> s_clearMethods = new(StringComparer.Ordinal) { ["none"] = "", ["unmap"] = "", ["write_zeroes"] = "" };

    private readonly BdevRegistry _bdevs;
    private readonly ControlTurn _turn;
    private readonly NodeCaches _nodeCaches;
    private readonly Log _log;
    private readonly List<RegisteredStore> _stores = [];

    public LvolMethods(BdevRegistry bdevs, ControlTurn turn, NodeCaches nodeCaches, Log log)
    {
        _bdevs = bdevs;
        _turn = turn;
        _nodeCaches = nodeCaches;
        _log = log;
        bdevs.Examiners.Add(ExamineAsync);
    }

    public Dictionary<string, RpcMethod> Methods => new(StringComparer.Ordinal)
    {
        ["bdev_lvol_create_lvstore"] = _turn.Whole(CreateStoreAsync),
        ["bdev_lvol_delete_lvstore"] = _turn.Whole(DeleteStoreAsync),
        ["bdev_lvol_rename_lvstore"] = _turn.Whole(RenameStoreAsync),
        ["bdev_lvol_grow_lvstore"] = _turn.Whole(GrowStoreAsync),
        ["bdev_lvol_get_lvstores"] = _turn.Whole(GetStoresAsync),
        ["bdev_lvol_create"] = _turn.Whole(CreateAsync),
        ["bdev_lvol_delete"] = _turn.Whole(DeleteAsync),
        ["bdev_lvol_rename"] = _turn.Whole(RenameAsync),
        ["bdev_lvol_resize"] = _turn.Whole(ResizeAsync),
        ["bdev_lvol_set_read_only"] = _turn.Whole(SetReadOnlyAsync),
        ["bdev_lvol_get_lvols"] = _turn.Whole(GetLvolsAsync),
    };

    private async Task<object?> CreateStoreAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string bdevName = parameters.Text("bdev_name"), name = parameters.Text("lvs_name");
        int clusterBytes = (int)(parameters.OptionalNumber("cluster_sz", int.MaxValue) ?? 0);
        if (parameters.OptionalText("clear_method") is not null) { parameters.Choice("clear_method", s_clearMethods); }
        parameters.Ignore("num_md_pages_per_cluster_ratio", "md_page_size");
        parameters.End();
        RegisteredBdev below = _bdevs.Find(bdevName) ?? throw RpcException.InvalidParams(Errno.ENODEV, $"there is no bdev '{bdevName}'");
        BdevRegistry.CheckFree(below, RpcException.InvalidParams);
        if (_stores.Exists(s => s.Store.Name == name)) { throw RpcException.InvalidParams(Errno.EEXIST, $"there is a store '{name}' already"); }
        OpenResult<LvolStore> made = await below.Reactor.InvokeAsync(() => LvolStore.FormatAsync(below.Bdev, name, clusterBytes, Options(below)));
        if (made.Value is not { } store) { throw RpcException.InvalidParams(Errno.EINVAL, made.Error!); }
        Add(new RegisteredStore(this, store, below));
        return store.Uuid.ToString();
    }

    private async Task<object?> DeleteStoreAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        RegisteredStore store = FindStore(parameters, "uuid");
        parameters.End();
        if (BdevsOf(store).FirstOrDefault(b => b.User is not null) is { } used) { throw RpcException.InvalidParams(Errno.EBUSY, $"logical volume '{used.Alias}' is used by {used.User}"); }
        Check(await CloseAsync(store, store.Store.DestroyAsync), $"the store '{store.Store.Name}' cannot be deleted");
        return true;
    }

    private async Task<object?> RenameStoreAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string oldName = parameters.Text("old_name"), newName = parameters.Text("new_name");
        parameters.End();
        RegisteredStore store = _stores.Find(s => s.Store.Name == oldName) ?? throw RpcException.Of(Errno.ENODEV, NoSuchStore(oldName));
        if (LvolStore.NameError(newName) is { } error) { throw RpcException.InvalidParams(Errno.EINVAL, error); }
        if (_stores.Exists(s => s.Store.Name == newName)) { throw RpcException.InvalidParams(Errno.EEXIST, $"there is a store '{newName}' already"); }
        Check(await store.Below.Reactor.InvokeAsync(() => store.Store.RenameAsync(newName)), $"store '{oldName}' cannot be renamed");
        return true;
    }

    private async Task<object?> GrowStoreAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        RegisteredStore store = FindStore(parameters, "uuid");
        parameters.End();
        Check(await store.Below.Reactor.InvokeAsync(store.Store.GrowAsync), $"the store '{store.Store.Name}' cannot be grown");
        return true;
    }

    private Task<object?> GetStoresAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        RegisteredStore[] wanted = parameters.Has("uuid") || parameters.Has("lvs_name") ? [FindStore(parameters, "uuid")] : [.. _stores];
        parameters.End();
        return Task.FromResult<object?>(wanted.Select(s => new Dictionary<string, object>
        {
            ["uuid"] = s.Store.Uuid.ToString(),
            ["name"] = s.Store.Name,
            ["base_bdev"] = s.Below.Name,
            ["total_data_clusters"] = s.Store.TotalBytes / s.Store.ClusterBytes,
            ["free_clusters"] = s.Store.FreeBytes / s.Store.ClusterBytes,
            ["block_size"] = s.Below.Bdev.BlockSize,
            ["cluster_size"] = s.Store.ClusterBytes,
        }).ToArray());
    }

    private async Task<object?> CreateAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = parameters.Text("lvol_name");
        ulong sizeMiB = parameters.Number("size_in_mib", long.MaxValue / MiB);
        // SPDK makes a volume thick unless told; here thin is the default.
        bool isThin = !parameters.Has("thin_provision") || parameters.Flag("thin_provision");
        if (parameters.OptionalText("clear_method") is not null) { parameters.Choice("clear_method", s_clearMethods); }
        RegisteredStore store = FindStore(parameters, "uuid");
        parameters.End();
        if (LvolStore.NameError(name) is { } error) { throw RpcException.InvalidParams(Errno.EINVAL, error); }
        if (sizeMiB == 0) { throw RpcException.InvalidParams(Errno.EINVAL, "a volume has a size"); }
        if (store.Store.Lvols.Any(l => l.Name == name)) { throw RpcException.InvalidParams(Errno.EEXIST, $"there is a volume '{store.Store.Name}/{name}' already"); }
        FsResult<Lvol.Lvol> made = await store.Below.Reactor.InvokeAsync(() => store.Store.CreateAsync(name, RoundUp((long)sizeMiB * MiB, store), isThin));
        Check(made.Errno, $"volume '{name}' of {sizeMiB} MiB cannot be made");
        Present(store, made.Value);
        return made.Value.Bdev.Name;
    }

    private async Task<object?> DeleteAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        (RegisteredStore store, Lvol.Lvol lvol, RegisteredBdev bdev) = Find(parameters.Text("name"));
        parameters.End();
        // Not taken from its user, as other bdevs are: its data would be lost.
        if (bdev.User is { } user) { throw RpcException.Of(Errno.EBUSY, $"volume '{bdev.Alias}' is used by {user}; delete that first"); }
        await _bdevs.RemoveAsync(bdev);
        Errno deleted = await store.Below.Reactor.InvokeAsync(() => store.Store.DeleteAsync(lvol));
        if (deleted != Errno.None) { Present(store, lvol); }
        Check(deleted, $"volume '{bdev.Alias}' cannot be deleted");
        return true;
    }

    private async Task<object?> RenameAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        (RegisteredStore store, Lvol.Lvol lvol, RegisteredBdev bdev) = Find(parameters.Text("old_name"));
        string newName = parameters.Text("new_name");
        parameters.End();
        if (LvolStore.NameError(newName) is { } error) { throw RpcException.InvalidParams(Errno.EINVAL, error); }
        Check(await store.Below.Reactor.InvokeAsync(() => store.Store.RenameAsync(lvol, newName)), $"volume '{bdev.Alias}' cannot be renamed to '{newName}'");
        return true;
    }

    private async Task<object?> ResizeAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        (RegisteredStore store, _, RegisteredBdev bdev) = Find(parameters.Text("name"));
        ulong sizeMiB = parameters.Number("size_in_mib", long.MaxValue / MiB);
        parameters.End();
        Check(await bdev.Reactor.InvokeAsync(() => bdev.Bdev.ResizeAsync(RoundUp((long)sizeMiB * MiB, store))), $"volume '{bdev.Alias}' cannot have {sizeMiB} MiB");
        return true;
    }

    private async Task<object?> SetReadOnlyAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        (RegisteredStore store, Lvol.Lvol lvol, RegisteredBdev bdev) = Find(parameters.Text("name"));
        parameters.End();
        Check(await bdev.Reactor.InvokeAsync(() => store.Store.SetReadOnlyAsync(lvol)), $"volume '{bdev.Alias}' cannot be made read-only");
        return true;
    }

    private async Task<object?> GetLvolsAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        RegisteredStore[] stores = parameters.Has("lvs_uuid") || parameters.Has("lvs_name") ? [FindStore(parameters, "lvs_uuid")] : [.. _stores];
        parameters.End();
        var shown = new List<object>();
        foreach (RegisteredStore store in stores)
        {
            foreach (Lvol.Lvol lvol in store.Store.Lvols)
            {
                long clusters = await AllocatedClustersAsync(store, lvol);
                shown.Add(new Dictionary<string, object>
                {
                    ["alias"] = lvol.Bdev.Alias,
                    ["uuid"] = lvol.Bdev.Name,
                    ["name"] = lvol.Name,
                    ["is_thin_provisioned"] = IsThin(store, lvol, clusters),
                    ["is_snapshot"] = false,
                    ["is_clone"] = false,
                    ["is_esnap_clone"] = false,
                    ["is_degraded"] = false,
                    ["num_allocated_clusters"] = clusters,
                    ["lvs"] = new Dictionary<string, object> { ["name"] = store.Store.Name, ["uuid"] = store.Store.Uuid.ToString() },
                });
            }
        }
        return shown;
    }

    /// <summary>A bdev has appeared that nobody uses: a store that is on it appears with its volumes, as with SPDK's.</summary>
    private async Task ExamineAsync(RegisteredBdev bdev)
    {
        if (bdev.Bdev is LvolBdev) { return; }
        OpenResult<LvolStore> opened = await bdev.Reactor.InvokeAsync(() => LvolStore.OpenAsync(bdev.Bdev, Options(bdev)));
        if (opened.Error is { } error) { _log.Warn($"bdev {bdev.Name}", $"the pool on it is not opened: {error}"); }
        if (opened.Value is not { } store) { return; }
        string? conflict = _stores.Exists(s => s.Store.Name == store.Name || s.Store.Uuid == store.Uuid) ? $"there is a store '{store.Name}' already"
            : store.Lvols.FirstOrDefault(l => _bdevs.Find(l.Bdev.Name) is not null) is { } twin ? $"there is a bdev {twin.Bdev.Name} already" : null;
        if (conflict is not null)
        {
            _log.Warn($"bdev {bdev.Name}", $"the logical volumes on it are not shown: {conflict}");
            await bdev.Reactor.InvokeAsync(store.CloseAsync);
            return;
        }
        var registered = new RegisteredStore(this, store, bdev);
        Add(registered);
        foreach (Lvol.Lvol lvol in store.Lvols) { Present(registered, lvol); }
        _log.Info($"bdev {bdev.Name}", $"holds the logical volumes of '{store.Name}': {Config.ConfigCheck.Names(store.Lvols.Select(l => l.Name))}");
    }

    private void Add(RegisteredStore store)
    {
        _stores.Add(store);
        store.Below.User = store;
    }

    private async Task<Errno> CloseAsync(RegisteredStore store, Func<Reactor.IoTask<Errno>> close)
    {
        foreach (RegisteredBdev bdev in BdevsOf(store)) { await _bdevs.RemoveAsync(bdev); }
        Errno closed = await store.Below.Reactor.InvokeAsync(close);
        _stores.Remove(store);
        store.Below.User = null;
        return closed;
    }

    private RegisteredBdev[] BdevsOf(RegisteredStore store) => [.. _bdevs.All.Where(b => IsOf(b, store))];

    private void Present(RegisteredStore store, Lvol.Lvol lvol) => _bdevs.Present(new RegisteredBdev(BdevModule.Lvol, lvol.Bdev, store.Below.Reactor, lvol.Bdev.Uuid)
    {
        Members = () => [store.Below],
        Details = async () =>
        {
            long clusters = await AllocatedClustersAsync(store, lvol);
            return new Dictionary<string, object>
            {
                ["lvol"] = new Dictionary<string, object>
                {
                    ["lvol_store_uuid"] = store.Store.Uuid.ToString(),
                    ["base_bdev"] = store.Below.Name,
                    ["thin_provision"] = IsThin(store, lvol, clusters),
                    ["num_allocated_clusters"] = clusters,
                    ["snapshot"] = false,
                    ["clone"] = false,
                    ["esnap_clone"] = false,
                },
            };
        },
    });

    private static async Task<long> AllocatedClustersAsync(RegisteredStore store, Lvol.Lvol lvol)
    {
        long bytes = await store.Below.Reactor.InvokeAsync(() => store.Store.AllocatedBytesAsync(lvol));
        return (bytes + store.Store.ClusterBytes - 1) / store.Store.ClusterBytes;
    }

    // Not written down anywhere: one that has all its space needs no more of it.
    private static bool IsThin(RegisteredStore store, Lvol.Lvol lvol, long allocatedClusters) => allocatedClusters * store.Store.ClusterBytes < lvol.Bdev.SizeBytes;

    private static long RoundUp(long bytes, RegisteredStore store) => (bytes + store.Store.ClusterBytes - 1) / store.Store.ClusterBytes * store.Store.ClusterBytes;

    private static bool IsOf(RegisteredBdev bdev, RegisteredStore store) => store.Store.Lvols.Any(l => ReferenceEquals(l.Bdev, bdev.Bdev));

    private PoolOptions Options(RegisteredBdev below) => new() { NodeCache = _nodeCaches[below.Reactor], Report = line => _log.Warn($"bdev {below.Name}", line) };

    /// <summary>By UUID or by name: one of them, and not both.</summary>
    private RegisteredStore FindStore(RpcParameters parameters, string uuidName)
    {
        string? uuid = parameters.OptionalText(uuidName), name = parameters.OptionalText("lvs_name");
        if (uuid is null == name is null) { throw RpcException.Of(Errno.EINVAL, $"say either '{uuidName}' or 'lvs_name'"); }
        return _stores.Find(s => s.Store.Name == name || s.Store.Uuid.ToString().Equals(uuid, StringComparison.OrdinalIgnoreCase)) ?? throw RpcException.Of(Errno.ENODEV, NoSuchStore(name ?? uuid!));
    }

    private (RegisteredStore Store, Lvol.Lvol Lvol, RegisteredBdev Bdev) Find(string name)
    {
        if (_bdevs.Find(name) is { Bdev: LvolBdev } bdev && _stores.Find(s => IsOf(bdev, s)) is { } store)
        {
            return (store, store.Store.Lvols.First(l => ReferenceEquals(l.Bdev, bdev.Bdev)), bdev);
        }
        throw RpcException.Of(Errno.ENODEV, $"there is no logical volume '{name}'");
    }

    private string NoSuchStore(string name) => $"there is no store '{name}'; there are {Config.ConfigCheck.Names(_stores.Select(s => s.Store.Name))}";

    private static void Check(Errno errno, string reason)
    {
        if (errno != Errno.None) { throw RpcException.InvalidParams(errno, reason); }
    }

    /// <summary>The user of the bdev that it is on. While one of its volumes is used it does not let go; else it is closed, goes with its volumes when the bdev is deleted, and comes back with it.</summary>
    private sealed class RegisteredStore(LvolMethods methods, LvolStore store, RegisteredBdev below) : BdevUser("")
    {
        public LvolStore Store => store;

        public RegisteredBdev Below => below;

        public override bool IsFoundByExamination => true;

        public override Task<BdevUser?> FindRefusalAsync(RegisteredBdev bdev) => Task.FromResult<BdevUser?>(methods.BdevsOf(this).Any(b => b.User is not null) ? this : null);

        public override async Task LetGoAsync(RegisteredBdev bdev)
        {
            Errno closed = await methods.CloseAsync(this, store.CloseAsync);
            if (closed != Errno.None) { methods._log.Error($"bdev {below.Name}", $"the store '{store.Name}' was not closed cleanly ({closed}). What was acknowledged is in the log and is replayed when it appears again"); }
        }

        public override string ToString() => $"lvstore {store.Name}";
    }
}
