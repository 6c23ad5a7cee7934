using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobstore.Tests;

/// <summary>Changes that touch many nodes at once, where the slots for nodes are nearly all in use.</summary>
public sealed class WideChangeTests : VolumeFixture
{
    private const ulong Items = 6000;

    [Fact]
    public void A_change_of_hundreds_of_leaves_gets_room_or_an_error_and_never_ends_the_volume()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            for (ulong i = 1; i <= Items; i++) { await PutAsync(volume, i, 700); }
            Assert.Equal(Errno.None, await volume.Checkpointer.RunAsync(VolumeFlags.None));
            for (int round = 0; round < 4; round++)
            {
                // One item of every leaf: about 300 clean nodes in one transaction.
                Errno changed = await TryTouchEveryAsync(volume, step: 20, (byte)(10 + round));
                Assert.True(changed is Errno.None or Errno.ENOSPC, $"{changed}");
                Assert.Equal(Errno.None, await volume.Checkpointer.RunAsync(VolumeFlags.None));
                Assert.False(volume.Failed, volume.FailReason);
                Assert.True(volume.Nodes.FreeCount >= 0);
                if (changed == Errno.None) { Assert.Equal(10 + round, await GetAsync(volume, 21)); }
            }
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Fact]
    public void A_full_volume_can_be_emptied_item_by_item()
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            ulong count = 0;
            Errno put;
            while ((put = await TryPutAsync(volume, count + 1, 3000)) == Errno.None) { count++; }
            Assert.Equal(Errno.ENOSPC, put);
            Assert.True(count > 1000);
            for (ulong i = 1; i <= count; i++) { Assert.Equal(Errno.None, await TryDeleteAsync(volume, i)); }
            Assert.Equal(Errno.None, await volume.Checkpointer.RunAsync(VolumeFlags.None));
            Assert.Equal(1, volume.Tree.Height);
            for (ulong i = 1; i <= count / 2; i++) { await PutAsync(volume, i, 3000); }
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Theory]
    [InlineData(4)]
    [InlineData(8)]
    [InlineData(12)]
    [InlineData(16)]
    public void An_operation_loads_each_node_about_once_although_dirty_nodes_fill_the_cache(int leaves)
    {
        Run(async () =>
        {
            Pool pool = await FormatAsync(Disk);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            for (ulong i = 1; i <= Items; i++) { await PutAsync(volume, i, 700); }
            Assert.Equal(Errno.None, await pool.CloseAsync());
            pool = Value(await Pool.OpenAsync(Disk, new PoolOptions { NodeCache = new NodeCache(64 * NodePage.Bytes) }));
            volume = Value(await pool.OpenVolumeAsync("v"));
            for (ulong i = 1; i < 2000; i += 20) { await PutAsync(volume, i, 100, fill: 3); } // about 100 dirty leaves, and no checkpoint is due
            int loads = 0;
            for (;;)
            {
                Assert.Equal(Errno.None, await volume.AdmitAsync(Admission.Grow));
                Transaction transaction = volume.Begin();
                Errno staged = Errno.None;
                for (ulong i = 3000; i < 3000 + ((ulong)leaves * 50) && staged == Errno.None; i += 50) { staged = transaction.Put(Key(i), [9]); }
                if (staged == Errno.None) { transaction.Commit(); break; }
                transaction.Abort();
                Assert.Equal(Residency.NotResident, staged);
                Assert.Equal(Errno.None, await volume.LoadMissingAsync());
                Assert.True(++loads <= 3 * leaves, $"more than {3 * leaves} loads for {leaves} leaves: each evicts what the one before loaded");
            }
            Assert.True(loads >= leaves, "the leaves were not in memory");
            Assert.True(volume.Tree.DirtyCount > 64, "dirty nodes alone exceed the budget");
            Assert.Equal(9, await GetAsync(volume, 3000));
            return 0;
        });
    }

    private static async IoTask<Errno> TryTouchEveryAsync(Volume volume, ulong step, byte fill)
    {
        var value = new byte[100];
        value.AsSpan().Fill(fill);
        for (;;)
        {
            Errno result = await volume.AdmitAsync(Admission.Grow);
            if (result != Errno.None) { return result; }
            Transaction transaction = volume.Begin();
            for (ulong i = 1; i <= Items && result == Errno.None; i += step) { result = transaction.Put(Key(i), value); }
            if (result == Errno.None) { return await volume.LoggedAsync(transaction.Commit()); }
            transaction.Abort();
            if (result == Residency.NotResident) { result = await volume.LoadMissingAsync(); }
            if (result != Errno.None) { return result; }
        }
    }
}
