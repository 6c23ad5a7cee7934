using VhostFs.Image.Tests.Images;

namespace VhostFs.Image.Tests.Blocks;

/// <summary>What must become of damage to each kind of block; the table for people is docs/damaged-blocks.md.</summary>
internal sealed record BlockExpectation(BlockKind[] Kinds, Func<BlockDamage, bool, bool> Applies, (Fate Fate, Verdict Verdict)[] Allowed)
{
    /// <summary>The first that applies counts.</summary>
    public static IReadOnlyList<BlockExpectation> All { get; } =
    [
        // ---- what exists twice
        // Both newest copies of the superblock: an older one differs only in the epoch.
        new([BlockKind.Superblock], static (damage, _) => damage.Blocks.Length == 2 && damage.Corruption == Corruption.FromOtherPool, [(Fate.PoolRefused, Verdict.Error)]),
        new([BlockKind.Superblock], static (damage, crashed) => damage.Blocks.Length == 2 && crashed, [(Fate.Repaired, Verdict.Error)]),
        // A lost write of both copies looks like a write that never was; after a clean close nothing depends on it.
        new([BlockKind.Superblock, BlockKind.Header], static (damage, crashed) => damage.Blocks.Length == 2 && !crashed && damage.Corruption == Corruption.Stale,
            [(Fate.Unharmed, Verdict.Silent), (Fate.Repaired, Verdict.Warning)]),
        new([BlockKind.Superblock], static (damage, _) => damage.Blocks.Length == 2, [(Fate.Repaired, Verdict.Warning)]),
        // Both newest copies of a header: the older one and the log lead to the same state, or the log proves that they do not.
        new([BlockKind.Header], static (damage, crashed) => damage.Blocks.Length == 2 && crashed && damage.Owner == 0, [(Fate.Repaired, Verdict.Error), (Fate.Unharmed, Verdict.Error)]),
        new([BlockKind.Header], static (damage, crashed) => damage.Blocks.Length == 2 && crashed, [(Fate.VolumeRefused, Verdict.Error)]),
        new([BlockKind.Superblock, BlockKind.Header], Always, [(Fate.Repaired, Verdict.Warning)]),
        new([BlockKind.OlderSuperblock, BlockKind.OlderHeader], static (damage, _) => damage.Corruption == Corruption.Stale, [(Fate.Unharmed, Verdict.Silent), (Fate.Repaired, Verdict.Warning)]),
        new([BlockKind.OlderSuperblock, BlockKind.OlderHeader], Always, [(Fate.Repaired, Verdict.Warning)]),

        // ---- the log
        new([BlockKind.LogBatch, BlockKind.LogRecords, BlockKind.LogImage], static (damage, _) => damage.Owner == 0, [(Fate.PoolRefused, Verdict.Error)]),
        new([BlockKind.LogBatch, BlockKind.LogRecords, BlockKind.LogImage], Always, [(Fate.VolumeRefused, Verdict.Error)]),
        // The last marker is a proof, not a record: without it the same records are taken.
        new([BlockKind.LogMarker], static (damage, _) => damage.Corruption == Corruption.Unreadable, [(Fate.PoolRefused, Verdict.Error), (Fate.VolumeRefused, Verdict.Error)]),
        new([BlockKind.LogMarker], Always, [(Fate.PoolRefused, Verdict.Error), (Fate.VolumeRefused, Verdict.Error), (Fate.Unharmed, Verdict.Silent)]),
        // Damage there looks like a torn write, which is legal: the one thing that the format cannot detect.
        new([BlockKind.LogTailBatch, BlockKind.LogTailRecords, BlockKind.LogTailImage, BlockKind.LogTailData], static (damage, _) => damage.Corruption == Corruption.Unreadable, [(Fate.VolumeRefused, Verdict.Error)]),
        new([BlockKind.LogTailBatch, BlockKind.LogTailRecords, BlockKind.LogTailImage, BlockKind.LogTailData], Always, [(Fate.TailDropped, Verdict.Silent)]),
        // Nobody can tell what was in a block that cannot be read; only an empty log needs none.
        new([BlockKind.LogUnused], static (damage, crashed) => damage.Corruption == Corruption.Unreadable && crashed, [(Fate.PoolRefused, Verdict.Error), (Fate.VolumeRefused, Verdict.Error)]),
        new([BlockKind.LogUnused], static (damage, _) => damage.Corruption == Corruption.Unreadable, [(Fate.Unharmed, Verdict.Warning)]),
        new([BlockKind.LogUnused], Always, [(Fate.Unharmed, Verdict.Silent)]),

        // ---- the tree
        new([BlockKind.Root], static (damage, _) => damage.Owner == 0, [(Fate.PoolRefused, Verdict.Error)]),
        new([BlockKind.Root, BlockKind.Inner], Always, [(Fate.VolumeRefused, Verdict.Error)]),
        // The leaf with the volume's own items is needed to open it.
        new([BlockKind.Leaf], Always, [(Fate.ReadError, Verdict.Error), (Fate.VolumeRefused, Verdict.Error)]),

        // ---- contents
        new([BlockKind.Data, BlockKind.LoggedData], Always, [(Fate.ReadError, Verdict.Error)]),
        // Written anew from the log at mount; a device that cannot read it still cannot.
        new([BlockKind.ImagedData], static (damage, _) => damage.Corruption == Corruption.Unreadable, [(Fate.ReadError, Verdict.Error), (Fate.Unharmed, Verdict.Error)]),
        new([BlockKind.ImagedData], Always, [(Fate.Unharmed, Verdict.Silent)]),

        // ---- what nobody reads
        new([BlockKind.UnwrittenData, BlockKind.DataUnused, BlockKind.NodeUnused, BlockKind.Gap], Always, [(Fate.Unharmed, Verdict.Silent)]),
        // The log of a crashed pool may have given the cluster to somebody.
        new([BlockKind.FreeCluster], static (_, crashed) => crashed, [(Fate.Unharmed, Verdict.Error), (Fate.Unharmed, Verdict.Silent)]),
        new([BlockKind.FreeCluster], Always, [(Fate.Unharmed, Verdict.Error)]),
    ];

    private static bool Always(BlockDamage damage, bool crashed) => true;
}
