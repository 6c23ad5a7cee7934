using System.Buffers.Binary;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>A set of changes that happens whole or not at all, staged in the form in which the log stores it.</summary>
/// <remarks>Begin, stage and Commit or Abort in one synchronous stretch: there is one transaction per pool at a time. Nothing is changed before
/// <see cref="Commit"/>; each staged key's path is resident from then on, so that the commit cannot miss. Reads through the transaction see what it staged.</remarks>
public sealed class Transaction
{
    /// <summary>Bound of one record; <see cref="Volume.AdmitAsync"/> reserves log space for it.</summary>
    internal const int MaxRecordBytes = 64 * 1024;

    internal const int MaxImages = 16;
    private Volume _volume = null!;
    private readonly byte[] _record = new byte[MaxRecordBytes];
    private readonly byte[] _merged = new byte[Tree.MaxValueBytes];
    private readonly List<Staged> _staged = [];
    private readonly List<BlobChange> _changes = [];
    private readonly List<BlockRun> _freed = [];
    private int _length;
    private int _operations;
    private bool _isOpen;

    internal Transaction()
    {
    }

    /// <summary>Nodes that it makes dirty so far, not counting splits.</summary>
    internal int TouchedNodes => _volume.Tree.TouchedCount;

    /// <summary>Operations staged so far.</summary>
    internal int OperationCount => _operations;

    /// <summary>Bytes that the record can still take.</summary>
    internal int RoomBytes => MaxRecordBytes - _length;

    /// <summary>The record behind its length field.</summary>
    internal ReadOnlySpan<byte> Record => _record.AsSpan(4, _length - 4);

    internal List<ImageBlock> Images { get; } = [];

    /// <summary>New content of blocks that is to be in place when this has committed.</summary>
    internal List<ImageBlock> Overwrites { get; } = [];

    internal bool DemandsSync { get; private set; }

    /// <summary>Data blocks that come into use, less those that go out of it.</summary>
    internal long BlocksDelta { get; private set; }

    /// <summary>As <see cref="Volume.TryGet"/>, with what is staged on top. The span is valid until the next call.</summary>
    public Errno TryGet(TreeKey key, out ReadOnlySpan<byte> value)
    {
        int put = -1;
        bool patched = false;
        for (int i = _staged.Count - 1; i >= 0; i--)
        {
            if (_staged[i].Key != key) { continue; }
            if (_staged[i].Code == RecordCode.Patch) { patched = true; continue; }
            put = i;
            break;
        }
        Errno found = Errno.None;
        if (put < 0) { found = _volume.TryGet(key, out value); }
        else if (_staged[put].Code == RecordCode.Delete) { value = default; return Errno.ENOENT; }
        else { value = _record.AsSpan(_staged[put].Offset, _staged[put].Length); }
        if (!patched || found != Errno.None) { return found; }
        int length = value.Length;
        value.CopyTo(_merged);
        for (int i = Math.Max(put, 0); i < _staged.Count; i++)
        {
            Staged patch = _staged[i];
            if (patch.Key == key && patch.Code == RecordCode.Patch) { _record.AsSpan(patch.Offset, patch.Length).CopyTo(_merged.AsSpan(patch.PatchOffset)); }
        }
        value = _merged.AsSpan(0, length);
        return Errno.None;
    }

    /// <summary>Sets a value of at most <see cref="Volume.MaxValueBytes"/> bytes.</summary>
    public Errno Put(TreeKey key, ReadOnlySpan<byte> value)
    {
        Invariant.That(value.Length <= Tree.MaxValueBytes);
        Errno touched = Touch(key);
        if (touched != Errno.None) { return touched; }
        Span<byte> room = AddKeyed(RecordCode.Put, key, 0, value.Length);
        value.CopyTo(room);
        return Errno.None;
    }

    /// <summary>Removes a key. That it exists is the caller's knowledge, which may come from a damaged disk: EIO when it does not.</summary>
    public Errno Delete(TreeKey key)
    {
        Errno found = TryGet(key, out _);
        if (found != Errno.None) { return found == Errno.ENOENT ? Errno.EIO : found; }
        Errno touched = Touch(key);
        if (touched != Errno.None) { return touched; }
        AddKeyed(RecordCode.Delete, key, 0, 0);
        return Errno.None;
    }

    /// <summary>Overwrites bytes inside the value of an existing key.</summary>
    internal Errno Patch(TreeKey key, int offset, ReadOnlySpan<byte> bytes)
    {
        Errno touched = Touch(key);
        if (touched != Errno.None) { return touched; }
        bytes.CopyTo(AddKeyed(RecordCode.Patch, key, offset, bytes.Length));
        return Errno.None;
    }

    /// <summary>Data blocks come into use.</summary>
    internal Errno Allocate(BlockRun blocks)
    {
        BlocksDelta += blocks.Count;
        return AddRun(RecordCode.Allocate, blocks);
    }

    /// <summary>Data blocks are no longer in use; they can be used again once this record is durable. EIO: they were not in use, or two maps name them.</summary>
    internal Errno Free(BlockRun blocks)
    {
        // A block freed twice would be given to two owners; only a damaged or hostile map frees one twice.
        Errno found = _volume.TryGet(_volume.AllocationKey(blocks.First), out ReadOnlySpan<byte> bitmap);
        if (found == Errno.ENOENT || (found == Errno.None && !(_volume.IsAllocated(bitmap, blocks) && TryAddFreed(blocks)))) { return Errno.EIO; }
        if (found != Errno.None) { return found; }
        BlocksDelta -= blocks.Count;
        return AddRun(RecordCode.Free, blocks);
    }

    /// <summary>It frees a block of this run.</summary>
    internal bool Frees(BlockRun run) => OverlapsFreed(run, out _);

    /// <summary>Names blocks whose new content was written before this record, with their checksums: recovery verifies them.</summary>
    internal void Data(ulong firstBlock, ReadOnlySpan<uint> crcs)
    {
        Span<byte> room = Add(12 + (4 * crcs.Length));
        WriteHead(room, RecordCode.Data, crcs.Length, firstBlock);
        for (int i = 0; i < crcs.Length; i++) { BinaryPrimitives.WriteUInt32LittleEndian(room[(12 + (4 * i))..], crcs[i]); }
    }

    /// <summary>The new content of an allocated block, carried by the log and written in place later. The transaction takes a reference to the page when it commits.</summary>
    internal void Image(ulong block, Page page, uint crc)
    {
        Invariant.That(Images.Count < MaxImages);
        Span<byte> room = Add(16);
        WriteHead(room, RecordCode.Image, _volume.Log.OpenImageCount + Images.Count, block);
        BinaryPrimitives.WriteUInt32LittleEndian(room[12..], crc);
        Images.Add(new ImageBlock(block, page));
    }

    /// <summary>The new content of an allocated block of a memory device, put in place by the commit.</summary>
    internal void Overwrite(ulong block, Page page, uint crc)
    {
        Data(block, new ReadOnlySpan<uint>(in crc));
        Overwrites.Add(new ImageBlock(block, page));
    }

    /// <summary>The change survives a power cut before it is replied to, and with it everything that came before.</summary>
    public void DemandSync() => DemandsSync = true;

    /// <summary>Applies everything and appends it to the log. Returns the record's LSN, for <see cref="Volume.LoggedAsync"/>.</summary>
    public ulong Commit()
    {
        Invariant.That(_isOpen && _operations > 0);
        BinaryPrimitives.WriteInt32LittleEndian(_record, _length - 4);
        BinaryPrimitives.WriteUInt16LittleEndian(_record.AsSpan(4), (ushort)_operations);
        try
        {
            ulong lsn = _volume.Commit(this);
            foreach (BlobChange change in _changes) { change.IsCommitted = true; }
            return lsn;
        }
        catch (InvariantException e)
        {
            // A part of it is in the tree: that must never reach the disk.
            _volume.Fail(e.Message);
            throw;
        }
        finally { Close(); }
    }

    /// <summary>Forgets everything staged.</summary>
    public void Abort()
    {
        Invariant.That(_isOpen);
        Close();
    }

    /// <summary>The change's blocks belong to the blob once this commits.</summary>
    internal void Add(BlobChange change) => _changes.Add(change);

    internal void Open(Volume volume)
    {
        if (_isOpen)
        {
            // Somebody threw between Begin and Commit, which is a bug: what was staged is void, and its volume is not to be trusted with more.
            _volume.Fail("a change was begun and neither committed nor given up");
            Close();
        }
        _volume = volume;
        _isOpen = true;
        _length = RecordReader.HeaderBytes;
        _operations = 0;
        DemandsSync = false;
        BlocksDelta = 0;
        volume.Tree.BeginTouches();
    }

    private void Close()
    {
        _isOpen = false;
        _volume.Tree.EndTouches();
        _staged.Clear();
        _changes.Clear();
        _freed.Clear();
        Images.Clear();
        Overwrites.Clear();
    }

    private Errno Touch(TreeKey key)
    {
        Errno touched = _volume.Touch(key);
        return touched == Errno.None && !_volume.HasNodesFor(TouchedNodes) ? Residency.NotResident : touched;
    }

    /// <summary>Remembers the run, in order; false when it overlaps one that this transaction frees already.</summary>
    private bool TryAddFreed(BlockRun run)
    {
        if (OverlapsFreed(run, out int place)) { return false; }
        _freed.Insert(place, run);
        return true;
    }

    private bool OverlapsFreed(BlockRun run, out int place)
    {
        int low = 0, high = _freed.Count;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (_freed[middle].First < run.First) { low = middle + 1; }
            else { high = middle; }
        }
        place = low;
        return (low > 0 && _freed[low - 1].Limit > run.First) || (low < _freed.Count && _freed[low].First < run.Limit);
    }

    private Errno AddRun(RecordCode code, BlockRun blocks)
    {
        Errno touched = Touch(_volume.AllocationKey(blocks.First));
        if (touched != Errno.None) { return touched; }
        WriteHead(Add(12), code, blocks.Count, blocks.First);
        return Errno.None;
    }

    private Span<byte> AddKeyed(RecordCode code, TreeKey key, int patchOffset, int valueBytes)
    {
        int header = code == RecordCode.Patch ? 24 : 20;
        Span<byte> room = Add(header + valueBytes);
        WriteHead(room, code, valueBytes, key.Object);
        BinaryPrimitives.WriteUInt64LittleEndian(room[12..], key.Item);
        if (code == RecordCode.Patch) { BinaryPrimitives.WriteInt32LittleEndian(room[20..], patchOffset); }
        _staged.Add(new Staged(key, code, _length - valueBytes, valueBytes, patchOffset));
        return room[header..];
    }

    private Span<byte> Add(int bytes)
    {
        Invariant.That(_isOpen && _length + bytes <= MaxRecordBytes, "a transaction stays within its bound");
        Span<byte> room = _record.AsSpan(_length, bytes);
        _length += bytes;
        _operations++;
        return room;
    }

    private static void WriteHead(Span<byte> room, RecordCode code, int number, ulong first)
    {
        room[0] = (byte)code;
        room[1] = 0;
        BinaryPrimitives.WriteUInt16LittleEndian(room[2..], (ushort)number);
        BinaryPrimitives.WriteUInt64LittleEndian(room[4..], first);
    }

    private readonly record struct Staged(TreeKey Key, RecordCode Code, int Offset, int Length, int PatchOffset);
}
