using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Blobstore;

/// <summary>The writing side of a volume's log ring.</summary>
/// <remarks>
/// Self-clocked: while one batch is being written the next one fills; a batch begins at the end of the reactor's turn, so that all requests of a
/// turn share it. Invariants: one batch in flight; batches complete in LSN order; space behind the tail of the last durable header is never overwritten;
/// a block that was written is not rewritten before the ring comes round. In log memory a record survives the end of the process from its <see cref="Append"/> on, if all before it
/// do or the bdev has them; without, once the bdev has it.
/// </remarks>
internal sealed class Log : IDisposable
{
    /// <summary>Images of one batch.</summary>
    private const int MaxBatchImages = 192;

    /// <summary>The largest batch, in blocks.</summary>
    internal const int MaxBatchBlocks = (LogBatch.BufferBytes / BlobData.BlockBytes) + MaxBatchImages;

    /// <summary>The share of the free ring that may fill before a checkpoint has written anything: a short burst does not wait.</summary>
    private const double PaceHeadStart = 0.25;

    /// <summary>What one transaction can add to a batch.</summary>
    private const int MaxTransactionBlocks = (Transaction.MaxRecordBytes / BlobData.BlockBytes) + 1 + Transaction.MaxImages;

    private readonly IBdev _bdev;
    private readonly LogBuffers _buffers;
    private readonly Action<string> _fail;
    private readonly Action _makeRoom;
    private readonly Action<List<ImageBlock>> _imagesWritten;
    private readonly ulong _ringFirst;
    private readonly int _ringBlocks;
    private readonly int _maxBatchBlocks;
    private readonly TurnEnd _turnEnd;
    private readonly LsnWaiters _waiters = new();
    private readonly WaitQueue _idle = new();
    private LogBatch _open = new();
    private LogBatch _spare = new();
    private LogBatch? _inFlight;
    private uint _previousCrc;
    private int _head;
    private int _pacedBlocks;
    private long _written;
    private long _tail;
    private bool _isWriting;
    private bool _isScheduled;
    private bool _wantsMarker;

    /// <param name="fail">The log takes nothing any more, and why.</param>
    /// <param name="makeRoom">Somebody waits for room.</param>
    /// <param name="imagesWritten">The bdev has these images, with their records.</param>
    public Log(IBdev bdev, Anchor anchor, Guid uuid, ulong epoch, ulong lastLsn, LogBuffers buffers, Action<string> fail, Action makeRoom, Action<List<ImageBlock>> imagesWritten)
    {
        _makeRoom = makeRoom;
        _imagesWritten = imagesWritten;
        _bdev = bdev;
        _buffers = buffers;
        _fail = fail;
        _ringFirst = anchor.RingFirst;
        _ringBlocks = _pacedBlocks = anchor.RingBlocks;
        // Two batches and the hole before a wrap must fit beside a half-full ring.
        _maxBatchBlocks = Math.Min(anchor.RingBlocks / 4, MaxBatchBlocks);
        Uuid = uuid;
        Epoch = epoch;
        LastLsn = LoggedLsn = WrittenLsn = DurableLsn = lastLsn;
        _turnEnd = new TurnEnd(this);
    }

    public Guid Uuid { get; }

    public ulong Epoch { get; }

    /// <summary>The newest record.</summary>
    public ulong LastLsn { get; private set; }

    /// <summary>Records up to here survive the end of the process.</summary>
    public ulong LoggedLsn { get; private set; }

    /// <summary>Records up to here are on the bdev: the next flush makes them durable.</summary>
    public ulong WrittenLsn { get; private set; }

    /// <summary>Records up to here survive a power cut.</summary>
    public ulong DurableLsn { get; private set; }

    /// <summary>What the next batch tells of the durable LSN was not told before.</summary>
    public bool IsMarkerDue { get; private set; }

    /// <summary>Recorded in each batch.</summary>
    public ulong NextInode { get; set; }

    /// <summary>Changes that wait for room; each goes on as soon as there is some, in order.</summary>
    public WaitQueue Room { get; } = new();

    public int UsedBlocks => (int)(_written - _tail);

    public int RingBlocks => _ringBlocks;

    /// <summary>Images in the open batch: what the next record's image indices begin with.</summary>
    public int OpenImageCount => _open.Images.Count;

    public bool IsIdle => !_isWriting && _open.IsEmpty;

    /// <summary>The largest record fits into the open batch, and the batch into the ring, even when it has to begin at its start; and no checkpoint lags behind (<see cref="Pace"/>).</summary>
    public bool HasRoom
    {
        get
        {
            int needed = _open.Blocks + MaxTransactionBlocks;
            return _open.HasRoom && needed <= _maxBatchBlocks && UsedBlocks + needed + _maxBatchBlocks < _ringBlocks && UsedBlocks + _open.Blocks < _pacedBlocks;
        }
    }

    /// <summary>As <see cref="HasRoom"/>, for who has not waited yet: nobody goes before those who have.</summary>
    public bool HasRoomForNext => Room.IsEmpty && HasRoom;

    public ulong Append(ReadOnlySpan<byte> record, List<ImageBlock> images)
    {
        LastLsn++;
        if (_open.IsEmpty) { BeginBatch(LastLsn); }
        _open.Add(LastLsn, record, images, DurableLsn, NextInode);
        if (_open.IsStaged) { LoggedLsn = LastLsn; }
        Schedule();
        return LastLsn;
    }

    public IoTask<Errno> LoggedAsync(ulong lsn) => lsn <= LoggedLsn ? new IoTask<Errno>(Errno.None) : _waiters.WaitAsync(lsn);

    public IoTask<Errno> WrittenAsync(ulong lsn) => lsn <= WrittenLsn ? new IoTask<Errno>(Errno.None) : _waiters.WaitAsync(lsn);

    /// <summary>A flush that began when <see cref="WrittenLsn"/> was this has completed.</summary>
    public void SetDurable(ulong lsn)
    {
        if (lsn <= DurableLsn) { return; }
        DurableLsn = lsn;
        IsMarkerDue = true;
    }

    /// <summary>Writes the durable LSN to the log although no record is due: recovery then knows that everything up to it is proven.</summary>
    public void WriteMarker()
    {
        if (!IsMarkerDue || !IsIdle || !HasRoom) { return; }
        _wantsMarker = true;
        Schedule();
    }

    /// <summary>The first batch that may hold a record newer than <see cref="LastLsn"/>; with the position of everything written so far, for <see cref="Trim"/>.</summary>
    public LogTail TailForCheckpoint(out long written)
    {
        written = _written;
        return new LogTail(_open.IsEmpty ? LastLsn + 1 : _open.FirstLsn, _head, _previousCrc);
    }

    /// <summary>A checkpoint begins. Nobody gets room of this, and nobody may: it can be in the middle of somebody's commit, and who goes on begins a change of his own at once.</summary>
    public void BeginPace(int usedBlocks) => _pacedBlocks = PacedBlocks(usedBlocks, done: 0);

    /// <summary>
    /// A checkpoint that began with <paramref name="usedBlocks"/> in use has done this share of its work: the rest of the ring may fill as fast, no faster. So changes that come more quickly
    /// than their blocks get in place wait a little each, where they would all wait for the end of the checkpoint together.
    /// </summary>
    public void Pace(int usedBlocks, double done)
    {
        _pacedBlocks = PacedBlocks(usedBlocks, done);
        GiveRoom();
    }

    /// <summary>No checkpoint is under way: the ring may fill.</summary>
    public void EndPace()
    {
        _pacedBlocks = _ringBlocks;
        GiveRoom();
    }

    /// <summary>A durable header begins its log at this position: what lies before is free.</summary>
    public void Trim(long written)
    {
        _tail = written;
        GiveRoom();
    }

    /// <summary>Completes when nothing is being written and nothing is about to be.</summary>
    public async IoTask<Errno> IdleAsync()
    {
        while (_isWriting || _isScheduled) { await _idle.WaitAsync(); }
        return Errno.None;
    }

    /// <summary>Nothing is written any more; everybody who waits is told.</summary>
    public void Abort()
    {
        _wantsMarker = false;
        _open.Abandon(_buffers);
        _waiters.CompleteUpTo(ulong.MaxValue, Errno.EIO);
        Room.CompleteAll(Errno.EIO);
    }

    public void Dispose()
    {
        _open.Dispose();
        _spare.Dispose();
    }

    /// <summary>The one before it is sealed by now: it is named by its checksum.</summary>
    private void BeginBatch(ulong firstLsn) => _open.Begin(new LogBatchIdentity(Uuid, Epoch, firstLsn, _previousCrc), _inFlight is null or { IsStaged: true }, _buffers);

    private int PacedBlocks(int usedBlocks, double done) =>
        usedBlocks + (int)((_ringBlocks - _maxBatchBlocks - usedBlocks) * (PaceHeadStart + ((1 - PaceHeadStart) * done)));

    /// <summary>Who goes on takes its room at once, so the next one sees what is left.</summary>
    private void GiveRoom()
    {
        while (!Room.IsEmpty && HasRoom) { Room.CompleteFirst(Errno.None); }
    }

    private void Schedule()
    {
        if (_isScheduled || _isWriting) { return; }
        _isScheduled = true;
        IoReactor.Current.AtTurnEnd(_turnEnd);
    }

    /// <summary>A bug in here must end this volume, and tell everybody who waits for it, rather than leave them waiting.</summary>
    private async IoTask<Errno> RunAsync()
    {
        _isWriting = true;
        try
        {
            return await WriteAsync();
        }
        catch (InvariantException bug)
        {
            _fail($"a bug in writing its log: {bug.Message}");
            return Errno.EIO;
        }
        finally
        {
            _isWriting = false;
            _idle.CompleteAll(Errno.None);
        }
    }

    private async IoTask<Errno> WriteAsync()
    {
        while (!_open.IsEmpty || _wantsMarker)
        {
            if (_open.IsEmpty) { BeginBatch(LastLsn + 1); } // a marker: it only tells the durable LSN
            LogBatch batch = _open;
            _open = _spare;
            _spare = _inFlight = batch;
            _wantsMarker = false;
            IsMarkerDue = false;
            int blocks = batch.Blocks;
            if (_head + blocks > _ringBlocks)
            {
                _written += _ringBlocks - _head;
                _head = 0;
            }
            ulong last = batch.LastLsn; // of a marker: the one before
            IoVecs vecs = batch.Seal(DurableLsn, NextInode, out _previousCrc);
            long offset = (long)(_ringFirst + (ulong)_head) * BlobData.BlockBytes;
            _head += blocks;
            _written += blocks;
            IoTask<IoResult> writing = _bdev.WriteAsync(offset, vecs);
            GiveRoom(); // in the batch that is open now
            // Who waits for that one may have filled the ring with it, and the hole before a wrap, and goes on only when somebody empties it.
            if (!Room.IsEmpty) { _makeRoom(); }
            IoResult written = await writing;
            _inFlight = null;
            if (written.IsError)
            {
                batch.Abandon(_buffers);
                _fail($"writing the log failed: {written.Errno}");
                Room.CompleteAll(written.Errno); // if the volume had failed before, that has told nobody who came since
                return written.Errno;
            }
            if (batch.Images.Count > 0) { _imagesWritten(batch.Images); }
            batch.Clear(_buffers); // only now: until the bdev has it, log memory is where it survives
            WrittenLsn = last;
            LoggedLsn = Math.Max(LoggedLsn, last);
            _waiters.CompleteUpTo(last, Errno.None);
        }
        return Errno.None;
    }

    private sealed class TurnEnd(Log log) : IoContinuation
    {
        protected override void Continue()
        {
            log._isScheduled = false;
            if (!log._isWriting) { log.RunAsync().Detach(); }
        }
    }
}
