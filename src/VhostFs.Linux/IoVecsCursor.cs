namespace VhostFs.Linux;

/// <summary>Walks through a scatter-gather list once, front to back, so that a long list costs one pass and not one per piece.</summary>
public struct IoVecsCursor(IoVecs data)
{
    private readonly IoVecs _data = data;
    private int _index;
    private int _offset;

    /// <summary>The next contiguous piece, at most <paramref name="lengthBytes"/> long; empty at the end of the list.</summary>
    public Span<byte> Next(int lengthBytes) => NextVec(lengthBytes).Span;

    /// <inheritdoc cref="Next"/>
    public IoVec NextVec(int lengthBytes)
    {
        while (_index < _data.Count)
        {
            IoVec segment = _data[_index];
            if (_offset == segment.Length) { _index++; _offset = 0; continue; }
            IoVec piece = segment.Slice(_offset, Math.Min(lengthBytes, segment.Length - _offset));
            _offset += piece.Length;
            return piece;
        }
        return default;
    }

    /// <summary>Copies from the list; returns bytes copied (less at its end).</summary>
    public int CopyTo(Span<byte> target)
    {
        int done = 0;
        while (done < target.Length)
        {
            Span<byte> piece = Next(target.Length - done);
            if (piece.IsEmpty) { break; }
            piece.CopyTo(target[done..]);
            done += piece.Length;
        }
        return done;
    }

    /// <summary>Copies into the list; returns bytes copied (less at its end).</summary>
    public int CopyFrom(ReadOnlySpan<byte> source)
    {
        int done = 0;
        while (done < source.Length)
        {
            Span<byte> piece = Next(source.Length - done);
            if (piece.IsEmpty) { break; }
            source.Slice(done, piece.Length).CopyTo(piece);
            done += piece.Length;
        }
        return done;
    }

    public void Clear(long lengthBytes)
    {
        while (lengthBytes > 0)
        {
            Span<byte> piece = Next((int)Math.Min(lengthBytes, int.MaxValue));
            if (piece.IsEmpty) { break; }
            piece.Clear();
            lengthBytes -= piece.Length;
        }
    }

    public void Skip(long lengthBytes)
    {
        while (lengthBytes > 0)
        {
            int skipped = Next((int)Math.Min(lengthBytes, int.MaxValue)).Length;
            if (skipped == 0) { break; }
            lengthBytes -= skipped;
        }
    }
}
