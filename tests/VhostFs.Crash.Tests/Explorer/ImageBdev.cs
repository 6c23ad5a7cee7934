using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>A <see cref="DiskImage"/> as a bdev; everything completes at once.</summary>
public sealed class ImageBdev(DiskImage image) : IBdev
{
    private DiskImage _image = image;
    private string? _owner;

    public event Action<long>? Resized { add { } remove { } }

    public string Name => "image";

    public int BlockSize => DiskImage.BlockBytes;

    public long SizeBytes => _image.LengthBytes;

    public int BufferAlignment => 1;

    public bool HasWriteCache => true;

    public bool SupportsUnmap => true;

    public bool UnmapReadsZero => _image.DiscardedByte == 0;

    public BdevStatistics Statistics { get; } = new();

    /// <summary>From here on everything goes to a copy; returns the disk as it is now.</summary>
    public DiskImage Detach()
    {
        DiskImage now = _image;
        _image = now.Fork();
        return now;
    }

    /// <summary>From here on this is the disk.</summary>
    public void Attach(DiskImage disk) => _image = disk;

    public IoTask<IoResult> ReadAsync(long offsetBytes, IoVecs target)
    {
        Errno refused = BdevChecks.Read(this, offsetBytes, target);
        if (refused != Errno.None) { return new(refused); }
        long at = offsetBytes;
        foreach (IoVec vector in target.AsSpan())
        {
            _image.Read(at, vector.Span);
            at += vector.Length;
        }
        return new(new IoResult((int)(at - offsetBytes)));
    }

    public IoTask<IoResult> WriteAsync(long offsetBytes, IoVecs source)
    {
        Errno refused = BdevChecks.Write(this, offsetBytes, source);
        if (refused != Errno.None) { return new(refused); }
        long at = offsetBytes;
        foreach (IoVec vector in source.AsSpan())
        {
            _image.Write(at, vector.Span);
            at += vector.Length;
        }
        return new(new IoResult((int)(at - offsetBytes)));
    }

    public IoTask<Errno> FlushAsync() => new(Errno.None);

    public IoTask<Errno> UnmapAsync(long offsetBytes, long lengthBytes)
    {
        Errno refused = BdevChecks.Range(this, offsetBytes, lengthBytes);
        if (refused == Errno.None) { _image.Discard(offsetBytes, lengthBytes); }
        return new(refused);
    }

    public IoTask<Errno> WriteZeroesAsync(long offsetBytes, long lengthBytes)
    {
        Errno refused = BdevChecks.Range(this, offsetBytes, lengthBytes);
        if (refused == Errno.None) { _image.Clear(offsetBytes, lengthBytes); }
        return new(refused);
    }

    public bool TryGetMemory(long offsetBytes, int lengthBytes, out IoVec memory)
    {
        memory = default;
        return false;
    }

    public bool TryClaim(string claimant, out string owner)
    {
        owner = _owner ?? claimant;
        if (_owner is not null) { return false; }
        _owner = claimant;
        return true;
    }

    public void ReleaseClaim() => _owner = null;

    public void Dispose()
    {
    }
}
