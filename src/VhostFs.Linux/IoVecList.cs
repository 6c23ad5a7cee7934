using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>Owns a growable scatter-gather list in unmanaged memory. Made once and reused: clearing keeps the memory.</summary>
/// <remarks>A view taken with <see cref="View()"/> is valid until the next Add, Clear or Dispose.</remarks>
public sealed unsafe class IoVecList : IDisposable
{
    private IoVec* _entries;
    private int _capacity;

    public IoVecList(int capacity = 16)
    {
        _capacity = Math.Max(capacity, 1);
        _entries = (IoVec*)NativeMemory.Alloc((nuint)_capacity, (nuint)sizeof(IoVec));
    }

    ~IoVecList() => Free();

    public int Count { get; private set; }

    /// <summary>Sum of all lengths added since the last clear.</summary>
    public long LengthBytes { get; private set; }

    public void Clear()
    {
        Count = 0;
        LengthBytes = 0;
    }

    public void Add(IoVec entry)
    {
        if (Count == _capacity) { Grow(); }
        _entries[Count++] = entry;
        LengthBytes += entry.Length;
    }

    /// <summary>As <see cref="Add"/>, but a piece that continues the one before in memory makes that one longer. Not for the first piece of a view of its own.</summary>
    public void Extend(IoVec entry)
    {
        if (Count > 0 && _entries[Count - 1] is var last && last.Address + (nuint)last.Length == entry.Address && last.Length <= int.MaxValue - entry.Length)
        {
            _entries[Count - 1] = new IoVec(last.Address, last.Length + entry.Length);
            LengthBytes += entry.Length;
            return;
        }
        Add(entry);
    }

    /// <summary>Appends bytes [offset, offset + length) of <paramref name="source"/>, without copying payload. Returns bytes appended (less at the end of the source).</summary>
    public long AddSlice(IoVecs source, long offsetBytes, long lengthBytes)
    {
        long done = 0;
        ReadOnlySpan<IoVec> entries = source.AsSpan();
        for (int i = 0; i < entries.Length && done < lengthBytes; i++)
        {
            int length = entries[i].Length;
            if (offsetBytes >= length) { offsetBytes -= length; continue; }
            int take = (int)Math.Min(length - offsetBytes, lengthBytes - done);
            Add(entries[i].Slice((int)offsetBytes, take));
            done += take;
            offsetBytes = 0;
        }
        return done;
    }

    public IoVecs View() => new((nuint)_entries, Count);

    public IoVecs View(int firstIndex, int count) => View().Slice(firstIndex, count);

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void Grow()
    {
        _capacity *= 2;
        _entries = (IoVec*)NativeMemory.Realloc(_entries, (nuint)_capacity * (nuint)sizeof(IoVec));
    }

    private void Free()
    {
        NativeMemory.Free(_entries);
        _entries = null;
        _capacity = 0;
        Count = 0;
    }
}
