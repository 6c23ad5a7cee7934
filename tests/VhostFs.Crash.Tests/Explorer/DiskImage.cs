namespace VhostFs.Crash.Tests.Explorer;

/// <summary>The bytes of a small disk, with what one crash state adds to them on top: trying a state costs only the blocks it touches.</summary>
public sealed class DiskImage
{
    public const int BlockBytes = 4096;
    public const int SectorBytes = 512;

    private readonly byte[] _base;
    private readonly byte[]?[] _overlay;
    private readonly List<int> _touched = [];
    private readonly Stack<byte[]> _free = new();

    public DiskImage(ReadOnlySpan<byte> content)
    {
        _base = content.ToArray();
        _overlay = new byte[_base.Length / BlockBytes][];
    }

    public int LengthBytes => _base.Length;

    /// <summary>Blocks that the overlay holds.</summary>
    public IReadOnlyList<int> TouchedBlocks => _touched;

    public void Read(long offset, Span<byte> target)
    {
        while (target.Length > 0)
        {
            int within = (int)(offset % BlockBytes), length = Math.Min(BlockBytes - within, target.Length);
            byte[]? block = _overlay[offset / BlockBytes];
            (block is null ? _base.AsSpan((int)offset, length) : block.AsSpan(within, length)).CopyTo(target);
            offset += length;
            target = target[length..];
        }
    }

    public void Write(long offset, ReadOnlySpan<byte> source)
    {
        while (source.Length > 0)
        {
            int within = (int)(offset % BlockBytes), length = Math.Min(BlockBytes - within, source.Length);
            source[..length].CopyTo(Touch((int)(offset / BlockBytes)).AsSpan(within));
            offset += length;
            source = source[length..];
        }
    }

    public void Clear(long offset, long length)
    {
        while (length > 0)
        {
            int within = (int)(offset % BlockBytes), part = (int)Math.Min(BlockBytes - within, length);
            Touch((int)(offset / BlockBytes)).AsSpan(within, part).Clear();
            offset += part;
            length -= part;
        }
    }

    /// <summary>Forgets the overlay.</summary>
    public void Reset()
    {
        foreach (int block in _touched)
        {
            _free.Push(_overlay[block]!);
            _overlay[block] = null;
        }
        _touched.Clear();
    }

    /// <summary>Makes the overlay part of the disk.</summary>
    public void Keep()
    {
        foreach (int block in _touched) { _overlay[block]!.CopyTo(_base, block * BlockBytes); }
        Reset();
    }

    /// <summary>The bytes as they are now.</summary>
    public byte[] ToArray()
    {
        var copy = new byte[_base.Length];
        Read(0, copy);
        return copy;
    }

    private byte[] Touch(int block)
    {
        if (_overlay[block] is { } there) { return there; }
        byte[] copy = _free.TryPop(out byte[]? free) ? free : new byte[BlockBytes];
        _base.AsSpan(block * BlockBytes, BlockBytes).CopyTo(copy);
        _overlay[block] = copy;
        _touched.Add(block);
        return copy;
    }
}
