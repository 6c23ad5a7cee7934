using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>A bdev whose blocks lie on several others, each block on one: what raid0 and concat have in common.</summary>
/// <remarks>
/// Invariant: of any range the part on one base is without gaps there (<see cref="OnBase"/> never falls as the offset rises), so that a request is at most one request to each
/// base, however many pieces of memory that one gathers. All of them are under way at the same time; the first error is the answer, when all have ended.
/// </remarks>
public abstract class SpreadBdev : ComposedBdev
{
    private readonly IBdev[] _bases;
    private readonly Stack<Parts> _free = new();

    protected SpreadBdev(string name, IReadOnlyList<IBdev> bases, long sizeBytes)
        : base(name, bases[0].BlockSize, sizeBytes)
    {
        _bases = [.. bases];
        Invariant.That(Array.TrueForAll(_bases, b => b.BlockSize == BlockSize && b.BufferAlignment == 1));
    }

    public override int OptimalBufferAlignment => _bases.Max(b => b.OptimalBufferAlignment);

    public override bool HasWriteCache => Array.Exists(_bases, b => b.HasWriteCache);

    public override bool SupportsUnmap => Array.TrueForAll(_bases, b => b.SupportsUnmap);

    public override bool UnmapReadsZero => Array.TrueForAll(_bases, b => b.UnmapReadsZero);

    public override bool IsReadOnly => Array.Exists(_bases, b => b.IsReadOnly);

    public override void Dispose()
    {
        while (_free.TryPop(out Parts? parts)) { parts.Dispose(); }
        GC.SuppressFinalize(this);
    }

    /// <summary>Bytes of the base that belong to this bdev's first <paramref name="offsetBytes"/> bytes.</summary>
    protected abstract long OnBase(int index, long offsetBytes);

    /// <summary>The base of the byte at <paramref name="offsetBytes"/>, and how many bytes from it on lie there without another's in between.</summary>
    protected abstract (int Index, long LengthBytes) At(long offsetBytes);

    protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target) => TransferAsync(isWrite: false, offsetBytes, target);

    protected override IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source) => TransferAsync(isWrite: true, offsetBytes, source);

    protected override async IoTask<Errno> FlushCoreAsync()
    {
        Parts parts = Rent();
        for (int i = 0; i < _bases.Length; i++) { parts.Changes[i] = _bases[i].FlushAsync(); }
        return await EndAsync(parts);
    }

    protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes) => ChangeAsync(isUnmap: true, offsetBytes, lengthBytes);

    protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes) => ChangeAsync(isUnmap: false, offsetBytes, lengthBytes);

    // The usual request lies on one base and goes there as it is.
    private IoTask<IoResult> TransferAsync(bool isWrite, long offset, IoVecs vectors)
    {
        long length = vectors.LengthBytes;
        if (length == 0) { return new(new IoResult(0)); }
        (int index, long contiguous) = At(offset);
        return length <= contiguous ? TransferAsync(isWrite, _bases[index], OnBase(index, offset), vectors) : SpreadAsync(isWrite, offset, vectors, (int)length);
    }

    private static IoTask<IoResult> TransferAsync(bool isWrite, IBdev bdev, long offset, IoVecs vectors) => isWrite ? bdev.WriteAsync(offset, vectors) : bdev.ReadAsync(offset, vectors);

    private async IoTask<IoResult> SpreadAsync(bool isWrite, long offset, IoVecs vectors, int length)
    {
        Parts parts = Rent();
        Scatter(parts, offset, vectors, length);
        for (int i = 0; i < _bases.Length; i++)
        {
            if (parts.Vectors[i].Count > 0) { parts.Transfers[i] = TransferAsync(isWrite, _bases[i], OnBase(i, offset), parts.Vectors[i].View()); }
        }
        var result = new IoResult(length);
        for (int i = 0; i < _bases.Length; i++)
        {
            if (parts.Vectors[i].Count == 0) { continue; }
            IoResult part = await parts.Transfers[i];
            if (part.IsError && !result.IsError) { result = part; }
            parts.Vectors[i].Clear();
            parts.Transfers[i] = default;
        }
        _free.Push(parts);
        return result;
    }

    private void Scatter(Parts parts, long offset, IoVecs vectors, int length)
    {
        var cursor = new IoVecsCursor(vectors);
        for (int done = 0; done < length;)
        {
            (int index, long contiguous) = At(offset + done);
            int left = (int)Math.Min(contiguous, length - done);
            done += left;
            while (left > 0)
            {
                IoVec piece = cursor.NextVec(left);
                parts.Vectors[index].Extend(piece);
                left -= piece.Length;
            }
        }
    }

    private async IoTask<Errno> ChangeAsync(bool isUnmap, long offset, long length)
    {
        Parts parts = Rent();
        for (int i = 0; i < _bases.Length; i++)
        {
            long first = OnBase(i, offset), limit = OnBase(i, offset + length);
            if (first == limit) { continue; }
            parts.Changes[i] = isUnmap ? _bases[i].UnmapAsync(first, limit - first) : _bases[i].WriteZeroesAsync(first, limit - first);
        }
        return await EndAsync(parts);
    }

    private async IoTask<Errno> EndAsync(Parts parts)
    {
        Errno result = Errno.None;
        for (int i = 0; i < _bases.Length; i++)
        {
            Errno part = await parts.Changes[i]; // where nothing was to do: the value None
            if (result == Errno.None) { result = part; }
            parts.Changes[i] = default;
        }
        _free.Push(parts);
        return result;
    }

    private Parts Rent() => _free.TryPop(out Parts? parts) ? parts : new Parts(_bases.Length);

    /// <summary>One request, by base. Pooled.</summary>
    private sealed class Parts : IDisposable
    {
        public Parts(int count)
        {
            Vectors = new IoVecList[count];
            for (int i = 0; i < count; i++) { Vectors[i] = new IoVecList(); }
            Transfers = new IoTask<IoResult>[count];
            Changes = new IoTask<Errno>[count];
        }

        public IoVecList[] Vectors { get; }

        public IoTask<IoResult>[] Transfers { get; }

        public IoTask<Errno>[] Changes { get; }

        public void Dispose()
        {
            foreach (IoVecList list in Vectors) { list.Dispose(); }
        }
    }
}
