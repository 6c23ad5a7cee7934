using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Writes blocks to the bdev, neighbours joined into one request, a bounded number of requests at once. Reusable: the first error is kept until <see cref="FinishAsync"/> tells it.</summary>
internal sealed class ParallelWrites(IBdev bdev, int maxParallel) : IDisposable
{
    private const int MaxSegments = 64;
    private const int MaxBytes = 1 << 20;

    /// <summary>A device that is done at once would have us write for milliseconds in one go: after so much everybody else gets a turn (about 50 us).</summary>
    private const int BytesPerTurn = 128 * 1024;
    private readonly IoVecList?[] _lists = new IoVecList?[maxParallel];
    private readonly IoTask<IoResult>[] _tasks = new IoTask<IoResult>[maxParallel];
    private IoVecList _open = new();
    private int _limit = maxParallel;
    private ulong _openFirst;
    private ulong _openLimit;
    private int _oldest;
    private int _inFlight;
    private long _bytesThisTurn;
    private Errno _error;

    /// <summary>From now on, at most so many requests at once.</summary>
    public void LimitTo(int requests) => _limit = Math.Clamp(requests, 1, _tasks.Length);

    /// <summary>Adds a piece that is a whole number of blocks; its memory stays until <see cref="FinishAsync"/> returns.</summary>
    public async IoTask<Errno> AddAsync(ulong block, IoVec memory)
    {
        if (_open.Count > 0 && (block != _openLimit || _open.Count == MaxSegments || _open.LengthBytes + memory.Length > MaxBytes)) { await SubmitAsync(); }
        if (_open.Count == 0) { _openFirst = _openLimit = block; }
        _open.Add(memory);
        _openLimit += (ulong)(memory.Length / BlobData.BlockBytes);
        return _error;
    }

    public async IoTask<Errno> FinishAsync()
    {
        if (_open.Count > 0) { await SubmitAsync(); }
        while (_inFlight > 0) { await ReapAsync(); }
        Errno result = _error;
        _error = Errno.None;
        return result;
    }

    public void Dispose()
    {
        _open.Dispose();
        foreach (IoVecList? list in _lists) { list?.Dispose(); }
    }

    private async IoTask<Errno> SubmitAsync()
    {
        while (_inFlight >= _limit) { await ReapAsync(); }
        int slot = (_oldest + _inFlight) % _tasks.Length;
        IoVecList list = _open;
        _open = _lists[slot] ?? new IoVecList();
        _open.Clear();
        _lists[slot] = list;
        _tasks[slot] = bdev.WriteAsync((long)_openFirst * BlobData.BlockBytes, list.View());
        _inFlight++;
        _bytesThisTurn = _tasks[slot].IsCompleted ? _bytesThisTurn + list.LengthBytes : 0;
        if (_bytesThisTurn >= BytesPerTurn)
        {
            _bytesThisTurn = 0;
            await IoReactor.Current.DelayAsync(0);
        }
        return Errno.None;
    }

    private async IoTask<Errno> ReapAsync()
    {
        IoTask<IoResult> task = _tasks[_oldest];
        _oldest = (_oldest + 1) % _tasks.Length;
        IoResult written = await task;
        _inFlight--;
        if (written.IsError && _error == Errno.None) { _error = written.Errno; }
        return written.Errno;
    }
}
