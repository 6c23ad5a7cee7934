using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.Fuzz.Tests.Chains;

/// <summary>What virtio 1.2, 2.7.4 to 2.7.5, 2.8.6 to 2.8.8, and our own bounds say of a chain, byte by byte and without regard to speed: the second opinion.</summary>
internal sealed class ChainOracle(ChainMemory memory)
{
    private const int HopLimit = 1024;

    /// <summary>The pieces of the file that the chain names, in order, neighbours in one region joined.</summary>
    public List<(int Offset, int Length)> Readable { get; } = [];

    public List<(int Offset, int Length)> Writable { get; } = [];

    /// <summary>False: malformed.</summary>
    public bool Walk(ushort head, bool indirectAllowed)
    {
        Readable.Clear();
        Writable.Clear();
        Descriptor current = memory.Read<Descriptor>(ChainMemory.DescriptorsAt + (head * Descriptor.Size));
        ulong? table = null;
        int entries = ChainMemory.QueueSize;
        if ((current.Flags & DescriptorFlags.Indirect) != 0)
        {
            if (!indirectAllowed || (current.Flags & DescriptorFlags.Next) != 0 || current.Length == 0 || current.Length % 16 != 0 || current.Length / 16 > 65536) { return false; }
            table = current.Address;
            entries = (int)(current.Length / 16);
            if (!TryFetch(table.Value, 0, out current)) { return false; }
        }
        long total = 0;
        bool writing = false;
        for (int hop = 1; ; hop++)
        {
            if ((current.Flags & DescriptorFlags.Indirect) != 0) { return false; }
            bool writes = (current.Flags & DescriptorFlags.Write) != 0;
            if (writing && !writes) { return false; }
            writing = writes;
            total += current.Length;
            if (total > Virtqueue.MaxChainBytes || !TryAdd(writes ? Writable : Readable, current.Address, current.Length)) { return false; }
            if ((current.Flags & DescriptorFlags.Next) == 0) { return true; }
            if (current.Next >= entries || hop >= HopLimit) { return false; }
            if (table is null) { current = memory.Read<Descriptor>(ChainMemory.DescriptorsAt + (current.Next * Descriptor.Size)); }
            else if (!TryFetch(table.Value, current.Next, out current)) { return false; }
        }
    }

    /// <summary>The descriptors of a chain in a packed ring. False: malformed.</summary>
    public bool Walk(List<PackedDescriptor> chain, bool indirectAllowed)
    {
        Readable.Clear();
        Writable.Clear();
        if ((chain[0].Flags & DescriptorFlags.Indirect) != 0)
        {
            (ulong table, uint length) = (chain[0].Address, chain[0].Length);
            if (!indirectAllowed || chain.Count > 1 || length == 0 || length % 16 != 0 || length / 16 > HopLimit) { return false; }
            chain = [];
            for (uint i = 0; i < length / 16; i++)
            {
                if (!ChainMemory.TryFind(table + (16UL * i), out int offset, out int run) || run < 16) { return false; }
                chain.Add(memory.Read<PackedDescriptor>(offset));
            }
        }
        long total = 0;
        bool writing = false;
        foreach (PackedDescriptor current in chain)
        {
            bool writes = (current.Flags & DescriptorFlags.Write) != 0;
            if ((current.Flags & DescriptorFlags.Indirect) != 0 || (writing && !writes)) { return false; }
            writing = writes;
            total += current.Length;
            if (total > Virtqueue.MaxChainBytes || !TryAdd(writes ? Writable : Readable, current.Address, current.Length)) { return false; }
        }
        return true;
    }

    /// <summary>An entry of an indirect table; one that lies across regions is nobody's.</summary>
    private bool TryFetch(ulong table, ushort index, out Descriptor descriptor)
    {
        descriptor = default;
        if (!ChainMemory.TryFind(table + (16UL * index), out int offset, out int run) || run < 16) { return false; }
        descriptor = memory.Read<Descriptor>(offset);
        return true;
    }

    private static bool TryAdd(List<(int Offset, int Length)> pieces, ulong address, uint lengthBytes)
    {
        uint left = lengthBytes;
        if (left > 0 && address + left < address) { return false; }
        while (left > 0)
        {
            if (!ChainMemory.TryFind(address, out int offset, out int run)) { return false; }
            int take = (int)Math.Min(left, (uint)run);
            if (pieces.Count > 0 && pieces[^1] is var last && last.Offset + last.Length == offset && offset % ChainMemory.RegionBytes != 0)
            {
                pieces[^1] = (last.Offset, last.Length + take);
            }
            else { pieces.Add((offset, take)); }
            left -= (uint)take;
            address += (ulong)take;
        }
        return true;
    }

    /// <summary>Whether the device's segments are these pieces; where two regions happen to be neighbours in its mapping, it may join over their border.</summary>
    public static bool IsSame(ChainMemory memory, IoVecList segments, List<(int Offset, int Length)> pieces)
    {
        int index = 0, done = 0;
        foreach (IoVec segment in segments.View().AsSpan())
        {
            int covered = 0;
            while (covered < segment.Length)
            {
                if (index == pieces.Count) { return false; }
                (int offset, int length) = pieces[index];
                nuint expected = memory.Ours[offset / ChainMemory.RegionBytes] + (nuint)(offset % ChainMemory.RegionBytes) + (nuint)done;
                if (segment.Address + (nuint)covered != expected) { return false; }
                int take = Math.Min(segment.Length - covered, length - done);
                covered += take;
                done += take;
                if (done == length) { (index, done) = (index + 1, 0); }
            }
        }
        return index == pieces.Count && done == 0;
    }
}
