using System.Buffers.Binary;

namespace VhostFs.VhostUser;

/// <summary>Blocks as a CDB names them.</summary>
internal readonly record struct ScsiBlocks(ulong First, uint Count)
{
    /// <summary>The fields are where the length of the CDB, that is the group code, puts them (SPC-4, 4.2.2).</summary>
    public static ScsiBlocks Read(ReadOnlySpan<byte> cdb) => ScsiCdb.LengthOf(cdb[0]) switch
    {
        // 0 means 256 there, and nothing elsewhere.
        6 => new(BinaryPrimitives.ReadUInt32BigEndian(cdb) & 0x1f_ffff, cdb[4] == 0 ? 256u : cdb[4]),
        10 => new(BinaryPrimitives.ReadUInt32BigEndian(cdb[2..]), BinaryPrimitives.ReadUInt16BigEndian(cdb[7..])),
        12 => new(BinaryPrimitives.ReadUInt32BigEndian(cdb[2..]), BinaryPrimitives.ReadUInt32BigEndian(cdb[6..])),
        _ => new(BinaryPrimitives.ReadUInt64BigEndian(cdb[2..]), BinaryPrimitives.ReadUInt32BigEndian(cdb[10..])),
    };
}

/// <summary>What all CDBs have in common.</summary>
internal static class ScsiCdb
{
    /// <summary>VIRTIO_SCSI_CDB_DEFAULT_SIZE; the longest that is served has 16.</summary>
    public const int MaxBytes = 32;

    private const byte ControlNaca = 0x04;

    /// <summary>0: reserved or vendor specific.</summary>
    public static int LengthOf(byte opcode) => (opcode >> 5) switch
    {
        0 => 6,
        1 or 2 => 10,
        4 => 16,
        5 => 12,
        _ => 0,
    };

    /// <summary>The initiator wants auto contingent allegiance, which is not there.</summary>
    public static bool WantsAca(ReadOnlySpan<byte> cdb) => LengthOf(cdb[0]) is > 0 and int length && (cdb[length - 1] & ControlNaca) != 0;
}
