using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>The superblock of an open pool: as it was last written, and what of it is in force.</summary>
/// <remarks>Whoever changes it is the only one at the time (<see cref="Pool.EnterAsync"/>).</remarks>
internal sealed class PoolSuperblock
{
    private const int BlockBytes = BlobData.BlockBytes;
    private readonly IBdev _bdev;

    /// <summary>As the next one is made from it. What it says is in force (<see cref="Geometry"/>, <see cref="AllowsSharing"/>) only when both pairs of copies say it.</summary>
    private Superblock _last;

    private PoolSuperblock(IBdev bdev, Superblock written)
    {
        _bdev = bdev;
        _last = written;
        Geometry = written.Geometry;
        AllowsSharing = written.Incompatible.HasFlag(IncompatibleFeatures.SharedBlocks);
    }

    public Guid Uuid => _last.Uuid;

    /// <summary>Of this opening.</summary>
    public ulong Epoch => _last.Epoch;

    public PoolGeometry Geometry { get; private set; }

    /// <summary>Programs that would give a block with two owners to a third do not open the pool.</summary>
    public bool AllowsSharing { get; private set; }

    /// <summary>Where some copy may say that the pool ends: a growth that failed leaves one that says more than <see cref="Geometry"/>.</summary>
    public long EndBytes => (long)_last.Geometry.DeviceBlocks * BlockBytes;

    /// <summary>Claims the bdev for the pool that is on it, and writes that it is open, in a new epoch. Who closes the pool gives the claim back.</summary>
    public static async IoTask<OpenResult<PoolSuperblock>> OpenAsync(IBdev bdev, Action<string>? report)
    {
        if (await SuperblockStore.FindAsync(bdev) is not { } copies) { return $"{bdev.Name} holds no pool (no valid superblock); make one with 'vhostfs pool create'"; }
        Superblock superblock = copies.Newest;
        if (superblock.IsForeign)
        {
            return $"the pool on {bdev.Name} uses features of a newer vhostfs (incompatible {(ulong)superblock.Incompatible:x}, read-only compatible {superblock.ReadOnlyCompatibleFeatures:x})";
        }
        if (!superblock.Geometry.IsPlausible) { return $"the superblock of the pool on {bdev.Name} describes an impossible layout"; }
        if (superblock.Geometry.DeviceBlocks > (ulong)bdev.SizeBytes / BlockBytes) { return $"the pool on {bdev.Name} needs {superblock.Geometry.DeviceBlocks * BlockBytes} bytes, the device has {bdev.SizeBytes}"; }
        if (!bdev.TryClaim($"pool {superblock.Uuid}", out string owner)) { return $"{bdev.Name} is in use by {owner}"; }
        // Read again as the owner: somebody may have opened, changed and closed the pool before the claim.
        copies = await SuperblockStore.FindAsync(bdev, report) ?? copies;
        // The epoch is durable before any log batch carries it.
        superblock = copies.Newest with
        {
            Generation = copies.Newest.Generation + 1,
            Epoch = copies.Newest.Epoch + 1,
            IsOpen = true,
            OwnerProcess = Environment.ProcessId,
            OwnerHost = Environment.MachineName,
        };
        Errno written = Errno.None;
        if (copies.Behind.Count > 0)
        {
            // What grew has not been used yet, and is when both pairs of copies say so.
            written = await SuperblockStore.MoveAsync(bdev, superblock, copies.Behind.Where(static block => block > 1), bdev.FlushAsync);
            superblock = superblock with { Generation = superblock.Generation + 1 };
        }
        if (written == Errno.None) { written = await SuperblockStore.WriteAsync(bdev, superblock); }
        if (written == Errno.None) { return new PoolSuperblock(bdev, superblock); }
        bdev.ReleaseClaim();
        return $"writing the superblock of {bdev.Name} failed: {written}";
    }

    /// <param name="flush">The one of all volumes: a flush that fails is a failure of each.</param>
    public async IoTask<Errno> AllowSharingAsync(Func<IoTask<Errno>> flush)
    {
        Errno marked = await ChangeAsync(static last => last with { Incompatible = last.Incompatible | IncompatibleFeatures.SharedBlocks }, flush);
        AllowsSharing |= marked == Errno.None;
        return marked;
    }

    /// <summary>No power cut brings the old size back once this has succeeded: what is written behind it stays reachable.</summary>
    /// <param name="flush">As of <see cref="AllowSharingAsync"/>.</param>
    public async IoTask<Errno> GrowAsync(PoolGeometry grown, Func<IoTask<Errno>> flush)
    {
        Errno written = await ChangeAsync(last => last with
        {
            Geometry = grown,
            Incompatible = last.Incompatible | (grown.Nodes0Clusters.Count > 0 ? IncompatibleFeatures.Nodes0Clusters : IncompatibleFeatures.None),
        }, flush);
        if (written == Errno.None) { Geometry = grown; }
        return written;
    }

    /// <summary>Nothing is open any more.</summary>
    public IoTask<Errno> CloseAsync()
    {
        _last = _last with { Generation = _last.Generation + 1, IsOpen = false };
        return SuperblockStore.WriteAsync(_bdev, _last);
    }

    /// <summary>In both pairs of copies: when the newest is lost, the pair before it says the same.</summary>
    private async IoTask<Errno> ChangeAsync(Func<Superblock, Superblock> change, Func<IoTask<Errno>> flush)
    {
        ulong[] ends = [Geometry.DeviceBlocks, _last.Geometry.DeviceBlocks];
        Errno written = Errno.None;
        for (int pair = 0; pair < 2 && written == Errno.None; pair++)
        {
            Superblock changed = change(_last) with { Generation = _last.Generation + 1 };
            ulong[] old = [.. ends.Where(end => end != changed.Geometry.DeviceBlocks).Distinct().Select(end => Superblock.Slots(changed.Generation, end).Second)];
            written = old.Length == 0 ? await SuperblockStore.WriteAsync(_bdev, changed, flush) : await SuperblockStore.MoveAsync(_bdev, changed, old, flush);
            // Anything may be there of one that failed: the next takes the same places, the other pair being whole, and is newer.
            _last = written == Errno.None ? changed : _last with { Generation = changed.Generation + 1 };
        }
        return written;
    }
}
