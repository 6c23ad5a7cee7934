using VhostFs.Bdev;
using VhostFs.Blobstore;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>What is left of one write that was not durable: nothing, all, or some of its sectors.</summary>
/// <param name="Entry">The write, unmap or write-zeroes.</param>
/// <param name="KeptSectors">Null: all of it. Else which 512-byte sectors arrived.</param>
public readonly record struct SurvivingWrite(BdevTraceEntry Entry, Func<int, bool>? KeptSectors);

/// <summary>One disk that a crash may leave: the certain writes are in the base image, these came on top.</summary>
/// <param name="Name">How it was made, for the failure message.</param>
/// <param name="Moment">The crash came right before it.</param>
/// <param name="IsPowerCut">Else the process died.</param>
/// <param name="Writes">What survived of the rest, in the order in which it reached the disk.</param>
public sealed record CrashState(string Name, long Moment, bool IsPowerCut, IReadOnlyList<SurvivingWrite> Writes)
{
    /// <summary>What the process left in log memory; a power cut leaves nothing.</summary>
    public IReadOnlyList<StagedBatch> Left { get; init; } = [];

    public override string ToString() => $"{(IsPowerCut ? "power cut" : "process death")} before moment {Moment}: {Name}{(Left.Count > 0 ? $", {Left.Count} batches in log memory" : "")}";

    public void ApplyTo(DiskImage image)
    {
        foreach (SurvivingWrite write in Writes) { Apply(image, write); }
    }

    private static void Apply(DiskImage image, SurvivingWrite write)
    {
        if (write.KeptSectors is not { } isKept)
        {
            image.Apply(write.Entry);
            return;
        }
        for (int sector = 0; sector < write.Entry.LengthBytes / DiskImage.SectorBytes; sector++)
        {
            if (isKept(sector)) { image.Apply(write.Entry, (long)sector * DiskImage.SectorBytes, DiskImage.SectorBytes); }
        }
    }
}
