using System.Numerics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace VhostFs.Blobstore;

/// <summary>What a new pool looks like. Zero: chosen from the size of the device.</summary>
public sealed record FormatOptions
{
    /// <summary>Bytes of the unit in which volumes get space; a power of two, 128 KiB to 16 MiB. Default 1 MiB (128 KiB below 256 MiB).</summary>
    public int ClusterBytes { get; init; }

    /// <summary>Format even if the device holds a pool.</summary>
    public bool Force { get; init; }

    /// <summary>The pool is for logical volumes, and can be found by that without being opened (<see cref="Pool.HoldsLogicalVolumesAsync"/>).</summary>
    public bool ForLogicalVolumes { get; init; }

    /// <summary>Uuid of the pool; a new one when null.</summary>
    public Guid? Uuid { get; init; }
}

/// <summary>How a pool is opened.</summary>
public sealed record PoolOptions
{
    /// <summary>Node memory; shared by pools that are given the same one.</summary>
    public NodeCache? NodeCache { get; init; }

    /// <summary>Takes one line for each thing that went wrong.</summary>
    public Action<string>? Report { get; init; }

    /// <summary>Where the pool gets memory that outlives the process, so that replies need not wait for the bdev; null: nowhere.</summary>
    public ILogMemoryStore? LogMemory { get; init; } = LogMemoryDirectory.Default;

    /// <summary>Unmap freed blocks.</summary>
    public bool Unmap { get; init; } = true;
}

/// <summary>What a new volume looks like. Zero: chosen from the size of the pool.</summary>
public sealed record VolumeOptions
{
    public bool DataChecksums { get; init; } = true;

    public int LogBytes { get; init; }

    public VolumeQuota Quota { get; init; }

    /// <summary>Null: drawn from the system's generator and clock. Given by simulations, which must run the same way twice.</summary>
    public VolumeIdentity? Identity { get; init; }
}

/// <summary>What tells a new volume from all others. The hash keys decide the order in which directories list their names.</summary>
public sealed record VolumeIdentity(Guid Uuid, ulong HashKey0, ulong HashKey1, long CreatedSeconds)
{
    public static VolumeIdentity New()
    {
        Span<ulong> key = stackalloc ulong[2];
        RandomNumberGenerator.Fill(MemoryMarshal.AsBytes(key));
        return new VolumeIdentity(Guid.NewGuid(), key[0], key[1], DateTimeOffset.UtcNow.ToUnixTimeSeconds());
    }
}

/// <summary>Where things lie in a pool: as formatting laid it out, and with more clusters behind since it grew. In 4 KiB blocks.</summary>
internal sealed record PoolGeometry(
    ulong DeviceBlocks, ulong DataStart, int ClusterBlocks, uint ClusterCount, Anchor Anchor0, ulong Nodes0First, int Nodes0Blocks)
{
    public const int MaxClusterBlocks = 4096;
    public const int MinClusterBlocks = 32;
    public const long MinDeviceBytes = 8L << 20;
    public const int MaxNodes0Clusters = 128;
    private const int Anchor0Blocks = 256;

    /// <summary>What volume 0 has for nodes beside its area: clusters that it got when the pool grew. In their order; at most <see cref="MaxNodes0Clusters"/> extents.</summary>
    public IReadOnlyList<ClusterExtent> Nodes0Clusters { get; init; } = [];

    /// <summary>What a wish comes to; whether that can be is <see cref="IsPlausible"/>.</summary>
    public static PoolGeometry For(long deviceBytes, FormatOptions options)
    {
        ulong deviceBlocks = (ulong)deviceBytes / BlobData.BlockBytes;
        int clusterBlocks = options.ClusterBytes > 0 ? Math.Max(options.ClusterBytes / BlobData.BlockBytes, 1) : deviceBytes < (256L << 20) ? 32 : 256;
        var anchor = new Anchor(2, Anchor0Blocks);
        ulong nodesFirst = Align(anchor.FirstBlock + Anchor0Blocks, NodePage.Blocks);
        int nodesBlocks = (int)Nodes0BlocksFor(deviceBlocks, clusterBlocks);
        ulong dataStart = Align(nodesFirst + (ulong)nodesBlocks, (uint)clusterBlocks);
        return new PoolGeometry(deviceBlocks, dataStart, clusterBlocks, ClustersOn(deviceBlocks, dataStart, clusterBlocks), anchor, nodesFirst, nodesBlocks);
    }

    // Every address is held against the device before anything is added to it: a hostile one must not wrap round.
    public bool IsPlausible =>
        DeviceBlocks is > 4 and <= long.MaxValue / BlobData.BlockBytes
        && Anchor0.FirstBlock < DeviceBlocks && Nodes0First < DeviceBlocks && DataStart <= DeviceBlocks - 2
        && ClusterBlocks is >= MinClusterBlocks and <= MaxClusterBlocks && BitOperations.IsPow2(ClusterBlocks)
        && Anchor0.BlockCount is >= Anchor.MinBlocks and <= Anchor.MaxBlocks && Anchor0.FirstBlock >= 2
        && Anchor0.FirstBlock + (ulong)Anchor0.BlockCount <= Nodes0First
        && Nodes0First % NodePage.Blocks == 0 && Nodes0Blocks > 0 && Nodes0Blocks % NodePage.Blocks == 0
        && Nodes0First + (ulong)Nodes0Blocks <= DataStart && DataStart % (ulong)ClusterBlocks == 0
        && ClusterCount <= (DeviceBlocks - 2 - DataStart) / (ulong)ClusterBlocks
        && AreNodes0ClustersPlausible();

    public ulong FirstBlock(uint cluster) => DataStart + ((ulong)cluster * (ulong)ClusterBlocks);

    /// <summary>The same pool on a device that is larger now; itself where that gives nobody a cluster.</summary>
    /// <remarks>What there is stays where it is. Volume 0 gets nodes for the new clusters from among them, the first ones, and each time enough that their list stays short.</remarks>
    public PoolGeometry GrownTo(long deviceBytes)
    {
        ulong deviceBlocks = (ulong)deviceBytes / BlobData.BlockBytes;
        if (deviceBlocks <= DeviceBlocks) { return this; }
        uint clusters = ClustersOn(deviceBlocks, DataStart, ClusterBlocks);
        ulong nodeBlocks = (ulong)(Nodes0Blocks + (Nodes0Clusters.Sum(static extent => (long)extent.Count) * ClusterBlocks)), wanted = Nodes0BlocksFor(deviceBlocks, ClusterBlocks);
        uint forNodes = 0;
        if (wanted > nodeBlocks && Nodes0Clusters.Count < MaxNodes0Clusters)
        {
            forNodes = (uint)(Align(Math.Max(wanted - nodeBlocks, nodeBlocks / 8), (uint)ClusterBlocks) / (ulong)ClusterBlocks);
        }
        if (clusters <= ClusterCount + forNodes) { return this; }
        return this with { DeviceBlocks = deviceBlocks, ClusterCount = clusters, Nodes0Clusters = forNodes == 0 ? Nodes0Clusters : [.. Nodes0Clusters, new ClusterExtent(ClusterCount, forNodes)] };
    }

    // One ClusterRun item of 36 bytes per cluster at the very worst, twice (copy-on-write), half-full nodes, and a floor for the catalogue.
    private static ulong Nodes0BlocksFor(ulong deviceBlocks, int clusterBlocks) => Align(((deviceBlocks / (ulong)clusterBlocks * 36 * 4) + (2 << 20)) / BlobData.BlockBytes, NodePage.Blocks);

    /// <summary>The last two blocks of the device are the superblock's.</summary>
    private static uint ClustersOn(ulong deviceBlocks, ulong dataStart, int clusterBlocks)
    {
        ulong limit = deviceBlocks - 2;
        return limit > dataStart ? (uint)Math.Min((limit - dataStart) / (ulong)clusterBlocks, uint.MaxValue / 2) : 0;
    }

    private static ulong Align(ulong value, ulong unit) => (value + unit - 1) / unit * unit;

    private bool AreNodes0ClustersPlausible()
    {
        uint limit = 0;
        foreach (ClusterExtent extent in Nodes0Clusters)
        {
            bool isInside = extent.First >= limit && extent.First < ClusterCount && extent.Count <= ClusterCount - extent.First;
            if (!isInside || extent.Count == 0 || extent.Count > int.MaxValue / ClusterBlocks) { return false; }
            limit = extent.First + extent.Count;
        }
        return true;
    }
}
