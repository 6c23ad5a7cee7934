using System.Runtime.InteropServices;
using VhostFs.Virtio;

namespace VhostFs.GuestDriver;

/// <summary>The driver side of one packed virtqueue, for good and for bad.</summary>
/// <remarks>Positions are counted in descriptors and never come round: the wrap counter is 1 in even laps.</remarks>
internal sealed class PackedDriverQueue : DriverQueue
{
    public const ushort Available1 = 1 << 7, Used1 = 1 << 15;
    private const ushort EventDisable = 1, EventAtDescriptor = 2, WrapBit = 0x8000;
    private readonly List<Desc>[] _chains; // by buffer id
    private readonly bool[] _isInFlight;
    private readonly int _ring, _driverEvents, _deviceEvents;
    private int _nextId;
    private long _available, _used, _kickedFor;

    /// <param name="startPosition">Of the first descriptor, in descriptors: the ring begins as if as many had been used.</param>
    public PackedDriverQueue(GuestRam ram, int index, int size, VirtioFeatures features, int startPosition = 0, bool isCallBlocking = false)
        : base(ram, index, size, features, isCallBlocking)
    {
        _chains = [.. Enumerable.Range(0, size).Select(_ => new List<Desc>())];
        _isInFlight = new bool[size];
        _ring = ram.Allocate(16 * size, 4096);
        _driverEvents = ram.Allocate(4, 4096);
        _deviceEvents = ram.Allocate(4, 4096);
        _available = _used = _kickedFor = startPosition;
        // What an earlier lap has left: used in that one, and nothing in this.
        for (int i = 0; i < size && startPosition > 0; i++)
        {
            int lap = (startPosition / size) - (i < startPosition % size ? 0 : 1);
            Ram.Write16(FlagsAt(i), (ushort)(lap % 2 == 0 ? Available1 | Used1 : 0));
        }
        if (HasEventIdx) { WantCallAt(0); }
    }

    public override ushort UsedIndex
    {
        get
        {
            ushort index = LastUsed;
            for (long position = _used; IsUsed(position); position += CountAt(position)) { index++; }
            return index;
        }
    }

    public override bool HasUsed => IsUsed(_used);
    public override ulong Descriptors => Ram.User(_ring);
    public override ulong Available => Ram.User(_driverEvents);
    public override ulong Used => Ram.User(_deviceEvents);
    public override uint Base => Encode(_available) | ((uint)Encode(_used) << 16);


    /// <summary>The guest's address of the descriptor ring, and of the device's event suppression.</summary>
    public ulong RingGpa => GuestRam.Gpa(_ring);
    public ulong DeviceEventsGpa => GuestRam.Gpa(_deviceEvents);
    public (ushort Position, ushort Flags) DeviceEvents => (Ram.Read16(_deviceEvents), Ram.Read16(_deviceEvents + 2));

    /// <summary>For so many descriptors.</summary>
    public bool HasRoom(int count) => _available + count - _used <= Size;

    public PackedDescriptor ReadDescriptor(int at) => MemoryMarshal.Read<PackedDescriptor>(Ram.At(_ring + (16 * at), 16));

    public void WriteDescriptor(int at, PackedDescriptor descriptor)
    {
        MemoryMarshal.Write(Ram.At(_ring + (16 * at), 16), descriptor with { Flags = Ram.Read16(FlagsAt(at)) });
        Ram.Write16(FlagsAt(at), descriptor.Flags);
    }

    public override ushort Chain(params ReadOnlySpan<Desc> parts)
    {
        while (_isInFlight[_nextId % Size]) { _nextId++; }
        var id = (ushort)(_nextId++ % Size);
        _chains[id].Clear();
        foreach (Desc part in parts) { _chains[id].Add(part); }
        return id;
    }

    /// <summary>The offset of the indirect table of a chain.</summary>
    public int TableOf(ushort head) => (int)(_chains[head][0].Address - GuestRam.GuestBase);

    public override void SetChain(ushort head, Desc only)
    {
        _chains[head].Clear();
        _chains[head].Add(only);
    }

    public override void WriteTableEntry(int table, int index, Desc part, bool isLast) =>
        MemoryMarshal.Write(Ram.At(table + (16 * index), 16), new PackedDescriptor { Address = part.Address, Length = part.Length, Flags = part.Flags });

    public override void MakeAvailable(ushort head)
    {
        List<Desc> parts = _chains[head];
        Expect.True(HasRoom(parts.Count), "there is room in the ring");
        // The first one last: with its flags all of them are available.
        for (int i = parts.Count - 1; i >= 0; i--)
        {
            var flags = (ushort)(parts[i].Flags | AvailableFlagsAt(_available + i) | (i == parts.Count - 1 ? 0 : Desc.FlagNext));
            WriteDescriptor((int)((_available + i) % Size), new PackedDescriptor { Address = parts[i].Address, Length = parts[i].Length, Id = head, Flags = flags });
        }
        _isInFlight[head] = true;
        _available += parts.Count;
        AvailIndex++;
    }

    public override bool TryTakeUsed(out uint id, out uint length)
    {
        id = length = 0;
        if (!HasUsed) { return false; }
        PackedDescriptor used = ReadDescriptor((int)(_used % Size));
        (id, length) = (used.Id, used.Length);
        Expect.True(id < (uint)Size && _isInFlight[id], "what comes back was in flight");
        Expect.Equal(length != 0, (used.Flags & Desc.FlagWrite) != 0);
        _used += _chains[id].Count;
        _isInFlight[id] = false;
        LastUsed++;
        return true;
    }

    public override void WantCallAt(ushort index) => WriteEvents(Encode(_used + (ushort)(index - LastUsed)), EventAtDescriptor);

    public override void SuppressCalls() => WriteEvents(0, EventDisable);

    public override void PutCallsOff() => SuppressCalls();

    public override void Forget()
    {
        _available = _used = _kickedFor = _nextId = AvailIndex = LastUsed = 0;
        Array.Clear(_isInFlight);
    }

    /// <summary>Whatever the device says, everything has come back.</summary>
    public void AssumeUsed()
    {
        _used = _available;
        LastUsed = AvailIndex;
        Array.Clear(_isInFlight);
    }

    protected override bool TakeKickWish()
    {
        if (_available == _kickedFor) { return false; }
        long old = _kickedFor;
        _kickedFor = _available;
        (ushort position, ushort flags) = DeviceEvents;
        if (flags != EventAtDescriptor || !HasEventIdx) { return flags != EventDisable; }
        for (long at = old; at < _available; at++)
        {
            if (Encode(at) == position) { return true; }
        }
        return false;
    }

    private void WriteEvents(ushort position, ushort flags)
    {
        Ram.Write16(_driverEvents, position);
        Ram.Write16(_driverEvents + 2, flags);
    }

    private int FlagsAt(int index) => _ring + (16 * index) + 14;

    private bool IsFirstLap(long position) => position / Size % 2 == 0;

    private ushort AvailableFlagsAt(long position) => IsFirstLap(position) ? Available1 : Used1;

    private bool IsUsed(long position)
    {
        int flags = Ram.Read16(FlagsAt((int)(position % Size))) & (Available1 | Used1);
        return position < _available && flags == (IsFirstLap(position) ? Available1 | Used1 : 0);
    }

    private int CountAt(long position) => _chains[ReadDescriptor((int)(position % Size)).Id].Count;

    private ushort Encode(long position) => (ushort)((int)(position % Size) | (IsFirstLap(position) ? WrapBit : 0));
}
