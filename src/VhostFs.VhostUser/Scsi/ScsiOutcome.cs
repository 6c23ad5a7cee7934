using VhostFs.Linux;

namespace VhostFs.VhostUser;

/// <summary>What a command ends with.</summary>
/// <param name="Information">See <see cref="ScsiSense.WriteTo"/>.</param>
internal readonly record struct ScsiOutcome(ScsiResponse Response, ScsiStatus Status, ScsiSense Sense = default, ulong? Information = null)
{
    public static ScsiOutcome Good => default;

    public bool IsGood => Response == ScsiResponse.Ok && Status == ScsiStatus.Good;

    public static ScsiOutcome Conflict => new(ScsiResponse.Ok, ScsiStatus.ReservationConflict);

    public static ScsiOutcome BadTarget => new(ScsiResponse.BadTarget, ScsiStatus.Good);

    public static ScsiOutcome Failure => new(ScsiResponse.Failure, ScsiStatus.Good);

    /// <summary>The CDB asks for more than the buffers hold; nothing was done.</summary>
    public static ScsiOutcome Overrun => new(ScsiResponse.Overrun, ScsiStatus.Good);

    public static ScsiOutcome Check(ScsiSense sense, ulong? information = null) => new(ScsiResponse.Ok, ScsiStatus.CheckCondition, sense, information);

    /// <summary>An error of the bdev. What only a change can meet is said of it; all else is the medium's.</summary>
    public static ScsiOutcome Failed(Errno errno, bool isWrite, ulong block) => errno switch
    {
        Errno.EROFS when isWrite => Check(ScsiSense.WriteProtected),
        Errno.ENOSPC when isWrite => Check(ScsiSense.SpaceAllocationFailed),
        _ => Check(isWrite ? ScsiSense.WriteError : ScsiSense.UnrecoveredReadError, block),
    };
}
