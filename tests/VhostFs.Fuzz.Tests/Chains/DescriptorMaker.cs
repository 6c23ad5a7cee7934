using VhostFs.Virtio;

namespace VhostFs.Fuzz.Tests.Chains;

/// <summary>Descriptors of every good and bad kind.</summary>
internal sealed class DescriptorMaker(FuzzRandom random)
{
    /// <summary>Where the indirect tables lie: at the end of a region, so that long ones run over its edge.</summary>
    public const int TableAt = ChainMemory.RegionBytes - 512;

    /// <summary>No address and length of any two descriptors together, torn ones included, reach the last page of the last region.</summary>
    public bool SparesCanary { get; init; }

    public Descriptor Make(bool indirect)
    {
        if (indirect)
        {
            int at = TableAt + (random.OneIn(3) ? 16 * random.Next(36) - random.Next(2) * 8 : 0);
            uint length = random.OneIn(5) ? (uint)random.Edge() : 16u * (uint)(1 + random.Next(10));
            return new Descriptor(ChainMemory.GuestAddress(at), SparesCanary ? length & 0x3ff : length, (ushort)(4 | (random.OneIn(12) ? random.Next(8) : 0)), (ushort)random.Next(20));
        }
        return new Descriptor(Address(), Length(), Flags(), (ushort)(random.OneIn(12) ? random.Next(40) : random.Next(ChainMemory.QueueSize)));
    }

    private ulong Address()
    {
        if (SparesCanary)
        {
            // Up to 1 KiB from here ends before the canary, wherever in the two first regions or below the last page this is; a byte of another address may replace one of this.
            return ChainMemory.GuestAddress(4096 + random.Next(2 * ChainMemory.RegionBytes - 4096));
        }
        return random.Next(8) switch
        {
            0 => random.Edge(),
            1 => ChainMemory.GuestAddress((random.Next(ChainMemory.Regions) * ChainMemory.RegionBytes) + (ChainMemory.RegionBytes - 1 - random.Next(64))), // at an edge
            2 => ChainMemory.GuestAddress(random.Next(ChainMemory.Regions) * ChainMemory.RegionBytes) - (ulong)random.Next(3),
            _ => ChainMemory.GuestAddress(4096 + random.Next(ChainMemory.TotalBytes - 4096 - 2048)),
        };
    }

    private uint Length()
    {
        if (SparesCanary) { return (uint)random.Next(1024); }
        return random.Next(16) switch
        {
            0 => 0,
            1 => (uint)random.Edge(),
            2 => (uint)random.Next(3 * ChainMemory.RegionBytes),
            3 => Virtqueue.MaxChainBytes - (uint)random.Next(3),
            _ => (uint)random.Next(600),
        };
    }

    private ushort Flags() => random.Next(20) == 0 ? (ushort)random.Next() : (ushort)(random.Next(3) switch { 0 => 1, 1 => 2, _ => 3 });
}
