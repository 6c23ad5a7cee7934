using System.Runtime.InteropServices;
using VhostFs.Virtio;

namespace VhostFs.GuestDriver;

/// <summary>The driver side of one split virtqueue, for good and for bad.</summary>
internal sealed class SplitDriverQueue : DriverQueue
{
    private readonly int _desc, _avail, _used;
    private ushort _nextDesc, _kickedFor;

    public SplitDriverQueue(GuestRam ram, int index, int size, VirtioFeatures features, ushort start = 0, bool isCallBlocking = false)
        : base(ram, index, size, features, isCallBlocking)
    {
        _desc = ram.Allocate(16 * size, 4096);
        _avail = ram.Allocate(6 + (2 * size), 4096);
        _used = ram.Allocate(6 + (8 * size), 4096);
        ram.Write16(_avail + 2, start);
        ram.Write16(_used + 2, start);
        AvailIndex = LastUsed = _kickedFor = start;
        if (HasEventIdx) { WantCallAt(start); }
    }

    public override ushort UsedIndex => Ram.Read16(_used + 2);
    public override bool HasUsed => UsedIndex != LastUsed;
    public override ulong Descriptors => Ram.User(_desc);
    public override ulong Available => Ram.User(_avail);
    public override ulong Used => Ram.User(_used);
    public override uint Base => AvailIndex;

    /// <summary>The guest's address of the used ring.</summary>
    public ulong UsedGpa => GuestRam.Gpa(_used);
    public ushort UsedFlags => Ram.Read16(_used);
    public ushort CallEvent => Ram.Read16(_avail + 4 + (2 * Size));
    public ushort KickEvent => Ram.Read16(_used + 4 + (8 * Size));

    public void WriteDescriptor(int at, Desc desc) => MemoryMarshal.Write(Ram.At(_desc + (16 * at), 16), desc);

    public override ushort Chain(params ReadOnlySpan<Desc> parts)
    {
        ushort head = _nextDesc;
        for (int i = 0; i < parts.Length; i++)
        {
            var next = (ushort)((_nextDesc + 1) % Size);
            bool isLast = i == parts.Length - 1;
            WriteDescriptor(_nextDesc, parts[i] with { Flags = (ushort)(parts[i].Flags | (isLast ? 0 : Desc.FlagNext)), Next = next });
            _nextDesc = next;
        }
        return head;
    }

    public override void SetChain(ushort head, Desc only) => WriteDescriptor(head, only);

    public override void WriteTableEntry(int table, int index, Desc part, bool isLast) =>
        MemoryMarshal.Write(Ram.At(table + (16 * index), 16), part with { Flags = (ushort)(part.Flags | (isLast ? 0 : Desc.FlagNext)), Next = (ushort)(index + 1) });

    public override void MakeAvailable(ushort head)
    {
        Ram.Write16(_avail + 4 + (AvailIndex % Size * 2), head);
        PublishAvailable((ushort)(AvailIndex + 1));
    }

    public void PublishAvailable(ushort index)
    {
        AvailIndex = index;
        Ram.Write16(_avail + 2, index);
    }

    /// <summary>Whether a driver would kick for what it added since <paramref name="old"/>.</summary>
    public bool NeedsKick(ushort old) => HasEventIdx
        ? (ushort)(AvailIndex - KickEvent - 1) < (ushort)(AvailIndex - old)
        : (UsedFlags & 1) == 0;

    public override void WantCallAt(ushort index) => Ram.Write16(_avail + 4 + (2 * Size), index);

    public override void SuppressCalls() => Ram.Write16(_avail, 1);

    public override void PutCallsOff()
    {
        if (!HasEventIdx) { SuppressCalls(); }
        // An index that has gone by causes a call only when the indices have come round.
        else if ((ushort)(LastUsed - CallEvent - 1) > 0x4000) { WantCallAt((ushort)(LastUsed - 1)); }
    }

    public override bool TryTakeUsed(out uint id, out uint length)
    {
        id = length = 0;
        if (UsedIndex == LastUsed) { return false; }
        int at = _used + 4 + (LastUsed % Size * 8);
        id = Ram.Read32(at);
        length = Ram.Read32(at + 4);
        LastUsed++;
        return true;
    }

    public override void Forget() => AvailIndex = LastUsed = _kickedFor = _nextDesc = 0;

    protected override bool TakeKickWish()
    {
        if (AvailIndex == _kickedFor) { return false; }
        bool isWanted = NeedsKick(_kickedFor);
        _kickedFor = AvailIndex;
        return isWanted;
    }
}
