using VhostFs.Bdev;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>What is left of one write that was not durable: nothing, all, or some of its sectors.</summary>
/// <param name="Entry">The write, unmap or write-zeroes.</param>
/// <param name="KeptSectors">Null: all of it. Else which 512-byte sectors arrived.</param>
public readonly record struct SurvivingWrite(BdevTraceEntry Entry, Func<int, bool>? KeptSectors);

/// <summary>One disk that a crash may leave: the certain writes are in the base image, these came on top.</summary>
/// <param name="Name">How it was made, for the failure message.</param>
/// <param name="LeastVersion">The oldest content it may recover to.</param>
/// <param name="Writes">What survived of the rest, in the order in which it reached the disk.</param>
public sealed record CrashState(string Name, int LeastVersion, IReadOnlyList<SurvivingWrite> Writes)
{
    public void ApplyTo(DiskImage image)
    {
        foreach (SurvivingWrite write in Writes) { Apply(image, write.Entry, write.KeptSectors); }
    }

    public static void Apply(DiskImage image, BdevTraceEntry entry, Func<int, bool>? keptSectors = null)
    {
        if (keptSectors is null)
        {
            if (entry.Operation == BdevOperations.Write) { image.Write(entry.OffsetBytes, entry.Data); }
            else { image.Clear(entry.OffsetBytes, entry.LengthBytes); }
            return;
        }
        for (int sector = 0; sector < entry.LengthBytes / DiskImage.SectorBytes; sector++)
        {
            if (!keptSectors(sector)) { continue; }
            int offset = sector * DiskImage.SectorBytes;
            if (entry.Operation == BdevOperations.Write) { image.Write(entry.OffsetBytes + offset, entry.Data.AsSpan(offset, DiskImage.SectorBytes)); }
            else { image.Clear(entry.OffsetBytes + offset, DiskImage.SectorBytes); }
        }
    }
}
