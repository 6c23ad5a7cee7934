using System.Text;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>One bdev and the volumes on it. Owned by one reactor; claims the bdev while it is open.</summary>
/// <remarks>Volume 0 holds the pool's own metadata (which cluster belongs to whom, which volumes exist) and is run by the same engine as all others.
/// Invariant: a cluster's grant is durable before the volume that got it names a block in it.</remarks>
public sealed class Pool
{
    private const int BlockBytes = BlobData.BlockBytes;

    /// <summary>Data takes nodes along, from the same clusters: for each 128 blocks an item of about 560 bytes, in nodes that may be half full.</summary>
    private const int BlocksPerNodeBlock = 256;

    /// <summary>Of which something is to be made durable at the same time: they share the flushes that each of them needs.</summary>
    private const int VolumesAtOnce = 32;

    /// <summary>Whose turn it is to change the superblock; a name that no volume has (<see cref="EnterAsync"/>).</summary>
    private const string SuperblockTurn = "/superblock";

    private readonly List<VolumeRecord> _records = [];
    private readonly Dictionary<ulong, Volume> _open = [];
    private readonly Dictionary<string, WaitQueue> _busy = [];
    private readonly Action<string> _report;
    private readonly ClusterTable _clusters;
    private readonly SpaceGranter _granter;

    private readonly PoolSuperblock _superblock;
    private bool _isClosed;
    private Volume _catalogue = null!;

    private Pool(IBdev bdev, PoolSuperblock superblock, PoolOptions options, LogMemory? logMemory)
    {
        Bdev = bdev;
        IsMemory = bdev.TryGetMemory(0, BlockBytes, out _);
        LogMemory = logMemory;
        Pages = new PagePool(logMemory);
        LogBuffers = new LogBuffers(logMemory);
        _superblock = superblock;
        _report = options.Report ?? (static _ => { });
        NodeCache = options.NodeCache ?? new NodeCache(256L << 20);
        Flusher = new FlushCoalescer(bdev);
        Unmapper = new Unmapper(bdev, options.Unmap);
        _clusters = new ClusterTable(Geometry);
        _granter = new SpaceGranter(this, _clusters);
    }

    public Guid Uuid => _superblock.Uuid;

    public long SizeBytes => (long)Geometry.DeviceBlocks * BlockBytes;

    public int ClusterBytes => Geometry.ClusterBlocks * BlockBytes;

    public long FreeBytes => (long)_clusters.FreeCount * ClusterBytes;

    /// <summary>With what each of them has.</summary>
    public IReadOnlyList<VolumeInfo> Volumes => [.. _records.Where(static r => !r.IsBeingDeleted).Select(r => new VolumeInfo(
        r.Name, r.Id, r.Uuid, DateTimeOffset.FromUnixTimeSeconds(r.CreatedSeconds), _clusters.CountOf(r.Id) * ClusterBytes, _open.ContainsKey(r.Id), r.Quota))];

    public IEnumerable<string> VolumeNames => _records.Where(static r => !r.IsBeingDeleted).Select(static r => r.Name);

    internal IBdev Bdev { get; }

    /// <summary>The bdev is memory of this process, and ends with it.</summary>
    internal bool IsMemory { get; }

    internal PoolGeometry Geometry => _superblock.Geometry;

    internal ulong Epoch => _superblock.Epoch;

    internal NodeCache NodeCache { get; }

    /// <summary>For images.</summary>
    internal PagePool Pages { get; }

    /// <summary>For what goes to the bdev as it is, or comes from there.</summary>
    internal PagePool DataPages { get; } = new(null);

    /// <summary>Null: there is none, and replies wait for the bdev.</summary>
    internal LogMemory? LogMemory { get; }

    /// <summary>Shared by all volumes of the reactor: a transaction never spans an await.</summary>
    internal Transaction Transaction { get; } = new();

    internal LogBuffers LogBuffers { get; }

    internal ScanMemory ScanMemory { get; } = new();

    // Shared by all volumes, so that an idle one keeps none. Bounded by the requests under way at once.
    internal Stack<BlobChange> BlobChanges { get; } = new();

    internal Stack<BlobRead> BlobReads { get; } = new();

    internal ExtentGroupEditor ExtentEditor { get; } = new();

    internal FlushCoalescer Flusher { get; }

    internal Unmapper Unmapper { get; }

    internal Volume Catalogue => _catalogue;

    /// <summary>Makes an empty pool on a bdev. A bdev that holds one already is refused unless forced.</summary>
    public static async IoTask<OpenResult<Pool>> FormatAsync(IBdev bdev, FormatOptions options)
    {
        if (bdev.SizeBytes < PoolGeometry.MinDeviceBytes) { return $"{bdev.Name} has {bdev.SizeBytes >> 20} MiB; a pool needs at least {PoolGeometry.MinDeviceBytes >> 20} MiB"; }
        PoolGeometry geometry = PoolGeometry.For(bdev.SizeBytes, options);
        if (!geometry.IsPlausible || geometry.ClusterCount < 8) { return $"{bdev.Name} cannot hold a pool with clusters of {options.ClusterBytes} bytes (128 KiB to 16 MiB, a power of two, at least 8 of them)"; }
        if (!options.Force && await SuperblockStore.ReadAsync(bdev) is not null) { return $"{bdev.Name} already holds a pool; use --force to destroy it"; }
        if (!bdev.TryClaim("a pool being formatted", out string owner)) { return $"{bdev.Name} is in use by {owner}"; }
        VolumeIdentity identity = VolumeIdentity.New();
        Guid uuid = options.Uuid ?? identity.Uuid;
        var catalogue = CatalogueRecord(geometry, uuid);
        // The old superblocks go first and the new ones come last, each after a flush of what lies between: a crash leaves no pool, not half a one.
        Errno written = await SuperblockStore.EraseAsync(bdev);
        if (written == Errno.None && bdev.SupportsUnmap) { await bdev.UnmapAsync((long)geometry.DataStart * BlockBytes, (long)(geometry.DeviceBlocks - 2 - geometry.DataStart) * BlockBytes); }
        if (written == Errno.None) { written = await VolumeMount.FormatAsync(bdev, bdev.FlushAsync, catalogue, geometry.Nodes0First, VolumeFlags.None, identity); }
        if (written == Errno.None)
        {
            written = await SuperblockStore.WriteAsync(bdev, new Superblock { Uuid = uuid, Generation = 2, Epoch = 0, Geometry = geometry, Compatible = options.ForLogicalVolumes ? CompatibleFeatures.LogicalVolumes : CompatibleFeatures.None });
        }
        bdev.ReleaseClaim();
        return written == Errno.None ? await OpenAsync(bdev, new PoolOptions()) : $"formatting {bdev.Name} failed: {written}";
    }

    /// <summary>Whether a bdev holds a pool that was made for logical volumes, in whatever state. Changes nothing.</summary>
    public static async IoTask<bool> HoldsLogicalVolumesAsync(IBdev bdev) =>
        bdev.SizeBytes >= PoolGeometry.MinDeviceBytes && await SuperblockStore.ReadAsync(bdev) is { } superblock && superblock.Compatible.HasFlag(CompatibleFeatures.LogicalVolumes);

    /// <summary>Makes a bdev one that holds no pool; the pool is not open. Content stays on it, and nothing leads there.</summary>
    public static IoTask<Errno> EraseAsync(IBdev bdev) => SuperblockStore.EraseAsync(bdev);

    public static async IoTask<OpenResult<Pool>> OpenAsync(IBdev bdev, PoolOptions options)
    {
        OpenResult<PoolSuperblock> taken = await PoolSuperblock.OpenAsync(bdev, options.Report);
        if (taken.Value is not { } superblock) { return taken.Error!; }
        var pool = new Pool(bdev, superblock, options, options.LogMemory?.Open(superblock.Uuid, bdev.Identity, superblock.Epoch, options.Report ?? (static _ => { })));
        string? problem = await pool.LoadAsync();
        if (problem is null) { return pool; }
        if (pool._catalogue is { } catalogue) { await catalogue.AbandonAsync(); }
        pool.LogMemory?.Dispose();
        bdev.ReleaseClaim();
        return problem;
    }

    public async IoTask<OpenResult<Volume>> CreateVolumeAsync(string name, VolumeOptions options)
    {
        await EnterAsync(name);
        OpenResult<Volume> created = await CreateVolumeCoreAsync(name, options);
        Leave(name);
        return created;
    }

    /// <summary>Opens a volume; who opens it twice gets the same one.</summary>
    public async IoTask<OpenResult<Volume>> OpenVolumeAsync(string name)
    {
        await EnterAsync(name);
        OpenResult<Volume> opened = await OpenVolumeCoreAsync(name);
        Leave(name);
        return opened;
    }

    /// <summary>Removes a volume and everything in it; its space is cleared before anybody else gets it.</summary>
    public async IoTask<Errno> DeleteVolumeAsync(string name)
    {
        await EnterAsync(name);
        Errno deleted = await DeleteVolumeCoreAsync(name);
        Leave(name);
        return deleted;
    }

    /// <summary>Limits what a volume may hold, open or not. One that holds more already keeps it, and grows no further.</summary>
    public async IoTask<Errno> SetQuotaAsync(string name, VolumeQuota quota)
    {
        await EnterAsync(name);
        Errno set = Errno.ENOENT;
        if (_records.Find(r => r.Name == name && !r.IsBeingDeleted) is { } record)
        {
            record = record with { Quota = quota };
            set = await _granter.CommitAsync([], record.Id, record);
            if (set == Errno.None)
            {
                _records[_records.FindIndex(r => r.Id == record.Id)] = record;
                if (_open.TryGetValue(record.Id, out Volume? volume)) { volume.Record = record; }
            }
        }
        Leave(name);
        return set;
    }

    /// <summary>Makes the pool as large as its bdev is now, while its volumes are used. A bdev that did not grow by a cluster changes nothing.</summary>
    /// <returns>None; EINVAL: the bdev is smaller than the pool; ENODEV: the pool has been closed; else the error of a write or flush, and the pool is as large as it was.</returns>
    public async IoTask<Errno> GrowAsync()
    {
        await EnterAsync(SuperblockTurn);
        Errno grown = _isClosed ? Errno.ENODEV : await GrowCoreAsync(); // the bdev is somebody else's by now
        Leave(SuperblockTurn);
        return grown;
    }

    private async IoTask<OpenResult<Volume>> CreateVolumeCoreAsync(string name, VolumeOptions options)
    {
        int nameBytes = Encoding.UTF8.GetByteCount(name);
        if (nameBytes is 0 or > VolumeRecord.MaxNameBytes || name.Any(static c => c < ' ' || c == '/')) { return $"'{name}' is no name for a volume: 1 to 255 bytes, no '/' and no control characters"; }
        if (_records.Any(r => r.Name == name)) { return $"a volume '{name}' exists already in this pool"; }
        uint anchorClusters = (uint)((LogBlocks(options) + 4 + Geometry.ClusterBlocks - 1) / Geometry.ClusterBlocks);
        uint nodeClusters = _granter.InitialNodeClusters;
        if (_clusters.FreeCount < anchorClusters + nodeClusters + _granter.ReservedClusters
            || !_clusters.TryFind(anchorClusters, exact: true, out ClusterExtent anchorExtent))
        {
            return $"the pool has no room for another volume: it needs {(anchorClusters + nodeClusters) * (ClusterBytes >> 10)} KiB for log and metadata";
        }
        ulong id = _catalogue.AllocateInode();
        var anchor = new Anchor(Geometry.FirstBlock(anchorExtent.First), (int)anchorExtent.Count * Geometry.ClusterBlocks);
        VolumeIdentity identity = options.Identity ?? VolumeIdentity.New();
        var record = new VolumeRecord(id, name, anchor, identity.Uuid, identity.CreatedSeconds, false, options.Quota);
        // In memory at once, so that nobody else gets these clusters while the volume is being written.
        _clusters.Give(anchorExtent, ClusterKind.Anchor, id);
        List<ClusterExtent> nodes = _granter.Take(nodeClusters, ClusterKind.Node, id);
        VolumeFlags flags = options.DataChecksums ? VolumeFlags.DataChecksums : VolumeFlags.None;
        Errno written = await VolumeMount.FormatAsync(Bdev, Flusher.FlushAsync, record, Geometry.FirstBlock(nodes[0].First), flags, identity);
        if (written == Errno.None)
        {
            // Its content is durable; one record makes the volume exist.
            written = await _granter.CommitAsync([(anchorExtent, ClusterKind.Anchor), .. nodes.Select(static n => (n, ClusterKind.Node))], id, record);
        }
        if (written != Errno.None)
        {
            _clusters.TakeBack([anchorExtent, .. nodes], id);
            return $"creating volume '{name}' failed: {written}";
        }
        _records.Add(record);
        return await OpenVolumeCoreAsync(name);
    }

    private async IoTask<OpenResult<Volume>> OpenVolumeCoreAsync(string name)
    {
        if (_records.Find(r => r.Name == name && !r.IsBeingDeleted) is not { } record)
        {
            string known = _records.Count == 0 ? "it has none" : "it has " + string.Join(", ", _records.Select(static r => $"'{r.Name}'"));
            return $"the pool has no volume '{name}'; {known}";
        }
        if (_open.TryGetValue(record.Id, out Volume? already)) { return already; }
        if (!OwnsAnchor(record)) { return $"volume '{name}': its record names an anchor outside of its clusters; run 'vhostfs check' on the pool"; }
        OpenResult<Volume> opened = await VolumeMount.OpenAsync(this, record);
        if (opened.Value is { } volume) { _open[record.Id] = volume; }
        return opened;
    }

    private async IoTask<Errno> DeleteVolumeCoreAsync(string name)
    {
        int index = _records.FindIndex(r => r.Name == name);
        if (index < 0) { return Errno.ENOENT; }
        if (_open.ContainsKey(_records[index].Id)) { return Errno.EBUSY; }
        VolumeRecord record = _records[index] with { IsBeingDeleted = true };
        Errno marked = await _granter.CommitAsync([], record.Id, record);
        if (marked != Errno.None) { return marked; }
        // Not at the old index: another volume may have been removed from the list meanwhile.
        _records[_records.FindIndex(r => r.Id == record.Id)] = record;
        return await FinishDeleteAsync(record);
    }

    /// <summary>Waits until nobody else creates, opens, closes or deletes the volume of this name: each of them reads and writes its header and log as the only one.</summary>
    internal async IoTask<Errno> EnterAsync(string name)
    {
        while (_busy.TryGetValue(name, out WaitQueue? others)) { await others.WaitAsync(); }
        _busy.Add(name, new WaitQueue());
        return Errno.None;
    }

    internal void Leave(string name)
    {
        _busy.Remove(name, out WaitQueue? others);
        others!.CompleteAll(Errno.None);
    }

    /// <summary>Closes all volumes and the pool, cleanly.</summary>
    public async IoTask<Errno> CloseAsync()
    {
        Errno result = await WithEachAsync([.. _open.Values], static volume => volume.CloseAsync());
        Errno catalogue = await _catalogue.CloseAsync();
        if (result == Errno.None) { result = catalogue; }
        // Not before the volumes are closed, whose last request may want to share blocks.
        await EnterAsync(SuperblockTurn);
        if (result == Errno.None) { result = await _superblock.CloseAsync(); }
        await Flusher.IdleAsync(); // a volume that had failed did not wait for its own
        LogMemory?.Dispose();
        Bdev.ReleaseClaim();
        _isClosed = true;
        Leave(SuperblockTurn);
        return result;
    }

    /// <inheritdoc cref="Volume.AllowSharingAsync"/>
    internal IoTask<Errno> AllowSharingAsync() => _superblock.AllowsSharing ? new IoTask<Errno>(Errno.None) : MarkSharingAsync();

    private async IoTask<Errno> MarkSharingAsync()
    {
        await EnterAsync(SuperblockTurn);
        // Somebody else may have had the same wish before.
        Errno marked = _superblock.AllowsSharing ? Errno.None : await _superblock.AllowSharingAsync(Flusher.FlushAsync);
        Leave(SuperblockTurn);
        return marked;
    }

    private async IoTask<Errno> GrowCoreAsync()
    {
        long known = _superblock.EndBytes, sizeBytes = Bdev.SizeBytes;
        if (sizeBytes / BlockBytes * BlockBytes < known)
        {
            Report($"the pool on {Bdev.Name} needs {known} bytes, the device has {sizeBytes}: give it back its size");
            return Errno.EINVAL;
        }
        PoolGeometry before = Geometry, grown = before.GrownTo(sizeBytes);
        if (grown == before) { return Errno.None; }
        // Whatever the device held there before is nobody's: as when formatting, and as little to rely on.
        if (Bdev.SupportsUnmap) { await Bdev.UnmapAsync(known, ((long)grown.DeviceBlocks * BlockBytes) - known); }
        Errno written = await _superblock.GrowAsync(grown, Flusher.FlushAsync);
        if (written != Errno.None)
        {
            Report($"growing the pool on {Bdev.Name} to {sizeBytes} bytes failed: {written}; it is used up to {SizeBytes} bytes");
            return written;
        }
        _clusters.Grow(grown.ClusterCount);
        foreach (ClusterExtent extent in grown.Nodes0Clusters.Skip(before.Nodes0Clusters.Count))
        {
            _clusters.Give(extent, ClusterKind.Node, 0);
            _catalogue.Nodes.AddArea(grown.FirstBlock(extent.First), (int)extent.Count * grown.ClusterBlocks);
        }
        return Errno.None;
    }

    internal void Report(string line) => _report(line);

    internal void Forget(Volume volume) => _open.Remove(volume.Id);

    internal IoTask<Errno> GrantNodesAsync(Volume volume)
    {
        if (volume.Id == 0) { return new IoTask<Errno>(Errno.ENOSPC); }
        bool isAllowed = (long)volume.Nodes.TotalCount * NodePage.Blocks < volume.Quota.MaxNodeBlocks;
        return isAllowed ? _granter.GrantAsync(volume, ClusterKind.Node) : new IoTask<Errno>(Errno.EDQUOT);
    }

    internal IoTask<Errno> GrantDataAsync(Volume volume) => _granter.GrantAsync(volume, ClusterKind.Data);

    /// <summary>Tells a volume being mounted what it owns.</summary>
    internal void AddClusters(Volume volume)
    {
        if (volume.Id == 0)
        {
            volume.Nodes.AddArea(Geometry.Nodes0First, Geometry.Nodes0Blocks);
            foreach (ClusterExtent extent in Geometry.Nodes0Clusters) { volume.Nodes.AddArea(Geometry.FirstBlock(extent.First), (int)extent.Count * Geometry.ClusterBlocks); }
            return;
        }
        foreach ((ClusterExtent extent, ClusterKind kind) in _clusters.OwnedBy(volume.Id))
        {
            if (kind == ClusterKind.Node) { volume.Nodes.AddArea(Geometry.FirstBlock(extent.First), (int)extent.Count * Geometry.ClusterBlocks); }
            for (uint i = 0; kind == ClusterKind.Data && i < extent.Count; i++) { volume.Allocator.AddCluster(extent.First + i, []); }
        }
    }

    /// <summary>Data clusters without an Allocation item are free as a whole.</summary>
    internal void AddFreeDataClusters(Volume volume, HashSet<uint> known)
    {
        foreach ((ClusterExtent extent, ClusterKind kind) in _clusters.OwnedBy(volume.Id))
        {
            for (uint i = 0; kind == ClusterKind.Data && i < extent.Count; i++)
            {
                if (!known.Contains(extent.First + i)) { volume.Allocator.AddCluster(extent.First + i, []); }
            }
        }
    }

    /// <summary>An anchor from a catalogue that may be anybody's work: large enough to work with, and on the device.</summary>
    internal bool IsPlausible(Anchor anchor) =>
        anchor.BlockCount is >= Anchor.MinBlocks and <= Anchor.MaxBlocks && anchor.FirstBlock < Geometry.DeviceBlocks && (ulong)anchor.BlockCount <= Geometry.DeviceBlocks - anchor.FirstBlock;

    internal bool IsDataCluster(Volume volume, ulong cluster) => cluster < Geometry.ClusterCount && _clusters.Is((uint)cluster, ClusterKind.Data, volume.Id);

    internal bool IsDataBlock(Volume volume, ulong block) =>
        block >= Geometry.DataStart && IsDataCluster(volume, (block - Geometry.DataStart) / (ulong)Geometry.ClusterBlocks);

    internal VolumeSpace SpaceOf(Volume volume)
    {
        long unowned = (long)_clusters.FreeCount * Geometry.ClusterBlocks;
        long kept = Math.Min(unowned, (long)_granter.ReservedClusters * Geometry.ClusterBlocks);
        long free = volume.Allocator.FreeBlocks + volume.Allocator.PendingBlocks + unowned;
        long available = free - kept;
        available -= available / BlocksPerNodeBlock;
        if (volume.Quota.Blocks is not (> 0 and var quota)) { return new VolumeSpace(volume.Allocator.TotalBlocks + unowned, free, available); }
        long left = Math.Max(quota - volume.UsedBlocks, 0);
        return new VolumeSpace(quota, left, Math.Min(left, available));
    }

    /// <summary>The anchor lies in clusters that were given to this volume for it: what is written there overwrites nobody.</summary>
    private bool OwnsAnchor(VolumeRecord record)
    {
        Anchor anchor = record.Anchor;
        ulong clusterBlocks = (ulong)Geometry.ClusterBlocks;
        if (!IsPlausible(anchor) || anchor.FirstBlock < Geometry.DataStart) { return false; }
        ulong first = (anchor.FirstBlock - Geometry.DataStart) / clusterBlocks;
        ulong limit = ((anchor.FirstBlock - Geometry.DataStart) + (ulong)anchor.BlockCount + clusterBlocks - 1) / clusterBlocks;
        if (first >= limit || limit > Geometry.ClusterCount) { return false; }
        for (ulong cluster = first; cluster < limit; cluster++)
        {
            if (!_clusters.Is((uint)cluster, ClusterKind.Anchor, record.Id)) { return false; }
        }
        return true;
    }

    private static VolumeRecord CatalogueRecord(PoolGeometry geometry, Guid uuid) => new(0, "(pool)", geometry.Anchor0, uuid, 0, false);

    private int LogBlocks(VolumeOptions options)
    {
        // Large enough that checkpoints are rare under load, small against the pool.
        long bytes = options.LogBytes > 0 ? options.LogBytes : Math.Clamp(SizeBytes / 256, 1 << 20, 16 << 20);
        return (int)Math.Clamp(bytes / BlockBytes, Anchor.MinBlocks, Anchor.MaxBlocks - PoolGeometry.MaxClusterBlocks); // rounded up to whole clusters afterwards
    }

    private async IoTask<string?> LoadAsync()
    {
        OpenResult<Volume> opened = await VolumeMount.OpenAsync(this, CatalogueRecord(Geometry, Uuid));
        if (opened.Value is not { } catalogue) { return opened.Error; }
        _catalogue = catalogue;
        string? problem = await LoadItemsAsync(ItemType.ClusterRun, (key, value) => _clusters.TryAdd((uint)key.Sub, value))
            ?? await LoadItemsAsync(ItemType.Volume, (key, value) =>
            {
                if (VolumeRecord.Read(key.Sub, value) is not { } record) { return false; }
                _records.Add(record);
                return true;
            });
        if (problem is not null) { return problem; }
        await TakeLeftBatchesAsync();
        foreach (VolumeRecord record in _records.Where(static r => r.IsBeingDeleted).ToArray())
        {
            Errno deleted = await FinishDeleteAsync(record);
            if (deleted != Errno.None) { Report($"volume '{record.Name}' is still being deleted: {deleted}"); }
        }
        return null;
    }

    /// <summary>Gives every volume's log the batches that an earlier life left in memory, also of those that nobody opens now: what they are in may then go.</summary>
    private async IoTask<Errno> TakeLeftBatchesAsync()
    {
        if (LogMemory is not { Left.Count: > 0 } memory)
        {
            LogMemory?.ForgetLeft();
            return Errno.None;
        }
        ScanMemory.Enter();
        try
        {
            if (await WithEachAsync([.. _records.Where(OwnsAnchor)], TakeLeftBatchesAsync) == Errno.None) { memory.ForgetLeft(); }
            return Errno.None;
        }
        finally { ScanMemory.Leave(); }
    }

    private async IoTask<Errno> TakeLeftBatchesAsync(VolumeRecord record)
    {
        if (await VolumeMount.TakeLeftBatchesAsync(this, record) is not { } problem) { return Errno.None; }
        Report($"volume '{record.Name}': what the last vhostfs wrote without a sync is kept in memory and not yet in the log: {problem}");
        return Errno.EIO;
    }

    /// <summary>The first error, when all have ended.</summary>
    private static async IoTask<Errno> WithEachAsync<T>(IReadOnlyList<T> all, Func<T, IoTask<Errno>> work)
    {
        Errno result = Errno.None;
        var underWay = new Queue<IoTask<Errno>>();
        for (int begun = 0; begun < all.Count || underWay.Count > 0;)
        {
            if (begun < all.Count && underWay.Count < VolumesAtOnce)
            {
                underWay.Enqueue(work(all[begun++]));
                continue;
            }
            Errno ended = await underWay.Dequeue();
            if (result == Errno.None) { result = ended; }
        }
        return result;
    }

    private async IoTask<string?> LoadItemsAsync(ItemType type, CatalogueItem add)
    {
        TreeKey from = new(0, type, 0), limit = new(0, type, TreeKey.SubMask);
        for (;;)
        {
            Errno found = _catalogue.TryNext(from, limit, out TreeKey key, out ReadOnlySpan<byte> value);
            if (found == Residency.NotResident)
            {
                found = await _catalogue.LoadMissingAsync();
                if (found != Errno.None) { return $"the pool's metadata cannot be read: {found}"; }
                continue;
            }
            if (found == Errno.ENOENT) { return null; }
            if (found != Errno.None) { return $"the pool's metadata cannot be read: {found}"; }
            if (!add(key, value)) { return $"the pool's metadata holds an impossible {type} item {key.Sub}"; }
            from = key.Next();
        }
    }

    private async IoTask<Errno> FinishDeleteAsync(VolumeRecord record)
    {
        foreach ((ClusterExtent extent, _) in _clusters.OwnedBy(record.Id).ToArray())
        {
            // Nothing of one volume may ever appear in another.
            Errno cleared = await ClearAsync(extent);
            if (cleared != Errno.None) { return cleared; }
        }
        Errno flushed = await Flusher.FlushAsync();
        if (flushed != Errno.None) { return flushed; }
        Errno released = await _granter.ReleaseAllAsync(record.Id);
        if (released == Errno.None) { _records.RemoveAll(r => r.Id == record.Id); }
        return released;
    }

    private async IoTask<Errno> ClearAsync(ClusterExtent extent)
    {
        const uint MaxClusters = 64;
        for (uint at = extent.First; at < extent.First + extent.Count; at += MaxClusters)
        {
            uint count = Math.Min(MaxClusters, extent.First + extent.Count - at);
            long offset = (long)Geometry.FirstBlock(at) * BlockBytes, length = (long)count * ClusterBytes;
            Errno cleared = Bdev.SupportsUnmap && Bdev.UnmapReadsZero ? await Bdev.UnmapAsync(offset, length) : Errno.EOPNOTSUPP;
            if (cleared == Errno.EOPNOTSUPP) { cleared = await Bdev.WriteZeroesAsync(offset, length); }
            if (cleared != Errno.None) { return cleared; }
        }
        return Errno.None;
    }

    private delegate bool CatalogueItem(TreeKey key, ReadOnlySpan<byte> value);
}
