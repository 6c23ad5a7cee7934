using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>The record of what is in flight on a packed queue, found by the next process however this one died.</summary>
public sealed unsafe class PackedInflightTests : IDisposable
{
    private const int Size = 8;
    private const ushort Available = PackedDriverQueue.Available1, Used = PackedDriverQueue.Used1;
    private readonly NativeBuffer _region = new(4096, zeroed: true);
    private readonly NativeBuffer _ring = new(Size * 16, zeroed: true);

    public void Dispose()
    {
        _region.Dispose();
        _ring.Dispose();
    }

    private PackedDescriptor* Ring => (PackedDescriptor*)_ring.Address;

    [Fact]
    public void What_was_taken_and_not_given_back_is_found_oldest_first()
    {
        PackedInflight record = Begin(0, true);
        PackedChain three = Take(record, 3, 2), one = Take(record, 1, 1), seven = Take(record, 7, 3);
        Return(record, one, 1, true);
        PackedChain zero = Take(record, 0, 1);
        Assert.Equal([(3, three), (7, seven), (0, zero)], Recover(1, true));
        Assert.Equal([(3, three), (7, seven), (0, zero)], Recover(1, true)); // and once more, when that process dies, too
    }

    // Between any two stores of a process: what is not published is in flight, what is published is not.
    [Theory]
    [InlineData(3, 1)]
    [InlineData(6, 2)] // into the next lap
    [InlineData(5, 8)] // once around
    public void Death_while_a_chain_goes_back_leaves_it_in_flight_until_the_driver_has_it(int at, int count)
    {
        PackedInflight record = Begin(at, true);
        for (int i = 0; i < count; i++) { Ring[(at + i) % Size].Flags = at + i < Size ? Available : Used; }
        PackedChain chain = Take(record, 3, (ushort)count);
        PackedChain? other = count < Size ? Take(record, 2, 1) : null;
        (int usedIndex, bool usedWrap) = ((at + count) % Size, at + count < Size);
        record.Returning(chain, usedIndex, usedWrap);
        byte[] before = _region.Span.ToArray();
        Assert.Equal(other is null ? [(3, chain)] : [(3, chain), (2, other.Value)], Recover(at, true));
        before.CopyTo(_region.Span);
        Ring[at].Flags = Available | Used; // published
        Assert.Equal(other is null ? [] : [(2, other!.Value)], Recover(usedIndex, usedWrap));
        before.CopyTo(_region.Span);
        Ring[at].Flags = Used; // and the driver has made the place available again, in its next lap
        Assert.Equal(other is null ? [] : [(2, other!.Value)], Recover(usedIndex, usedWrap));
        before.CopyTo(_region.Span);
        Ring[at].Flags = Available | Used;
        record.Returned(chain);
        Assert.Equal(other is null ? [] : [(2, other!.Value)], Recover(usedIndex, usedWrap));
    }

    [Fact]
    public void Death_before_a_chain_is_taken_leaves_it_in_the_ring()
    {
        PackedInflight record = Begin(0, true);
        PackedChain first = Take(record, 3, 2);
        ushort entry = record.FreeHead;
        Assert.True(record.TryWrite(entry, new PackedDescriptor { Id = 5 }, out _));
        _region.Span[32 + (entry * 32)] = 1; // in flight, and the free list still begins with it
        Assert.Equal([(3, first)], Recover(0, true));
        Assert.Equal([(3, first)], Recover(0, true));
    }

    [Fact]
    public void What_the_next_process_takes_is_younger_than_what_it_found()
    {
        Take(Begin(0, true), 5, 1);
        PackedInflight next = NewRecord(Size);
        Assert.True(next.TryRecover(Ring, out _, out _, out _));
        Take(next, 2, 1);
        Assert.Equal([5, 2], Recover(0, true).Select(f => f.Id));
    }

    [Fact]
    public void Chains_keep_their_descriptors()
    {
        PackedInflight record = Begin(0, true);
        Take(record, 3, 2);
        Take(record, 4, 3);
        (ushort _, PackedChain chain) = Recover(0, true)[1];
        Assert.Equal((3, 3), (chain.Count, chain.Last - chain.First + 1));
        for (ushort entry = chain.First, i = 0; i < 3; i++)
        {
            Assert.True(record.TryRead(entry, out PackedDescriptor descriptor, out entry));
            Assert.Equal((4000UL + i, 100u + i, 4), (descriptor.Address, descriptor.Length, descriptor.Id));
        }
    }

    [Fact]
    public void A_queue_of_another_size_or_a_new_area_has_nothing_to_say()
    {
        Assert.False(NewRecord(Size).TryRecover(Ring, out _, out _, out _));
        Take(Begin(0, true), 5, 1);
        Assert.False(NewRecord(Size * 2).TryRecover(Ring, out _, out _, out _));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Nonsense_in_the_area_is_chains_of_the_queue_at_most(int seed)
    {
        var random = new Random(seed);
        int found = 0;
        for (int round = 0; round < 3000; round++)
        {
            random.NextBytes(_region.Span);
            random.NextBytes(_ring.Span);
            BitConverter.TryWriteBytes(_region.Span[8..], (ushort)1); // the version and the size, so that it is looked at
            BitConverter.TryWriteBytes(_region.Span[10..], (ushort)Size);
            foreach (int at in (int[])[16, 18]) { BitConverter.TryWriteBytes(_region.Span[at..], (ushort)random.Next(Size + 1)); }
            for (int i = 0; i < Size; i++)
            {
                Span<byte> entry = _region.Span[(32 + (i * 32))..];
                entry[0] = (byte)(random.Next(3) == 0 ? 1 : 0);
                foreach (int at in (int[])[2, 4, 6, 16]) { BitConverter.TryWriteBytes(entry[at..], (ushort)random.Next(random.Next(20) == 0 ? 65536 : Size)); }
            }
            PackedInflight record = NewRecord(Size);
            if (!record.TryRecover(Ring, out int usedIndex, out _, out List<(ushort Id, PackedChain Chain)> left)) { continue; }
            found += left.Count;
            Assert.True(usedIndex < Size && left.Sum(l => l.Chain.Count) <= Size && left.All(l => l.Id < Size) && left.DistinctBy(l => l.Id).Count() == left.Count);
            foreach ((ushort _, PackedChain chain) in left)
            {
                for (ushort entry = chain.First, i = 0; i < chain.Count && record.TryRead(entry, out _, out entry); i++) { }
            }
        }
        Assert.True(found > 100);
    }

    private PackedInflight Begin(int usedIndex, bool usedWrap)
    {
        PackedInflight record = NewRecord(Size);
        record.Begin(usedIndex, usedWrap);
        return record;
    }

    private static PackedChain Take(PackedInflight record, ushort id, ushort count)
    {
        ushort first = record.FreeHead, entry = first, last = first;
        for (int i = 0; i < count; i++)
        {
            last = entry;
            Assert.True(record.TryWrite(entry, new PackedDescriptor { Address = (1000UL * id) + (uint)i, Length = 100 + (uint)i, Id = id }, out entry));
        }
        var chain = new PackedChain(first, last, count);
        record.Take(chain);
        return chain;
    }

    private static void Return(PackedInflight record, PackedChain chain, int usedIndex, bool usedWrap)
    {
        record.Returning(chain, usedIndex, usedWrap);
        record.Returned(chain);
    }

    private List<(ushort Id, PackedChain Chain)> Recover(int usedIndex, bool usedWrap)
    {
        Assert.True(NewRecord(Size).TryRecover(Ring, out int index, out bool wrap, out List<(ushort Id, PackedChain Chain)> left));
        Assert.Equal((usedIndex, usedWrap), (index, wrap));
        return left;
    }

    private PackedInflight NewRecord(int size) => new((byte*)_region.Address, size);
}
