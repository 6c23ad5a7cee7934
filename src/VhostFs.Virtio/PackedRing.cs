using VhostFs.Linux;

namespace VhostFs.Virtio;

/// <summary>The ring of a packed virtqueue (virtio 1.2, 2.8): what is available, what is used, and who wants to hear of it. The same of a split one: <see cref="SplitRing"/>.</summary>
/// <remarks>
/// A position is an index and a wrap counter in one number: 0 to Size - 1 in a lap whose wrap counter is 1, and Size more in the other. Invariants: from the next used to the next
/// available position it is as many descriptors as the chains in flight have, Size at most. A used descriptor overwrites one of whatever chain, so that all of them are copied to a record as they
/// are taken, and read from there. Everything read from the ring is read once and checked before use.
/// </remarks>
internal sealed unsafe class PackedRing(Virtqueue queue, GuestMemory memory)
{
    private const ushort StateFlags = DescriptorFlags.Available | DescriptorFlags.Used;
    private const ushort IndexMask = 0x7fff, WrapBit = 0x8000; // of positions in memory and in messages

    private PackedInflight _record = PackedInflight.None;
    private PackedInflight _ownRecord = PackedInflight.None;
    private PackedChain[] _chains = []; // by buffer id
    private PackedDescriptor* _descriptors;
    private uint* _driverEvents;
    private uint* _deviceEvents;
    private int _size;
    private bool _hasEventIdx;
    private bool _hasIndirect;
    private int _nextAvailable;
    private int _nextUsed;
    private int _usedSinceCall; // descriptors
    private PackedChain _found;

    /// <summary>What GET_VRING_BASE answers: the next available position, and the next used one above it.</summary>
    public uint Base => Encode(_nextAvailable) | ((uint)Encode(_nextUsed) << 16);

    /// <summary>Some chain has been given back, at some time.</summary>
    public bool HasUsed => _nextUsed != 0;

    /// <summary>Begins at <paramref name="base"/>, or where a process before us has died. The ids of chains that it has taken and not given back come out, oldest first.</summary>
    /// <param name="continues">It is as it was when it stopped, with chains that are still in flight.</param>
    public Errno Start(int size, RingAddresses addresses, uint @base, VirtioFeatures features, PackedInflight? inflight, bool continues, out ushort[] left)
    {
        left = [];
        _size = size;
        _hasEventIdx = (features & VirtioFeatures.EventIdx) != 0;
        _hasIndirect = (features & VirtioFeatures.IndirectDesc) != 0;
        if (!TakePointers(addresses)) { return Errno.EFAULT; }
        _usedSinceCall = 0;
        if (continues) { return Errno.None; }
        if (_chains.Length < size) { _chains = new PackedChain[size]; }
        if (inflight is not null && Recover(inflight, out left)) { return Errno.None; }
        if (!TryDecode((ushort)@base, out _nextAvailable)) { return Errno.EINVAL; }
        // Some front-ends know nothing of the upper half. Then what was taken has come back, or never will.
        _nextUsed = _nextAvailable;
        if (@base >> 16 != 0 && (!TryDecode((ushort)(@base >> 16), out _nextUsed) || Distance(_nextUsed, _nextAvailable) > size)) { return Errno.EINVAL; }
        if (inflight is null && _ownRecord.Size != size) { _ownRecord = PackedInflight.InOwnMemory(size); }
        _record = inflight ?? _ownRecord;
        _record.Begin(Index(_nextUsed), IsFirstLap(_nextUsed));
        return Errno.None;
    }

    /// <summary>Chains that are parked stay in the record, if it is our own.</summary>
    public void Stop()
    {
        if (_record != _ownRecord) { _record = PackedInflight.None; }
        _descriptors = null;
        _driverEvents = _deviceEvents = null;
    }

    /// <summary>After a change of guest memory.</summary>
    public bool TakePointers(RingAddresses addresses)
    {
        _descriptors = (PackedDescriptor*)memory.FindUser(addresses.Descriptors, (ulong)_size * PackedDescriptor.Size);
        _driverEvents = (uint*)memory.FindUser(addresses.Available, EventSuppression.SizeBytes);
        _deviceEvents = (uint*)memory.FindUser(addresses.Used, EventSuppression.SizeBytes);
        return _descriptors is not null && _driverEvents is not null && _deviceEvents is not null;
    }

    /// <summary>The buffer id of the next chain, which is copied to the record, but stays in the ring until <see cref="Take"/>.</summary>
    public PopResult Find(out ushort id)
    {
        id = 0;
        PackedDescriptor* at = _descriptors + Index(_nextAvailable);
        ushort flags = Volatile.Read(ref at->Flags); // acquire: the driver writes those of a chain's first descriptor last
        if (!IsAvailable(flags)) { return PopResult.Empty; }
        int room = _size - Distance(_nextUsed, _nextAvailable), position = _nextAvailable;
        ushort entry = _record.FreeHead;
        _found = new PackedChain(entry, 0, 0);
        while (true)
        {
            if (_found.Count >= room) { return queue.Break("a chain is longer than the ring has room for"); }
            PackedDescriptor descriptor = *at with { Flags = flags };
            _found = new PackedChain(_found.First, entry, (ushort)(_found.Count + 1));
            if (!_record.TryWrite(entry, descriptor, out entry)) { return queue.Break("the record of what is in flight is spoilt"); }
            if ((flags & DescriptorFlags.Next) == 0)
            {
                id = descriptor.Id;
                return PopResult.Chain;
            }
            position = Advance(position, 1);
            at = _descriptors + Index(position);
            flags = at->Flags;
        }
    }

    public void Take(ushort id)
    {
        _chains[id] = _found;
        _record.Take(_found);
        _nextAvailable = Advance(_nextAvailable, _found.Count);
    }

    /// <summary>From the record. An indirect table is the driver's: it may have changed.</summary>
    public bool ReadChain(ushort id, IoVecList readable, IoVecList writable)
    {
        PackedChain chain = _chains[id];
        ushort entry = chain.First;
        if (!_record.TryRead(entry, out PackedDescriptor current, out entry)) { return false; }
        var reader = new ChainReader(memory, readable, writable);
        if ((current.Flags & DescriptorFlags.Indirect) != 0) { return chain.Count == 1 && _hasIndirect && ReadTable(reader, current); }
        for (int left = chain.Count; ; left--)
        {
            if (!reader.TryAdd(current.Address, current.Length, current.Flags)) { return false; }
            if (left == 1)
            {
                reader.End();
                return true;
            }
            if (!_record.TryRead(entry, out current, out entry)) { return false; }
        }
    }

    public void Publish(ushort id, uint writtenBytes)
    {
        PackedChain chain = _chains[id];
        PackedDescriptor* at = _descriptors + Index(_nextUsed);
        int after = Advance(_nextUsed, chain.Count);
        at->Id = id;
        at->Length = writtenBytes;
        var flags = (ushort)((IsFirstLap(_nextUsed) ? StateFlags : 0) | (writtenBytes == 0 ? 0 : DescriptorFlags.Write));
        _record.Returning(chain, Index(after), IsFirstLap(after));
        // Release: the driver that sees the flags sees the rest of the descriptor and the reply before it.
        Volatile.Write(ref at->Flags, flags);
        _record.Returned(chain);
        _nextUsed = after;
        _usedSinceCall += chain.Count;
    }

    /// <summary>Marks the descriptor that the last <see cref="Publish"/> of <paramref name="id"/> has written; <paramref name="ringAddress"/> is the guest's of the descriptor ring.</summary>
    public void LogPublished(DirtyLog log, ulong ringAddress, ushort id) =>
        log.Mark(ringAddress + (ulong)(Index(Advance(_nextUsed, (2 * _size) - _chains[id].Count)) * PackedDescriptor.Size), PackedDescriptor.Size);

    /// <summary>Whether the driver wants a call for what was published since the last question; <paramref name="isKnown"/>: it has been considered for one before.</summary>
    public bool WantsCall(bool isKnown)
    {
        int count = _usedSinceCall;
        _usedSinceCall = 0;
        uint wish = Volatile.Read(ref *_driverEvents);
        uint flags = (wish >> EventSuppression.FlagsShift) & EventSuppression.Mask;
        if (flags == EventSuppression.Disable) { return false; }
        // After two laps every position has gone by.
        if (flags != EventSuppression.AtDescriptor || !_hasEventIdx || !isKnown || count >= 2 * _size) { return true; }
        return TryDecode((ushort)wish, out int wanted) && Distance(Advance(_nextUsed, (2 * _size) - count), wanted) < count;
    }

    public void EnableKicks() =>
        Volatile.Write(ref *_deviceEvents, _hasEventIdx ? Encode(_nextAvailable) | (EventSuppression.AtDescriptor << EventSuppression.FlagsShift) : EventSuppression.Enable << EventSuppression.FlagsShift);

    /// <summary>With EVENT_IDX the position simply stays behind.</summary>
    public void DisableKicks()
    {
        if (!_hasEventIdx) { Volatile.Write(ref *_deviceEvents, EventSuppression.Disable << EventSuppression.FlagsShift); }
    }

    public bool HasAvailable() => IsAvailable(Volatile.Read(ref (_descriptors + Index(_nextAvailable))->Flags));

    // What is left has not been given back: the next available position is behind it.
    private bool Recover(PackedInflight record, out ushort[] left)
    {
        left = [];
        if (!record.TryRecover(_descriptors, out int usedIndex, out bool usedWrap, out List<(ushort Id, PackedChain Chain)> found)) { return false; }
        _record = record;
        _nextUsed = usedIndex + (usedWrap ? 0 : _size);
        _nextAvailable = Advance(_nextUsed, found.Sum(f => f.Chain.Count));
        foreach ((ushort id, PackedChain chain) in found) { _chains[id] = chain; }
        left = [.. found.Select(f => f.Id)];
        return true;
    }

    // Every entry of it is part of the chain; of their flags only WRITE means something (2.8.8), but a table in a table is somebody's mistake.
    private bool ReadTable(ChainReader reader, PackedDescriptor descriptor)
    {
        if (!DescriptorTable.TryOpen(memory, descriptor.Address, descriptor.Length, out DescriptorTable table) || table.Count > queue.HopLimit) { return false; }
        for (int i = 0; i < table.Count; i++)
        {
            if (!table.TryRead(memory, i, out PackedDescriptor entry) || !reader.TryAdd(entry.Address, entry.Length, entry.Flags)) { return false; }
        }
        reader.End();
        return true;
    }

    private bool IsAvailable(ushort flags) => (flags & StateFlags) == (IsFirstLap(_nextAvailable) ? DescriptorFlags.Available : DescriptorFlags.Used);

    private bool IsFirstLap(int position) => position < _size;

    private int Index(int position) => position < _size ? position : position - _size;

    private int Advance(int position, int count)
    {
        position += count;
        return position < 2 * _size ? position : position - (2 * _size);
    }

    private int Distance(int from, int to) => to >= from ? to - from : to - from + (2 * _size);

    private ushort Encode(int position) => (ushort)(Index(position) | (IsFirstLap(position) ? WrapBit : 0));

    private bool TryDecode(ushort encoded, out int position)
    {
        int index = encoded & IndexMask;
        position = index + ((encoded & WrapBit) != 0 ? 0 : _size);
        return index < _size;
    }
}
