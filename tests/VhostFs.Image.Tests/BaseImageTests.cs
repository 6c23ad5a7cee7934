using VhostFs.Blobstore.Check;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Image.Tests.Images;
using Xunit;
using Xunit.Abstractions;

[assembly: CollectionBehavior(DisableTestParallelization = true)]

namespace VhostFs.Image.Tests;

public sealed class BaseImageTests(ITestOutputHelper output)
{
    [Fact]
    public void The_images_that_all_tests_begin_with_are_sound_and_hold_every_kind_of_block()
    {
        BaseImages images = ImageBuilder.Build(1);
        foreach ((string name, byte[] disk) in new[] { ("clean", images.Clean), ("crashed", images.Crashed) })
        {
            BlockMap map = BlockMap.Of(disk);
            foreach (IGrouping<(BlockKind, ulong), int> kind in Enumerable.Range(0, map.Count).GroupBy(block => (map.KindOf(block), map.OwnerOf(block))).OrderBy(kind => kind.Key))
            {
                output.WriteLine($"{name}: {kind.Key} {kind.Count()} blocks from {kind.First()}");
            }
            using var bdev = new ImageBdev(new DiskImage(disk));
            ImageRun run = ImageRun.Of(bdev, new CheckOptions { VerifyFreeClusters = true });
            Assert.True(run.Check.IsClean && run.Check.WarningCount == 0, string.Join("\n", run.Check.Findings));
            Assert.Null(run.PoolError);
            Assert.All(run.VolumeErrors.Values, Assert.Null);
            output.WriteLine($"{run.Contents["a"].Count} {run.Contents["b"].Count} names; {string.Join("; ", run.Reports)}");
            Assert.Empty(run.Reports);
            Assert.True(run.CheckAfter!.IsClean, string.Join("\n", run.CheckAfter.Findings));
            Assert.All(run.Contents.Values, content => Assert.DoesNotContain(content.Values, value => value.StartsWith('E')));
        }
        Assert.Empty(Enum.GetValues<BlockKind>().Where(kind => kind != BlockKind.Unknown)
            .Except(new[] { images.Clean, images.Crashed }.SelectMany(disk => { BlockMap map = BlockMap.Of(disk); return Enumerable.Range(0, map.Count).Select(map.KindOf); })));
    }

    [Fact]
    public void The_same_images_come_out_every_time()
    {
        BaseImages first = ImageBuilder.Build(2), second = ImageBuilder.Build(2);
        Assert.True(first.Clean.AsSpan().SequenceEqual(second.Clean));
        Assert.True(first.Crashed.AsSpan().SequenceEqual(second.Crashed));
    }
}
