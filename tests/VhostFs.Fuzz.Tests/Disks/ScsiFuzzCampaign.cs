using System.Buffers.Binary;
using System.Collections.Concurrent;
using VhostFs.Bdev;
using VhostFs.Campaigns;
using VhostFs.VhostUser;

namespace VhostFs.Fuzz.Tests.Disks;

/// <summary>SCSI commands of all kinds, right and wrong: answers that a driver can take, reads and writes against a copy of the disk, and everything else without a trace on it.</summary>
public sealed class ScsiFuzzCampaign()
    : Campaign("fuzz-scsi", "commands", floor: 500_000, "virtio-scsi commands, right and wrong, in descriptors of any sizes: answers that hold together, nothing changed in memory or on the disk that was not asked for")
{
    private const int CommandsPerSeed = 2000;
    private const int Blocks = FuzzRing.DiskBytes / 512;
    private const int CdbBytes = 32, SenseBytes = 96, AnswerBytes = ScsiCommandAnswer.Size + SenseBytes, RequestBytes = ScsiCommandHeader.Size + CdbBytes;
    private const string CachingPage = "0812000000000000000000000000000000000000"; // without WCE: a disk in memory has no cache
    private static readonly ScsiOpcode[] s_opcodes = Enum.GetValues<ScsiOpcode>();
    private static readonly ScsiOpcode[] s_reads = [ScsiOpcode.Read6, ScsiOpcode.Read10, ScsiOpcode.Read12, ScsiOpcode.Read16];
    private static readonly ScsiOpcode[] s_writes = [ScsiOpcode.Write6, ScsiOpcode.Write10, ScsiOpcode.Write12, ScsiOpcode.Write16];

    /// <summary>Commands that random bytes would hardly ever be: MODE SENSE of all pages, REPORT SUPPORTED OPERATION CODES, MODE SELECT of the caching page, a registration and a reservation, each with its list.</summary>
    private static readonly (string Cdb, string List)[] s_known =
    [
        ("1A083F00C000", ""), ("5A083F0000000000C000", ""), ("A30C00000000000002000000", ""),
        ("151000001800", "00000000" + CachingPage), ("55100000000000001C00", "0000000000000000" + CachingPage),
        ("5F000000000000001800", "000000000000000000000000000000010000000000000000"), ("5F060000000000001800", "000000000000000000000000000000010000000000000000"),
        ("5F010100000000001800", "000000000000000100000000000000000000000000000000"), ("5F030000000000001800", "000000000000000100000000000000000000000000000000"),
    ];

    /// <summary>How often each opcode ended well or not, for those who want to know what is reached.</summary>
    internal ConcurrentDictionary<(ScsiOpcode Opcode, bool IsGood), int> Coverage { get; } = [];

    /// <summary>A mistake put between the device and its disk, for the test that it is found.</summary>
    internal Func<IBdev, IBdev>? Mistake { get; init; }

    public override long Run(ulong seed)
    {
        var random = new FuzzRandom(seed);
        var disk = new MallocBdev("disk", FuzzRing.DiskBytes, 512);
        var targets = new ScsiTargets();
        targets.Add(0, Mistake?.Invoke(disk) ?? disk, new Guid("11111111-2222-4333-8444-555555555555"));
        using var ring = new FuzzRing(random, disk, new VhostUserScsiDevice(targets, "fuzz", (_, line) => throw new FindingException(line)), 2);
        for (int i = 0; i < CommandsPerSeed; i++)
        {
            try { One(random, ring); }
            catch (Exception found) { throw new FindingException($"command {i}: {found.Message}\n{found.StackTrace}"); }
        }
        return CommandsPerSeed;
    }

    private void One(FuzzRandom random, FuzzRing ring)
    {
        byte[] list = [];
        byte[] cdb = NewCdb(random, out ulong block, out int count);
        if (random.OneIn(12))
        {
            (string known, string itsList) = random.Pick<(string, string)>(s_known);
            (cdb, list) = (Convert.FromHexString(known), Convert.FromHexString(itsList));
        }
        var opcode = (ScsiOpcode)cdb[0];
        bool isRead = s_reads.Contains(opcode), isWrite = s_writes.Contains(opcode);
        int outBytes = isWrite && !random.OneIn(12) ? Math.Min(count, 40) * 512 : isRead || random.OneIn(3) ? 0 : random.Next(600);
        int inBytes = isRead && !random.OneIn(12) ? Math.Min(count, 40) * 512 : isWrite || outBytes > 0 ? 0 : random.Next(600);
        if (random.OneIn(60)) { (outBytes, inBytes) = (random.Next(600), random.Next(600)); }
        if (list.Length > 0) { (outBytes, inBytes) = (list.Length, 0); }
        byte[] request = new byte[RequestBytes + outBytes];
        (random.OneIn(20) ? (byte[])[(byte)random.Next(3), (byte)random.Next(3), (byte)random.Next(), (byte)random.Next(3)] : [1, 0, 0x40, 0]).CopyTo(request, 0);
        bool isHere = request.AsSpan(0, 4) is [1, 0, 0x40 or 0, 0];
        random.Fill(request.AsSpan(8, ScsiCommandHeader.Size - 8));
        cdb.CopyTo(request, ScsiCommandHeader.Size);
        random.Fill(request.AsSpan(RequestBytes));
        if (list.Length > 0)
        {
            list.CopyTo(request, RequestBytes);
            if (random.OneIn(4)) { random.Damage(request.AsSpan(RequestBytes)); }
        }
        else if (opcode == ScsiOpcode.Unmap || random.OneIn(4)) { PutList(random, request.AsSpan(RequestBytes)); }
        if (random.OneIn(60)) { request = request[..random.Next(RequestBytes)]; }
        int roomBytes = random.OneIn(60) ? random.Next(AnswerBytes) : AnswerBytes + inBytes;

        (byte[] room, byte[] before, int used) = ring.Exchange(request, roomBytes);
        string what = $"{opcode} {Convert.ToHexString(cdb)}, {outBytes} bytes out, {inBytes} in: ";
        FuzzRing.Expect(room.AsSpan(used).SequenceEqual(before.AsSpan(used)), what + "more is written than is said");
        if (roomBytes < AnswerBytes)
        {
            FuzzRing.Expect(used == 0, what + "an answer without room for it");
            ring.CheckDisk();
            return;
        }
        var response = (ScsiResponse)room[11];
        var status = (ScsiStatus)room[10];
        uint senseBytes = BinaryPrimitives.ReadUInt32LittleEndian(room), residual = BinaryPrimitives.ReadUInt32LittleEndian(room.AsSpan(4));
        int payload = Math.Max(request.Length - RequestBytes, 0) + inBytes;
        bool isGood = response == ScsiResponse.Ok && status == ScsiStatus.Good;
        FuzzRing.Expect(response is ScsiResponse.Ok or ScsiResponse.Overrun or ScsiResponse.BadTarget or ScsiResponse.Failure, $"{what}response {response}");
        FuzzRing.Expect(status is ScsiStatus.Good or ScsiStatus.CheckCondition or ScsiStatus.ReservationConflict, $"{what}status {status}");
        FuzzRing.Expect(senseBytes <= SenseBytes && (senseBytes > 0) == (status == ScsiStatus.CheckCondition), $"{what}{senseBytes} bytes of sense with status {status}");
        FuzzRing.Expect(senseBytes == 0 || (room[ScsiCommandAnswer.Size] & 0x7f) is 0x70 or 0x71, $"{what}sense that is none");
        FuzzRing.Expect(residual <= payload && (isGood || residual == payload) && used >= AnswerBytes && used <= roomBytes, $"{what}{residual} of {payload} bytes left, {used} used");
        bool isWhole = request.Length == RequestBytes + outBytes && isHere && (outBytes == 0 || inBytes == 0);
        if (isRead || isWrite) { CheckTransfer(ring, request, room, what, isWhole, isRead, isGood, response, (int)status, cdb, block, count, outBytes, inBytes); }
        if (isGood && opcode is ScsiOpcode.WriteSame10 or ScsiOpcode.WriteSame16 or ScsiOpcode.Unmap) { ring.AcceptDisk(); }
        ring.CheckDisk();
        Coverage.AddOrUpdate((opcode, isGood), 1, static (_, times) => times + 1); // seeds run side by side
    }

    private static void CheckTransfer(FuzzRing ring, byte[] request, byte[] room, string what, bool isWhole, bool isRead, bool isGood, ScsiResponse response, int status, byte[] cdb, ulong block, int count, int outBytes, int inBytes)
    {
        bool isInside = block + (UInt128)count <= Blocks;
        bool fits = count * 512 <= (isRead ? inBytes : outBytes);
        FuzzRing.Expect(!isGood || (isWhole && isInside && fits), what + "done, though it cannot be");
        // What is right is done, unless there is something else to say first: a unit attention, a reservation, a stopped unit, protection that there is not.
        bool isPlain = cdb.Length == 6 || (cdb[1] & 0xE0) == 0;
        int key = status == (int)ScsiStatus.CheckCondition ? room[ScsiCommandAnswer.Size + 2] & 0xf : 0;
        bool isExcused = status == (int)ScsiStatus.ReservationConflict || key is (int)ScsiSenseKey.NotReady or 6;
        FuzzRing.Expect(isGood || !(isWhole && isInside && fits && isPlain) || isExcused, $"{what}not done: {response}, status {status}, key {key}");
        if (!isGood) { return; }
        if (isRead) { FuzzRing.Expect(room.AsSpan(AnswerBytes, count * 512).SequenceEqual(ring.Model.AsSpan((int)block * 512, count * 512)), what + "other bytes than were written"); }
        else { request.AsSpan(RequestBytes, count * 512).CopyTo(ring.Model.AsSpan((int)block * 512)); }
    }

    // Half of them move data, mostly inside of the disk; the rest is any command with any bytes.
    private static byte[] NewCdb(FuzzRandom random, out ulong block, out int count)
    {
        ScsiOpcode opcode = random.OneIn(2) ? random.Pick<ScsiOpcode>(random.OneIn(2) ? s_reads : s_writes) : random.OneIn(12) ? (ScsiOpcode)random.Next(256) : random.Pick<ScsiOpcode>(s_opcodes);
        byte[] cdb = new byte[((byte)opcode >> 5) switch { 0 => 6, 4 => 16, 5 => 12, _ => 10 }];
        cdb[0] = (byte)opcode;
        block = random.OneIn(12) ? random.Edge() : (ulong)(Blocks - random.Next(random.OneIn(2) ? 12 : Blocks));
        count = random.OneIn(12) ? random.Next(300) : random.Next(10);
        switch (cdb.Length)
        {
            case 6:
                block &= 0x1fffff;
                BinaryPrimitives.WriteUInt32BigEndian(cdb.AsSpan(1), ((uint)block << 8) | (byte)count);
                if ((byte)count == 0) { count = 256; }
                count = count > 256 ? (byte)count : count;
                break;
            case 16:
                BinaryPrimitives.WriteUInt64BigEndian(cdb.AsSpan(2), block);
                BinaryPrimitives.WriteInt32BigEndian(cdb.AsSpan(10), count);
                break;
            default:
                block = (uint)block;
                BinaryPrimitives.WriteUInt32BigEndian(cdb.AsSpan(2), (uint)block);
                if (cdb.Length == 12) { BinaryPrimitives.WriteInt32BigEndian(cdb.AsSpan(6), count); }
                else { BinaryPrimitives.WriteUInt16BigEndian(cdb.AsSpan(7), (ushort)count); }
                break;
        }
        if (s_reads.Contains(opcode) || s_writes.Contains(opcode))
        {
            if (cdb.Length > 6 && random.OneIn(4)) { cdb[1] = (byte)random.Next(256); }
            return cdb;
        }
        if (random.OneIn(2)) { cdb[1] = (byte)(random.OneIn(2) ? random.Next(8) : random.Next(256)); }
        if (opcode == ScsiOpcode.ServiceActionIn16) { cdb[1] = 0x10; }
        if (random.OneIn(3)) { random.Damage(cdb.AsSpan(1)); }
        return cdb;
    }

    // A parameter list as UNMAP has it.
    private static void PutList(FuzzRandom random, Span<byte> list)
    {
        if (list.Length < 24) { return; }
        int ranges = (list.Length - 8) / 16;
        BinaryPrimitives.WriteUInt16BigEndian(list, (ushort)(list.Length - 2));
        BinaryPrimitives.WriteUInt16BigEndian(list[2..], (ushort)(random.OneIn(8) ? (int)(ushort)random.Next() : ranges * 16));
        for (int i = 0; i < ranges; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(list[(8 + (i * 16))..], random.OneIn(40) ? random.Edge() : (ulong)random.Next(Blocks - 8));
            BinaryPrimitives.WriteUInt32BigEndian(list[(16 + (i * 16))..], (uint)(random.OneIn(40) ? (int)random.Next() : random.Next(8)));
        }
    }
}
