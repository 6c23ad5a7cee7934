using System.Runtime.CompilerServices;

namespace VhostFs.Linux;

/// <summary>A scatter-gather list: a view of consecutive <see cref="IoVec"/>s in unmanaged memory, ready for readv/writev.</summary>
/// <remarks>Does not own the list; see <see cref="IoVecList"/> for the owner. Lifetimes as with <see cref="IoVec"/>.</remarks>
public readonly unsafe struct IoVecs
{
    private readonly IoVec* _first;

    public IoVecs(nuint first, int count)
    {
        _first = (IoVec*)first;
        Count = count;
    }

    public static IoVecs Empty => default;

    public int Count { get; }

    /// <summary>Where the first entry lies, for system calls.</summary>
    public nuint Address => (nuint)_first;

    public IoVec this[int index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (uint)index < (uint)Count ? _first[index] : throw new ArgumentOutOfRangeException(nameof(index));
    }

    /// <summary>Sum of all lengths.</summary>
    public long LengthBytes
    {
        get
        {
            long sum = 0;
            for (int i = 0; i < Count; i++) { sum += _first[i].Length; }
            return sum;
        }
    }

    public ReadOnlySpan<IoVec> AsSpan() => new(_first, Count);

    public IoVecs Slice(int firstIndex, int count)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)firstIndex, (uint)Count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)count, (uint)(Count - firstIndex));
        return new IoVecs((nuint)(_first + firstIndex), count);
    }

    /// <summary>Copies bytes [<paramref name="offsetBytes"/>, + target length) of the list into <paramref name="target"/>; returns bytes copied (less at the end of the list).</summary>
    public int CopyTo(long offsetBytes, Span<byte> target)
    {
        int done = 0;
        for (int i = 0; i < Count && done < target.Length; i++)
        {
            int length = _first[i].Length;
            if (offsetBytes >= length) { offsetBytes -= length; continue; }
            int take = Math.Min(length - (int)offsetBytes, target.Length - done);
            _first[i].Span.Slice((int)offsetBytes, take).CopyTo(target[done..]);
            done += take;
            offsetBytes = 0;
        }
        return done;
    }

    /// <summary>Copies all of the list to <paramref name="target"/>, which is native memory (<see cref="StreamingCopy"/>).</summary>
    public void StreamTo(Span<byte> target)
    {
        for (int i = 0; i < Count; i++)
        {
            StreamingCopy.Copy(_first[i].Span, target);
            target = target[_first[i].Length..];
        }
        StreamingCopy.Order();
    }

    /// <summary>Copies <paramref name="source"/> into the list from byte <paramref name="offsetBytes"/> on; returns bytes copied (less at the end of the list).</summary>
    public int CopyFrom(long offsetBytes, ReadOnlySpan<byte> source)
    {
        int done = 0;
        for (int i = 0; i < Count && done < source.Length; i++)
        {
            int length = _first[i].Length;
            if (offsetBytes >= length) { offsetBytes -= length; continue; }
            int take = Math.Min(length - (int)offsetBytes, source.Length - done);
            source.Slice(done, take).CopyTo(_first[i].Span[(int)offsetBytes..]);
            done += take;
            offsetBytes = 0;
        }
        return done;
    }

    /// <summary>Zeroes bytes [offset, offset + length) as far as the list reaches; returns bytes zeroed.</summary>
    public long Clear(long offsetBytes, long lengthBytes)
    {
        long done = 0;
        for (int i = 0; i < Count && done < lengthBytes; i++)
        {
            int length = _first[i].Length;
            if (offsetBytes >= length) { offsetBytes -= length; continue; }
            int take = (int)Math.Min(length - offsetBytes, lengthBytes - done);
            _first[i].Span.Slice((int)offsetBytes, take).Clear();
            done += take;
            offsetBytes = 0;
        }
        return done;
    }
}
