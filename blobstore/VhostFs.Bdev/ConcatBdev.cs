namespace VhostFs.Bdev;

/// <summary>Bdevs one after the other. Of each what fits into whole strips is used, as SPDK lays it out.</summary>
public sealed class ConcatBdev : SpreadBdev
{
    private readonly long[] _starts; // of each base, and of what would come after the last

    /// <param name="stripBytes">A power of two, and a multiple of the block size.</param>
    public ConcatBdev(string name, IReadOnlyList<IBdev> bases, long stripBytes)
        : base(name, bases, SizeOf(bases, stripBytes))
    {
        _starts = new long[bases.Count + 1];
        for (int i = 0; i < bases.Count; i++) { _starts[i + 1] = _starts[i] + BaseBytes(bases[i], stripBytes); }
    }

    /// <summary>What it would have; 0: there is no strip that fits.</summary>
    public static long SizeOf(IReadOnlyList<IBdev> bases, long stripBytes) => bases.Sum(b => BaseBytes(b, stripBytes));

    /// <summary>Of the base so much is used.</summary>
    public static long BaseBytes(IBdev bdev, long stripBytes) => bdev.SizeBytes & -stripBytes;

    protected override long OnBase(int index, long offsetBytes) => Math.Clamp(offsetBytes - _starts[index], 0, _starts[index + 1] - _starts[index]);

    protected override (int Index, long LengthBytes) At(long offsetBytes)
    {
        int index = 0;
        while (offsetBytes >= _starts[index + 1]) { index++; }
        return (index, _starts[index + 1] - offsetBytes);
    }
}
