using VhostFs.Bdev;
using VhostFs.Linux;

namespace VhostFs.Failure.Tests;

/// <summary>What an operation that fails has done to the disk.</summary>
public enum FaultEffect
{
    Nothing,

    /// <summary>All of it; only the answer is wrong.</summary>
    Done,

    /// <summary>A write: the first half of its sectors.</summary>
    Half,

    /// <summary>A flush: everything written since the last good flush is gone, as when the kernel drops dirty pages.</summary>
    LosesUnflushed,
}

/// <summary>Which operations of a bdev fail: the <paramref name="Nth"/>, counted from 1, and those of <paramref name="Afterwards"/> that come later.</summary>
public sealed record FaultPlan(long Nth, Errno Errno, FaultEffect Effect = FaultEffect.Nothing, BdevOperations Afterwards = BdevOperations.None)
{
    public static FaultPlan Never { get; } = new(long.MaxValue, Errno.None);

    public override string ToString() =>
        $"operation {Nth} fails with {Errno}{(Effect == FaultEffect.Nothing ? "" : $" (effect: {Effect})")}{(Afterwards == BdevOperations.None ? "" : $", and every {Afterwards} after it")}";
}

/// <summary>One operation that was made to fail.</summary>
public readonly record struct InjectedFault(long Number, BdevOperations Operation, long OffsetBytes, long LengthBytes);
