using VhostFs.Bdev;

namespace VhostFs.Block;

/// <summary>A raid1 of which some bases have been found, and not yet all that it needs. It has them to itself, and lets go of each.</summary>
/// <param name="emptied">The last of them has gone.</param>
internal sealed class FoundArray(Guid id, Action<FoundArray> emptied) : BdevUser("")
{
    private readonly List<(RegisteredBdev Bdev, Raid1Superblock Superblock)> _bases = [];

    /// <summary>What its bases know it by.</summary>
    public Guid Id => id;

    public IReadOnlyList<(RegisteredBdev Bdev, Raid1Superblock Superblock)> Bases => _bases;

    public string Name => Newest.Name;

    public override bool IsFoundByExamination => true;

    private Raid1Superblock Newest => _bases.MaxBy(b => b.Superblock.Sequence).Superblock;

    /// <summary>It has the bdev to itself.</summary>
    public void Add(RegisteredBdev bdev, Raid1Superblock superblock)
    {
        Note(bdev, superblock);
        bdev.User = this;
    }

    public void Note(RegisteredBdev bdev, Raid1Superblock superblock) => _bases.Add((bdev, superblock));

    public void Free()
    {
        foreach ((RegisteredBdev bdev, _) in _bases) { bdev.User = null; }
    }

    public Raid1Assembly Assemble() => Raid1Assembly.Of([.. _bases.Select(b => (b.Bdev.Bdev, b.Superblock))]);

    /// <param name="parts">Its members, by slot, as they are used.</param>
    public Raid1Assembly Assemble(IReadOnlyList<IBdev?> parts)
    {
        IReadOnlyList<IBdev?> legs = Assemble().Legs;
        return Raid1Assembly.Of([.. _bases.Select(b => (Array.IndexOf([.. legs], b.Bdev.Bdev) is >= 0 and var slot ? parts[slot]! : b.Bdev.Bdev, b.Superblock))]);
    }

    /// <summary>Member by member as SPDK's bdev_raid_get_bdevs has it.</summary>
    public Dictionary<string, object> Describe()
    {
        Raid1Superblock newest = Newest;
        IReadOnlyList<IBdev?> legs = Assemble().Legs;
        return new Dictionary<string, object>
        {
            ["name"] = newest.Name,
            ["uuid"] = newest.Uuid.ToString(),
            ["strip_size_kb"] = 0,
            ["state"] = "configuring",
            ["raid_level"] = "raid1",
            ["superblock"] = true,
            ["num_base_bdevs"] = newest.Slots.Count,
            ["num_base_bdevs_discovered"] = legs.Count(leg => leg is not null),
            ["num_base_bdevs_operational"] = newest.Slots.Count(slot => slot.State == Raid1SlotState.Complete),
            ["base_bdevs_list"] = legs.Select((leg, i) => new Dictionary<string, object?>
            {
                ["name"] = leg?.Name,
                ["uuid"] = leg is null ? Guid.Empty.ToString() : _bases.First(b => b.Bdev.Bdev == leg).Bdev.Uuid,
                ["is_configured"] = leg is not null,
                ["data_offset"] = Raid1Superblock.DataOffset / newest.BlockBytes,
                ["data_size"] = newest.SizeBytes / newest.BlockBytes,
            }).ToArray(),
        };
    }

    public override Task<BdevUser?> FindRefusalAsync(RegisteredBdev bdev) => Task.FromResult<BdevUser?>(null);

    public override Task LetGoAsync(RegisteredBdev bdev)
    {
        _bases.RemoveAll(b => b.Bdev == bdev);
        if (_bases.Count == 0) { emptied(this); }
        return Task.CompletedTask;
    }

    public override string ToString() => $"raid1 {Name}";
}
