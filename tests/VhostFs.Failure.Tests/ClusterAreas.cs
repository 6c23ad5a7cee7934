using VhostFs.Blobstore;

namespace VhostFs.Failure.Tests;

/// <summary>What lies where in a pool: which volume a failed operation was about.</summary>
internal sealed class ClusterAreas(FailureWorld world)
{
    private const int BlockBytes = BlobData.BlockBytes;
    private readonly PoolGeometry _geometry = world.Pool.Geometry;
    private readonly (string Name, Anchor Anchor)[] _anchors = [.. new[] { 0, 1 }.Select(i => (world.VolumeAt(i).Name, world.VolumeAt(i).Record.Anchor))];

    /// <summary>Superblocks, and log, header and nodes of volume 0.</summary>
    public bool IsCatalogue(InjectedFault fault) => fault.LengthBytes > 0 && (ulong)fault.OffsetBytes / BlockBytes < _geometry.DataStart;

    public bool IsAnchor(Volume volume, InjectedFault fault) => _anchors.Any(a => a.Name == volume.Name && IsIn(a.Anchor, fault));

    /// <summary>Of its anchor, or of a cluster that may be its own.</summary>
    public bool MayBeOf(Volume volume, InjectedFault fault) => !IsCatalogue(fault) && !_anchors.Any(a => a.Name != volume.Name && IsIn(a.Anchor, fault));

    public string NameOf(InjectedFault fault)
    {
        if (fault.LengthBytes == 0) { return "all"; }
        if (IsCatalogue(fault)) { return "the pool's metadata"; }
        return _anchors.Where(a => IsIn(a.Anchor, fault)).Select(static a => $"log or header of '{a.Name}'").FirstOrDefault() ?? "a cluster";
    }

    private static bool IsIn(Anchor anchor, InjectedFault fault)
    {
        ulong block = (ulong)fault.OffsetBytes / BlockBytes;
        return fault.LengthBytes > 0 && block >= anchor.FirstBlock && block < anchor.FirstBlock + (ulong)anchor.BlockCount;
    }
}
