using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>Calls that are held back while requests come densely: how long, that none is lost, and that nothing runs by itself afterwards.</summary>
public sealed class CoalescingTests
{
    private const long UsNs = 1000, MsNs = 1_000_000;

    [Fact]
    public void Without_it_each_request_has_its_call()
    {
        using var ring = new SimulatedRing();
        ring.Work(100, 1 * UsNs);
        Assert.Equal(ring.EndsNs, ring.CallsNs);
        Assert.True(ring.IsIdle);
    }

    [Theory]
    [InlineData(100_000, 10, 0)] // just at the threshold
    [InlineData(100_000, 8, 250)] // a quarter above it
    [InlineData(100_000, 5, 1000)] // twice
    [InlineData(100_000, 1, 1000)] // ten times: no more than the base
    [InlineData(60_000, 100, 0)]
    [InlineData(100, 100, 1000)]
    public void The_delay_grows_with_the_rate_up_to_the_base(int threshold, int everyUs, int expectedUs)
    {
        using SimulatedRing ring = NewRing(1000, threshold);
        ring.Work(100_000 / everyUs, everyUs * UsNs);
        ring.Pass(10 * MsNs);
        Assert.True(ring.IsIdle);
        // All that has ended is called for, after the delay at most.
        foreach (long endNs in ring.EndsNs) { Assert.Contains(ring.CallsNs, callNs => callNs >= endNs && callNs <= endNs + (expectedUs * UsNs)); }
        // Behind the first window, in which no rate was known: calls are no closer to each other than the delay, and no further than a request more.
        long[] calls = [.. ring.CallsNs.Where(callNs => callNs > ring.EndsNs[0] + (2 * CallPacer.WindowNs))];
        long[] gaps = [.. calls.Zip(calls.Skip(1), (one, next) => next - one)];
        Assert.NotEmpty(gaps);
        Assert.All(gaps.SkipLast(1), gap => Assert.InRange(gap, expectedUs * UsNs * 98 / 100, (expectedUs + everyUs) * UsNs));
    }

    [Fact]
    public void After_a_pause_the_first_call_comes_at_once()
    {
        using SimulatedRing ring = NewRing(100_000, 1000);
        ring.Work(50_000, 1 * UsNs);
        ring.Pass(200 * MsNs);
        Assert.True(ring.IsIdle);
        int calls = ring.CallsNs.Count;
        ring.Work(1, 0);
        Assert.Equal((calls + 1, ring.NowNs), (ring.CallsNs.Count, ring.CallsNs[^1]));
    }

    [Fact]
    public void One_call_is_for_all_that_has_ended_where_the_driver_has_said_from_which_on_it_wants_one()
    {
        using SimulatedRing ring = NewRing(1000, 100, VirtioFeatures.Version1 | VirtioFeatures.EventIdx);
        ring.Work(20_000, 1 * UsNs);
        ring.Pass(2 * MsNs);
        int calls = ring.CallsNs.Count;
        ring.Queue.WantCallAt((ushort)(ring.Queue.UsedIndex + 299)); // for the 300th from now
        ring.Work(299, 1 * UsNs);
        ring.Pass(2 * MsNs);
        Assert.Equal(calls, ring.CallsNs.Count);
        ring.Work(200, 1 * UsNs);
        ring.Pass(2 * MsNs);
        Assert.Equal(calls + 1, ring.CallsNs.Count);
        Assert.True(ring.IsIdle);
    }

    [Fact]
    public void A_driver_that_wants_no_calls_gets_none_and_costs_no_timer()
    {
        using SimulatedRing ring = NewRing(1000, 100);
        ring.Queue.SuppressCalls();
        ring.Work(50_000, 1 * UsNs);
        ring.Pass(2 * MsNs);
        Assert.Empty(ring.CallsNs);
        Assert.True(ring.IsIdle);
    }

    [Fact]
    public void What_is_held_back_is_sent_before_the_ring_stops()
    {
        using SimulatedRing ring = NewRing(1_000_000, 1000);
        ring.Work(20_000, 1 * UsNs);
        int calls = ring.CallsNs.Count;
        Assert.True(ring.CallsNs[^1] < ring.EndsNs[^1]);
        uint at = ring.Stop();
        Assert.Equal((calls + 1, (uint)ring.Queue.UsedIndex), (ring.CallsNs.Count, at));
        ring.Start(at);
        ring.Work(1, 0);
        ring.Pass(2000 * MsNs); // the old timer and the new one
        Assert.True(ring.CallsNs[^1] >= ring.EndsNs[^1]);
        Assert.True(ring.IsIdle);
    }

    [Fact]
    public void A_session_that_ends_leaves_a_timer_that_does_nothing()
    {
        using SimulatedRing ring = NewRing(1_000_000, 1000);
        ring.Work(20_000, 1 * UsNs);
        ring.Close();
        int calls = ring.CallsNs.Count;
        ring.Pass(2000 * MsNs);
        Assert.Equal(calls, ring.CallsNs.Count);
        Assert.True(ring.IsIdle);
    }

    [Fact]
    public void Switched_off_it_ends_with_the_call_that_waits()
    {
        using SimulatedRing ring = NewRing(50_000, 1000);
        ring.Work(20_000, 1 * UsNs);
        ring.Coalescing.DelayBaseNs = 0;
        ring.Work(1, 0);
        Assert.Equal(ring.EndsNs[^1], ring.CallsNs[^1]);
        ring.Pass(100 * MsNs);
        Assert.Equal(ring.EndsNs[^1], ring.CallsNs[^1]);
        Assert.True(ring.IsIdle);
    }

    [Fact]
    public void Drivers_that_sleep_until_they_are_called_are_called()
    {
        using var disk = new BlkDisk(coalescing: new CallCoalescing { DelayBaseNs = 2 * MsNs, IopsThreshold = 100 });
        using var guest = new BlkGuest(disk.Paths[0], BlkGuest.All & ~VirtioFeatures.EventIdx);
        int calls = 0;
        for (int i = 0; i < 300; i++)
        {
            int mark = guest.FrontEnd.Ram.Mark;
            for (int depth = 0; depth < 8; depth++)
            {
                BlkGuest.Submit(guest.Queue, guest.Make([.. BitConverter.GetBytes((uint)BlkRequestType.Flush), .. new byte[12]], 1, [16], [], guest.Queue, out _));
            }
            while (guest.Queue.LastUsed != guest.Queue.AvailIndex)
            {
                FrontEnd.Poll(() => guest.Queue.TakeCalls() > 0, "a call");
                calls++;
                while (guest.Queue.TryTakeUsed(out _, out _)) { }
            }
            guest.FrontEnd.Ram.Rewind(mark);
        }
        Assert.InRange(calls, 300, 300 * 8);
    }

    private static SimulatedRing NewRing(int delayBaseUs, int threshold, VirtioFeatures features = VirtioFeatures.Version1)
    {
        var ring = new SimulatedRing(features);
        ring.Coalescing.DelayBaseNs = delayBaseUs * UsNs;
        ring.Coalescing.IopsThreshold = threshold;
        return ring;
    }
}
