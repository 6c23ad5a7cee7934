using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <param name="Problem">Why there is none, although it looks like one; null: nothing looks like one.</param>
public readonly record struct Raid1Found(Raid1Superblock? Superblock, string? Problem);

/// <summary>A raid1 with superblocks on its legs, before it runs: a new one, or what was found of one.</summary>
public sealed class Raid1Assembly
{
    private readonly Raid1Superblock?[] _found;

    private Raid1Assembly(Raid1Superblock superblock, IBdev?[] legs, Raid1Superblock?[] found, bool isNew)
    {
        (Superblock, Legs, _found, IsNew) = (superblock, legs, found, isNew);
        Regions = new Raid1Regions(superblock.SizeBytes);
    }

    /// <summary>The newest that was found.</summary>
    public Raid1Superblock Superblock { get; }

    /// <summary>By slot: those that have every change that was answered. Null: such a leg is not there.</summary>
    public IReadOnlyList<IBdev?> Legs { get; }

    public bool IsNew { get; }

    /// <summary>None is missing that has every change.</summary>
    public bool IsComplete => Enumerable.Range(0, Legs.Count).All(i => Legs[i] is not null || Superblock.Slots[i].State != Raid1SlotState.Complete);

    /// <summary>Something can be made of it.</summary>
    public bool HasLeg => Legs.Any(leg => leg is not null);

    internal Raid1Regions Regions { get; }

    /// <summary>What is written down is not what there will be.</summary>
    internal bool IsChanged => !IsNew && (!IsComplete || _found.Any(found => found is not null && found.Sequence != Superblock.Sequence));

    /// <param name="legs">With the same content, or content that nobody has looked at yet.</param>
    public static Raid1Assembly Create(string name, Guid uuid, IReadOnlyList<IBdev> legs)
    {
        long sizeBytes = legs.Min(Raid1Superblock.SizeOn);
        Raid1Slot[] slots = [.. legs.Select(_ => new Raid1Slot(Guid.NewGuid(), 1, Raid1SlotState.Complete))];
        var superblock = new Raid1Superblock(Guid.NewGuid(), uuid, name, legs[0].BlockSize, sizeBytes, Raid1Regions.RegionBytesOf(sizeBytes), 1, slots, 0);
        return new Raid1Assembly(superblock, [.. legs], new Raid1Superblock?[legs.Count], isNew: true);
    }

    /// <summary>Looks for a superblock.</summary>
    public static async IoTask<Raid1Found> FindAsync(IBdev bdev)
    {
        if (Raid1Superblock.SizeOn(bdev) <= 0 || bdev.BufferAlignment > NativeBuffer.Alignment) { return default; }
        using var pages = new NativeBuffer(Raid1Superblock.Copies * Raid1Superblock.Bytes);
        Errno read = await ReadAsync(bdev, 0, pages);
        if (read != Errno.None) { return new Raid1Found(null, $"it cannot be read ({read})"); }
        Raid1Superblock? newest = null;
        string? problem = null;
        for (int copy = 0; copy < Raid1Superblock.Copies; copy++)
        {
            Raid1Superblock? found = Raid1Superblock.Read(pages.Span.Slice(copy * Raid1Superblock.Bytes, Raid1Superblock.Bytes), copy, bdev, out string? wrong);
            if (found is not null && (newest is null || found.Sequence > newest.Sequence)) { newest = found; }
            problem ??= wrong;
        }
        if (newest is not null && (bdev.IsReadOnly || bdev.BufferAlignment > 1)) { return new Raid1Found(null, "no array could write to it"); }
        return new Raid1Found(newest, newest is null ? problem : null);
    }

    /// <param name="found">Of one array, at least one.</param>
    public static Raid1Assembly Of(IReadOnlyList<(IBdev Bdev, Raid1Superblock Superblock)> found)
    {
        Raid1Superblock newest = found.MaxBy(f => f.Superblock.Sequence).Superblock;
        var legs = new IBdev?[newest.Slots.Count];
        var superblocks = new Raid1Superblock?[legs.Length];
        foreach ((IBdev bdev, Raid1Superblock superblock) in found)
        {
            int slot = superblock.OwnSlot;
            if (!IsMember(superblock, newest) || legs[slot] is not null) { continue; }
            (legs[slot], superblocks[slot]) = (bdev, superblock);
        }
        return new Raid1Assembly(newest, legs, superblocks, isNew: false);
    }

    /// <summary>Reads where the legs may differ.</summary>
    public async IoTask<Errno> LoadAsync()
    {
        using var page = new NativeBuffer(Raid1Regions.PageBytes);
        foreach (IBdev leg in Legs.OfType<IBdev>())
        {
            for (int i = 0; i < Regions.PageCount; i++)
            {
                Errno read = await ReadAsync(leg, Raid1Regions.FirstByte + ((long)i * Raid1Regions.PageBytes), page);
                if (read != Errno.None) { return read; }
                Regions.Read(i, page.Span);
            }
        }
        return Errno.None;
    }

    /// <summary>What is written on a leg. Null: nothing.</summary>
    internal Raid1Superblock? FoundOn(int slot) => _found[slot];

    // One behind is right: a crash came between two legs, and nothing was answered that depends on the newest. What is older has missed something, or is a copy of an old state.
    private static bool IsMember(Raid1Superblock found, Raid1Superblock newest) =>
        found.OwnSlot < newest.Slots.Count && newest.Slots[found.OwnSlot] is { State: Raid1SlotState.Complete } slot && slot.Leg == found.Own.Leg
        && found.Sequence + 1 >= newest.Sequence && found.SizeBytes == newest.SizeBytes && found.Slots.Count == newest.Slots.Count && found.BlockBytes == newest.BlockBytes;

    private static async IoTask<Errno> ReadAsync(IBdev bdev, long offset, NativeBuffer target)
    {
        using var list = new IoVecList(1);
        list.Add(target.Vec);
        IoResult read = await bdev.ReadAsync(offset, list.View());
        return read.IsError ? read.Errno : Errno.None;
    }
}
