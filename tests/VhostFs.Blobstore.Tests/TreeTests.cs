using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobstore.Tests;

/// <summary>The tree alone: no log, checkpoints by hand, a cache that holds next to nothing.</summary>
public sealed class TreeTests : VolumeFixture
{
    private const ulong VolumeId = 7;
    private readonly List<FrozenNode> _frozen = [];
    private readonly List<ulong> _obsolete = [];

    [Theory]
    [InlineData(1, 40, 16)]
    [InlineData(2, 400, 16)]
    [InlineData(3, Tree.MaxValueBytes, 16)]
    [InlineData(4, Tree.MaxValueBytes, 100000)]
    public void Random_changes_with_checkpoints_in_between_equal_a_dictionary(int seed, int maxBytes, int cacheNodes)
    {
        Run(async () =>
        {
            var random = new Random(seed);
            var model = new SortedDictionary<TreeKey, byte[]>();
            var space = new NodeSpace();
            space.AddArea(NodePage.Blocks, 12000); // block 0 is never a node: to the tree it means "no address yet"
            var cache = new NodeCache((long)cacheNodes * NodePage.Bytes);
            Tree tree = NewTree(cache, space);
            for (int i = 0; i < 12000; i++)
            {
                var key = new TreeKey((ulong)random.Next(i < 8000 ? 400 : 100), (ulong)random.Next(8));
                while (tree.Touch(key) == Residency.NotResident) { Assert.Equal(Errno.None, await tree.LoadMissingAsync()); }
                bool delete = random.Next(i < 8000 ? 4 : 2) == 0;
                if (delete) { Assert.Equal(model.Remove(key), tree.Delete(key)); }
                else
                {
                    var value = new byte[random.Next(maxBytes + 1)];
                    random.NextBytes(value);
                    tree.Put(key, value);
                    model[key] = value;
                }
                if (i % 400 == 399) { await CheckpointAsync(tree, space, changeMeanwhile: random.Next(2) == 0 ? model : null, random); }
                if (i % 3000 == 2999)
                {
                    await CheckpointAsync(tree, space, null, random);
                    NodePointer root = new(tree.Root.Address, tree.Root.Page.BirthEpoch, tree.Root.Page.Crc);
                    int height = tree.Height;
                    tree.Close();
                    Assert.Equal(0, cache.NodeCount);
                    Assert.Equal(0, cache.UsedBytes);
                    // Exactly the nodes that the tree reaches are in use.
                    var again = new NodeSpace();
                    again.AddArea(NodePage.Blocks, 12000);
                    tree = NewTree(cache, again);
                    Assert.Equal(Errno.None, await tree.OpenAsync(root, height));
                    Assert.Equal(Errno.None, await tree.VisitAddressesAsync(again.TryMarkUsed));
                    Assert.Equal(space.FreeCount, again.FreeCount);
                    space = again;
                }
                if (i % 1000 == 999) { await CompareAsync(tree, model, seed); }
            }
            return 0;
        });
    }

    [Fact]
    public void A_tree_that_only_grows_stays_within_the_memory_budget()
    {
        Run(async () =>
        {
            var space = new NodeSpace();
            space.AddArea(NodePage.Blocks, 12000); // block 0 is never a node: to the tree it means "no address yet"
            var cache = new NodeCache(64 * NodePage.Bytes);
            Tree tree = NewTree(cache, space);
            var random = new Random(1);
            int loads = 0;
            for (ulong i = 0; i < 20000; i++)
            {
                while (tree.Touch(new TreeKey(i, 0)) == Residency.NotResident) { Assert.Equal(Errno.None, await tree.LoadMissingAsync()); loads++; }
                tree.Put(new TreeKey(i, 0), new byte[500]);
                if (i % 1000 == 999) { await CheckpointAsync(tree, space, null, random); }
            }
            // Reading trims too, but ascending keys read at most the way to the last leaf: it is the checkpoints that must let go.
            Assert.InRange(loads, 0, 100);
            Assert.InRange(cache.UsedBytes, 0, (64L + 64) * NodePage.Bytes); // the budget, and the nodes loaded last
            return 0;
        });
    }

    [Fact]
    public void What_a_checkpoint_failed_to_write_is_never_read_as_it_was_before()
    {
        Run(async () =>
        {
            var space = new NodeSpace();
            space.AddArea(NodePage.Blocks, 4000);
            Tree tree = NewTree(new NodeCache(4 * NodePage.Bytes), space);
            for (ulong i = 0; i < 8000; i++)
            {
                while (tree.Touch(new TreeKey(i, 0)) == Residency.NotResident) { Assert.Equal(Errno.None, await tree.LoadMissingAsync()); }
                tree.Put(new TreeKey(i, 0), new byte[500]);
                if (i % 500 == 499) { await CheckpointAsync(tree, space, null, new Random(1)); }
            }
            var changed = new TreeKey(0, 0);
            while (tree.Touch(changed) == Residency.NotResident) { Assert.Equal(Errno.None, await tree.LoadMissingAsync()); }
            tree.Put(changed, [1]);
            tree.Freeze(space, 2, _frozen);
            tree.Thaw(_frozen); // nothing was sealed, nothing was written
            _frozen.Clear();
            // Reading all others pushes the changed leaf out of the cache.
            for (ulong i = 7999; i > 100; i--)
            {
                while (tree.TryGet(new TreeKey(i, 0), out _) == Residency.NotResident) { Assert.Equal(Errno.None, await tree.LoadMissingAsync()); }
            }
            Assert.Equal(Residency.NotResident, tree.TryGet(changed, out _));
            Assert.Equal(Errno.EIO, await tree.LoadMissingAsync());
            return 0;
        });
    }

    private Tree NewTree(NodeCache cache, NodeSpace space) => new(VolumeId, cache, new NodeReader(Disk, VolumeId, space.Owns, Reports.Add));

    private async IoTask<int> CheckpointAsync(Tree tree, NodeSpace space, SortedDictionary<TreeKey, byte[]>? changeMeanwhile, Random random)
    {
        tree.Freeze(space, 1, _frozen);
        tree.TakeObsolete(_obsolete);
        for (int i = 0; changeMeanwhile is not null && i < 50; i++)
        {
            var key = new TreeKey((ulong)random.Next(400), (ulong)random.Next(8));
            if (tree.Touch(key) != Errno.None) { continue; }
            tree.Put(key, [(byte)i]);
            changeMeanwhile[key] = [(byte)i];
        }
        using var list = new IoVecList();
        for (int i = 0; i < _frozen.Count; i++)
        {
            tree.Seal(_frozen, i);
            list.Clear();
            list.Add(_frozen[i].Vec);
            Assert.False((await Disk.WriteAsync((long)_frozen[i].Address * BlobData.BlockBytes, list.View())).IsError);
        }
        tree.Thaw(_frozen);
        _frozen.Clear();
        foreach (ulong address in _obsolete) { space.Free(address); }
        _obsolete.Clear();
        return 0;
    }

    private static async IoTask<int> CompareAsync(Tree tree, SortedDictionary<TreeKey, byte[]> model, int seed)
    {
        TreeKey from = TreeKey.Min;
        foreach ((TreeKey expected, byte[] content) in model)
        {
            while (!Matches(tree, ref from, expected, content, seed)) { Assert.Equal(Errno.None, await tree.LoadMissingAsync()); }
        }
        Errno end;
        while ((end = tree.TryNext(from, TreeKey.Max, out _, out _)) == Residency.NotResident) { await tree.LoadMissingAsync(); }
        Assert.Equal(Errno.ENOENT, end);
        return 0;
    }

    private static bool Matches(Tree tree, ref TreeKey from, TreeKey expected, byte[] content, int seed)
    {
        Errno found = tree.TryNext(from, TreeKey.Max, out TreeKey key, out ReadOnlySpan<byte> value);
        if (found == Residency.NotResident) { return false; }
        Assert.Equal(Errno.None, found);
        Assert.True(key == expected && value.SequenceEqual(content), $"seed {seed}: {key} instead of {expected}");
        from = key.Next();
        return true;
    }
}
