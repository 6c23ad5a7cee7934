using VhostFs.Linux;

namespace VhostFs.Virtio;

/// <summary>The rings of a split virtqueue (virtio 1.2, 2.7): what is available, what is used, and who wants to hear of it. The same of a packed one: <see cref="PackedRing"/>.</summary>
/// <remarks>Everything read from the rings is read once into a local and checked before use. The used index moves only in <see cref="Publish"/>.</remarks>
internal sealed unsafe class SplitRing(Virtqueue queue, GuestMemory memory)
{
    private const ushort UsedFlagNoNotify = 1, AvailFlagNoInterrupt = 1;
    private const int FlagsAt = 0, IndexAt = 2, EntriesAt = 4; // of both rings

    private SplitInflight? _inflight;
    private DescriptorTable _table;
    private byte* _available;
    private byte* _used;
    private int _size;
    private ushort _mask;
    private bool _hasEventIdx;
    private bool _hasIndirect;
    private ushort _nextAvailable;
    private ushort _availableSeen;
    private ushort _nextUsed;

    /// <summary>What GET_VRING_BASE answers.</summary>
    public uint Base => _nextAvailable;

    /// <summary>Some chain has been given back, at some time.</summary>
    public bool HasUsed => _nextUsed != 0;

    private int AvailableEventAt => EntriesAt + (_size * UsedElement.Size);

    /// <summary>The used index is where we have left it.</summary>
    public bool IsUntouched(RingAddresses addresses)
    {
        byte* used = memory.FindUser(addresses.Used, EntriesAt);
        return used is not null && Volatile.Read(ref *(ushort*)(used + IndexAt)) == _nextUsed;
    }

    /// <summary>The heads that a process before us has taken and not given back come out, oldest first.</summary>
    public Errno Start(int size, RingAddresses addresses, uint @base, VirtioFeatures features, SplitInflight? inflight, out ushort[] left)
    {
        left = [];
        _size = size;
        _mask = (ushort)(size - 1);
        _hasEventIdx = (features & VirtioFeatures.EventIdx) != 0;
        _hasIndirect = (features & VirtioFeatures.IndirectDesc) != 0;
        if (!int.IsPow2(size) || @base > ushort.MaxValue) { return Errno.EINVAL; }
        if (!TakePointers(addresses)) { return Errno.EFAULT; }
        _nextUsed = Volatile.Read(ref *(ushort*)(_used + IndexAt));
        _inflight = inflight;
        left = inflight?.Recover(_nextUsed) ?? [];
        // The front-end knows only what came back (the used index): what was taken beyond it is what is left.
        _nextAvailable = left.Length == 0 ? (ushort)@base : (ushort)(_nextUsed + left.Length);
        _availableSeen = _nextAvailable;
        return Errno.None;
    }

    public void Stop()
    {
        _inflight = null;
        _table = default;
        _available = _used = null;
    }

    /// <summary>After a change of guest memory.</summary>
    public bool TakePointers(RingAddresses addresses)
    {
        byte* descriptors = memory.FindUser(addresses.Descriptors, (ulong)_size * Descriptor.Size);
        _table = new DescriptorTable(descriptors, _size);
        _available = memory.FindUser(addresses.Available, EntriesAt + ((ulong)_size * sizeof(ushort)) + (_hasEventIdx ? 2UL : 0));
        _used = memory.FindUser(addresses.Used, (ulong)AvailableEventAt + (_hasEventIdx ? 2UL : 0));
        return descriptors is not null && _available is not null && _used is not null;
    }

    /// <summary>The head of the next chain, which stays there until <see cref="Take"/>.</summary>
    public PopResult Find(out ushort head)
    {
        head = 0;
        if (_nextAvailable == _availableSeen && !LookForMore()) { return queue.IsBroken ? PopResult.Broken : PopResult.Empty; }
        head = *(ushort*)(_available + EntriesAt + ((_nextAvailable & _mask) * sizeof(ushort)));
        return PopResult.Chain;
    }

    public void Take(ushort head)
    {
        _inflight?.Take(head);
        _nextAvailable++;
    }

    /// <summary>Whoever does not trust the driver calls it again: the table may have changed.</summary>
    public bool ReadChain(ushort head, IoVecList readable, IoVecList writable)
    {
        _table.TryRead(memory, head, out Descriptor first);
        var reader = new ChainReader(memory, readable, writable);
        if ((first.Flags & DescriptorFlags.Indirect) == 0) { return Walk(reader, _table, first); }
        bool isTable = _hasIndirect && (first.Flags & DescriptorFlags.Next) == 0;
        return isTable && DescriptorTable.TryOpen(memory, first.Address, first.Length, out DescriptorTable table) && table.TryRead(memory, 0, out first) && Walk(reader, table, first);
    }

    public void Publish(ushort head, uint writtenBytes)
    {
        *(UsedElement*)(_used + EntriesAt + ((_nextUsed & _mask) * UsedElement.Size)) = new UsedElement(head, writtenBytes);
        _nextUsed++;
        _inflight?.Returning(head);
        // Release: the driver that sees the index sees the element and the reply before it.
        Volatile.Write(ref *(ushort*)(_used + IndexAt), _nextUsed);
        _inflight?.Returned(head, _nextUsed);
    }

    /// <summary>Marks what the last <see cref="Publish"/> has written; <paramref name="usedAddress"/> is the guest's of the used ring.</summary>
    public void LogPublished(DirtyLog log, ulong usedAddress)
    {
        log.Mark(usedAddress + (ulong)(EntriesAt + (((_nextUsed - 1) & _mask) * UsedElement.Size)), UsedElement.Size);
        log.Mark(usedAddress + IndexAt, sizeof(ushort));
    }

    /// <summary>Whether the driver wants a call for the last <paramref name="count"/> chains; <paramref name="isKnown"/>: it has been considered for one before.</summary>
    public bool WantsCall(int count, bool isKnown)
    {
        if (!_hasEventIdx) { return (Volatile.Read(ref *(ushort*)(_available + FlagsAt)) & AvailFlagNoInterrupt) == 0; }
        if (!isKnown) { return true; }
        ushort wanted = Volatile.Read(ref *(ushort*)(_available + EntriesAt + (_size * sizeof(ushort))));
        return (ushort)(_nextUsed - wanted - 1) < count;
    }

    public void EnableKicks()
    {
        if (_hasEventIdx) { Volatile.Write(ref *(ushort*)(_used + AvailableEventAt), _nextAvailable); }
        else { Volatile.Write(ref *(ushort*)(_used + FlagsAt), 0); }
    }

    /// <summary>With EVENT_IDX the event index simply stays behind.</summary>
    public void DisableKicks()
    {
        if (!_hasEventIdx) { Volatile.Write(ref *(ushort*)(_used + FlagsAt), UsedFlagNoNotify); }
    }

    /// <summary>Marks what <see cref="EnableKicks"/> and <see cref="DisableKicks"/> write.</summary>
    public void LogKicks(DirtyLog log, ulong usedAddress) => log.Mark(usedAddress + (_hasEventIdx ? (ulong)AvailableEventAt : FlagsAt), sizeof(ushort));

    public bool HasAvailable() => Volatile.Read(ref *(ushort*)(_available + IndexAt)) != _nextAvailable;

    private bool LookForMore()
    {
        ushort index = Volatile.Read(ref *(ushort*)(_available + IndexAt)); // acquire: entries before the index
        var waiting = (ushort)(index - _nextAvailable);
        if (waiting == 0) { return false; }
        if (waiting > _size - queue.InFlight)
        {
            queue.Break("the available index runs ahead of the queue size");
            return false;
        }
        _availableSeen = index;
        return true;
    }

    private bool Walk(ChainReader reader, DescriptorTable table, Descriptor current)
    {
        for (int hop = 1; ; hop++)
        {
            if (!reader.TryAdd(current.Address, current.Length, current.Flags)) { return false; }
            if ((current.Flags & DescriptorFlags.Next) == 0)
            {
                reader.End();
                return true;
            }
            if (current.Next >= table.Count || hop >= queue.HopLimit || !table.TryRead(memory, current.Next, out current)) { return false; }
        }
    }
}
