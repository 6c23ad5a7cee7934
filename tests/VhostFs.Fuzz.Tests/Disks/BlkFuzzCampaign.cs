using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using System.Text;
using VhostFs.Bdev;
using VhostFs.Campaigns;
using VhostFs.VhostUser;

namespace VhostFs.Fuzz.Tests.Disks;

/// <summary>virtio-blk requests of all kinds, right and wrong, against a second reading of virtio 1.2, 5.2.6, and a copy of the disk.</summary>
public sealed class BlkFuzzCampaign()
    : Campaign("fuzz-blk", "requests", floor: 500_000, "virtio-blk requests, right and wrong, in descriptors of any sizes: each with the status that it must have, nothing else changed in memory or on the disk")
{
    private const int RequestsPerSeed = 2000;
    private const ulong Sectors = FuzzRing.DiskBytes / 512;
    private static readonly BlkRequestType[] s_types = Enum.GetValues<BlkRequestType>();

    /// <summary>How often each type had each status, for those who want to know what is reached.</summary>
    internal ConcurrentDictionary<(BlkRequestType Type, byte Status), int> Coverage { get; } = [];

    /// <summary>A mistake put between the device and its disk, for the test that it is found.</summary>
    internal Func<IBdev, IBdev>? Mistake { get; init; }

    public override long Run(ulong seed)
    {
        var random = new FuzzRandom(seed);
        var disk = new MallocBdev("the disk", FuzzRing.DiskBytes, 512);
        bool isReadOnly = random.OneIn(8);
        var device = new VhostUserBlkDevice(Mistake?.Invoke(disk) ?? disk, (_, line) => throw new FindingException(line), isReadOnly);
        using var ring = new FuzzRing(random, disk, device, 0);
        for (int i = 0; i < RequestsPerSeed; i++)
        {
            try { One(random, ring, isReadOnly); }
            catch (Exception found) { throw new FindingException($"request {i}: {found.Message}\n{found.StackTrace}"); }
        }
        return RequestsPerSeed;
    }

    private void One(FuzzRandom random, FuzzRing ring, bool isReadOnly)
    {
        BlkRequestType type = random.OneIn(12) ? (BlkRequestType)random.Edge() : random.Pick<BlkRequestType>(s_types);
        ulong sector = random.OneIn(6) ? random.Edge() : Sectors - (ulong)random.Next(random.OneIn(2) ? 12 : (int)Sectors);
        byte[] data = type switch
        {
            BlkRequestType.Out => Bytes(random, Length(random)),
            BlkRequestType.Discard or BlkRequestType.WriteZeroes => Ranges(random),
            _ => random.OneIn(12) ? Bytes(random, Length(random)) : [],
        };
        int inBytes = type switch
        {
            BlkRequestType.In => Length(random),
            BlkRequestType.GetId => random.OneIn(2) ? 20 : random.Next(64),
            _ => random.OneIn(12) ? Length(random) : 0,
        };
        var header = new BlkRequestHeader(type, (uint)random.Next(), sector);
        byte[] request = [.. MemoryMarshal.AsBytes(new ReadOnlySpan<BlkRequestHeader>(in header)), .. data];
        if (random.OneIn(60)) { request = request[..random.Next(BlkRequestHeader.Size)]; }
        int roomBytes = random.OneIn(60) ? 0 : inBytes + 1;

        (byte[] room, byte[] before, int used) = ring.Exchange(request, roomBytes);
        if (roomBytes == 0)
        {
            FuzzRing.Expect(used == 0, $"{used} bytes used of none");
            ring.CheckDisk(); // who cannot be answered is not served
            return;
        }
        byte expected = request.Length < BlkRequestHeader.Size ? (byte)1 : StatusOf(type, sector, data, inBytes, isReadOnly);
        string what = $"{type}, sector {sector}, {data.Length} bytes out, {inBytes} in: ";
        FuzzRing.Expect(room[^1] == expected, $"{what}status {room[^1]}, and not {expected}");
        int written = expected == 0 ? Apply(ring.Model, type, sector, data, room, inBytes, what) : 0;
        FuzzRing.Expect(used == (written == inBytes ? written + 1 : written), $"{what}{used} bytes used");
        FuzzRing.Expect(room.AsSpan(written, inBytes - written).SequenceEqual(before.AsSpan(written, inBytes - written)), $"{what}more is written than is said");
        ring.CheckDisk();
        Coverage.AddOrUpdate((type, expected), 1, static (_, times) => times + 1); // seeds run side by side
    }

    private static byte StatusOf(BlkRequestType type, ulong sector, byte[] data, int inBytes, bool isReadOnly)
    {
        switch (type)
        {
            case BlkRequestType.In:
                return data.Length == 0 && IsInside(sector, inBytes) ? (byte)0 : (byte)1;
            case BlkRequestType.Out:
                return !isReadOnly && inBytes == 0 && IsInside(sector, data.Length) ? (byte)0 : (byte)1;
            case BlkRequestType.Flush or BlkRequestType.GetId:
                return 0;
            case BlkRequestType.Discard or BlkRequestType.WriteZeroes:
                if (isReadOnly) { return 2; }
                if (data.Length is 0 or > 512 || data.Length % BlkRange.Size != 0 || inBytes != 0) { return 1; }
                foreach (BlkRange range in MemoryMarshal.Cast<byte, BlkRange>(data))
                {
                    if (range.Flags != 0 && (type == BlkRequestType.Discard || range.Flags != 1)) { return 2; }
                    if (!IsInside(range.Sector, range.SectorCount * 512L)) { return 1; }
                }
                return 0;
            default:
                return 2;
        }
    }

    private static bool IsInside(ulong sector, long bytes) => bytes % 512 == 0 && sector + ((UInt128)bytes / 512) <= Sectors;

    /// <returns>Bytes of the answer before the status.</returns>
    private static int Apply(byte[] model, BlkRequestType type, ulong sector, byte[] data, byte[] room, int inBytes, string what)
    {
        switch (type)
        {
            case BlkRequestType.In:
                FuzzRing.Expect(room.AsSpan(0, inBytes).SequenceEqual(model.AsSpan((int)sector * 512, inBytes)), what + "other bytes than were written");
                return inBytes;
            case BlkRequestType.Out:
                data.CopyTo(model.AsSpan((int)sector * 512));
                return 0;
            case BlkRequestType.GetId:
                byte[] id = new byte[20];
                Encoding.UTF8.GetBytes("the disk").CopyTo(id, 0);
                int length = Math.Min(inBytes, id.Length);
                FuzzRing.Expect(room.AsSpan(0, length).SequenceEqual(id.AsSpan(0, length)), what + "another name");
                return length;
            case BlkRequestType.Discard or BlkRequestType.WriteZeroes:
                foreach (BlkRange range in MemoryMarshal.Cast<byte, BlkRange>(data)) { model.AsSpan((int)range.Sector * 512, (int)range.SectorCount * 512).Clear(); }
                return 0;
            default:
                return 0;
        }
    }

    private static int Length(FuzzRandom random) => random.Next(8) switch
    {
        0 => 0,
        1 => random.Next(2000),
        2 => 512 * (1 + random.Next(60)),
        _ => 512 * (1 + random.Next(8)),
    };

    private static byte[] Ranges(FuzzRandom random)
    {
        var ranges = new BlkRange[random.OneIn(8) ? random.Next(40) : 1 + random.Next(3)];
        for (int i = 0; i < ranges.Length; i++)
        {
            bool isWild = random.OneIn(12);
            ranges[i] = new BlkRange(isWild ? random.Edge() : (ulong)random.Next((int)Sectors), isWild ? (uint)random.Edge() : (uint)random.Next(12), random.OneIn(8) ? (uint)random.Next(3) : 0);
        }
        byte[] bytes = MemoryMarshal.AsBytes(ranges.AsSpan()).ToArray();
        return random.OneIn(20) && bytes.Length > 0 ? bytes[..^(1 + random.Next(15))] : bytes;
    }

    private static byte[] Bytes(FuzzRandom random, int length)
    {
        byte[] bytes = new byte[length];
        random.Fill(bytes);
        return bytes;
    }
}
