using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.Simulation.Tests.Guest;

/// <summary>struct virtq_desc.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct QueueDescriptor(ulong Address, uint Length, ushort Flags, ushort Next)
{
    public const int Size = 16;
    public const ushort HasNext = 1, IsWritable = 2, IsIndirect = 4;
}

/// <summary>The driver's side of one split virtqueue. The descriptor table is dealt out in equal shares, one for each request that may be under way.</summary>
internal sealed class GuestQueue : IDisposable
{
    public const int Size = 64;
    public const int DescriptorsPerShare = 12;

    private readonly GuestRam _ram;
    private readonly int _descriptors, _available, _used;
    private readonly bool _hasEventIndex;
    private ushort _nextAvailable;
    private ushort _lastUsed;

    public GuestQueue(GuestRam ram, int index, VirtioFeatures features)
    {
        _ram = ram;
        Index = index;
        _hasEventIndex = (features & VirtioFeatures.EventIdx) != 0;
        _descriptors = ram.Allocate(QueueDescriptor.Size * Size);
        _available = ram.Allocate(6 + (2 * Size));
        _used = ram.Allocate(6 + (8 * Size));
        Kick = NewEvent();
        Call = NewEvent();
    }

    public int Index { get; }

    public SafeFd Kick { get; }

    public SafeFd Call { get; }

    public ushort NextAvailable => _nextAvailable;

    public ulong DescriptorsAddress => GuestRam.User(_descriptors);

    public ulong AvailableAddress => GuestRam.User(_available);

    public ulong UsedAddress => GuestRam.User(_used);

    public void SetDescriptor(int index, QueueDescriptor descriptor) => _ram.Write(_descriptors + (index * QueueDescriptor.Size), descriptor);

    /// <summary>Makes a chain available; true when the device wants to be told.</summary>
    public bool Add(int head)
    {
        _ram.Write(_available + 4 + (_nextAvailable % Size * 2), (ushort)head);
        ushort old = _nextAvailable++;
        _ram.Write(_available + 2, _nextAvailable);
        if (!_hasEventIndex) { return (_ram.Read<ushort>(_used) & 1) == 0; }
        ushort wanted = _ram.Read<ushort>(_used + 4 + (8 * Size));
        return (ushort)(_nextAvailable - wanted - 1) < (ushort)(_nextAvailable - old);
    }

    /// <summary>Claims that so many more chains are available than there are.</summary>
    public void RunAhead(int count) => _ram.Write(_available + 2, (ushort)(_nextAvailable + count));

    public void SignalKick() => EventFd.Signal(Kick);

    /// <summary>The next chain that came back.</summary>
    public bool TryTakeUsed(out int head, out int length)
    {
        head = length = 0;
        if (_ram.Read<ushort>(_used + 2) == _lastUsed) { return false; }
        int at = _used + 4 + (_lastUsed % Size * 8);
        head = _ram.Read<int>(at);
        length = _ram.Read<int>(at + 4);
        _lastUsed++;
        if (_hasEventIndex) { _ram.Write(_available + 4 + (2 * Size), _lastUsed); } // a call for the next one, please
        return true;
    }

    public void Dispose()
    {
        Kick.Dispose();
        Call.Dispose();
    }

    private static SafeFd NewEvent()
    {
        Errno made = EventFd.Create(out SafeFd fd);
        return made == Errno.None ? fd : throw new InvalidOperationException($"no eventfd: {made}");
    }
}
