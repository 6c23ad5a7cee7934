using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore.Check;

/// <summary>Reads whole 4 KiB blocks; a range outside of the device is "cannot be read", never an exception.</summary>
internal sealed class BlockReader : IDisposable
{
    public const int BlockBytes = 4096;
    private const int ScratchBlocks = 128;

    private readonly IBdev _bdev;
    private readonly NativeBuffer _scratch = new(ScratchBlocks * BlockBytes);
    private readonly IoVecList _vectors = new(1);

    public BlockReader(IBdev bdev)
    {
        _bdev = bdev;
        BlockCount = (ulong)(bdev.SizeBytes / BlockBytes);
    }

    public ulong BlockCount { get; }

    public bool IsInside(ulong block, ulong count) => count <= BlockCount && block <= BlockCount - count;

    public async IoTask<bool> ReadAsync(ulong block, Memory<byte> target)
    {
        if (!IsInside(block, (ulong)target.Length / BlockBytes)) { return false; }
        for (int done = 0; done < target.Length;)
        {
            int length = Math.Min(_scratch.Length, target.Length - done);
            _vectors.Clear();
            _vectors.Add(_scratch.Slice(0, length));
            IoResult read = await _bdev.ReadAsync((long)block * BlockBytes + done, _vectors.View());
            if (read.IsError) { return false; }
            _scratch.Span[..length].CopyTo(target.Span[done..]);
            done += length;
        }
        return true;
    }

    public void Dispose()
    {
        _scratch.Dispose();
        _vectors.Dispose();
    }
}
