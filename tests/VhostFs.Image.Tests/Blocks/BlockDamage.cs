using VhostFs.Bdev;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Image.Tests.Images;
using VhostFs.Linux;

namespace VhostFs.Image.Tests.Blocks;

/// <summary>What can become of a block that was written once.</summary>
internal enum Corruption
{
    BitFlip,
    Zeroed,
    Random,

    /// <summary>A write was lost: what the block held before.</summary>
    Stale,

    /// <summary>A write went here that was meant for elsewhere: a sound block of the same kind from the same volume, from the other one, or from another pool.</summary>
    FromSameVolume,
    FromOtherVolume,
    FromOtherPool,

    /// <summary>Reads of it end with EIO.</summary>
    Unreadable,
}

/// <summary>One way of damaging one structure of one image.</summary>
/// <param name="Kind">Of the blocks.</param>
/// <param name="Owner">The volume they belong to; 0 the pool.</param>
/// <param name="Corruption">What happens.</param>
/// <param name="Blocks">Which blocks.</param>
/// <param name="Content">Their new content; null when they cannot be read.</param>
internal sealed record BlockDamage(BlockKind Kind, ulong Owner, Corruption Corruption, int[] Blocks, byte[][]? Content)
{
    public override string ToString() => $"{Kind} of volume {Owner}, {Corruption}, blocks {string.Join(' ', Blocks)}";

    /// <summary>The disk, damaged.</summary>
    public IBdev Apply(DiskImage image)
    {
        image.Reset();
        var bdev = new ErrorBdev(new ImageBdev(image));
        for (int i = 0; i < Blocks.Length; i++)
        {
            long at = (long)Blocks[i] * DiskFormat.BlockBytes;
            if (Content is not null) { image.Write(at, Content[i]); }
            else { bdev.Inject(new BdevFault(BdevOperations.Read, Errno.EIO, 0, BdevFault.Always) { FirstByte = at, LimitByte = at + DiskFormat.BlockBytes }); }
        }
        return bdev;
    }
}

/// <summary>Every damage worth trying to one kind of block.</summary>
internal sealed class BlockDamages(byte[] disk, IReadOnlyDictionary<int, List<byte[]>> history, byte[] otherPool)
{
    private const int MaxUnits = 4;
    private const int MaxVersions = 3;

    private readonly BlockMap _map = BlockMap.Of(disk);
    private readonly BlockMap _otherMap = BlockMap.Of(otherPool);
    private readonly Random _random = new(1);

    public BlockMap Map => _map;

    public IEnumerable<BlockDamage> Of(BlockKind kind, ulong owner) => All(kind, owner).Where(damage => damage.Content is null || !Same(damage.Content, Read(disk, damage.Blocks)));

    private IEnumerable<BlockDamage> All(BlockKind kind, ulong owner)
    {
        List<int[]> units = Units(_map, kind, owner);
        foreach (int[] unit in Some(units))
        {
            // Of the log, what lies behind the records is zero and means nothing.
            bool isLog = kind is BlockKind.LogBatch or BlockKind.LogMarker or BlockKind.LogTailBatch or BlockKind.LogRecords or BlockKind.LogTailRecords;
            foreach (int at in isLog ? new[] { 8, 60, 100 } : [8, 2000, ((IsCopied(kind) ? 1 : unit.Length) * DiskFormat.BlockBytes) - 70])
            {
                byte[][] flipped = Read(disk, unit);
                byte bit = (byte)(1 << _random.Next(8));
                if (IsCopied(kind)) { Array.ForEach(flipped, copy => copy[at % DiskFormat.BlockBytes] ^= bit); }
                else { flipped[at / DiskFormat.BlockBytes][at % DiskFormat.BlockBytes] ^= bit; }
                yield return new BlockDamage(kind, owner, Corruption.BitFlip, unit, flipped);
            }
            int[] one = [unit[_random.Next(unit.Length)]];
            yield return new BlockDamage(kind, owner, Corruption.Zeroed, unit, [.. unit.Select(_ => new byte[DiskFormat.BlockBytes])]);
            yield return new BlockDamage(kind, owner, Corruption.Zeroed, one, [new byte[DiskFormat.BlockBytes]]);
            yield return new BlockDamage(kind, owner, Corruption.Random, unit, [.. unit.Select(_ => Noise())]);
            yield return new BlockDamage(kind, owner, Corruption.Unreadable, one, null);
            yield return new BlockDamage(kind, owner, Corruption.Unreadable, unit, null);
            foreach (byte[][] older in Versions(unit)) { yield return new BlockDamage(kind, owner, Corruption.Stale, unit, older); }
            foreach ((Corruption corruption, byte[] from, IEnumerable<int[]> others) in new[]
            {
                (Corruption.FromSameVolume, disk, units),
                (Corruption.FromOtherVolume, disk, new[] { 0UL, 1UL, 2UL }.Where(other => other != owner).SelectMany(other => Units(_map, kind, other))),
                (Corruption.FromOtherPool, otherPool, Units(_otherMap, kind, owner)),
            })
            {
                byte[][] now = Read(disk, unit);
                IEnumerable<byte[][]> contents = others.Where(other => other.Length >= unit.Length).Select(other => Read(from, other[..unit.Length])).Where(content => !Same(content, now));
                foreach (byte[][] content in contents.Take(2)) { yield return new BlockDamage(kind, owner, corruption, unit, content); }
            }
        }
    }

    /// <summary>What is written as one: both copies together count as a unit as well, and a node is four blocks.</summary>
    private static List<int[]> Units(BlockMap map, BlockKind kind, ulong owner)
    {
        int[] blocks = [.. map.Of(kind, owner)];
        if (kind is BlockKind.Root or BlockKind.Inner or BlockKind.Leaf) { return [.. blocks.Chunk(DiskFormat.NodeBlocks)]; }
        IEnumerable<int[]> units = blocks.Select(block => new[] { block });
        return [.. blocks.Length > 1 && IsCopied(kind) ? units.Append(blocks) : units];
    }

    private static bool IsCopied(BlockKind kind) => kind is BlockKind.Superblock or BlockKind.OlderSuperblock or BlockKind.Header or BlockKind.OlderHeader;

    private static IEnumerable<int[]> Some(List<int[]> units) => units.Where((_, i) => units.Count <= MaxUnits || i % ((units.Count + MaxUnits - 1) / MaxUnits) == 0);

    /// <summary>What these blocks held before, newest first. The version of the last write is what they hold now.</summary>
    private IEnumerable<byte[][]> Versions(int[] unit)
    {
        byte[][] now = Read(disk, unit);
        for (int back = 1; back <= 16; back++)
        {
            var version = new byte[unit.Length][];
            for (int i = 0; i < unit.Length; i++)
            {
                List<byte[]> versions = history.GetValueOrDefault(unit[i]) ?? [];
                version[i] = versions.Count > back ? versions[versions.Count - 1 - back] : new byte[DiskFormat.BlockBytes];
            }
            if (!Same(version, now)) { yield return version; }
            if (unit.All(block => (history.GetValueOrDefault(block)?.Count ?? 0) <= back) || back >= MaxVersions) { yield break; }
        }
    }

    private static byte[][] Read(byte[] from, int[] blocks) => [.. blocks.Select(block => from.AsSpan(block * DiskFormat.BlockBytes, DiskFormat.BlockBytes).ToArray())];

    private static bool Same(byte[][] one, byte[][] other) => one.Zip(other).All(pair => pair.First.AsSpan().SequenceEqual(pair.Second));

    private byte[] Noise()
    {
        var bytes = new byte[DiskFormat.BlockBytes];
        _random.NextBytes(bytes);
        return bytes;
    }
}
