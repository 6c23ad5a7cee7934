using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.Fuzz.Tests.Chains;

/// <summary>A split queue whose driver lies.</summary>
internal sealed class SplitFuzzRun(FuzzRandom random) : ChainFuzzRun(random)
{
    private ushort _available, _seen, _used, _start;

    /// <summary>Pops once, all features on, from rings that are given.</summary>
    public void JudgeImage(ReadOnlySpan<byte> image)
    {
        _start = 0;
        Restart(VirtioFeatures.EventIdx | VirtioFeatures.IndirectDesc);
        image.CopyTo(Memory.View);
        _available = Memory.Read<ushort>(ChainMemory.AvailableAt + 2);
        PopAndCompare();
        Restart();
    }

    protected override Errno Start()
    {
        _available = _seen = _start;
        _start = (ushort)(Random.OneIn(2) ? 0 : Random.Next(65536)); // of the next time
        Memory.Write(ChainMemory.AvailableAt + 2, _available);
        _used = (ushort)Random.Next(65536);
        Memory.Write(ChainMemory.UsedAt + 2, _used);
        return Queue.Start(ChainMemory.QueueSize, ChainMemory.Rings, _available, Features);
    }

    protected override void Prepare()
    {
        for (int left = 1 + Random.Next(5); left > 0; left--) { Memory.Write(ChainMemory.DescriptorsAt + (16 * Random.Next(ChainMemory.QueueSize)), Maker.Make(Random.OneIn(6))); }
        if (Random.OneIn(3))
        {
            for (int i = 0; i < 8; i++) { Memory.Write(DescriptorMaker.TableAt + (16 * i), Maker.Make(indirect: Random.OneIn(20))); }
        }
        int head = Random.Next(ChainMemory.QueueSize);
        bool isTaken = InFlight.Contains((ushort)head);
        if (isTaken && !Random.OneIn(50)) { head = Enumerable.Range(0, ChainMemory.QueueSize).FirstOrDefault(h => !InFlight.Contains((ushort)h)); }
        if (Random.OneIn(300)) { head = (int)(Random.Edge() & 0xffff); }
        Memory.Write(ChainMemory.AvailableAt + 4 + (_available % ChainMemory.QueueSize * 2), (ushort)head);
        bool hasRoom = InFlight.Count < ChainMemory.QueueSize || Random.OneIn(50);
        if (hasRoom && !Random.OneIn(16)) { _available++; } // now and then nothing is new
        Memory.Write(ChainMemory.AvailableAt + 2, Random.OneIn(400) ? (ushort)Random.Edge() : _available);
        if (Random.OneIn(8)) { Memory.Write(ChainMemory.AvailableAt, (ushort)Random.Next()); }
        if (Random.OneIn(8)) { Memory.Write(ChainMemory.AvailableAt + 4 + (2 * ChainMemory.QueueSize), (ushort)Random.Next()); } // the event index
    }

    protected override void Offer(DescriptorMaker maker)
    {
        var next = (ushort)Queue.Base;
        int head = 0;
        while (head < ChainMemory.QueueSize - 1 && InFlight.Contains((ushort)head)) { head++; }
        if (Random.OneIn(2)) { Memory.Write(ChainMemory.DescriptorsAt + (16 * head), maker.Make(Random.OneIn(4))); }
        Memory.Write(ChainMemory.AvailableAt + 4 + (next % ChainMemory.QueueSize * 2), (ushort)head);
        Memory.Write(ChainMemory.AvailableAt + 2, (ushort)(next + 1));
    }

    protected override PopResult Verdict(out ushort head)
    {
        ushort index = Memory.Read<ushort>(ChainMemory.AvailableAt + 2), next = (ushort)Queue.Base;
        head = Memory.Read<ushort>(ChainMemory.AvailableAt + 4 + (next % ChainMemory.QueueSize * 2));
        if (next == _seen) // the index is looked at when all that was seen is taken
        {
            if (index == next) { return PopResult.Empty; }
            if ((ushort)(index - next) > ChainMemory.QueueSize - Queue.InFlight) { return PopResult.Broken; }
            _seen = index;
        }
        if (head >= ChainMemory.QueueSize || InFlight.Contains(head)) { return PopResult.Broken; }
        return Oracle.Walk(head, HasIndirect) ? PopResult.Chain : PopResult.Returned;
    }

    protected override void Taken(ushort head)
    {
    }

    protected override void ExpectUsed(ushort head, uint written)
    {
        int at = ChainMemory.UsedAt + 4 + (_used % ChainMemory.QueueSize * 8);
        _used++;
        if (IsRacing) { return; }
        UsedElement element = Memory.Read<UsedElement>(at);
        Expect(element.Id == head && element.Length == written, "another used element");
        Expect(Memory.Read<ushort>(ChainMemory.UsedAt + 2) == _used, "the used index is not the number of chains that went back");
    }

    protected override void ExpectWish() =>
        Expect(Memory.Read<ushort>(ChainMemory.UsedAt + 4 + (8 * ChainMemory.QueueSize)) == (ushort)Queue.Base, "the wish for a kick is not where the next chain is");

    protected override void Flip(FuzzRandom random, DescriptorMaker maker)
    {
        switch (random.Next(8))
        {
            case 0: Memory.Write(ChainMemory.DescriptorsAt + (16 * random.Next(ChainMemory.QueueSize)), maker.Make(random.OneIn(4))); break;
            case 1: Memory.Write(DescriptorMaker.TableAt + (16 * random.Next(8)), maker.Make(random.OneIn(20))); break;
            case 2: Memory.View[ChainMemory.DescriptorsAt + (16 * random.Next(ChainMemory.QueueSize)) + 12] = (byte)random.Next(8); break; // flags
            case 3: Memory.View[ChainMemory.DescriptorsAt + (16 * random.Next(ChainMemory.QueueSize)) + 14] = (byte)random.Next(20); break; // next
            case 4: Memory.Write(ChainMemory.AvailableAt + 4 + (2 * random.Next(ChainMemory.QueueSize)), (ushort)random.Next(random.OneIn(60) ? 40 : ChainMemory.QueueSize)); break;
            case 5: Memory.Write(ChainMemory.AvailableAt + 2, (ushort)((ushort)Queue.Base + random.Next(random.OneIn(60) ? 40 : 3))); break;
            case 6: Memory.Write(ChainMemory.UsedAt + (2 * random.Next(66)), (ushort)random.Next()); break;
            default: Memory.Write(ChainMemory.AvailableAt + (random.OneIn(2) ? 0 : 4 + (2 * ChainMemory.QueueSize)), (ushort)random.Next()); break;
        }
    }
}
