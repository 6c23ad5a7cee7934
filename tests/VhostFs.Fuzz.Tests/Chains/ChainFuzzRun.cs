using VhostFs.Campaigns;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.Fuzz.Tests.Chains;

/// <summary>One queue, one driver that lies: what both layouts have in common.</summary>
internal abstract class ChainFuzzRun : IDisposable
{
    private const ulong AllHeads = (1UL << ChainMemory.QueueSize) - 1;
    private readonly IoVecList _readable = new();
    private readonly IoVecList _writable = new();
    private readonly byte[] _before = new byte[ChainMemory.TotalBytes];
    private readonly bool[] _mayChange = new bool[ChainMemory.TotalBytes];

    protected ChainFuzzRun(FuzzRandom random)
    {
        Random = random;
        Oracle = new ChainOracle(Memory);
        Queue = new Virtqueue(Memory.Guest);
        Maker = new DescriptorMaker(random);
    }

    public Action<IoVecList, IoVecList>? Mistake { get; init; }

    public int Round { get; private set; }

    public long[] Verdicts { get; } = new long[4];

    protected FuzzRandom Random { get; }

    protected ChainMemory Memory { get; } = new();

    protected ChainOracle Oracle { get; }

    protected Virtqueue Queue { get; }

    protected DescriptorMaker Maker { get; }

    protected List<ushort> InFlight { get; } = [];

    protected bool IsRacing { get; private set; }

    protected VirtioFeatures Features { get; private set; }

    protected bool HasEventIdx => (Features & VirtioFeatures.EventIdx) != 0;

    protected bool HasIndirect => (Features & VirtioFeatures.IndirectDesc) != 0;

    /// <summary>Deterministic: memory stands still while the device looks; every verdict is compared.</summary>
    public long Judge(int rounds)
    {
        Restart();
        for (Round = 0; Round < rounds; Round++)
        {
            if (Queue.IsBroken || Random.OneIn(200)) { Restart(); }
            Prepare();
            PopAndCompare();
            if (Random.OneIn(2)) { PushSome(); }
            if (Random.OneIn(4)) { CallsAndKicks(); }
        }
        Restart();
        return rounds;
    }

    /// <summary>Another thread rewrites rings and descriptors all the time; what must hold then does not depend on what is read.</summary>
    public long Race(int rounds)
    {
        IsRacing = true;
        Restart();
        Memory.View[ChainMemory.CanaryAt..].Fill(ChainMemory.Canary);
        bool stop = false;
        ulong seed = Random.Next();
        var maker = new DescriptorMaker(Random) { SparesCanary = true };
        using var started = new ManualResetEventSlim();
        var flipper = new Thread(() => FlipOn(new FuzzRandom(seed), started, ref stop)) { IsBackground = true };
        flipper.Start();
        started.Wait();
        try
        {
            for (Round = 0; Round < rounds; Round++)
            {
                if (Queue.IsBroken) { Restart(); }
                Offer(maker);
                _readable.Clear();
                _writable.Clear();
                PopResult result = Queue.Pop(_readable, _writable, out ushort head);
                Verdicts[(int)result]++;
                if (result == PopResult.Chain)
                {
                    Mistake?.Invoke(_readable, _writable);
                    CheckInside(_readable);
                    CheckInside(_writable);
                    Expect(_readable.LengthBytes + _writable.LengthBytes <= Virtqueue.MaxChainBytes, "a chain above the bound");
                    InFlight.Add(head);
                    Work();
                }
                CheckQueue();
                if (Random.OneIn(2)) { PushSome(); }
                if (Random.OneIn(4)) { CallsAndKicks(); }
                if ((Round & 63) == 0) { CheckCanary(); }
            }
        }
        finally
        {
            Volatile.Write(ref stop, true);
            flipper.Join();
        }
        CheckCanary();
        Restart();
        return rounds;
    }

    /// <summary>The rings as they were at a finding: a line for the corpus.</summary>
    public string Describe() => $"rings: {Convert.ToHexStringLower(_before.AsSpan(0, 4096).TrimEnd((byte)0))}";

    public void Dispose()
    {
        _readable.Dispose();
        _writable.Dispose();
        Memory.Dispose();
    }

    /// <summary>Rings in order, and the queue started on them.</summary>
    protected abstract Errno Start();

    /// <summary>Some descriptors and what makes them available: mostly such that a chain comes out.</summary>
    protected abstract void Prepare();

    /// <summary>So that something is there to be taken, whether the other thread has a processor or not.</summary>
    protected abstract void Offer(DescriptorMaker maker);

    /// <summary>What the specification says of the next chain, and its head; its segments are the oracle's.</summary>
    protected abstract PopResult Verdict(out ushort head);

    /// <summary>The chain that the last verdict was on has been taken.</summary>
    protected abstract void Taken(ushort head);

    /// <summary>The chain has gone back, in that place and no other. (Racing, the place is overwritten; the queue counts on by itself.)</summary>
    protected abstract void ExpectUsed(ushort head, uint written);

    /// <summary>Kicks are wanted for the next chain.</summary>
    protected abstract void ExpectWish();

    /// <summary>The other thread changes something.</summary>
    protected abstract void Flip(FuzzRandom random, DescriptorMaker maker);

    protected void Restart() => Restart((Random.OneIn(2) ? VirtioFeatures.EventIdx : 0) | (Random.OneIn(4) ? 0 : VirtioFeatures.IndirectDesc));

    protected void Restart(VirtioFeatures features)
    {
        while (InFlight.Count > 0) { Push(InFlight.Count - 1); }
        if (Queue.IsRunning) { Queue.Stop(); }
        Expect(Queue.InFlight == 0, "in flight after a stop");
        Features = features;
        Memory.View[..4096].Clear();
        Expect(Start() == Errno.None, "the queue does not start");
    }

    protected void PopAndCompare()
    {
        Memory.View.CopyTo(_before);
        _readable.Clear();
        _writable.Clear();
        PopResult expected = Verdict(out ushort head);
        int malformed = (int)Queue.MalformedChains;
        PopResult result = Queue.Pop(_readable, _writable, out ushort taken);
        Verdicts[(int)result]++;
        Expect(result == expected, $"the queue says {result}, the specification {expected} (base {Queue.Base:x}, head {head})");
        switch (result)
        {
            case PopResult.Chain:
                Mistake?.Invoke(_readable, _writable);
                Expect(taken == head, "another head");
                Expect(ChainOracle.IsSame(Memory, _readable, Oracle.Readable), "the readable segments are not those of the chain");
                Expect(ChainOracle.IsSame(Memory, _writable, Oracle.Writable), "the writable segments are not those of the chain");
                Taken(taken);
                InFlight.Add(taken);
                CheckNothingWritten("taking a chain");
                Work();
                CheckOnlyWritableWritten();
                break;
            case PopResult.Returned:
                Expect(Queue.MalformedChains == malformed + 1 && _readable.Count == 0 && _writable.Count == 0, "a malformed chain was not counted, or left segments");
                Taken(head);
                ExpectUsed(head, 0);
                break;
            default:
                CheckNothingWritten("finding nothing");
                break;
        }
        CheckQueue();
    }

    protected static void Expect(bool condition, string otherwise)
    {
        if (!condition) { throw new FindingException(otherwise); }
    }

    /// <summary>A device at work: reads what it may read, writes all that it may write.</summary>
    private void Work()
    {
        int sum = 0;
        foreach (IoVec piece in _readable.View().AsSpan())
        {
            foreach (byte b in piece.Span) { sum += b; }
        }
        foreach (IoVec piece in _writable.View().AsSpan()) { piece.Span.Fill((byte)sum); }
    }

    private void PushSome()
    {
        for (int left = Random.Next(4); left > 0 && InFlight.Count > 0; left--) { Push(Random.Next(InFlight.Count)); }
    }

    private void Push(int which)
    {
        ushort head = InFlight[which];
        InFlight.RemoveAt(which);
        var written = (uint)Random.Next();
        bool broken = Queue.IsBroken;
        Queue.Push(head, written);
        if (!broken) { ExpectUsed(head, written); }
    }

    private void CallsAndKicks()
    {
        Queue.TakeCall();
        Queue.DisableKicks();
        Queue.EnableKicks();
        _ = Queue.HasAvailable();
        if (!IsRacing && !Queue.IsBroken && HasEventIdx) { ExpectWish(); }
    }

    private void CheckQueue()
    {
        Expect(Queue.InFlight == InFlight.Count, $"{Queue.InFlight} chains in flight, {InFlight.Count} were taken");
        ulong heads = 0;
        foreach (ushort head in InFlight)
        {
            Expect(head < ChainMemory.QueueSize && (heads & (1UL << head)) == 0, "a head is in flight twice");
            heads |= 1UL << head;
        }
        Expect((heads & ~AllHeads) == 0, "a head above the size");
    }

    private void CheckInside(IoVecList segments)
    {
        foreach (IoVec piece in segments.View().AsSpan())
        {
            if (Memory.OffsetOf(piece) >= 0) { continue; }
            // Two regions that happen to be neighbours in our mapping as well may be joined.
            nuint at = piece.Address, limit = piece.Address + (nuint)piece.Length;
            while (at < limit)
            {
                int region = Array.FindIndex(Memory.Ours, o => at - o < ChainMemory.RegionBytes);
                Expect(region >= 0, "a segment outside of guest memory");
                at = Memory.Ours[region] + ChainMemory.RegionBytes;
            }
        }
    }

    private void CheckCanary() => Expect(!Memory.View[ChainMemory.CanaryAt..].ContainsAnyExcept(ChainMemory.Canary), "memory was written that no descriptor names");

    private void CheckNothingWritten(string doing) => Expect(Memory.View.SequenceEqual(_before), $"{doing} wrote to guest memory");

    private void CheckOnlyWritableWritten()
    {
        Array.Clear(_mayChange);
        foreach ((int offset, int length) in Oracle.Writable) { _mayChange.AsSpan(offset, length).Fill(true); }
        ReadOnlySpan<byte> now = Memory.View;
        for (int at = 0; at < now.Length; at++)
        {
            int same = now[at..].CommonPrefixLength(_before.AsSpan(at));
            at += same;
            if (at < now.Length) { Expect(_mayChange[at], $"byte {at} was written, and no device-writable descriptor names it"); }
        }
        // What the device wrote over its own rings is the driver's doing, but the next round begins with rings in order.
        _before.AsSpan(0, 4096).CopyTo(Memory.View);
    }

    /// <summary>The other thread: changes without end.</summary>
    private void FlipOn(FuzzRandom random, ManualResetEventSlim started, ref bool stop)
    {
        started.Set();
        var maker = new DescriptorMaker(random) { SparesCanary = true };
        while (!Volatile.Read(ref stop)) { Flip(random, maker); }
    }
}
