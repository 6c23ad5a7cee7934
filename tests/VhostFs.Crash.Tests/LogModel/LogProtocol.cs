using System.Collections.Immutable;

namespace VhostFs.Crash.Tests.LogModel;

/// <summary>The writing side of the protocol: one volume of a few logical blocks, a log ring, checkpoints. One record in flight.</summary>
/// <remarks>
/// Invariants: a page is free again only when the record that freed it is durable; an image goes to its page only when its record is durable;
/// ring space is used again only when a durable header has its records behind it.
/// </remarks>
public sealed class LogProtocol
{
    public const int BlockCount = 4;

    private readonly SimulatedDisk _disk;
    private readonly ProtocolFault _fault;
    private readonly List<int> _freePages = [.. Enumerable.Range(0, SimulatedDisk.PageCount)];
    private readonly List<(int Page, int FreedByLsn)> _pendingFree = [];
    private readonly SortedDictionary<int, (int Lsn, long Content)> _deferredImages = [];
    private readonly List<ImmutableSortedDictionary<int, long>> _history = [ImmutableSortedDictionary<int, long>.Empty];
    private ImmutableSortedDictionary<int, int> _pageOf = ImmutableSortedDictionary<int, int>.Empty;
    private int _durableLsn;
    private int _generation;
    private int _tailLsn = 1;

    public LogProtocol(SimulatedDisk disk, ProtocolFault fault)
    {
        _disk = disk;
        _fault = fault;
    }

    /// <summary>Content of the logical blocks after each record, by LSN: the states that recovery may arrive at.</summary>
    public IReadOnlyList<ImmutableSortedDictionary<int, long>> History => _history;

    /// <summary>What an fsync has promised.</summary>
    public int AcknowledgedLsn { get; private set; }

    private int Lsn => _history.Count - 1;

    public bool IsMapped(int block) => _pageOf.ContainsKey(block);

    /// <summary>To be called before each change: makes room in the ring, and takes back the pages that may be used again.</summary>
    public void Admit()
    {
        if (Lsn - _tailLsn + 1 >= SimulatedDisk.RingSlots - 1 && _fault != ProtocolFault.RingOverwritten) { WriteCheckpoint(); }
        ReleaseFreedPages();
    }

    /// <summary>Writes the content to a free page, then logs it.</summary>
    public void WriteToNewPage(int block, long content, Random random)
    {
        if (_freePages.Count == 0)
        {
            Sync();
            ReleaseFreedPages();
            if (_freePages.Count == 0) { return; }
        }
        int chosen = random.Next(_freePages.Count);
        int page = _freePages[chosen];
        _freePages.RemoveAt(chosen);
        int? freed = PageOf(block);
        _disk.WritePage(page, content);
        Log(RecordKind.NewPage, block, page, content, freed, _history[^1].SetItem(block, content));
        _pageOf = _pageOf.SetItem(block, page);
        Forget(freed);
    }

    /// <summary>Logs the content; the page is written later.</summary>
    public void Overwrite(int block, long content)
    {
        int page = _pageOf[block];
        Log(RecordKind.Image, block, page, content, null, _history[^1].SetItem(block, content));
        _deferredImages[page] = (Lsn, content);
        if (_fault == ProtocolFault.InPlaceBeforeRecordIsDurable) { WriteDeferredImages(); }
    }

    public void Unmap(int block)
    {
        int? freed = PageOf(block);
        _pageOf = _pageOf.Remove(block);
        Log(RecordKind.Unmap, block, 0, 0, freed, _history[^1].Remove(block));
        Forget(freed);
    }

    public void Sync()
    {
        if (_fault != ProtocolFault.SyncWithoutFlush) { _disk.Flush(); }
        _durableLsn = Lsn;
        AcknowledgedLsn = Lsn;
    }

    /// <summary>Writes the images whose records are durable to their pages.</summary>
    public void WriteDeferredImages()
    {
        foreach ((int page, (int lsn, long content)) in _deferredImages.ToArray())
        {
            if (lsn > _durableLsn && _fault != ProtocolFault.InPlaceBeforeRecordIsDurable) { continue; }
            _disk.WritePage(page, content);
            _deferredImages.Remove(page);
        }
    }

    public void WriteCheckpoint()
    {
        _disk.Flush();
        _durableLsn = Lsn;
        WriteDeferredImages();
        _generation++;
        _disk.WriteCheckpoint(new Checkpoint(_generation, _pageOf));
        // Before the header: it must never name a checkpoint that is not there, nor drop a record whose image is not in its page.
        if (_fault != ProtocolFault.HeaderBeforeCheckpointIsDurable) { _disk.Flush(); }
        _disk.WriteHeader(new Header(_generation, Lsn));
        _disk.Flush();
        _tailLsn = Lsn + 1;
    }

    private int? PageOf(int block) => _pageOf.TryGetValue(block, out int page) ? page : null;

    private void Log(RecordKind kind, int block, int page, long content, int? freed, ImmutableSortedDictionary<int, long> state)
    {
        _history.Add(state);
        _disk.WriteRecord(new LogRecord(Lsn, _durableLsn, kind, block, page, content, freed));
    }

    private void Forget(int? freed)
    {
        if (freed is not { } page) { return; }
        _deferredImages.Remove(page);
        _pendingFree.Add((page, Lsn));
    }

    private void ReleaseFreedPages()
    {
        foreach ((int page, int freedBy) in _pendingFree.ToArray())
        {
            if (freedBy > _durableLsn && _fault != ProtocolFault.ReuseBeforeFreeIsDurable) { continue; }
            _pendingFree.Remove((page, freedBy));
            _freePages.Add(page);
        }
    }
}
