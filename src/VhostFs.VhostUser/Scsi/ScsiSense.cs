using System.Buffers.Binary;

namespace VhostFs.VhostUser;

/// <summary>SAM-5, 5.3.1.</summary>
internal enum ScsiStatus : byte
{
    Good = 0x00,
    CheckCondition = 0x02,
    ReservationConflict = 0x18,
}

/// <summary>SPC-4, 4.5.6.</summary>
internal enum ScsiSenseKey : byte
{
    NoSense = 0,
    NotReady = 2,
    MediumError = 3,
    HardwareError = 4,
    IllegalRequest = 5,
    UnitAttention = 6,
    DataProtect = 7,
    Miscompare = 14,
}

/// <summary>Why a command was not GOOD: sense key, additional sense code and its qualifier (SPC-4, annex F).</summary>
internal readonly record struct ScsiSense(ScsiSenseKey Key, byte Code, byte Qualifier)
{
    /// <summary>Of the fixed format, with its additional length of 10.</summary>
    public const int FixedBytes = 18;

    private const byte CurrentError = 0x70, InformationValid = 0x80;

    public static ScsiSense None => default;

    public static ScsiSense MediumNotPresent => new(ScsiSenseKey.NotReady, 0x3A, 0x00);

    public static ScsiSense WriteError => new(ScsiSenseKey.MediumError, 0x0C, 0x00);

    public static ScsiSense UnrecoveredReadError => new(ScsiSenseKey.MediumError, 0x11, 0x00);

    public static ScsiSense InternalTargetFailure => new(ScsiSenseKey.HardwareError, 0x44, 0x00);

    public static ScsiSense ParameterListLengthError => new(ScsiSenseKey.IllegalRequest, 0x1A, 0x00);

    public static ScsiSense InvalidOperationCode => new(ScsiSenseKey.IllegalRequest, 0x20, 0x00);

    public static ScsiSense BlockAddressOutOfRange => new(ScsiSenseKey.IllegalRequest, 0x21, 0x00);

    public static ScsiSense InvalidFieldInCdb => new(ScsiSenseKey.IllegalRequest, 0x24, 0x00);

    public static ScsiSense LogicalUnitNotSupported => new(ScsiSenseKey.IllegalRequest, 0x25, 0x00);

    public static ScsiSense InvalidFieldInParameterList => new(ScsiSenseKey.IllegalRequest, 0x26, 0x00);

    public static ScsiSense InvalidRelease => new(ScsiSenseKey.IllegalRequest, 0x26, 0x04);

    public static ScsiSense SavingNotSupported => new(ScsiSenseKey.IllegalRequest, 0x39, 0x00);

    public static ScsiSense InsufficientRegistrations => new(ScsiSenseKey.IllegalRequest, 0x55, 0x04);

    public static ScsiSense WriteProtected => new(ScsiSenseKey.DataProtect, 0x27, 0x00);

    public static ScsiSense SpaceAllocationFailed => new(ScsiSenseKey.DataProtect, 0x27, 0x07);

    public static ScsiSense MiscompareDuringVerify => new(ScsiSenseKey.Miscompare, 0x1D, 0x00);

    public static ScsiSense CapacityChanged => new(ScsiSenseKey.UnitAttention, 0x2A, 0x09);

    /// <summary>Fixed format, current error (SPC-4, 4.5.3).</summary>
    /// <param name="information">For errors of the medium the block, for a miscompare the byte; left out where it does not fit into 32 bits.</param>
    /// <returns>Bytes written: less than <see cref="FixedBytes"/> where there is less room.</returns>
    public int WriteTo(Span<byte> target, ulong? information)
    {
        Span<byte> sense = stackalloc byte[FixedBytes];
        sense.Clear();
        sense[0] = CurrentError;
        sense[2] = (byte)Key;
        if (information is <= uint.MaxValue)
        {
            sense[0] |= InformationValid;
            BinaryPrimitives.WriteUInt32BigEndian(sense[3..], (uint)information.Value);
        }
        sense[7] = FixedBytes - 8;
        sense[12] = Code;
        sense[13] = Qualifier;
        int written = Math.Min(FixedBytes, target.Length);
        sense[..written].CopyTo(target);
        return written;
    }
}
