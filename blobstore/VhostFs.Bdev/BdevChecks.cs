using VhostFs.Linux;

namespace VhostFs.Bdev;

/// <summary>The part of the <see cref="IBdev"/> contract that is the same for every module: which requests are refused, and with what.</summary>
public static class BdevChecks
{
    public static Errno Read(IBdev bdev, long offsetBytes, IoVecs target) => Transfer(bdev, offsetBytes, target, Errno.EIO);

    public static Errno Write(IBdev bdev, long offsetBytes, IoVecs source) => Transfer(bdev, offsetBytes, source, Errno.ENOSPC);

    /// <summary>For unmap and write-zeroes.</summary>
    public static Errno Range(IBdev bdev, long offsetBytes, long lengthBytes) => Range(bdev, offsetBytes, lengthBytes, Errno.ENOSPC);

    public static bool IsBlockSize(int blockSize) => blockSize is 512 or 4096;

    public static bool IsAligned(IoVecs vectors, int alignment)
    {
        nuint mask = (nuint)alignment - 1;
        foreach (IoVec vector in vectors.AsSpan())
        {
            if (((vector.Address | (nuint)vector.Length) & mask) != 0) { return false; }
        }
        return true;
    }

    private static Errno Transfer(IBdev bdev, long offsetBytes, IoVecs vectors, Errno beyondEnd)
    {
        long length = vectors.LengthBytes;
        if (length > int.MaxValue) { return Errno.EINVAL; } // IoResult counts in an int
        Errno range = Range(bdev, offsetBytes, length, beyondEnd);
        if (range != Errno.None) { return range; }
        return bdev.BufferAlignment == 1 || IsAligned(vectors, bdev.BufferAlignment) ? Errno.None : Errno.EINVAL;
    }

    private static Errno Range(IBdev bdev, long offsetBytes, long lengthBytes, Errno beyondEnd)
    {
        if (offsetBytes < 0 || lengthBytes < 0 || ((offsetBytes | lengthBytes) & (bdev.BlockSize - 1)) != 0) { return Errno.EINVAL; }
        return lengthBytes > bdev.SizeBytes - offsetBytes ? beyondEnd : Errno.None;
    }
}
