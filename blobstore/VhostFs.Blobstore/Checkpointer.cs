using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Moves a volume's durable tree forward: writes what changed to new places, then the header that names it.</summary>
/// <remarks>
/// The order, and why: freeze at LSN K (later changes clone nodes) - all records up to K durable (an image may be written in place only when its record
/// cannot be lost any more: else a power cut leaves new content without the record that explains it) - images in place - nodes to free slots - FLUSH (the header
/// must not arrive before what it names) - both header copies - FLUSH (only now is the old tree unreachable) - old nodes and log space become free.
/// </remarks>
internal sealed class Checkpointer(Volume volume, Pool pool)
{
    /// <summary>Writes under way at once, from the moment on in which a change waits for room in the log.</summary>
    private const int MaxParallel = 32;

    /// <summary>Until then: a checkpoint is in no hurry, and reads and fsyncs of others go to the same device.</summary>
    private const int CalmParallel = 4;

    /// <summary>How often the last writes under way are waited for: images, nodes, header. Each takes as long as that many.</summary>
    private const int Ends = 3;

    private readonly List<FrozenNode> _frozen = [];
    private readonly List<ImageBlock> _images = [];
    private readonly List<ulong> _obsolete = [];
    private readonly ParallelWrites _writes = new(pool.Bdev, MaxParallel);
    private readonly WaitQueue _idle = new();
    private bool _isRunning;

    // What the pace of the log is reckoned from (Log.Pace): blocks of the ring, blocks to write, blocks written.
    private int _usedAtFreeze;
    private int _blocksToWrite;
    private int _blocksDone;

    /// <summary>Begins a checkpoint unless one is under way.</summary>
    public void Start()
    {
        if (!_isRunning && !volume.Failed) { RunAsync(VolumeFlags.None).Detach(); }
    }

    public IoTask<Errno> IdleAsync() => _isRunning ? _idle.WaitAsync() : new IoTask<Errno>(Errno.None);

    /// <summary>Runs a checkpoint; one that is under way is waited for and counts, unless <paramref name="flags"/> ask for more.</summary>
    public async IoTask<Errno> RunAsync(VolumeFlags flags)
    {
        // Who else waits may go on first and begin another one.
        while (_isRunning)
        {
            Errno other = await _idle.WaitAsync();
            if (flags == VolumeFlags.None || other != Errno.None) { return other; }
        }
        _isRunning = true;
        Errno result;
        try { result = await WriteAsync(flags); }
        catch (InvariantException e)
        {
            // A bug of ours ends this volume, and nobody waits for ever.
            volume.Fail(e.Message);
            result = Errno.EIO;
        }
        if (result != Errno.None)
        {
            volume.Fail($"writing a checkpoint failed: {result}");
            result = Errno.EIO;
        }
        else
        {
            volume.Statistics.Checkpoints++;
            volume.Log.EndPace();
        }
        _isRunning = false;
        _idle.CompleteAll(result);
        if (!volume.Log.Room.IsEmpty) { volume.MakeRoomInLog(); } // who came meanwhile may have filled the ring again
        return result;
    }

    private async IoTask<Errno> WriteAsync(VolumeFlags flags)
    {
        // ---- the freeze: one synchronous stretch
        ulong checkpointLsn = volume.Log.LastLsn;
        LogTail tail = volume.Log.TailForCheckpoint(out long written);
        ulong nextInode = volume.NextInode;
        long inodeCount = Math.Max(volume.InodeCount, 0); // a hostile header may have counted less than there were
        ulong generation = volume.Header.Generation + 1;
        volume.Overlay.CopyTo(_images);
        volume.Tree.Freeze(volume.Nodes, volume.Header.SnapshotEpoch, _frozen);
        int height = volume.Tree.Height;
        volume.Tree.TakeObsolete(_obsolete);
        _usedAtFreeze = volume.Log.UsedBlocks;
        _blocksToWrite = _images.Count + (_frozen.Count * NodePage.Blocks) + (Ends * MaxParallel);
        _blocksDone = 0;

        // ---- images in place, only after their records are durable
        volume.HoldsFreedBlocks = _images.Count > 0;
        volume.Log.BeginPace(_usedAtFreeze);
        _writes.LimitTo(CalmParallel);
        Errno result = await volume.WrittenAsync(checkpointLsn);
        if (result == Errno.None && _images.Count > 0)
        {
            result = await FlushAsync();
            if (result == Errno.None) { result = await WriteImagesAsync(); }
        }
        volume.Overlay.Drop(_images, inPlace: result == Errno.None);
        _images.Clear();
        volume.HoldsFreedBlocks = false;

        // ---- nodes to free slots, then the header
        if (result == Errno.None) { result = await WriteNodesAsync(); }
        volume.Tree.Thaw(_frozen);
        _frozen.Clear();
        if (result == Errno.None) { result = await FlushAsync(); }
        if (result != Errno.None) { return result; }
        VolumeHeader header = volume.Header with
        {
            Flags = (volume.Header.Flags & (VolumeFlags.DataChecksums | VolumeFlags.CountsInodes)) | flags,
            Generation = generation,
            LogEpoch = volume.Log.Epoch,
            Root = volume.Tree.FrozenRoot,
            Height = height,
            CheckpointLsn = checkpointLsn,
            Tail = tail,
            NextInode = nextInode,
            InodeCount = inodeCount,
        };
        result = await WriteHeaderAsync(header);
        if (result == Errno.None) { result = await FlushAsync(); }
        if (result != Errno.None) { return result; }

        // ---- durable: the old tree and the old log are nobody's any more
        volume.Header = header;
        foreach (ulong address in _obsolete) { volume.Nodes.Free(address); }
        _obsolete.Clear();
        volume.Log.Trim(written);
        volume.ReleaseFreedBlocks();
        return Errno.None;
    }

    private async IoTask<Errno> FlushAsync()
    {
        ulong covered = volume.Log.WrittenLsn;
        Errno flushed = await pool.Flusher.FlushAsync();
        if (flushed == Errno.None) { volume.Log.SetDurable(covered); }
        return flushed;
    }

    private async IoTask<Errno> WriteImagesAsync()
    {
        // Also those freed or replaced since the freeze: the record that did it may still be lost, and then the block is this image.
        for (int i = 0; i < _images.Count; i++) { await AddAsync(_images[i].Block, _images[i].Page.Memory); }
        return await FinishAsync();
    }

    private async IoTask<Errno> WriteNodesAsync()
    {
        for (int i = 0; i < _frozen.Count; i++)
        {
            volume.Tree.Seal(_frozen, i);
            await AddAsync(_frozen[i].Address, _frozen[i].Vec);
        }
        return await FinishAsync();
    }

    private async IoTask<Errno> AddAsync(ulong block, IoVec memory)
    {
        if (!volume.Log.Room.IsEmpty) { _writes.LimitTo(MaxParallel); }
        Errno added = await _writes.AddAsync(block, memory);
        Advance(memory.Length / BlobData.BlockBytes);
        return added;
    }

    private async IoTask<Errno> FinishAsync()
    {
        Errno finished = await _writes.FinishAsync();
        Advance(MaxParallel);
        return finished;
    }

    /// <summary>So many blocks more have been written: changes that wait for room in the log may fill as much of it.</summary>
    private void Advance(int blocks)
    {
        _blocksDone += blocks;
        volume.Log.Pace(_usedAtFreeze, (double)_blocksDone / _blocksToWrite);
    }

    private async IoTask<Errno> WriteHeaderAsync(VolumeHeader header)
    {
        Page page = pool.DataPages.Rent();
        header.Write(page.Span);
        (ulong first, ulong second) = volume.Record.Anchor.HeaderSlots(header.Generation);
        await _writes.AddAsync(first, page.Memory);
        await _writes.AddAsync(second, page.Memory);
        Errno result = await FinishAsync();
        PagePool.Release(page);
        return result;
    }
}
