using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Gives clusters to volumes. A grant is durable in volume 0 before the volume hears of it; a crash in between leaks nothing, the clusters are found by their owner.</summary>
internal sealed class SpaceGranter(Pool pool, ClusterTable clusters)
{
    /// <summary>Node slots of one grant.</summary>
    private const int NodeSlots = 64;

    private const int InitialNodeSlots = 128;
    private const uint MaxDataClusters = 64;
    private const int RunsPerTransaction = 500;
    private const int MaxNodesPerRelease = 12;
    private readonly Dictionary<(ulong Volume, ClusterKind Kind), WaitQueue> _underWay = [];

    public uint InitialNodeClusters => ClustersFor(InitialNodeSlots);

    /// <summary>Kept back from data, so that metadata can still grow on a full pool.</summary>
    public uint ReservedClusters => Math.Max(ClustersFor(NodeSlots), clusters.Count / 128);

    /// <summary>Gives the volume more clusters. One grant per volume and kind at a time, others wait for it.</summary>
    /// <returns>None; ENOSPC when the pool has none left for this purpose; the error of volume 0, which is no lack of space.</returns>
    public async IoTask<Errno> GrantAsync(Volume volume, ClusterKind kind)
    {
        (ulong, ClusterKind) key = (volume.Id, kind);
        if (_underWay.TryGetValue(key, out WaitQueue? other)) { return await other.WaitAsync(); }
        uint wanted = kind == ClusterKind.Node ? ClustersFor(NodeSlots) : Math.Clamp(clusters.Count / 64, 1, MaxDataClusters);
        uint available = clusters.FreeCount;
        if (kind == ClusterKind.Data) { available -= Math.Min(available, ReservedClusters); }
        wanted = Math.Min(wanted, available);
        if (wanted == 0) { return Errno.ENOSPC; }
        var waiters = new WaitQueue();
        _underWay.Add(key, waiters);
        List<ClusterExtent> extents = Take(wanted, kind, volume.Id);
        Errno granted = await CommitAsync([.. extents.Select(e => (e, kind))], volume.Id, null);
        if (granted == Errno.None) { Hand(volume, kind, extents); }
        else { clusters.TakeBack(extents, volume.Id); } // nothing durable names them; a commit that failed in the middle ended the catalogue, so that they are not granted again
        _underWay.Remove(key);
        waiters.CompleteAll(granted);
        return granted;
    }

    /// <summary>Marks free clusters as taken, in memory.</summary>
    public List<ClusterExtent> Take(uint count, ClusterKind kind, ulong owner)
    {
        var extents = new List<ClusterExtent>();
        while (count > 0 && clusters.TryFind(count, exact: false, out ClusterExtent extent))
        {
            clusters.Give(extent, kind, owner);
            extents.Add(extent);
            count -= extent.Count;
        }
        return extents;
    }

    /// <summary>Makes ownership, and a volume's record if there is one, durable in one transaction.</summary>
    public async IoTask<Errno> CommitAsync(List<(ClusterExtent Extent, ClusterKind Kind)> extents, ulong owner, VolumeRecord? record)
    {
        Errno committed = await CommitDurablyAsync(extents, owner, record);
        // Grants are rare, so the next record that would prove this one durable may be long in coming; without a proof, a damaged block would look like a torn
        // write, and clusters in use would be given away again.
        if (committed == Errno.None) { pool.Catalogue.Log.WriteMarker(); }
        return committed;
    }

    private async IoTask<Errno> CommitDurablyAsync(List<(ClusterExtent Extent, ClusterKind Kind)> extents, ulong owner, VolumeRecord? record)
    {
        Volume catalogue = pool.Catalogue;
        // Deleting a volume works on a full catalogue too; what lets it grow must not use up that reserve.
        Admission admission = record is { IsBeingDeleted: true } ? Admission.Release : Admission.Grow;
        for (;;)
        {
            Errno admitted = await catalogue.AdmitAsync(admission);
            if (admitted != Errno.None) { return admitted; }
            Transaction transaction = catalogue.Begin();
            Errno staged = Stage(transaction, extents, owner, record);
            if (staged == Errno.None) { transaction.Commit(); return await catalogue.SyncAsync(); }
            transaction.Abort();
            if (staged == Residency.NotResident) { staged = await catalogue.LoadMissingAsync(); }
            if (staged != Errno.None) { return staged; }
        }
    }

    /// <summary>Takes everything from a volume that is being deleted, in bounded steps, and at last its record. Its clusters have been cleared.</summary>
    public async IoTask<Errno> ReleaseAllAsync(ulong owner)
    {
        Volume catalogue = pool.Catalogue;
        var gone = new List<ClusterExtent>();
        for (bool complete = false; !complete;)
        {
            Errno admitted = await catalogue.AdmitAsync(Admission.Release);
            if (admitted != Errno.None) { return admitted; }
            gone.Clear();
            Transaction transaction = catalogue.Begin();
            Errno staged = StageRelease(transaction, owner, gone, out complete);
            if (staged != Errno.None)
            {
                complete = false;
                transaction.Abort();
                if (staged == Residency.NotResident) { staged = await catalogue.LoadMissingAsync(); }
                if (staged != Errno.None) { return staged; }
                continue;
            }
            transaction.Commit();
            Errno synced = await catalogue.SyncAsync();
            if (synced != Errno.None) { return synced; }
            clusters.TakeBack(gone, owner);
        }
        return Errno.None;
    }

    private static Errno Stage(Transaction transaction, List<(ClusterExtent Extent, ClusterKind Kind)> extents, ulong owner, VolumeRecord? record)
    {
        Span<byte> value = stackalloc byte[ClusterTable.ValueBytes];
        foreach ((ClusterExtent extent, ClusterKind kind) in extents)
        {
            ClusterTable.WriteValue(value, extent.Count, kind, owner);
            Errno put = transaction.Put(ClusterTable.Key(extent.First), value);
            if (put != Errno.None) { return put; }
        }
        return record is null ? Errno.None : transaction.Put(VolumeRecord.Key(record.Id), record.ToBytes());
    }

    private Errno StageRelease(Transaction transaction, ulong owner, List<ClusterExtent> gone, out bool complete)
    {
        complete = false;
        TreeKey from = ClusterTable.Key(0), limit = new(0, ItemType.ClusterRun, TreeKey.SubMask);
        while (gone.Count < RunsPerTransaction && (gone.Count == 0 || transaction.TouchedNodes < MaxNodesPerRelease))
        {
            Errno found = pool.Catalogue.TryNext(from, limit, out TreeKey key, out ReadOnlySpan<byte> value);
            if (found == Errno.ENOENT)
            {
                complete = true;
                return transaction.Delete(VolumeRecord.Key(owner));
            }
            if (found != Errno.None) { return found; }
            from = key.Next();
            if (System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(value[8..]) != owner) { continue; }
            gone.Add(new ClusterExtent((uint)key.Sub, System.Buffers.Binary.BinaryPrimitives.ReadUInt32LittleEndian(value)));
            Errno deleted = transaction.Delete(key);
            if (deleted != Errno.None) { return deleted; }
        }
        return Errno.None;
    }

    private void Hand(Volume volume, ClusterKind kind, List<ClusterExtent> extents)
    {
        foreach (ClusterExtent extent in extents)
        {
            if (kind == ClusterKind.Node) { volume.Nodes.AddArea(pool.Geometry.FirstBlock(extent.First), (int)extent.Count * pool.Geometry.ClusterBlocks); }
            for (uint i = 0; kind == ClusterKind.Data && i < extent.Count; i++) { volume.Allocator.AddCluster(extent.First + i, []); }
        }
    }

    private uint ClustersFor(int nodeSlots) => (uint)Math.Max((nodeSlots * NodePage.Blocks) / pool.Geometry.ClusterBlocks, 1);
}
