using System.Buffers.Binary;

namespace VhostFs.VhostUser;

/// <summary>Operation codes that are served (SPC-4, SBC-3).</summary>
internal enum ScsiOpcode : byte
{
    TestUnitReady = 0x00,
    RequestSense = 0x03,
    Read6 = 0x08,
    Write6 = 0x0A,
    Inquiry = 0x12,
    ModeSelect6 = 0x15,
    ModeSense6 = 0x1A,
    StartStopUnit = 0x1B,
    ReadCapacity10 = 0x25,
    Read10 = 0x28,
    Write10 = 0x2A,
    Verify10 = 0x2F,
    SynchronizeCache10 = 0x35,
    WriteSame10 = 0x41,
    Unmap = 0x42,
    ModeSelect10 = 0x55,
    ModeSense10 = 0x5A,
    PersistentReserveIn = 0x5E,
    PersistentReserveOut = 0x5F,
    Read16 = 0x88,
    Write16 = 0x8A,
    Verify16 = 0x8F,
    SynchronizeCache16 = 0x91,
    WriteSame16 = 0x93,
    ServiceActionIn16 = 0x9E,
    ReportLuns = 0xA0,
    MaintenanceIn = 0xA3,
    Read12 = 0xA8,
    Write12 = 0xAA,
}

/// <summary>What is known of each operation code: REPORT SUPPORTED OPERATION CODES (SPC-4, 6.35) tells it, and reservations go by it.</summary>
internal static class ScsiOpcodes
{
    public const byte ReadCapacity16 = 0x10, ReportSupportedOpcodes = 0x0C;

    private const int NoServiceAction = -1;
    private const int TimeoutsBytes = 12;

    // The usage data is the CDB with each bit that makes a difference; operation code and service action are themselves.
    private static readonly Entry[] s_entries =
    [
        new(ScsiOpcode.TestUnitReady, "000000000000", ScsiAccess.Free),
        new(ScsiOpcode.RequestSense, "03000000FF00", ScsiAccess.Free),
        new(ScsiOpcode.Read6, "081FFFFFFF00", ScsiAccess.Read),
        new(ScsiOpcode.Write6, "0A1FFFFFFF00", ScsiAccess.Write),
        new(ScsiOpcode.Inquiry, "1201FFFFFF00", ScsiAccess.Free),
        new(ScsiOpcode.ModeSelect6, "15100000FF00", ScsiAccess.Write),
        new(ScsiOpcode.ModeSense6, "1A08FFFFFF00", ScsiAccess.Read),
        new(ScsiOpcode.StartStopUnit, "1B0000000500", ScsiAccess.Write),
        new(ScsiOpcode.ReadCapacity10, "25000000000000000000", ScsiAccess.Free),
        new(ScsiOpcode.Read10, "2808FFFFFFFF00FFFF00", ScsiAccess.Read),
        new(ScsiOpcode.Write10, "2A08FFFFFFFF00FFFF00", ScsiAccess.Write),
        new(ScsiOpcode.Verify10, "2F02FFFFFFFF00FFFF00", ScsiAccess.Read),
        new(ScsiOpcode.SynchronizeCache10, "3500FFFFFFFF00FFFF00", ScsiAccess.Write),
        new(ScsiOpcode.WriteSame10, "4108FFFFFFFF00FFFF00", ScsiAccess.Write),
        new(ScsiOpcode.Unmap, "42000000000000FFFF00", ScsiAccess.Write),
        new(ScsiOpcode.ModeSelect10, "55100000000000FFFF00", ScsiAccess.Write),
        new(ScsiOpcode.ModeSense10, "5A18FFFF000000FFFF00", ScsiAccess.Read),
        new(ScsiOpcode.PersistentReserveIn, "5E000000000000FFFF00", ScsiAccess.Free, 0),
        new(ScsiOpcode.PersistentReserveIn, "5E010000000000FFFF00", ScsiAccess.Free, 1),
        new(ScsiOpcode.PersistentReserveIn, "5E020000000000FFFF00", ScsiAccess.Free, 2),
        new(ScsiOpcode.PersistentReserveIn, "5E030000000000FFFF00", ScsiAccess.Free, 3),
        new(ScsiOpcode.PersistentReserveOut, "5F00FF0000FFFFFFFF00", ScsiAccess.Free, 0),
        new(ScsiOpcode.PersistentReserveOut, "5F01FF0000FFFFFFFF00", ScsiAccess.Free, 1),
        new(ScsiOpcode.PersistentReserveOut, "5F02FF0000FFFFFFFF00", ScsiAccess.Free, 2),
        new(ScsiOpcode.PersistentReserveOut, "5F03FF0000FFFFFFFF00", ScsiAccess.Free, 3),
        new(ScsiOpcode.PersistentReserveOut, "5F04FF0000FFFFFFFF00", ScsiAccess.Free, 4),
        new(ScsiOpcode.PersistentReserveOut, "5F05FF0000FFFFFFFF00", ScsiAccess.Free, 5),
        new(ScsiOpcode.PersistentReserveOut, "5F06FF0000FFFFFFFF00", ScsiAccess.Free, 6),
        new(ScsiOpcode.Read16, "8808FFFFFFFFFFFFFFFFFFFFFFFF0000", ScsiAccess.Read),
        new(ScsiOpcode.Write16, "8A08FFFFFFFFFFFFFFFFFFFFFFFF0000", ScsiAccess.Write),
        new(ScsiOpcode.Verify16, "8F02FFFFFFFFFFFFFFFFFFFFFFFF0000", ScsiAccess.Read),
        new(ScsiOpcode.SynchronizeCache16, "9100FFFFFFFFFFFFFFFFFFFFFFFF0000", ScsiAccess.Write),
        new(ScsiOpcode.WriteSame16, "9309FFFFFFFFFFFFFFFFFFFFFFFF0000", ScsiAccess.Write),
        new(ScsiOpcode.ServiceActionIn16, "9E100000000000000000FFFFFFFF0000", ScsiAccess.Free, ReadCapacity16),
        new(ScsiOpcode.ReportLuns, "A000FF000000FFFFFFFF0000", ScsiAccess.Free),
        new(ScsiOpcode.MaintenanceIn, "A30C87FFFFFFFFFFFFFF0000", ScsiAccess.Free, ReportSupportedOpcodes),
        new(ScsiOpcode.Read12, "A808FFFFFFFFFFFFFFFF0000", ScsiAccess.Read),
        new(ScsiOpcode.Write12, "AA08FFFFFFFFFFFFFFFF0000", ScsiAccess.Write),
    ];

    private static readonly ScsiAccess[] s_access = MakeAccess();

    /// <summary>What is not served is in nobody's way, and neither is a start.</summary>
    public static ScsiAccess AccessOf(ReadOnlySpan<byte> cdb)
    {
        bool starts = (ScsiOpcode)cdb[0] == ScsiOpcode.StartStopUnit && (cdb[4] & 1) != 0;
        return starts ? ScsiAccess.Free : s_access[cdb[0]];
    }

    /// <summary>Every operation code; returns its length in bytes.</summary>
    public static int ReportAll(Span<byte> reply, bool withTimeouts, bool canUnmap)
    {
        int at = 4;
        foreach (Entry entry in s_entries)
        {
            if (entry.Opcode == ScsiOpcode.Unmap && !canUnmap) { continue; }
            Span<byte> descriptor = reply.Slice(at, 8);
            descriptor.Clear();
            descriptor[0] = (byte)entry.Opcode;
            if (entry.ServiceAction != NoServiceAction)
            {
                descriptor[3] = (byte)entry.ServiceAction;
                descriptor[5] = 1; // SERVACTV
            }
            if (withTimeouts) { descriptor[5] |= 2; }
            descriptor[7] = (byte)entry.Usage.Length;
            at += descriptor.Length;
            if (withTimeouts) { at += WriteTimeouts(reply[at..]); }
        }
        BinaryPrimitives.WriteUInt32BigEndian(reply, (uint)(at - 4));
        return at;
    }

    /// <summary>One operation code.</summary>
    /// <param name="options">1: the operation code alone, 2: with a service action, 3: whichever it has.</param>
    /// <returns>Length in bytes; 0: the question does not fit the operation code.</returns>
    public static int ReportOne(Span<byte> reply, int options, byte opcode, ushort serviceAction, bool withTimeouts, bool canUnmap)
    {
        Entry? any = Array.Find(s_entries, e => (byte)e.Opcode == opcode && (canUnmap || e.Opcode != ScsiOpcode.Unmap));
        bool hasAction = any is { ServiceAction: not NoServiceAction };
        if (any is not null && ((options == 1 && hasAction) || (options == 2 && !hasAction))) { return 0; }
        Entry? entry = hasAction ? Array.Find(s_entries, e => (byte)e.Opcode == opcode && e.ServiceAction == serviceAction) : any;
        reply[0] = 0;
        reply[1] = entry is null ? (byte)1 : (byte)3; // SUPPORT: not at all, or as the standard says
        reply[2] = 0;
        reply[3] = (byte)(entry?.Usage.Length ?? 0);
        if (entry is null) { return 4; }
        entry.Usage.CopyTo(reply[4..]);
        int length = 4 + entry.Usage.Length;
        if (!withTimeouts) { return length; }
        reply[1] |= 0x80;
        return length + WriteTimeouts(reply[length..]);
    }

    // Nothing is promised.
    private static int WriteTimeouts(Span<byte> reply)
    {
        reply[..TimeoutsBytes].Clear();
        reply[1] = TimeoutsBytes - 2;
        return TimeoutsBytes;
    }

    private static ScsiAccess[] MakeAccess()
    {
        var access = new ScsiAccess[256];
        foreach (Entry entry in s_entries) { access[(byte)entry.Opcode] = entry.Access; }
        return access;
    }

    private sealed class Entry(ScsiOpcode opcode, string usage, ScsiAccess access, int serviceAction = NoServiceAction)
    {
        public ScsiOpcode Opcode => opcode;

        public ScsiAccess Access => access;

        public int ServiceAction => serviceAction;

        public byte[] Usage { get; } = Convert.FromHexString(usage);
    }
}
