using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobstore.Tests;

public sealed class BlockAllocatorTests
{
    private const ulong DataStart = 1024;

    [Theory]
    [InlineData(1, 32)]
    [InlineData(2, 256)]
    [InlineData(3, 4096)]
    public void Random_reservations_and_frees_never_give_a_block_to_two(int seed, int clusterBlocks)
    {
        var random = new Random(seed);
        var allocator = new BlockAllocator(DataStart, clusterBlocks);
        for (uint i = 0; i < 8; i++) { allocator.AddCluster(i * 2, []); }
        var owned = new List<BlockRun>();
        var taken = new HashSet<ulong>();
        long total = 8L * clusterBlocks;
        ulong lsn = 0, durable = 0;
        for (int i = 0; i < 20000; i++)
        {
            switch (random.Next(5))
            {
                case 0 or 1:
                    int wanted = random.Next(1, 60);
                    ulong near = random.Next(3) switch { 0 => 0, 1 => (ulong)random.NextInt64((long)DataStart * 40), _ => owned.Count == 0 ? 0 : owned[^1].First + (ulong)owned[^1].Count };
                    bool found = allocator.TryReserve(wanted, near, (ulong)random.Next(1000), out BlockRun run);
                    Assert.Equal(allocator.FreeBlocks > 0 || found, found);
                    if (!found) { break; }
                    Assert.InRange(run.Count, 1, wanted);
                    Assert.True(allocator.Owns(run.First, run.Count));
                    for (int k = 0; k < run.Count; k++) { Assert.True(taken.Add(run.First + (ulong)k), $"seed {seed}, step {i}"); }
                    owned.Add(run);
                    break;
                case 2 when owned.Count > 0:
                    BlockRun back = Take(owned, random);
                    allocator.Release(back);
                    for (int k = 0; k < back.Count; k++) { taken.Remove(back.First + (ulong)k); }
                    break;
                case 3 when owned.Count > 0:
                    allocator.Free(++lsn, Take(owned, random), 5);
                    break;
                default:
                    durable = Math.Max(durable, lsn - (ulong)random.NextInt64((long)Math.Min(lsn, 3) + 1));
                    while (allocator.TryTakeReleasable(durable, 6, out BlockRun freed))
                    {
                        allocator.ReleaseMapped(freed);
                        for (int k = 0; k < freed.Count; k++) { taken.Remove(freed.First + (ulong)k); }
                    }
                    if (random.Next(2) == 0 && allocator.TryTakeUnmappable(4, out BlockRun unmap))
                    {
                        for (int k = 0; k < unmap.Count; k++) { Assert.DoesNotContain(unmap.First + (ulong)k, taken); }
                        allocator.Release(unmap);
                    }
                    break;
            }
            Assert.Equal(total - taken.Count, allocator.FreeBlocks);
        }
    }

    [Fact]
    public void Blobs_that_grow_at_once_lie_in_pieces_of_a_window_and_leave_no_block_out()
    {
        const int Blobs = 16, ClusterBlocks = 256, Clusters = 40;
        var allocator = new BlockAllocator(DataStart, ClusterBlocks);
        for (uint i = 0; i < Clusters; i++) { allocator.AddCluster(i, []); }
        var near = new ulong[Blobs];
        var pieces = new int[Blobs];
        int rounds = ClusterBlocks * Clusters / Blobs;
        for (int round = 0; round < rounds; round++)
        {
            for (int blob = 0; blob < Blobs; blob++)
            {
                Assert.True(allocator.TryReserve(1, near[blob], (ulong)round, out BlockRun run));
                if (run.First != near[blob]) { pieces[blob]++; }
                near[blob] = run.First + 1;
            }
        }
        Assert.Equal(0, allocator.FreeBlocks);
        // Of 16 blocks up to a megabyte, then of 64; what is left of windows is used at the end.
        Assert.All(pieces, count => Assert.InRange(count, 1, (256 / 16) + ((rounds - 256) / 64) + 24));
    }

    [Fact]
    public void Small_blobs_are_packed()
    {
        var allocator = new BlockAllocator(DataStart, 256);
        allocator.AddCluster(0, []);
        for (ulong i = 0; i < 85; i++)
        {
            Assert.True(allocator.TryReserve(3, 0, 0, out BlockRun run));
            Assert.Equal(new BlockRun(DataStart + (3 * i), 3), run);
        }
    }

    [Fact]
    public void A_freed_block_waits_for_its_record_and_for_the_reads_before_it()
    {
        var allocator = new BlockAllocator(DataStart, 32);
        allocator.AddCluster(0, []);
        var reads = new ReadEpochs();
        Assert.True(allocator.TryReserve(8, 0, 0, out BlockRun run));
        ulong before = reads.Begin();
        allocator.Free(10, run, reads.Current);
        Assert.False(allocator.TryTakeReleasable(9, reads.Oldest, out _), "its record is not durable");
        Assert.False(allocator.TryTakeReleasable(10, reads.Oldest, out _), "a read began before it was freed");
        ulong after = reads.Begin();
        reads.End(before);
        bool released = allocator.TryTakeReleasable(10, reads.Oldest, out BlockRun freed) || allocator.TryTakeReleasable(10, reads.Oldest, out freed);
        reads.End(after);
        Assert.True(released || allocator.TryTakeReleasable(10, reads.Oldest, out freed));
        Assert.Equal(run, freed);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void No_read_that_began_before_a_free_is_ever_overlooked(int seed)
    {
        var random = new Random(seed);
        var reads = new ReadEpochs();
        var active = new List<(ulong Epoch, int Started)>();
        var freed = new Queue<(ulong Epoch, int At)>();
        int releasedCount = 0;
        for (int i = 0; i < 50000; i++)
        {
            switch (random.Next(4))
            {
                case 0: active.Add((reads.Begin(), i)); break;
                case 1 when active.Count > 0:
                    int at = random.Next(active.Count);
                    reads.End(active[at].Epoch);
                    active.RemoveAt(at);
                    break;
                case 2: freed.Enqueue((reads.Current, i)); break;
                default:
                    ulong oldest = reads.Oldest;
                    while (freed.TryPeek(out (ulong Epoch, int At) next) && next.Epoch < oldest)
                    {
                        freed.Dequeue();
                        releasedCount++;
                        Assert.DoesNotContain(active, read => read.Started < next.At);
                    }
                    break;
            }
        }
        foreach ((ulong epoch, _) in active) { reads.End(epoch); }
        for (int i = 0; i < 3; i++) { _ = reads.Oldest; }
        Assert.True(freed.Count == 0 || freed.Last().Epoch < reads.Oldest);
        Assert.True(releasedCount > 0);
    }

    [Fact]
    public void Only_runs_inside_of_one_cluster_of_ours_are_owned()
    {
        var allocator = new BlockAllocator(DataStart, 32);
        allocator.AddCluster(1, []);
        Assert.True(allocator.Owns(DataStart + 32, 32));
        Assert.False(allocator.Owns(DataStart + 32, 33));
        Assert.False(allocator.Owns(DataStart + 31, 2));
        Assert.False(allocator.Owns(DataStart, 1));
        Assert.False(allocator.Owns(DataStart + 32, 0));
        Assert.False(allocator.Owns(0, 1));
        Assert.False(allocator.Owns(ulong.MaxValue, 1));
        // Cluster numbers have 32 bits: one that wraps round must not become ours.
        Assert.False(allocator.Owns(DataStart + ((1UL << 32) * 32) + 32, 1));
    }

    private static BlockRun Take(List<BlockRun> owned, Random random)
    {
        int at = random.Next(owned.Count);
        BlockRun run = owned[at];
        owned.RemoveAt(at);
        return run;
    }
}
