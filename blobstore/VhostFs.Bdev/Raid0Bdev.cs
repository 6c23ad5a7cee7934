namespace VhostFs.Bdev;

/// <summary>Strips dealt to bdevs in turn. Of each as much is used as of the smallest, in whole strips.</summary>
public sealed class Raid0Bdev : SpreadBdev
{
    private readonly int _count;
    private readonly long _stripBytes;

    /// <param name="stripBytes">A power of two, and a multiple of the block size.</param>
    public Raid0Bdev(string name, IReadOnlyList<IBdev> bases, long stripBytes)
        : base(name, bases, SizeOf(bases, stripBytes))
    {
        _count = bases.Count;
        _stripBytes = stripBytes;
    }

    /// <summary>What it would have; 0: there is no strip that fits.</summary>
    public static long SizeOf(IReadOnlyList<IBdev> bases, long stripBytes) => BaseBytes(bases, stripBytes) * bases.Count;

    /// <summary>Of each base so much is used.</summary>
    public static long BaseBytes(IReadOnlyList<IBdev> bases, long stripBytes) => bases.Min(b => b.SizeBytes) & -stripBytes;

    protected override long OnBase(int index, long offsetBytes)
    {
        (long rows, long rest) = Math.DivRem(offsetBytes, _stripBytes * _count);
        return (rows * _stripBytes) + Math.Clamp(rest - (index * _stripBytes), 0, _stripBytes);
    }

    protected override (int Index, long LengthBytes) At(long offsetBytes) =>
        ((int)(offsetBytes / _stripBytes % _count), _count == 1 ? SizeBytes - offsetBytes : _stripBytes - (offsetBytes & (_stripBytes - 1)));
}
