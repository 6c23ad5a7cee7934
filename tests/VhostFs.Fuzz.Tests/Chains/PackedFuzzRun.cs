using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.Fuzz.Tests.Chains;

/// <summary>A packed queue whose driver lies.</summary>
/// <remarks>Positions are counted in descriptors and never come round: the wrap counter is 1 in even laps.</remarks>
internal sealed class PackedFuzzRun(FuzzRandom random) : ChainFuzzRun(random)
{
    private const int Size = ChainMemory.QueueSize, Endless = 2 * Size;
    private const ushort Available = 1 << 7, Used = 1 << 15, Next = 1, Write = 2, WrapBit = 0x8000;
    private readonly int[] _counts = new int[Size];
    private int _next, _used, _found;

    protected override Errno Start()
    {
        _next = _used = Random.OneIn(2) ? 0 : Random.Next(2 * Size);
        return Queue.Start(Size, ChainMemory.Rings, Encode(_next) | ((uint)Encode(_used) << 16), Features | VirtioFeatures.RingPacked);
    }

    protected override void Prepare()
    {
        for (int left = Random.Next(3); left > 0; left--)
        {
            int at = Random.Next(Size);
            if (Random.OneIn(4) || !IsOffered(at)) { Put(at, Maker.Make(Random.OneIn(6)), (ushort)Random.Next(Size), (ushort)(Random.OneIn(2) ? 0 : Random.Next())); }
        }
        if (Random.OneIn(3))
        {
            for (int i = 0; i < 8; i++) { PutAt(DescriptorMaker.TableAt + (16 * i), Maker.Make(indirect: Random.OneIn(20)), (ushort)Random.Next(), 0); }
        }
        if (!Random.OneIn(16)) { Offer(Maker, _next, Size - (_next - _used)); } // now and then nothing is new
        if (Random.OneIn(8)) { Memory.Write(ChainMemory.AvailableAt, (uint)Random.Next()); } // the driver's wish
    }

    protected override void Offer(DescriptorMaker maker) => Offer(maker, Decode((ushort)Queue.Base), Size);

    protected override PopResult Verdict(out ushort head)
    {
        head = 0;
        if ((At(_next).Flags & (Available | Used)) != AvailableFlags(_next)) { return PopResult.Empty; }
        var chain = new List<PackedDescriptor>();
        do
        {
            if (chain.Count == Size - (_next - _used)) { return PopResult.Broken; }
            chain.Add(At(_next + chain.Count));
        }
        while ((chain[^1].Flags & Next) != 0);
        head = chain[^1].Id;
        _found = chain.Count;
        if (head >= Size || InFlight.Contains(head)) { return PopResult.Broken; }
        return Oracle.Walk(chain, HasIndirect) ? PopResult.Chain : PopResult.Returned;
    }

    protected override void Taken(ushort head)
    {
        _counts[head] = _found;
        _next += _found;
    }

    protected override void ExpectUsed(ushort head, uint written)
    {
        int at = _used;
        _used += _counts[head];
        if (IsRacing) { return; }
        PackedDescriptor used = At(at);
        int flags = (IsFirstLap(at) ? Available | Used : 0) | (written == 0 ? 0 : Write);
        Expect(used.Id == head && used.Length == written && used.Flags == flags, "another used descriptor");
        Expect(Queue.Base == (Encode(_next) | ((uint)Encode(_used) << 16)), "the positions are not those of the chains that were taken and went back");
    }

    protected override void ExpectWish() =>
        Expect(Memory.Read<uint>(ChainMemory.UsedAt) == (Encode(_next) | (2u << 16)), "the wish for a kick is not where the next chain is");

    protected override void Flip(FuzzRandom random, DescriptorMaker maker)
    {
        int at = random.Next(Size);
        switch (random.Next(7))
        {
            case 0: Put(at, maker.Make(random.OneIn(4)), (ushort)random.Next(random.OneIn(60) ? 40 : Size), (ushort)(random.OneIn(2) ? Available : Used)); break;
            case 1: PutAt(DescriptorMaker.TableAt + (16 * random.Next(8)), maker.Make(random.OneIn(20)), 0, 0); break;
            case 2: Memory.View[ChainMemory.DescriptorsAt + (16 * at) + 14] = (byte)(random.Next(8) | (random.OneIn(2) ? Available : 0)); break;
            case 3: Memory.View[ChainMemory.DescriptorsAt + (16 * at) + 15] = (byte)(random.OneIn(2) ? 0x80 : 0); break;
            case 4: Memory.View[ChainMemory.DescriptorsAt + (16 * at) + 12] = (byte)random.Next(20); break; // id
            case 5: Memory.Write(ChainMemory.UsedAt, (uint)random.Next()); break;
            default: Memory.Write(ChainMemory.AvailableAt, (uint)random.Next()); break;
        }
    }

    private void Offer(DescriptorMaker maker, int position, int room)
    {
        int count = Random.OneIn(100) ? Endless : Math.Min(1 + Random.Next(4), Random.OneIn(50) ? Size : room);
        int id = Random.Next(Size);
        if (InFlight.Contains((ushort)id) && !Random.OneIn(50)) { id = Enumerable.Range(0, Size).FirstOrDefault(i => !InFlight.Contains((ushort)i)); }
        if (Random.OneIn(300)) { id = (int)(Random.Edge() & 0xffff); }
        int writableFrom = Random.Next(count + 1);
        for (int i = Math.Min(count, Size) - 1; i >= 0; i--)
        {
            Descriptor made = maker.Make(Random.OneIn(count == 1 ? 3 : 30));
            int flags = (i < count - 1 ? Next : 0) | (Random.OneIn(12) ? made.Flags & ~Next : (made.Flags & 4) | (i >= writableFrom ? Write : 0));
            Put((position + i) % Size, made with { Flags = (ushort)flags }, (ushort)id, i > 0 && Random.OneIn(4) ? (ushort)0 : AvailableFlags(position + i));
        }
    }

    // What is between the next used and the next available position the driver leaves alone, as what it has offered already.
    private bool IsOffered(int at) => Enumerable.Range(_used, _next - _used).Any(position => position % Size == at);

    private PackedDescriptor At(int position) => Memory.Read<PackedDescriptor>(ChainMemory.DescriptorsAt + (position % Size * PackedDescriptor.Size));

    private void Put(int at, Descriptor made, ushort id, ushort state) => PutAt(ChainMemory.DescriptorsAt + (at * PackedDescriptor.Size), made, id, state);

    private void PutAt(int offset, Descriptor made, ushort id, ushort state) =>
        Memory.Write(offset, new PackedDescriptor { Address = made.Address, Length = made.Length, Id = id, Flags = (ushort)(made.Flags ^ state) });

    private static bool IsFirstLap(int position) => position / Size % 2 == 0;

    private static ushort AvailableFlags(int position) => IsFirstLap(position) ? Available : Used;

    private static ushort Encode(int position) => (ushort)((position % Size) | (IsFirstLap(position) ? WrapBit : 0));

    private static int Decode(ushort encoded) => (encoded & ~WrapBit) + ((encoded & WrapBit) != 0 ? 0 : Size);
}
