using VhostFs.Bdev;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

/// <summary>What raid1 promises: while legs fail, are pulled out and are rebuilt, clients notice nothing, and legs that are in sync are equal.</summary>
public sealed class Raid1BdevTests : IDisposable
{
    private const int DiskBytes = 3 << 20; // three pieces of a rebuild
    private readonly Reactor _reactor = new(new SimulatedDriver(), "test");
    private readonly NativeBuffer _buffer = new(1 << 20, zeroed: true);
    private readonly IoVecList _block = new();
    private readonly List<string> _lost = [];

    public Raid1BdevTests() => _block.Add(_buffer.Slice(0, 4096));

    public void Dispose()
    {
        _reactor.Dispose();
        _block.Dispose();
        _buffer.Dispose();
    }

    [Fact]
    public void Writes_go_to_all_and_reads_are_spread()
    {
        MallocBdev[] disks = [Disk(), Disk(), Disk(extraBytes: 4096)];
        using Raid1Bdev raid = Make(disks);
        Assert.Equal(DiskBytes, raid.SizeBytes);
        _buffer.Span.Fill(7);
        Assert.Equal(4096, Run(raid.WriteAsync(8192, _block.View())).Value);
        Assert.Equal(Errno.None, Run(raid.FlushAsync()));
        for (int i = 0; i < 9; i++) { Assert.Equal(4096, Run(raid.ReadAsync(8192, _block.View())).Value); }
        Assert.All(disks, disk => Assert.Equal((1, 1, 3), (disk.Statistics.WriteOperations, disk.Statistics.FlushOperations, disk.Statistics.ReadOperations)));
    }

    [Fact]
    public void A_slow_leg_gets_fewer_reads()
    {
        var fast = new DelayBdev(Disk(), _reactor) { ReadDelayNs = 100 };
        var slow = new DelayBdev(Disk(), _reactor) { ReadDelayNs = 900 };
        using Raid1Bdev raid = Make(fast, slow);
        Run(async () =>
        {
            var clients = new List<IoTask<bool>>();
            for (int i = 0; i < 4; i++) { clients.Add(ClientAsync()); }
            foreach (IoTask<bool> client in clients) { await client; }
            return true;
        });
        Assert.True(fast.Statistics.ReadOperations > 4 * slow.Statistics.ReadOperations, $"{fast.Statistics.ReadOperations} and {slow.Statistics.ReadOperations}");

        async IoTask<bool> ClientAsync()
        {
            for (int i = 0; i < 100; i++) { await raid.ReadAsync(0, _block.View()); }
            return true;
        }
    }

    [Theory]
    [InlineData(BdevOperations.Write)]
    [InlineData(BdevOperations.Flush)]
    [InlineData(BdevOperations.Unmap)]
    [InlineData(BdevOperations.WriteZeroes)]
    public void A_leg_that_fails_at_any_change_or_flush_is_out_and_clients_notice_nothing(BdevOperations kind)
    {
        for (int skip = 0; ; skip++)
        {
            using MallocBdev good = Disk(), bad = Disk();
            var error = new ErrorBdev(bad);
            error.Inject(new BdevFault(kind, Skip: skip));
            using Raid1Bdev raid = Make(Slow(good, skip), Slow(error, skip + 1));
            using var model = new BdevModel(raid, _reactor, seed: skip);
            Run(model.RunAsync(4, 25));
            Assert.Equal(0, model.Errors);
            Run(model.CompareAllAsync());
            if (error.InjectedErrors == 0)
            {
                AssertEqual(good, bad);
                Assert.Empty(_lost);
                Assert.True(skip > 0);
                return;
            }
            Assert.Equal(["1 EIO"], _lost);
            long started = bad.Statistics.WriteOperations + bad.Statistics.ReadOperations;
            Run(model.RunAsync(1, 10));
            Assert.Equal(started, bad.Statistics.WriteOperations + bad.Statistics.ReadOperations);
            _lost.Clear();
        }
    }

    [Fact]
    public void What_one_leg_cannot_read_is_read_from_another_and_written_again()
    {
        for (int skip = 0; ; skip++)
        {
            using MallocBdev good = Disk(), bad = Disk();
            var error = new ErrorBdev(bad);
            error.Inject(new BdevFault(BdevOperations.Read, Skip: skip, Count: 3));
            using Raid1Bdev raid = Make(Slow(good, skip), Slow(error, skip + 1));
            using var model = new BdevModel(raid, _reactor, seed: skip);
            Run(model.RunAsync(4, 10));
            Run(raid.StopAsync());
            Assert.Equal(0, model.Errors);
            Assert.Empty(_lost);
            AssertEqual(good, bad);
            if (error.InjectedErrors == 0) { return; }
        }
    }

    [Fact]
    public void A_bad_place_that_cannot_be_written_takes_its_leg_out()
    {
        var error = new ErrorBdev(Disk());
        error.Inject(new BdevFault(BdevOperations.Read, Count: BdevFault.Always));
        using Raid1Bdev raid = Make(error, Disk());
        _buffer.Span.Fill(3);
        Run(raid.WriteAsync(0, _block.View()));
        error.Inject(new BdevFault(BdevOperations.Write, Errno.EROFS, Count: BdevFault.Always));
        for (int i = 0; i < 2; i++) { Assert.Equal(4096, Run(raid.ReadAsync(0, _block.View())).Value); }
        Run(raid.StopAsync());
        Assert.Equal(["0 EROFS"], _lost);
        Assert.Equal(3, _buffer.Span[4095]);
    }

    [Fact]
    public void Of_the_last_leg_the_error_is_the_answer()
    {
        ErrorBdev[] errors = [new(Disk()), new(Disk())];
        using Raid1Bdev raid = Make(errors);
        errors[0].Inject(new BdevFault(BdevOperations.Write, Errno.ENOSPC, Count: BdevFault.Always));
        errors[1].Inject(new BdevFault(BdevOperations.Write | BdevOperations.Flush | BdevOperations.Read, Errno.EROFS, Count: 4));
        Assert.Equal(Errno.EROFS, Run(raid.WriteAsync(0, _block.View())).Errno);
        Assert.Equal(["0 ENOSPC"], _lost);
        Assert.Equal(Errno.EROFS, Run(raid.WriteAsync(0, _block.View())).Errno);
        Assert.Equal(Errno.EROFS, Run(raid.FlushAsync()));
        Assert.Equal(Errno.EROFS, Run(raid.ReadAsync(0, _block.View())).Errno);
        Assert.Equal(4096, Run(raid.WriteAsync(0, _block.View())).Value); // it may recover
        Assert.Single(_lost);
        Assert.Equal(4, raid.Statistics.IoErrors);
    }

    [Fact]
    public void Memory_that_is_gone_is_no_legs_fault()
    {
        ErrorBdev[] errors = [new(Disk()), new(Disk())];
        using Raid1Bdev raid = Make(errors);
        errors[0].Inject(new BdevFault(BdevOperations.Write | BdevOperations.Read, Errno.EFAULT, Count: 1));
        errors[1].Inject(new BdevFault(BdevOperations.Read, Errno.EFAULT, Count: 1));
        Assert.Equal(Errno.EFAULT, Run(raid.WriteAsync(0, _block.View())).Errno);
        Assert.Equal(Errno.EFAULT, Run(raid.ReadAsync(0, _block.View())).Errno);
        Assert.Empty(_lost);
    }

    [Fact]
    public void Writes_that_collide_leave_the_legs_equal()
    {
        for (int seed = 0; seed < 10; seed++)
        {
            using MallocBdev first = Disk(), second = Disk(), third = Disk();
            using Raid1Bdev raid = Make(Slow(first, seed), Slow(second, seed + 100), third);
            using var model = new BdevModel(raid, _reactor, seed, maxBlocks: 200);
            Run(model.CollideAsync(16, 60));
            Assert.Equal(0, model.Errors);
            AssertEqual(first, second);
            AssertEqual(first, third);
        }
    }

    [Fact]
    public void Thousands_of_writes_of_one_block_wait_for_each_other_without_end_of_the_stack()
    {
        using MallocBdev first = Disk(), second = Disk();
        var slow = new DelayBdev(first, _reactor) { WriteDelayNs = 1000 };
        using Raid1Bdev raid = Make(slow, second);
        Run(async () =>
        {
            var writes = new List<IoTask<IoResult>>();
            for (int i = 0; i < 5_000; i++)
            {
                writes.Add(raid.WriteAsync(0, _block.View()));
                slow.WriteDelayNs = 0; // only the first takes its time: all others are done at once when it has
            }
            foreach (IoTask<IoResult> write in writes) { Assert.Equal(4096, (await write).Value); }
            return true;
        });
    }

    [Fact]
    public void A_leg_is_pulled_out_in_the_middle_of_everything_and_not_touched_afterwards()
    {
        for (int seed = 0; seed < 30; seed++)
        {
            using MallocBdev first = Disk(), second = Disk();
            var watched = new WatchedBdev(Slow(second, seed));
            using Raid1Bdev raid = Make(Slow(first, seed + 100), watched);
            using var model = new BdevModel(raid, _reactor, seed);
            Run(async () =>
            {
                IoTask<bool> work = model.RunAsync(8, 40);
                await _reactor.DelayAsync(new Random(seed).Next(20_000));
                    await raid.RemoveAsync(watched);
                watched.SayGone();
                await work;
                await model.CompareAllAsync();
                return true;
            });
            Assert.Equal(0, model.Errors);
            Assert.Empty(_lost);
        }
    }

    [Fact]
    public void A_rebuild_among_writes_makes_the_new_leg_equal()
    {
        for (int seed = 0; seed < 30; seed++)
        {
            using MallocBdev first = Disk(), second = Disk(), third = Disk();
            Fill(third, seed); // whatever was there before
            IBdev source = Slow(first, seed), removed = Slow(second, seed + 100), target = Slow(third, seed + 200);
            using Raid1Bdev raid = Make(source, removed);
            using var model = new BdevModel(raid, _reactor, seed, maxBlocks: 100);
            bool isColliding = seed % 2 == 0;
            Run(async () =>
            {
                IoTask<bool> work = isColliding ? model.CollideAsync(8, 2000) : model.RunAsync(8, 2000);
                await _reactor.DelayAsync(5000);
                await raid.RemoveAsync(removed);
                Assert.Equal(Errno.None, await raid.StartRebuildAsync(1, target));
                long before = 0;
                while (raid.RebuiltBytes is var now && now >= 0)
                {
                    Assert.InRange(now, before, DiskBytes);
                    before = now;
                    await _reactor.DelayAsync(100);
                }
                Assert.False(model.IsDone); // or nothing would have been raced
                model.IsStopping = true;
                await work;
                if (!isColliding) { await model.CompareAllAsync(); }
                await raid.RemoveAsync(source); // the new one is all that there is
                if (!isColliding) { await model.CompareAllAsync(); }
                return true;
            });
            Assert.Equal(0, model.Errors);
            Assert.Empty(_lost);
            AssertEqual(first, third);
        }
    }

    [Fact]
    public void A_target_that_fails_at_any_operation_ends_the_rebuild_and_nothing_else()
    {
        for (int skip = 0; ; skip++)
        {
            using MallocBdev first = Disk(), second = Disk();
            Fill(first, skip);
            var error = new ErrorBdev(second);
            error.Inject(new BdevFault(BdevOperations.All & ~BdevOperations.Read, Errno.ENOSPC, Skip: skip));
            var target = new WatchedBdev(Slow(error, skip));
            IBdev source = Slow(first, skip + 100);
            using Raid1Bdev raid = Make(source, Disk());
            using var model = new BdevModel(raid, _reactor, seed: skip);
            Run(async () =>
            {
                await raid.RemoveAsync(_last);
                Assert.Equal(Errno.None, await raid.StartRebuildAsync(1, target));
                await model.CollideAsync(2, 10);
                while (raid.RebuiltBytes >= 0) { await _reactor.DelayAsync(100); }
                if (error.InjectedErrors > 0)
                {
                    await raid.RemoveAsync(target);
                    target.SayGone();
                }
                await model.CollideAsync(2, 10);
                return true;
            });
            Assert.Equal(0, model.Errors);
            if (error.InjectedErrors == 0)
            {
                AssertEqual(first, second);
                Assert.Empty(_lost);
                return;
            }
            Assert.Equal(["1 ENOSPC"], _lost);
            _lost.Clear();
        }
    }

    [Fact]
    public void A_rebuild_that_cannot_read_or_sees_a_write_fail_does_not_call_the_target_good()
    {
        foreach (BdevOperations kind in (BdevOperations[])[BdevOperations.Read, BdevOperations.Write])
        {
            var error = new ErrorBdev(Slow(Disk(), 1));
            using Raid1Bdev raid = Make(error, Disk());
            IBdev target = Slow(Disk(), 2);
            Run(async () =>
            {
                await raid.RemoveAsync(_last);
                error.Inject(new BdevFault(kind, Errno.EIO));
                Assert.Equal(Errno.None, await raid.StartRebuildAsync(1, target));
                if (kind == BdevOperations.Write) { Assert.Equal(Errno.EIO, (await raid.WriteAsync(0, _block.View())).Errno); }
                while (raid.RebuiltBytes >= 0) { await _reactor.DelayAsync(100); }
                Assert.True(raid.IsLast(error));
                await raid.RemoveAsync(target);
                Assert.Equal(Errno.None, await raid.StartRebuildAsync(1, target)); // and once more, without the error
                while (raid.RebuiltBytes >= 0) { await _reactor.DelayAsync(100); }
                Assert.False(raid.IsLast(error));
                return true;
            });
            Assert.Equal(["1 EIO"], _lost);
            _lost.Clear();
        }
    }

    [Fact]
    public void The_source_of_a_rebuild_may_be_pulled_out_where_there_is_another_and_so_may_the_target()
    {
        for (int seed = 0; seed < 20; seed++)
        {
            using MallocBdev first = Disk(), second = Disk(), third = Disk();
            Fill(first, 5);
            Fill(second, 5);
            WatchedBdev[] legs = [new(Slow(first, seed)), new(Slow(second, seed + 100)), new(Slow(third, seed + 200))];
            using Raid1Bdev raid = Make(legs[0], legs[1], Disk());
            using var model = new BdevModel(raid, _reactor, seed);
            Run(async () =>
            {
                await raid.RemoveAsync(_last);
                Assert.Equal(Errno.None, await raid.StartRebuildAsync(2, legs[2]));
                IoTask<bool> work = model.CollideAsync(4, 50);
                await _reactor.DelayAsync(new Random(seed).Next(8000));
                WatchedBdev removed = legs[seed % 2 == 0 ? 0 : 2];
                await raid.RemoveAsync(removed);
                removed.SayGone();
                while (raid.RebuiltBytes >= 0) { await _reactor.DelayAsync(100); }
                await work;
                return true;
            });
            Assert.Equal(0, model.Errors);
            Assert.Empty(_lost);
            if (seed % 2 == 0) { AssertEqual(second, third); }
            else { AssertEqual(first, second); }
        }
    }

    [Fact]
    public void Stopping_ends_a_rebuild()
    {
        var target = new WatchedBdev(Slow(Disk(), 1));
        using Raid1Bdev raid = Make(Slow(Disk(), 2), Disk());
        Run(async () =>
        {
            await raid.RemoveAsync(_last);
            Assert.Equal(Errno.None, await raid.StartRebuildAsync(1, target));
            await _reactor.DelayAsync(700);
            await raid.StopAsync();
            target.SayGone();
            return true;
        });
        Assert.Equal(-1, raid.RebuiltBytes);
        Assert.Empty(_lost);
    }

    [Fact]
    public void What_was_flushed_before_or_during_a_rebuild_is_durable_on_the_new_leg_when_it_is_good()
    {
        for (int seed = 0; seed < 10; seed++)
        {
            using MallocBdev below = Disk(), durable = Disk();
            using var cache = new VolatileBdev(durable, seed, earlyPercent: 0);
            var target = new DelayBdev(cache, _reactor) { FlushDelayNs = 100_000 };
            using Raid1Bdev raid = Make(below, Disk());
            using var model = new BdevModel(raid, _reactor, seed);
            Run(async () =>
            {
                await model.RunAsync(4, 20);
                Assert.Equal(Errno.None, await raid.FlushAsync());
                await raid.RemoveAsync(_last);
                Assert.Equal(Errno.None, await raid.StartRebuildAsync(1, target));
                // The last that a rebuild does is a flush, which takes long here: what is written and flushed meanwhile counts, too.
                while (raid.RebuiltBytes is >= 0 and < DiskBytes) { await _reactor.DelayAsync(10); }
                await _reactor.DelayAsync(1000);
                Assert.True(raid.RebuiltBytes >= 0);
                await model.RunAsync(4, 20);
                Assert.Equal(Errno.None, await raid.FlushAsync());
                while (raid.RebuiltBytes >= 0) { await _reactor.DelayAsync(100); }
                return true;
            });
            AssertEqual(below, durable);
        }
    }

    [Fact]
    public void A_rebuild_leaves_empty_what_is_empty()
    {
        using MallocBdev first = Disk(), second = Disk();
        Fill(second, 1);
        _buffer.Span.Fill(1);
        using Raid1Bdev raid = Make(first, Disk());
        Run(async () =>
        {
            await raid.WriteAsync((2 << 20) + 4096, _block.View());
            await raid.RemoveAsync(_last);
            Assert.Equal(Errno.None, await raid.StartRebuildAsync(1, second));
            while (raid.RebuiltBytes >= 0) { await _reactor.DelayAsync(100); }
            return true;
        });
        Assert.Equal((2L << 20, 1L << 20), (second.Statistics.BytesUnmapped, second.Statistics.BytesWritten - DiskBytes));
        AssertEqual(first, second);
    }

    [Fact]
    public void A_leg_that_does_not_promise_zeroes_gets_them_written()
    {
        var silent = new NullBdev("n", DiskBytes, 512);
        using Raid1Bdev raid = Make(Disk(), silent);
        Assert.True(raid.SupportsUnmap && raid.UnmapReadsZero);
        Assert.Equal(Errno.None, Run(raid.UnmapAsync(0, 8192)));
        Assert.Equal((0, 8192), (silent.Statistics.BytesUnmapped, silent.Statistics.BytesWritten));
    }

    [Fact]
    public void A_request_allocates_nothing_once_everything_is_warm()
    {
        using Raid1Bdev raid = Make(Disk(), Disk());
        int done = 0;
        void Round()
        {
            if (Run(raid.WriteAsync(0, _block.View())).Value == 4096 && Run(raid.ReadAsync(0, _block.View())).Value == 4096 && Run(raid.FlushAsync()) == Errno.None) { done++; }
        }
        for (int i = 0; i < 100; i++) { Round(); }
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++) { Round(); }
        Assert.Equal((0, 200), (GC.GetAllocatedBytesForCurrentThread() - before, done));
    }

    [Fact]
    public async Task Legs_of_two_reactors_are_equal_in_the_end_while_one_is_pulled_out_and_rebuilt()
    {
        using var home = new Reactor(Ring.Create(64), "home");
        using var away = new Reactor(Ring.Create(64), "away");
        home.Start();
        away.Start();
        for (int seed = 0; seed < 4; seed++)
        {
            var random = new Random(seed);
            using MallocBdev here = Disk(), there = Disk(), next = Disk();
            var slow = new WatchedBdev(new DelayBdev(there, away) { Jitter = _ => random.Next(100_000) });
            var target = new DelayBdev(next, away) { Jitter = _ => random.Next(100_000) };
            IBdev remote = new RemoteBdev(slow, home, away);
            using Raid1Bdev raid = await home.InvokeAsync(() => new IoTask<Raid1Bdev>(new Raid1Bdev("raid", [here, remote], home)));
            await home.InvokeAsync(async () =>
            {
                using var model = new BdevModel(raid, home, seed);
                IoTask<bool> work = model.RunAsync(8, 100_000);
                await home.DelayAsync(5_000_000);
                await raid.RemoveAsync(remote);
                slow.SayGone();
                Assert.Equal(Errno.None, await raid.StartRebuildAsync(1, new RemoteBdev(target, home, away)));
                while (raid.RebuiltBytes >= 0) { await home.DelayAsync(100_000); }
                model.IsStopping = true;
                await work;
                Assert.Equal(0, model.Errors);
                await model.CompareAllAsync();
                return true;
            });
            AssertEqual(here, next);
        }
    }

    [Fact]
    public void A_leg_that_hangs_is_taken_out_and_all_requests_go_on_with_the_other()
    {
        using MallocBdev good = Disk(), hanging = Disk();
        var late = new DelayBdev(new StuckBdev(hanging, _reactor), _reactor);
        using Raid1Bdev raid = Make(Slow(good, 1), late);
        using var own = new NativeBuffer(4096);
        using var list = new IoVecList(1);
        list.Add(own.Vec);
        own.Span.Fill(1);
        Run(async () =>
        {
            // Some of each that the leg never answers: of the reads every second one.
            var answers = new List<IoTask<IoResult>> { raid.WriteAsync(0, list.View()), raid.WriteAsync(0, _block.View()) };
            for (int i = 0; i < 4; i++) { answers.Add(raid.ReadAsync(8192, _block.View())); }
            IoTask<Errno> flush = raid.FlushAsync(), unmap = raid.UnmapAsync(1 << 20, 4096);
            await _reactor.DelayAsync(100_000);
            Assert.False(answers[0].IsCompleted || answers[1].IsCompleted || flush.IsCompleted || unmap.IsCompleted);
            IoTask<bool> removal = raid.RemoveAsync(late);
            foreach (IoTask<IoResult> answer in answers) { Assert.Equal(4096, (await answer).Value); }
            Assert.Equal((Errno.None, Errno.None), (await flush, await unmap));
            own.Span.Fill(2); // the requester's again: what the leg does with its request does not touch it, and is not touched
            for (int i = 0; i < 100; i++) { Assert.Equal(4096, (await raid.WriteAsync(4096 * (i % 9), _block.View())).Value); }
            Assert.Equal(4096, (await raid.ReadAsync(0, _block.View())).Value);
            Assert.False(removal.IsCompleted); // it is used until it has answered
            StuckBdev.Release(late);
            Assert.True(await removal);
            Assert.Equal(Errno.None, await raid.StartRebuildAsync(1, late));
            while (raid.RebuiltBytes >= 0) { await _reactor.DelayAsync(100); }
            return true;
        });
        Assert.Empty(_lost);
        Assert.All(own.Span.ToArray(), value => Assert.Equal(2, value));
        AssertEqual(good, hanging);
    }

    [Fact]
    public void Memory_for_requests_is_bounded_and_whoever_waits_for_it_goes_on()
    {
        MallocBdev[] disks = [Disk(), Disk()];
        var slow = new DelayBdev(disks[0], _reactor) { WriteDelayNs = 1000 };
        using Raid1Bdev raid = Make(slow, disks[1]);
        using var whole = new IoVecList(2);
        for (int i = 0; i < 3; i++) { whole.Add(_buffer.Vec); }
        Run(async () =>
        {
            var writes = new List<IoTask<IoResult>>();
            for (int i = 0; i < 100; i++) { writes.Add(raid.WriteAsync(0, whole.View())); } // 300 MiB under way
            foreach (IoTask<IoResult> write in writes) { Assert.Equal(DiskBytes, (await write).Value); }
            return true;
        });
        AssertEqual(disks[0], disks[1]);
    }

    [Fact]
    public void What_the_requester_changes_while_it_is_written_is_the_same_on_all_legs()
    {
        using MallocBdev first = Disk(), second = Disk();
        using Raid1Bdev raid = Make(first, new LateBdev(second, _reactor, new Random(1)));
        Run(async () =>
        {
            for (int i = 0; i < 50; i++)
            {
                _buffer.Span.Fill((byte)i);
                IoTask<IoResult> write = raid.WriteAsync(i * 4096, _block.View());
                _buffer.Span.Fill(255);
                await write;
            }
            return true;
        });
        AssertEqual(first, second);
    }

    private IBdev _last = null!;

    private Raid1Bdev Make(params IBdev[] legs)
    {
        _last = legs[^1];
        var raid = new Raid1Bdev("raid", legs, _reactor);
        raid.LegLost += (bdev, errno) => _lost.Add($"{(legs.Contains(bdev) ? Array.IndexOf(legs, bdev) : 1)} {errno}");
        return raid;
    }

    // Takes its time before and after: the order of requests is its own, and so is that of answers.
    private DelayBdev Slow(IBdev inner, int seed)
    {
        var random = new Random(seed);
        return new DelayBdev(new LateBdev(inner, _reactor, random), _reactor) { OwnsInner = false, Jitter = _ => random.Next(4) == 0 ? 0 : random.Next(1000) };
    }

    private static MallocBdev Disk(int extraBytes = 0) => new("disk", DiskBytes + extraBytes, 512);

    private void Fill(MallocBdev disk, int seed)
    {
        Assert.True(disk.TryGetMemory(0, DiskBytes, out IoVec all));
        new Random(seed).NextBytes(all.Span);
        disk.Statistics.BytesWritten = DiskBytes;
    }

    private static void AssertEqual(MallocBdev one, MallocBdev other)
    {
        one.TryGetMemory(0, DiskBytes, out IoVec a);
        other.TryGetMemory(0, DiskBytes, out IoVec b);
        int equal = a.Span.CommonPrefixLength(b.Span);
        Assert.True(equal == DiskBytes, $"the legs differ at byte {equal}");
    }

    private T Run<T>(IoTask<T> task) => _reactor.RunUntilComplete(task);

    private T Run<T>(Func<IoTask<T>> work) => _reactor.RunUntilComplete(work);
}
