using VhostFs.Bdev;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>The bytes of a small disk, with what one crash state adds to them on top: a copy costs nothing, trying a state costs only the blocks it touches.</summary>
/// <remarks>Three layers: the original, shared by all copies; blocks kept since, shared and never changed; the overlay, which <see cref="Reset"/> forgets.</remarks>
public sealed class DiskImage
{
    public const int BlockBytes = 4096;
    public const int SectorBytes = 512;

    private readonly byte[] _original;
    private readonly byte[]?[] _kept;
    private readonly byte[]?[] _overlay;
    private readonly List<int> _touched = [];
    private readonly Stack<byte[]> _free = new();

    public DiskImage(byte[] content)
        : this(content, new byte[content.Length / BlockBytes][])
    {
    }

    private DiskImage(byte[] original, byte[]?[] kept)
    {
        _original = original;
        _kept = kept;
        _overlay = new byte[kept.Length][];
    }

    public int LengthBytes => _original.Length;

    /// <summary>What a discarded range reads as: zeroes if the device says so, else something else.</summary>
    public byte DiscardedByte { get; init; }

    /// <summary>A copy of the disk as it is now.</summary>
    public DiskImage Fork()
    {
        Keep();
        return new DiskImage(_original, (byte[]?[])_kept.Clone()) { DiscardedByte = DiscardedByte };
    }

    /// <summary>Blocks that the overlay holds.</summary>
    public IReadOnlyList<int> TouchedBlocks => _touched;

    public void Read(long offset, Span<byte> target)
    {
        while (target.Length > 0)
        {
            int within = (int)(offset % BlockBytes), length = Math.Min(BlockBytes - within, target.Length);
            BlockAt((int)(offset / BlockBytes)).Slice(within, length).CopyTo(target);
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

    public void Clear(long offset, long length) => Fill(offset, length, 0);

    public void Discard(long offset, long length) => Fill(offset, length, DiscardedByte);

    /// <summary>Does to the disk what the operation did, as a whole.</summary>
    public void Apply(BdevTraceEntry entry) => Apply(entry, 0, entry.LengthBytes);

    /// <summary>Does to the disk what the operation did to a part of its range.</summary>
    public void Apply(BdevTraceEntry entry, long offset, long length)
    {
        switch (entry.Operation)
        {
            case BdevOperations.Write:
                Write(entry.OffsetBytes + offset, entry.Data.AsSpan((int)offset, (int)length));
                break;
            case BdevOperations.Unmap:
                Discard(entry.OffsetBytes + offset, length);
                break;
            default:
                Clear(entry.OffsetBytes + offset, length);
                break;
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
        foreach (int block in _touched)
        {
            _kept[block] = _overlay[block];
            _overlay[block] = null;
        }
        _touched.Clear();
    }

    /// <summary>The bytes as they are now.</summary>
    public byte[] ToArray()
    {
        byte[] copy = new byte[LengthBytes];
        Read(0, copy);
        return copy;
    }

    /// <summary>Blocks that are not as in the original any more.</summary>
    public IEnumerable<(int Block, ReadOnlyMemory<byte> Bytes)> ChangedBlocks()
    {
        for (int block = 0; block < _kept.Length; block++)
        {
            if ((_overlay[block] ?? _kept[block]) is { } changed) { yield return (block, changed); }
        }
    }

    private ReadOnlySpan<byte> BlockAt(int block) => (_overlay[block] ?? _kept[block]) is { } changed ? changed : _original.AsSpan(block * BlockBytes, BlockBytes);

    private void Fill(long offset, long length, byte value)
    {
        while (length > 0)
        {
            int within = (int)(offset % BlockBytes), part = (int)Math.Min(BlockBytes - within, length);
            Touch((int)(offset / BlockBytes)).AsSpan(within, part).Fill(value);
            offset += part;
            length -= part;
        }
    }

    private byte[] Touch(int block)
    {
        if (_overlay[block] is { } there) { return there; }
        byte[] copy = _free.TryPop(out byte[]? free) ? free : new byte[BlockBytes];
        BlockAt(block).CopyTo(copy);
        _overlay[block] = copy;
        _touched.Add(block);
        return copy;
    }
}
