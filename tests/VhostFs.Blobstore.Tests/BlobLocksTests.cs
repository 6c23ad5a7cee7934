using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobstore.Tests;

public sealed class BlobLocksTests
{
    private readonly BlobLocks _locks = new();
    private readonly List<string> _order = [];

    [Fact]
    public void Ranges_that_do_not_touch_are_free_and_blobs_do_not_know_each_other()
    {
        Assert.True(_locks.TryLock(1, 0, 10, out BlobLock first));
        Assert.True(_locks.TryLock(1, 10, 20, out _));
        Assert.True(_locks.TryLock(2, 0, 10, out _));
        Assert.False(_locks.TryLock(1, 9, 10, out _));
        _locks.Unlock(first);
        Assert.True(_locks.TryLock(1, 9, 10, out _));
    }

    [Fact]
    public void Who_waits_is_served_in_order_and_nobody_overtakes_an_overlapping_waiter()
    {
        Assert.True(_locks.TryLock(1, 0, 10, out BlobLock held));
        IoTask<BlobLock> wide = _locks.LockAsync(1, 0, 100);
        IoTask<BlobLock> late = _locks.LockAsync(1, 50, 60);
        Assert.False(wide.IsCompleted);
        Assert.False(late.IsCompleted); // free now, but the one before it would starve
        Assert.False(_locks.TryLock(1, 90, 95, out _));
        IoTask<BlobLock> beside = _locks.LockAsync(1, 200, 300);
        Assert.True(beside.IsCompleted);
        _locks.Unlock(held);
        Assert.True(wide.IsCompleted);
        Assert.False(late.IsCompleted);
        _locks.Unlock(wide.GetAwaiter().GetResult());
        Assert.True(late.IsCompleted);
    }

    [Fact]
    public void A_holder_that_unlocks_at_once_when_it_is_granted_does_not_confuse_the_queue()
    {
        Assert.True(_locks.TryLock(1, 0, 10, out BlobLock held));
        for (int i = 0; i < 20; i++) { HoldAsync($"{i}").Detach(); }
        _locks.Unlock(held);
        Assert.Equal(Enumerable.Range(0, 20).Select(static i => $"{i}"), _order);
        Assert.True(_locks.TryLock(1, 0, 10, out _));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Random_holders_never_overlap_and_all_are_served(int seed)
    {
        var random = new Random(seed);
        var holding = new List<BlobLock>();
        var waiting = new List<IoTask<BlobLock>>();
        int served = 0;
        for (int i = 0; i < 5000 || holding.Count + waiting.Count > 0; i++)
        {
            if (i < 5000 && random.Next(2) == 0)
            {
                long first = random.Next(100);
                waiting.Add(_locks.LockAsync(1 + (ulong)random.Next(2), first, first + random.Next(1, 30)));
            }
            else if (holding.Count > 0)
            {
                int at = random.Next(holding.Count);
                _locks.Unlock(holding[at]);
                holding.RemoveAt(at);
            }
            for (int w = 0; w < waiting.Count;)
            {
                if (!waiting[w].IsCompleted) { w++; continue; }
                BlobLock granted = waiting[w].GetAwaiter().GetResult();
                Assert.DoesNotContain(holding, other => other.Blob == granted.Blob && other.Overlaps(granted.First, granted.Limit));
                holding.Add(granted);
                waiting.RemoveAt(w);
                served++;
            }
            Assert.True(holding.Count > 0 || waiting.Count == 0, $"seed {seed}: everybody waits");
        }
        Assert.InRange(served, 2000, 3000);
    }

    private async IoTask<int> HoldAsync(string name)
    {
        BlobLock held = await _locks.LockAsync(1, 0, 10);
        _order.Add(name);
        _locks.Unlock(held);
        return 0;
    }
}
