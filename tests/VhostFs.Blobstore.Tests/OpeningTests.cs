using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobstore.Tests;

/// <summary>Many volumes of a pool, opened and closed together.</summary>
public sealed class OpeningTests : VolumeFixture
{
    private const int Volumes = 12;

    [Fact]
    public void Volumes_opened_together_after_a_crash_and_closed_together_share_flushes_and_each_has_its_own_content() => Run(async () =>
    {
        Pool pool = await FormatAsync(Disk);
        for (int i = 0; i < Volumes; i++)
        {
            Volume made = Value(await pool.CreateVolumeAsync($"v{i}", new VolumeOptions()));
            await PutAsync(made, (ulong)i + 1, bytes: 100, fill: (byte)(i + 1));
        }
        pool = await ReopenAfterCrashAsync(Disk);

        long before = Disk.Statistics.FlushOperations;
        var opening = new IoTask<OpenResult<Volume>>[Volumes];
        for (int i = 0; i < Volumes; i++) { opening[i] = pool.OpenVolumeAsync($"v{i}"); }
        for (int i = 0; i < Volumes; i++)
        {
            Volume volume = Value(await opening[i]);
            for (int k = 0; k < Volumes; k++) { Assert.Equal(k == i ? i + 1 : -1, await GetAsync(volume, (ulong)k + 1)); }
        }
        Assert.InRange(Disk.Statistics.FlushOperations - before, 1, Volumes - 1);

        before = Disk.Statistics.FlushOperations;
        Assert.Equal(Errno.None, await pool.CloseAsync());
        Assert.InRange(Disk.Statistics.FlushOperations - before, 1, Volumes - 1);
        Assert.Empty(Reports);
        return 0;
    });

    [Theory, InlineData(1), InlineData(2), InlineData(3)]
    public void An_owner_has_what_was_given_to_it_and_not_taken_back(int seed)
    {
        var random = new Random(seed);
        PoolGeometry geometry = PoolGeometry.For(64L << 20, new FormatOptions());
        var table = new ClusterTable(geometry);
        var model = new Dictionary<ulong, List<(ClusterExtent Extent, ClusterKind Kind)>>();
        for (int step = 0; step < 2000; step++)
        {
            ulong owner = (ulong)random.Next(1, 6);
            if (!model.TryGetValue(owner, out var owned)) { model.Add(owner, owned = []); }
            if (random.Next(3) > 0)
            {
                var kind = (ClusterKind)random.Next(1, 4);
                if (!table.TryFind((uint)random.Next(1, 20), exact: random.Next(2) == 0, out ClusterExtent extent)) { continue; }
                table.Give(extent, kind, owner);
                owned.Add((extent, kind));
            }
            else
            {
                var back = owned.Where(_ => random.Next(2) == 0).ToList();
                table.TakeBack([.. back.Select(b => b.Extent)], owner);
                owned.RemoveAll(back.Contains);
            }
            Assert.Equal(owned, table.OwnedBy(owner));
            Assert.Equal(owned.Sum(o => o.Extent.Count), table.CountOf(owner));
            Assert.Equal(geometry.ClusterCount - model.Values.Sum(all => all.Sum(o => o.Extent.Count)), table.FreeCount);
            Assert.All(owned, o => Assert.True(table.Is(o.Extent.First + o.Extent.Count - 1, o.Kind, owner)));
        }
    }
}
