using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.Fuzz.Tests.Chains;

/// <summary>Guest memory of three small regions, two of them neighbours in guest addresses but not in ours, as the fuzzer sees and changes it.</summary>
/// <remarks>Ring parts lie in the first region. The last page of the last region is named by no descriptor that the fuzzer makes in its racing part: nothing may ever be written there.</remarks>
internal sealed unsafe class ChainMemory : IDisposable
{
    public const int RegionBytes = 4 * 4096, Regions = 3, TotalBytes = Regions * RegionBytes;
    public const int CanaryAt = TotalBytes - 4096;
    public const int QueueSize = 16;
    public const int DescriptorsAt = 0, AvailableAt = 1024, UsedAt = 2048;
    public const byte Canary = 0xA7;
    private const ulong UserBase = 0x7f00_0000_0000;
    private static readonly ulong[] s_guest = [0x1_0000_0000, 0x1_0000_0000 + RegionBytes, 0x3_0000_0000];
    private readonly SafeFd _fd;
    private readonly nuint _view;

    public ChainMemory()
    {
        if (MemoryCalls.CreateMemfd("chains", sealable: true, out _fd) != Errno.None || FileCalls.Truncate(_fd, TotalBytes) != Errno.None
            || MemoryCalls.Map(_fd, 0, TotalBytes, MemoryCalls.PROT_READ | MemoryCalls.PROT_WRITE, MemoryCalls.MAP_SHARED, out _view) != Errno.None)
        {
            throw new InvalidOperationException("no memory for the fuzzer");
        }
        for (int i = 0; i < Regions; i++)
        {
            // In another order than in the file, and apart, so that a piece that runs over the end of one region is seen.
            var region = new GuestRegion(s_guest[i], RegionBytes, UserBase + ((ulong)i * 2 * RegionBytes), (ulong)i * RegionBytes);
            if (Guest.Add(_fd, region, out string reason) != Errno.None) { throw new InvalidOperationException(reason); }
            Ours[i] = (nuint)Guest.FindGuest(s_guest[i], RegionBytes);
        }
    }

    public GuestMemory Guest { get; } = new();

    /// <summary>Where the device has mapped each region.</summary>
    public nuint[] Ours { get; } = new nuint[Regions];

    /// <summary>All of it, in a mapping of the driver's own.</summary>
    public Span<byte> View => new((byte*)_view, TotalBytes);

    public static RingAddresses Rings => new(UserBase + DescriptorsAt, UserBase + UsedAt, UserBase + AvailableAt);

    /// <summary>The guest address of a byte of the file.</summary>
    public static ulong GuestAddress(int offset) => s_guest[offset / RegionBytes] + (ulong)(offset % RegionBytes);

    /// <summary>The byte of the file behind a guest address, and how many follow in its region; false: not mapped.</summary>
    public static bool TryFind(ulong address, out int offset, out int run)
    {
        for (int i = 0; i < Regions; i++)
        {
            ulong within = address - s_guest[i];
            if (within >= RegionBytes) { continue; }
            offset = (i * RegionBytes) + (int)within;
            run = RegionBytes - (int)within;
            return true;
        }
        offset = run = 0;
        return false;
    }

    /// <summary>The byte of the file behind an address of the device's mapping; -1 when the piece does not lie in one region.</summary>
    public int OffsetOf(IoVec piece)
    {
        for (int i = 0; i < Regions; i++)
        {
            nuint within = piece.Address - Ours[i];
            if (within < RegionBytes && (nuint)piece.Length <= RegionBytes - within) { return (i * RegionBytes) + (int)within; }
        }
        return -1;
    }

    public T Read<T>(int offset)
        where T : unmanaged => MemoryMarshal.Read<T>(View[offset..]);

    public void Write<T>(int offset, T value)
        where T : unmanaged => MemoryMarshal.Write(View[offset..], value);

    public void Dispose()
    {
        Guest.Dispose();
        MemoryCalls.Unmap(_view, TotalBytes);
        _fd.Dispose();
    }
}
