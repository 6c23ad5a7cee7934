using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>A disk's write cache, in memory: written blocks reach the bdev below at a flush, some of them earlier. kill -9 of the process is then a power cut.</summary>
/// <remarks>
/// <para>Promise and licence are a real disk's: what completed before a flush was started is below when it completes; of everything else any part may be
/// below, in any order, a block even in part (its first 512-byte sectors new, the others old). What is below too early is drawn from <c>seed</c>.</para>
/// <para>Unmap and write-zeroes take effect below at once, before writes that are older: a device may do that, too.</para>
/// <para>For tests of crash behaviour, not for speed: blocks are copied twice.</para>
/// </remarks>
public sealed class VolatileBdev : BdevDecorator
{
    private const int SectorBytes = 512;
    private const int MaxRunBlocks = 64;
    private const int MaxEarlyBlocks = 16;

    private readonly Dictionary<long, byte[]> _dirty = [];
    private readonly List<long> _order = []; // the blocks of _dirty, to draw from
    private readonly Queue<IoCompletion<bool>> _waiting = new();
    private readonly Random _random;
    private readonly NativeBuffer _run;
    private readonly IoVecList _vectors = new(1);
    private readonly int _earlyPercent;
    private readonly int _maxDirtyBlocks;
    private bool _isDestaging;

    /// <param name="earlyPercent">After so many of a hundred writes something goes down before it must.</param>
    /// <param name="cacheBytes">More than this is not kept: as with a disk, the oldest then go down.</param>
    public VolatileBdev(IBdev inner, int seed, string name = "volatile", int earlyPercent = 20, long cacheBytes = 64 << 20)
        : base(inner, name)
    {
        _random = new Random(seed);
        _earlyPercent = earlyPercent;
        _maxDirtyBlocks = (int)Math.Max(cacheBytes / inner.BlockSize, 1);
        _run = new NativeBuffer(MaxRunBlocks * inner.BlockSize);
    }

    public override bool HasWriteCache => true;

    /// <summary>Blocks that a power cut would take now.</summary>
    public int DirtyBlocks => _dirty.Count;

    protected override async IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target)
    {
        // A block may go down, and leave the cache, while the read below is under way, which then finds the old one: what is dirty now counts.
        long length = target.LengthBytes;
        List<(long Offset, byte[] Block)> covering = [];
        for (long done = 0; done < length; done += BlockSize)
        {
            if (_dirty.TryGetValue(offsetBytes + done, out byte[]? block)) { covering.Add((done, block)); }
        }
        IoResult read = await Inner.ReadAsync(offsetBytes, target);
        if (read.IsError) { return read; }
        foreach ((long offset, byte[] block) in covering) { target.CopyFrom(offset, block); }
        return read;
    }

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        Errno refused = BdevChecks.Write(this, offsetBytes, source);
        if (refused != Errno.None) { return refused; }
        int length = (int)source.LengthBytes;
        for (int done = 0; done < length; done += BlockSize)
        {
            // A new array each time: one that is on its way down stays as it is.
            byte[] block = GC.AllocateUninitializedArray<byte>(BlockSize);
            source.CopyTo(done, block);
            if (!_dirty.ContainsKey(offsetBytes + done)) { _order.Add(offsetBytes + done); }
            _dirty[offsetBytes + done] = block;
        }
        if (_dirty.Count > _maxDirtyBlocks)
        {
            Errno errno = await DestageAsync([.. _order.Take(_maxDirtyBlocks / 2)]);
            if (errno != Errno.None) { return errno; }
        }
        else if (!_isDestaging && _random.Next(100) < _earlyPercent) { DestageSomeAsync().Detach(); }
        return new IoResult(length);
    }

    protected override async IoTask<Errno> FlushCoreAsync()
    {
        Errno errno = await DestageAsync([.. _order]);
        return errno == Errno.None ? await Inner.FlushAsync() : errno;
    }

    protected override async IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes)
    {
        await EnterAsync();
        Errno unmapped = await Inner.UnmapAsync(offsetBytes, lengthBytes);
        if (unmapped == Errno.None) { Forget(offsetBytes, lengthBytes); }
        Leave();
        return unmapped;
    }

    protected override async IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        await EnterAsync();
        Errno zeroed = await Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
        if (zeroed == Errno.None) { Forget(offsetBytes, lengthBytes); }
        Leave();
        return zeroed;
    }

    private void Forget(long offsetBytes, long lengthBytes)
    {
        int removed = _order.RemoveAll(offset => offset >= offsetBytes && offset < offsetBytes + lengthBytes && _dirty.Remove(offset));
        Invariant.That(removed >= 0 && _order.Count == _dirty.Count);
    }

    /// <summary>Some blocks go down before they must, some of them torn; torn ones stay in the cache.</summary>
    private async IoTask<Errno> DestageSomeAsync()
    {
        await EnterAsync();
        Errno errno = Errno.None;
        for (int left = _random.Next(1, MaxEarlyBlocks); left > 0 && _order.Count > 0 && errno == Errno.None; left--)
        {
            long offset = _order[_random.Next(_order.Count)];
            errno = _random.Next(3) == 0 ? await TearAsync(offset) : await WriteDownAsync(new ArraySegment<long>([offset]));
        }
        Leave();
        return errno;
    }

    private async IoTask<Errno> DestageAsync(long[] offsets)
    {
        await EnterAsync();
        // In pieces of any order, so that a cut in the middle of a flush leaves any of them.
        Array.Sort(offsets);
        List<ArraySegment<long>> runs = Runs(offsets);
        Errno errno = Errno.None;
        while (runs.Count > 0 && errno == Errno.None)
        {
            int next = _random.Next(runs.Count);
            ArraySegment<long> run = runs[next];
            runs[next] = runs[^1];
            runs.RemoveAt(runs.Count - 1);
            errno = await WriteDownAsync(run);
        }
        Leave();
        return errno;
    }

    private List<ArraySegment<long>> Runs(long[] offsets)
    {
        var runs = new List<ArraySegment<long>>();
        for (int first = 0; first < offsets.Length;)
        {
            int limit = first + 1;
            while (limit < offsets.Length && limit - first < MaxRunBlocks && offsets[limit] == offsets[limit - 1] + BlockSize) { limit++; }
            runs.Add(new ArraySegment<long>(offsets, first, limit - first));
            first = limit;
        }
        return runs;
    }

    /// <summary>Neighbouring blocks, as they are now. Those that were not written again meanwhile leave the cache.</summary>
    private async IoTask<Errno> WriteDownAsync(ArraySegment<long> offsets)
    {
        var blocks = new byte[offsets.Count][];
        for (int i = 0; i < blocks.Length; i++)
        {
            if (!_dirty.TryGetValue(offsets[i], out byte[]? block)) { return await WriteDownEachAsync(offsets); } // an unmap took one
            blocks[i] = block;
            block.CopyTo(_run.Span[(i * BlockSize)..]);
        }
        IoResult written = await WriteRunAsync(offsets[0], blocks.Length * BlockSize);
        if (written.IsError) { return written.Errno; }
        for (int i = 0; i < blocks.Length; i++)
        {
            if (!_dirty.TryGetValue(offsets[i], out byte[]? now) || now != blocks[i]) { continue; }
            _dirty.Remove(offsets[i]);
        }
        _order.RemoveAll(offset => !_dirty.ContainsKey(offset));
        return Errno.None;
    }

    private async IoTask<Errno> WriteDownEachAsync(ArraySegment<long> offsets)
    {
        for (int i = 0; i < offsets.Count; i++)
        {
            if (!_dirty.ContainsKey(offsets[i])) { continue; }
            Errno errno = await WriteDownAsync(offsets.Slice(i, 1));
            if (errno != Errno.None) { return errno; }
        }
        return Errno.None;
    }

    /// <summary>The first sectors of a block are new below, the others old.</summary>
    private async IoTask<Errno> TearAsync(long offset)
    {
        byte[] block = _dirty[offset];
        _vectors.Clear();
        _vectors.Add(_run.Slice(0, BlockSize));
        IoResult read = await Inner.ReadAsync(offset, _vectors.View());
        if (read.IsError) { return read.Errno; }
        int sectors = _random.Next(1, BlockSize / SectorBytes + 1);
        block.AsSpan(0, Math.Min(sectors * SectorBytes, BlockSize)).CopyTo(_run.Span);
        return (await WriteRunAsync(offset, BlockSize)).Errno;
    }

    private IoTask<IoResult> WriteRunAsync(long offset, int lengthBytes)
    {
        _vectors.Clear();
        _vectors.Add(_run.Slice(0, lengthBytes));
        return Inner.WriteAsync(offset, _vectors.View());
    }

    // One at a time: two writes of one block must not overtake each other below.
    private async IoTask<bool> EnterAsync()
    {
        if (_isDestaging)
        {
            var turn = new IoCompletion<bool>();
            _waiting.Enqueue(turn);
            await turn.Task; // whoever leaves hands over
        }
        _isDestaging = true;
        return true;
    }

    private void Leave()
    {
        _isDestaging = false;
        if (!_waiting.TryDequeue(out IoCompletion<bool>? next)) { return; }
        _isDestaging = true;
        next.Complete(true);
    }
}
