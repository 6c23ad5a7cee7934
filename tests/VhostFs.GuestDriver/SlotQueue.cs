using System.Diagnostics;
using System.Runtime.Intrinsics.X86;

namespace VhostFs.GuestDriver;

/// <summary>A queue under load: as many requests in flight as there are slots, kicks and calls for many at once, nothing allocated per request.</summary>
/// <remarks>Invariant: the chain of the slot with index i has the head i, and no other chain is in flight on the queue meanwhile.</remarks>
internal sealed class SlotQueue
{
    private const int TimeoutMs = 30_000;
    private const int LooksBetweenChecks = 1 << 16;
    private readonly RequestSlot[] _slots;
    private readonly Func<bool>? _hasEnded;
    private readonly bool _isPolling;

    /// <param name="dataBytes">The most data of a request.</param>
    /// <param name="segmentBytes">Of a piece of data: a page in most guests. The pieces of all requests lie scattered, as a guest's pages do.</param>
    /// <param name="isPolling">Looks at the used ring all the time; otherwise sleeps until the device calls.</param>
    /// <param name="hasEnded">Nothing is to be waited for any more.</param>
    public SlotQueue(GuestRam ram, DriverQueue queue, int depth, int dataBytes, int segmentBytes = GuestRam.PageBytes, bool isPolling = false, Func<bool>? hasEnded = null)
    {
        Expect.True(depth <= queue.Size, $"a queue of {queue.Size} has room for {depth} requests");
        _hasEnded = hasEnded;
        _isPolling = isPolling;
        Queue = queue;
        int perSlot = (dataBytes + segmentBytes - 1) / segmentBytes;
        int[] places = Scattered(ram, depth * perSlot, segmentBytes);
        _slots = [.. Enumerable.Range(0, depth).Select(i => new RequestSlot(ram, queue, i, places[(i * perSlot)..((i + 1) * perSlot)], segmentBytes))];
    }

    public DriverQueue Queue { get; }

    public IReadOnlyList<RequestSlot> Slots => _slots;

    public int InFlight { get; private set; }

    /// <summary>How much guest memory the slots of such a queue take, at most.</summary>
    public static int RamBytes(int depth, int dataBytes, int segmentBytes = GuestRam.PageBytes)
    {
        int segments = (dataBytes + segmentBytes - 1) / segmentBytes;
        return checked(((depth * segments) + 1) * segmentBytes) + (depth * (RequestSlot.RequestBytes + RequestSlot.ReplyBytes + (16 * segments) + 512));
    }

    /// <summary>Makes the request of a slot available; the device hears of it with the next <see cref="Queue"/>.KickOnce, which <see cref="Wait"/> calls.</summary>
    public void Submit(RequestSlot slot)
    {
        Expect.True(!slot.IsInFlight);
        slot.IsInFlight = true;
        InFlight++;
        Queue.SetChain((ushort)slot.Index, slot.Table);
        Queue.MakeAvailable((ushort)slot.Index);
    }

    /// <summary>The next request that the device has finished.</summary>
    public bool TryTake(out RequestSlot slot)
    {
        slot = null!;
        if (!Queue.TryTakeUsed(out uint id, out uint length)) { return false; }
        Expect.True(id < (uint)_slots.Length && _slots[id].IsInFlight, "what comes back was in flight");
        slot = _slots[id];
        slot.IsInFlight = false;
        slot.UsedBytes = length;
        InFlight--;
        return true;
    }

    /// <summary>Until there is something to take.</summary>
    public void Wait()
    {
        Queue.KickOnce();
        if (_isPolling) { Spin(); }
        else { Sleep(); }
    }

    private void Spin()
    {
        Queue.PutCallsOff();
        long since = Stopwatch.GetTimestamp();
        for (int looks = 1; !Queue.HasUsed; looks++)
        {
            if (X86Base.IsSupported) { X86Base.Pause(); }
            else { Thread.SpinWait(1); }
            if (looks % LooksBetweenChecks == 0) { CheckPatience(since); }
        }
    }

    private void Sleep()
    {
        long since = 0;
        while (!Queue.HasUsed)
        {
            Queue.WaitForCall();
            if (Queue.HasUsed) { return; }
            if (since == 0) { since = Stopwatch.GetTimestamp(); }
            else { CheckPatience(since); }
        }
    }

    private void CheckPatience(long since)
    {
        Expect.True(_hasEnded is null || !_hasEnded(), "the device keeps the connection");
        Expect.True(Stopwatch.GetElapsedTime(since).TotalMilliseconds < TimeoutMs, $"one of {InFlight} requests comes back within {TimeoutMs / 1000} s");
    }

    private static int[] Scattered(GuestRam ram, int count, int segmentBytes)
    {
        if (count == 0) { return []; }
        int first = ram.Allocate(count * segmentBytes, segmentBytes);
        int[] places = [.. Enumerable.Range(0, count).Select(i => first + (i * segmentBytes))];
        new Random(1).Shuffle(places);
        return places;
    }
}
