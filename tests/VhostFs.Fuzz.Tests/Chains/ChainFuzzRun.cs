using VhostFs.Campaigns;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.Fuzz.Tests.Chains;

/// <summary>One queue, one driver that lies.</summary>
internal sealed class ChainFuzzRun : IDisposable
{
    private const ulong AllHeads = (1UL << ChainMemory.QueueSize) - 1;
    private readonly FuzzRandom _random;
    private readonly ChainMemory _memory = new();
    private readonly ChainOracle _oracle;
    private readonly Virtqueue _queue;
    private readonly IoVecList _readable = new();
    private readonly IoVecList _writable = new();
    private readonly List<ushort> _inFlight = [];
    private readonly byte[] _before = new byte[ChainMemory.TotalBytes];
    private readonly bool[] _mayChange = new bool[ChainMemory.TotalBytes];
    private readonly DescriptorMaker _maker;
    private ushort _available, _seen, _used;
    private bool _isRacing;
    private VirtioFeatures _features;

    public ChainFuzzRun(FuzzRandom random)
    {
        _random = random;
        _oracle = new ChainOracle(_memory);
        _queue = new Virtqueue(_memory.Guest);
        _maker = new DescriptorMaker(random);
    }

    public Action<IoVecList, IoVecList>? Mistake { get; init; }

    public int Round { get; private set; }

    public long[] Verdicts { get; } = new long[4];

    private bool HasEventIdx => (_features & VirtioFeatures.EventIdx) != 0;

    /// <summary>Deterministic: memory stands still while the device looks; every verdict is compared.</summary>
    public long Judge(int rounds)
    {
        Restart();
        for (Round = 0; Round < rounds; Round++)
        {
            if (_queue.IsBroken || _random.OneIn(200)) { Restart(); }
            Prepare();
            PopAndCompare();
            if (_random.OneIn(2)) { PushSome(); }
            if (_random.OneIn(4)) { CallsAndKicks(); }
        }
        Restart();
        return rounds;
    }

    /// <summary>Pops once, all features on, from rings that are given.</summary>
    public void JudgeImage(ReadOnlySpan<byte> image)
    {
        Restart(VirtioFeatures.EventIdx | VirtioFeatures.IndirectDesc, 0);
        image.CopyTo(_memory.View);
        _available = _memory.Read<ushort>(ChainMemory.AvailableAt + 2);
        PopAndCompare();
        Restart();
    }

    /// <summary>Another thread rewrites rings and descriptors all the time; what must hold then does not depend on what is read.</summary>
    public long Race(int rounds)
    {
        _isRacing = true;
        Restart();
        _memory.View[ChainMemory.CanaryAt..].Fill(ChainMemory.Canary);
        bool stop = false;
        ulong seed = _random.Next();
        var maker = new DescriptorMaker(_random) { SparesCanary = true };
        using var started = new ManualResetEventSlim();
        var flipper = new Thread(() => Flip(new FuzzRandom(seed), started, ref stop)) { IsBackground = true };
        flipper.Start();
        started.Wait();
        try
        {
            for (Round = 0; Round < rounds; Round++)
            {
                if (_queue.IsBroken) { Restart(); }
                Offer(maker);
                _readable.Clear();
                _writable.Clear();
                PopResult result = _queue.Pop(_readable, _writable, out ushort head);
                Verdicts[(int)result]++;
                if (result == PopResult.Chain)
                {
                    Mistake?.Invoke(_readable, _writable);
                    CheckInside(_readable);
                    CheckInside(_writable);
                    Expect(_readable.LengthBytes + _writable.LengthBytes <= Virtqueue.MaxChainBytes, "a chain above the bound");
                    _inFlight.Add(head);
                    Work();
                }
                CheckQueue();
                if (_random.OneIn(2)) { PushSome(); }
                if (_random.OneIn(4)) { CallsAndKicks(); }
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
        _memory.Dispose();
    }

    private void Restart() =>
        Restart((_random.OneIn(2) ? VirtioFeatures.EventIdx : 0) | (_random.OneIn(4) ? 0 : VirtioFeatures.IndirectDesc), (ushort)(_random.OneIn(2) ? 0 : _random.Next(65536)));

    private void Restart(VirtioFeatures features, ushort available)
    {
        while (_inFlight.Count > 0) { Push(_inFlight.Count - 1); }
        if (_queue.IsRunning) { _queue.Stop(); }
        Expect(_queue.InFlight == 0, "in flight after a stop");
        _features = features;
        _available = _seen = available;
        _memory.View[..4096].Clear();
        _memory.Write(ChainMemory.AvailableAt + 2, _available);
        _used = (ushort)_random.Next(65536);
        _memory.Write(ChainMemory.UsedAt + 2, _used);
        Expect(_queue.Start(ChainMemory.QueueSize, ChainMemory.Rings, _available, _features) == Errno.None, "the queue does not start");
    }

    /// <summary>Some descriptors, a head, an index: mostly such that a chain comes out.</summary>
    private void Prepare()
    {
        for (int left = 1 + _random.Next(5); left > 0; left--) { _memory.Write(ChainMemory.DescriptorsAt + (16 * _random.Next(ChainMemory.QueueSize)), _maker.Make(_random.OneIn(6))); }
        if (_random.OneIn(3))
        {
            for (int i = 0; i < 8; i++) { _memory.Write(DescriptorMaker.TableAt + (16 * i), _maker.Make(indirect: _random.OneIn(20))); }
        }
        int head = _random.Next(ChainMemory.QueueSize);
        bool isTaken = _inFlight.Contains((ushort)head);
        if (isTaken && !_random.OneIn(50)) { head = Enumerable.Range(0, ChainMemory.QueueSize).FirstOrDefault(h => !_inFlight.Contains((ushort)h)); }
        if (_random.OneIn(300)) { head = (int)(_random.Edge() & 0xffff); }
        _memory.Write(ChainMemory.AvailableAt + 4 + (_available % ChainMemory.QueueSize * 2), (ushort)head);
        bool hasRoom = _inFlight.Count < ChainMemory.QueueSize || _random.OneIn(50);
        if (hasRoom && !_random.OneIn(16)) { _available++; } // now and then nothing is new
        _memory.Write(ChainMemory.AvailableAt + 2, _random.OneIn(400) ? (ushort)_random.Edge() : _available);
        if (_random.OneIn(8)) { _memory.Write(ChainMemory.AvailableAt, (ushort)_random.Next()); }
        if (_random.OneIn(8)) { _memory.Write(ChainMemory.AvailableAt + 4 + (2 * ChainMemory.QueueSize), (ushort)_random.Next()); } // the event index
    }

    /// <summary>So that something is there to be taken, whether the other thread has a processor or not.</summary>
    private void Offer(DescriptorMaker maker)
    {
        ushort next = _queue.NextAvailable;
        int head = 0;
        while (head < ChainMemory.QueueSize - 1 && _inFlight.Contains((ushort)head)) { head++; }
        if (_random.OneIn(2)) { _memory.Write(ChainMemory.DescriptorsAt + (16 * head), maker.Make(_random.OneIn(4))); }
        _memory.Write(ChainMemory.AvailableAt + 4 + (next % ChainMemory.QueueSize * 2), (ushort)head);
        _memory.Write(ChainMemory.AvailableAt + 2, (ushort)(next + 1));
    }

    private void PopAndCompare()
    {
        _memory.View.CopyTo(_before);
        _readable.Clear();
        _writable.Clear();
        ushort index = _memory.Read<ushort>(ChainMemory.AvailableAt + 2), next = _queue.NextAvailable;
        ushort head = _memory.Read<ushort>(ChainMemory.AvailableAt + 4 + (next % ChainMemory.QueueSize * 2));
        PopResult expected = Verdict(index, next, head);
        int malformed = (int)_queue.MalformedChains;
        PopResult result = _queue.Pop(_readable, _writable, out ushort taken);
        Verdicts[(int)result]++;
        Expect(result == expected, $"the queue says {result}, the specification {expected} (index {index}, next {next}, head {head})");
        switch (result)
        {
            case PopResult.Chain:
                Mistake?.Invoke(_readable, _writable);
                Expect(taken == head, "another head");
                Expect(ChainOracle.IsSame(_memory, _readable, _oracle.Readable), "the readable segments are not those of the chain");
                Expect(ChainOracle.IsSame(_memory, _writable, _oracle.Writable), "the writable segments are not those of the chain");
                _inFlight.Add(taken);
                CheckNothingWritten("taking a chain");
                Work();
                CheckOnlyWritableWritten();
                break;
            case PopResult.Returned:
                Expect(_queue.MalformedChains == malformed + 1 && _readable.Count == 0 && _writable.Count == 0, "a malformed chain was not counted, or left segments");
                ExpectUsed(head, 0);
                break;
            default:
                CheckNothingWritten("finding nothing");
                break;
        }
        CheckQueue();
    }

    private PopResult Verdict(ushort index, ushort next, ushort head)
    {
        if (next == _seen) // the index is looked at when all that was seen is taken
        {
            if (index == next) { return PopResult.Empty; }
            if ((ushort)(index - next) > ChainMemory.QueueSize - _queue.InFlight) { return PopResult.Broken; }
            _seen = index;
        }
        if (head >= ChainMemory.QueueSize || _inFlight.Contains(head)) { return PopResult.Broken; }
        return _oracle.Walk(head, (_features & VirtioFeatures.IndirectDesc) != 0) ? PopResult.Chain : PopResult.Returned;
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
        for (int left = _random.Next(4); left > 0 && _inFlight.Count > 0; left--) { Push(_random.Next(_inFlight.Count)); }
    }

    private void Push(int which)
    {
        ushort head = _inFlight[which];
        _inFlight.RemoveAt(which);
        var written = (uint)_random.Next();
        bool broken = _queue.IsBroken;
        _queue.Push(head, written);
        if (!broken) { ExpectUsed(head, written); }
    }

    /// <summary>One element and the index, in that place and no other. (Racing, the index is overwritten; the queue counts on by itself.)</summary>
    private void ExpectUsed(ushort head, uint written)
    {
        int at = ChainMemory.UsedAt + 4 + (_used % ChainMemory.QueueSize * 8);
        _used++;
        if (_isRacing) { return; }
        UsedElement element = _memory.Read<UsedElement>(at);
        Expect(element.Id == head && element.Length == written, "another used element");
        Expect(_memory.Read<ushort>(ChainMemory.UsedAt + 2) == _used, "the used index is not the number of chains that went back");
    }

    private void CallsAndKicks()
    {
        _queue.TakeCall();
        _queue.DisableKicks();
        _queue.EnableKicks();
        _ = _queue.HasAvailable();
        if (!_isRacing && !_queue.IsBroken && HasEventIdx)
        {
            Expect(_memory.Read<ushort>(ChainMemory.UsedAt + 4 + (8 * ChainMemory.QueueSize)) == _queue.NextAvailable, "the wish for a kick is not where the next chain is");
        }
    }

    private void CheckQueue()
    {
        Expect(_queue.InFlight == _inFlight.Count, $"{_queue.InFlight} chains in flight, {_inFlight.Count} were taken");
        ulong heads = 0;
        foreach (ushort head in _inFlight)
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
            if (_memory.OffsetOf(piece) >= 0) { continue; }
            // Two regions that happen to be neighbours in our mapping as well may be joined.
            nuint at = piece.Address, limit = piece.Address + (nuint)piece.Length;
            while (at < limit)
            {
                int region = Array.FindIndex(_memory.Ours, o => at - o < ChainMemory.RegionBytes);
                Expect(region >= 0, "a segment outside of guest memory");
                at = _memory.Ours[region] + ChainMemory.RegionBytes;
            }
        }
    }

    private void CheckCanary() => Expect(!_memory.View[ChainMemory.CanaryAt..].ContainsAnyExcept(ChainMemory.Canary), "memory was written that no descriptor names");

    private void CheckNothingWritten(string doing) => Expect(_memory.View.SequenceEqual(_before), $"{doing} wrote to guest memory");

    private void CheckOnlyWritableWritten()
    {
        Array.Clear(_mayChange);
        foreach ((int offset, int length) in _oracle.Writable) { _mayChange.AsSpan(offset, length).Fill(true); }
        ReadOnlySpan<byte> now = _memory.View;
        for (int at = 0; at < now.Length; at++)
        {
            int same = now[at..].CommonPrefixLength(_before.AsSpan(at));
            at += same;
            if (at < now.Length) { Expect(_mayChange[at], $"byte {at} was written, and no device-writable descriptor names it"); }
        }
        // What the device wrote over its own rings is the driver's doing, but the next round begins with rings in order.
        _before.AsSpan(0, 4096).CopyTo(_memory.View);
    }

    /// <summary>The other thread: whole descriptors, single bytes of them, ring entries and indexes, without end.</summary>
    private void Flip(FuzzRandom random, ManualResetEventSlim started, ref bool stop)
    {
        started.Set();
        var maker = new DescriptorMaker(random) { SparesCanary = true };
        while (!Volatile.Read(ref stop))
        {
            for (int i = 0; i < 32; i++)
            {
                switch (random.Next(8))
                {
                    case 0: _memory.Write(ChainMemory.DescriptorsAt + (16 * random.Next(ChainMemory.QueueSize)), maker.Make(random.OneIn(4))); break;
                    case 1: _memory.Write(DescriptorMaker.TableAt + (16 * random.Next(8)), maker.Make(random.OneIn(20))); break;
                    case 2: _memory.View[ChainMemory.DescriptorsAt + (16 * random.Next(ChainMemory.QueueSize)) + 12] = (byte)random.Next(8); break; // flags
                    case 3: _memory.View[ChainMemory.DescriptorsAt + (16 * random.Next(ChainMemory.QueueSize)) + 14] = (byte)random.Next(20); break; // next
                    case 4: _memory.Write(ChainMemory.AvailableAt + 4 + (2 * random.Next(ChainMemory.QueueSize)), (ushort)random.Next(random.OneIn(60) ? 40 : ChainMemory.QueueSize)); break;
                    case 5: _memory.Write(ChainMemory.AvailableAt + 2, (ushort)(_queue.NextAvailable + random.Next(random.OneIn(60) ? 40 : 3))); break;
                    case 6: _memory.Write(ChainMemory.UsedAt + (2 * random.Next(66)), (ushort)random.Next()); break;
                    default: _memory.Write(ChainMemory.AvailableAt + (random.OneIn(2) ? 0 : 4 + (2 * ChainMemory.QueueSize)), (ushort)random.Next()); break;
                }
            }
        }
    }

    private static void Expect(bool condition, string otherwise)
    {
        if (!condition) { throw new FindingException(otherwise); }
    }
}
