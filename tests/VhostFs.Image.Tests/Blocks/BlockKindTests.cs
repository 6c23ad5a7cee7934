using VhostFs.Crash.Tests.Explorer;
using VhostFs.Image.Tests.Images;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Image.Tests.Blocks;

/// <summary>Every kind of block, damaged in every way: noticed, repaired where there is a second copy, one volume affected, and never wrong data.</summary>
public sealed class BlockKindTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Damage_to_any_kind_of_block_is_noticed_and_hands_out_nothing_wrong(bool crashed)
    {
        BaseImages images = ImageBuilder.Build(1), other = ImageBuilder.Build(2);
        byte[] disk = crashed ? images.Crashed : images.Clean;
        var image = new DiskImage(disk);
        var damages = new BlockDamages(disk, images.History, crashed ? other.Crashed : other.Clean);
        var judge = new BlockJudge(image, damages.Map);
        var wrong = new List<string>();
        int tried = 0;
        foreach ((BlockKind kind, ulong owner) in damages.Map.Kinds.Where(kind => kind.Owner < 2))
        {
            foreach (BlockDamage damage in damages.Of(kind, owner))
            {
                tried++;
                if (Mismatch(damage, crashed, judge, image) is { } problem) { wrong.Add($"{damage}: {problem}"); }
            }
        }
        output.WriteLine($"{tried} damaged images");
        Assert.True(wrong.Count == 0, string.Join("\n", wrong.Take(20)));
        Assert.InRange(tried, 500, int.MaxValue);
    }

    /// <summary>A kind that the format gets must come here, or the next test fails.</summary>
    [Fact]
    public void Every_kind_of_block_has_an_expectation()
    {
        Assert.Empty(Enum.GetValues<BlockKind>().Where(kind => kind != BlockKind.Unknown).Except(BlockExpectation.All.SelectMany(expectation => expectation.Kinds)));
    }

    /// <summary>The judge would notice an engine that does not: here a disk changes its mind behind the expectation.</summary>
    [Fact]
    public void Wrong_data_is_seen_by_the_judge()
    {
        BaseImages images = ImageBuilder.Build(1);
        // The block and its checksum are both changed, as no bit rot does: the engine must take it, and the judge must not.
        ImageLayout layout = ImageLayout.Read(images.Clean);
        ImageVolume volume = layout.Volume("a");
        ImageNode leaf = volume.Tree.Leaves.First(node => node.Items().Any(item => item.Type == DiskFormat.Inline && item.Value.Length > 100));
        List<TreeItem> items = leaf.Items();
        items.First(item => item.Type == DiskFormat.Inline && item.Value.Length > 100).Value[50] ^= 1;
        Assert.True(leaf.TrySetItems(items));
        volume.Tree.Seal(layout.NodeAt);
        var blocks = new List<(int Block, byte[] Content)>();
        foreach (ImageNode node in volume.Tree.Nodes)
        {
            for (int i = 0; i < DiskFormat.NodeBlocks; i++) { blocks.Add(((int)node.Address + i, node.Bytes.AsSpan(i * DiskFormat.BlockBytes, DiskFormat.BlockBytes).ToArray())); }
        }
        blocks.Add(((int)volume.Slot(volume.NewestSlot), volume.Tree.Header));
        blocks.Add(((int)volume.Slot((volume.NewestSlot + 2) % 4), volume.Tree.Header));
        var damage = new BlockDamage(BlockKind.Leaf, 1, Corruption.BitFlip, [.. blocks.Select(block => block.Block)], [.. blocks.Select(block => block.Content)]);
        var image = new DiskImage(images.Clean);
        var judge = new BlockJudge(image, BlockMap.Of(images.Clean));
        Assert.Contains("wrong data", Assert.Throws<InvalidOperationException>(() => judge.Judge(damage, image)).Message);
    }

    private static string? Mismatch(BlockDamage damage, bool crashed, BlockJudge judge, DiskImage image)
    {
        BlockExpectation expectation = BlockExpectation.All.First(rule => rule.Kinds.Contains(damage.Kind) && rule.Applies(damage, crashed));
        try
        {
            (Fate Fate, Verdict Verdict) found = judge.Judge(damage, image);
            return expectation.Allowed.Contains(found) ? null : $"{found}, expected {string.Join(" or ", expectation.Allowed)}";
        }
        catch (Exception e)
        {
            return e.ToString();
        }
    }
}
