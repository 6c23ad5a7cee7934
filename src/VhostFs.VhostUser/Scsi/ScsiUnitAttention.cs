using System.Numerics;

namespace VhostFs.VhostUser;

/// <summary>What an initiator has to be told of a logical unit before its next command (SAM-5, 5.14). The lowest comes first.</summary>
[Flags]
internal enum ScsiUnitAttention
{
    None = 0,
    PowerOn = 1 << 0,
    Reset = 1 << 1,
    NexusLoss = 1 << 2,
    ModeChanged = 1 << 3,
    ReservationsPreempted = 1 << 4,
    ReservationsReleased = 1 << 5,
    RegistrationsPreempted = 1 << 6,
    CapacityChanged = 1 << 7,
}

/// <summary>Unit attentions as sense data.</summary>
internal static class ScsiUnitAttentions
{
    /// <summary>Takes the first out of <paramref name="pending"/>; there is one.</summary>
    public static ScsiSense TakeFirst(ref ScsiUnitAttention pending)
    {
        var first = (ScsiUnitAttention)(1 << BitOperations.TrailingZeroCount((int)pending));
        pending &= ~first;
        // A reset says all that a power-on does: one is enough.
        if (first == ScsiUnitAttention.PowerOn) { pending &= ~(ScsiUnitAttention.Reset | ScsiUnitAttention.NexusLoss); }
        return first switch
        {
            ScsiUnitAttention.PowerOn => Sense(0x29, 0x00),
            ScsiUnitAttention.Reset => Sense(0x29, 0x03),
            ScsiUnitAttention.NexusLoss => Sense(0x29, 0x07),
            ScsiUnitAttention.ModeChanged => Sense(0x2A, 0x01),
            ScsiUnitAttention.ReservationsPreempted => Sense(0x2A, 0x03),
            ScsiUnitAttention.ReservationsReleased => Sense(0x2A, 0x04),
            ScsiUnitAttention.RegistrationsPreempted => Sense(0x2A, 0x05),
            _ => ScsiSense.CapacityChanged,
        };
    }

    private static ScsiSense Sense(byte code, byte qualifier) => new(ScsiSenseKey.UnitAttention, code, qualifier);
}
