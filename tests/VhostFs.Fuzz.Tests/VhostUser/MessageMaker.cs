using System.Runtime.InteropServices;
using VhostFs.GuestDriver;
using VhostFs.Linux;
using VhostFs.VhostUser;
using VhostFs.Virtio;

namespace VhostFs.Fuzz.Tests.VhostUser;

/// <summary>Messages in the order in which a front-end would send them, and then not.</summary>
internal sealed class MessageMaker(FuzzRandom random, FuzzDescriptors descriptors, GuestRam ram)
{
    private static readonly MessageId[] s_all = [.. Enum.GetValues<MessageId>()];
    private static readonly MessageId[] s_opening =
    [
        MessageId.GetFeatures, MessageId.GetProtocolFeatures, MessageId.SetProtocolFeatures, MessageId.GetQueueNum, MessageId.SetOwner, MessageId.SetFeatures, MessageId.SetMemTable,
    ];

    private static readonly MessageId[] s_diskOpening = [.. s_opening, MessageId.GetConfig, MessageId.SetBackendReqFd, MessageId.GetInflightFd, MessageId.SetInflightFd];

    private static readonly MessageId[] s_queue =
    [
        MessageId.SetVringNum, MessageId.SetVringBase, MessageId.SetVringAddr, MessageId.SetVringCall, MessageId.SetVringErr, MessageId.SetVringKick, MessageId.SetVringEnable,
    ];

    private readonly byte[] _bytes = new byte[MessageHeader.Size + 8192];
    private readonly List<int> _fds = [];
    private readonly byte[] _areaDescription = new byte[InflightDescription.PaddedSize];
    private SafeFd? _area;
    private DeviceKind _kind;
    private DriverQueue[] _queues = [];
    private int _step;
    private int _length;

    private MessageId[] Opening => _kind == DeviceKind.Fs ? s_opening : s_diskOpening;

    public ReadOnlySpan<byte> Bytes => _bytes.AsSpan(0, _length);

    public ReadOnlySpan<int> Fds => CollectionsMarshal.AsSpan(_fds);

    public void Begin(DeviceKind kind, DriverQueue[] queues)
    {
        _kind = kind;
        _queues = queues;
        _step = 0;
    }

    /// <summary>What the session has answered to GET_INFLIGHT_FD: it is given back to it, and to nobody else. Null: there is none any more.</summary>
    public void TakeArea(SafeFd? area, ReadOnlySpan<byte> description)
    {
        _area?.Dispose();
        _area = area;
        description.CopyTo(_areaDescription);
    }

    public void Next()
    {
        _fds.Clear();
        MessageId id;
        int queue = random.Next(_queues.Length);
        if (random.OneIn(_step < Opening.Length ? 40 : 6)) { id = random.OneIn(8) ? (MessageId)random.Edge() : random.Pick<MessageId>(s_all); }
        else if (_step < Opening.Length) { id = Opening[_step++]; }
        else if (_step < Opening.Length + (s_queue.Length * _queues.Length))
        {
            int at = _step++ - Opening.Length;
            queue = at / s_queue.Length;
            id = s_queue[at % s_queue.Length];
        }
        else
        {
            id = random.Pick<MessageId>(s_all);
            if (random.OneIn(8)) { _step = random.Next(_step); } // again from there, in mid-life
        }
        PutPayload(id, queue);
        MessageFlags flags = MessageFlags.Version1 | (random.OneIn(30) ? 0 : MessageFlags.NeedReply);
        var payload = (uint)(_length - MessageHeader.Size);
        if (random.OneIn(300)) { payload = random.OneIn(2) ? (uint)random.Edge() : (uint)random.Next(300); }
        if (random.OneIn(400)) { flags = (MessageFlags)random.Next(32); }
        MemoryMarshal.Write(_bytes, new MessageHeader(id, flags, payload));
        if (random.OneIn(_step < Opening.Length ? 40 : 12)) { random.Damage(_bytes.AsSpan(MessageHeader.Size, _length - MessageHeader.Size)); }
        if (random.OneIn(500)) { _length = MessageHeader.Size + random.Next(5000); } // more or fewer bytes than the header says: the next header lies in them
        if (random.OneIn(_step < Opening.Length ? 40 : 12))
        {
            if (random.OneIn(2)) { _fds.Clear(); }
            for (int i = random.Next(9); i > 0; i--) { _fds.Add(descriptors.Any(random)); }
        }
    }

    private void PutPayload(MessageId id, int queue)
    {
        _length = MessageHeader.Size;
        uint index = random.OneIn(20) ? (uint)random.Edge() : (uint)queue;
        switch (id)
        {
            case MessageId.SetFeatures:
                Put((ulong)(random.OneIn(6) ? (VirtioFeatures)random.Edge() : (HostileDevices.FeaturesOf(_kind) | (_queues[0].Features & VirtioFeatures.RingPacked)) & ~(VirtioFeatures)(random.OneIn(2) ? 0 : random.Next())));
                break;
            case MessageId.SetProtocolFeatures:
                Put(random.OneIn(10) ? random.Edge() : HostileDevices.ProtocolFeaturesOf(_kind));
                break;
            case MessageId.SetMemTable:
                int count = random.OneIn(3) ? random.Next(9) : 1;
                Put((uint)(random.OneIn(20) ? random.Next(12) : count));
                Put(0u);
                for (int i = 0; i < count; i++)
                {
                    Put(Region(i));
                    _fds.Add(random.OneIn(12) ? descriptors.Any(random) : ram.Fd.Fd);
                }
                break;
            case MessageId.AddMemReg or MessageId.RemMemReg:
                Put(0UL);
                Put(Region(random.Next(4)));
                if (id == MessageId.AddMemReg || random.OneIn(3)) { _fds.Add(random.OneIn(8) ? descriptors.Any(random) : ram.Fd.Fd); }
                break;
            case MessageId.SetVringNum:
                Put(new VringState(index, random.OneIn(8) ? (uint)random.Edge() : (uint)_queues[queue].Size));
                break;
            case MessageId.SetVringBase or MessageId.GetVringBase:
                Put(new VringState(index, random.OneIn(8) ? (uint)random.Edge() : Virtqueue.FirstBase(_queues[queue].Features)));
                break;
            case MessageId.SetVringEnable:
                Put(new VringState(index, random.OneIn(8) ? (uint)random.Edge() : 1));
                break;
            case MessageId.SetVringAddr:
                DriverQueue q = _queues[queue];
                Put(new VringAddress(index, random.OneIn(20) ? (uint)random.Edge() : random.OneIn(2) ? VringAddress.FlagLog : 0, Ring(q.Descriptors), Ring(q.Used), Ring(q.Available),
                    random.OneIn(4) ? random.Edge() : GuestRam.GuestBase + (ulong)random.Next(ram.LengthBytes)));
                break;
            case MessageId.SetVringKick or MessageId.SetVringCall or MessageId.SetVringErr:
                bool none = random.OneIn(12);
                Put(index | (none ? 0x100UL : 0));
                if (!none) { _fds.Add(random.OneIn(10) ? descriptors.Any(random) : id == MessageId.SetVringKick ? _queues[queue].KickFd.Fd : id == MessageId.SetVringCall ? _queues[queue].CallFd.Fd : _queues[queue].ErrFd.Fd); }
                break;
            case MessageId.SetConfig when random.OneIn(2): // what a driver may write
                (int field, uint fieldValue, int fieldBytes) = _kind == DeviceKind.Blk ? (BlkConfig.WritebackOffset, (uint)random.Next(3), 1) : random.OneIn(2) ? (ScsiConfig.SenseSizeOffset, (uint)random.Next(300), 4) : (ScsiConfig.CdbSizeOffset, (uint)random.Next(300), 4);
                Put(new ConfigRange((uint)field, (uint)fieldBytes, 0));
                Put(fieldValue);
                _length -= sizeof(uint) - fieldBytes;
                break;
            case MessageId.GetConfig or MessageId.SetConfig:
                (uint offset, int size) = (random.OneIn(8) ? (uint)random.Edge() : id == MessageId.GetConfig ? 0 : random.Pick<uint>([0, 20, 24, BlkConfig.WritebackOffset]), random.OneIn(3) ? random.Next(300) : random.Pick<int>([1, 4, 8, 60]));
                Put(new ConfigRange(offset, random.OneIn(12) ? (uint)random.Edge() : (uint)size, 0));
                random.Fill(_bytes.AsSpan(_length, size));
                _length += size;
                break;
            case MessageId.GetInflightFd or MessageId.SetInflightFd:
                // What was answered is wanted again, or an area of another shape.
                if (id == MessageId.GetInflightFd || (_area is null && random.OneIn(2)))
                {
                    var (queueCount, queueSize) = ((ushort)(random.OneIn(8) ? random.Edge() : (ulong)_queues.Length), (ushort)(random.OneIn(8) ? random.Edge() : 16));
                    MemoryMarshal.Write(_areaDescription, new InflightDescription(id == MessageId.GetInflightFd ? 0 : 4096UL, 0, queueCount, queueSize));
                }
                if (random.OneIn(6)) { random.Damage(_areaDescription); }
                int described = random.OneIn(2) ? InflightDescription.Size : InflightDescription.PaddedSize;
                _areaDescription.AsSpan(0, described).CopyTo(_bytes.AsSpan(_length));
                _length += described;
                if (id == MessageId.SetInflightFd) { _fds.Add(_area is { } area && !random.OneIn(8) ? area.Fd : random.OneIn(2) ? ram.Fd.Fd : descriptors.Any(random)); }
                break;
            case MessageId.SetLogBase:
                // Written to the guest's own memory, or where there is none: the guest's first page has its bit at 128 KiB.
                Put(new LogDescription(random.OneIn(4) ? random.Edge() : (ulong)(random.OneIn(2) ? ram.LengthBytes : random.Next(ram.LengthBytes)), random.OneIn(6) ? random.Edge() : (ulong)(random.OneIn(2) ? 0 : random.Next(16))));
                _fds.Add(random.OneIn(4) ? descriptors.Any(random) : ram.Fd.Fd);
                break;
            case MessageId.SetLogFd:
                _fds.Add(random.OneIn(2) ? descriptors.Any(random) : _queues[queue].CallFd.Fd);
                break;
            case MessageId.SetBackendReqFd:
                _fds.Add(descriptors.Any(random));
                break;
            default:
                if (random.OneIn(150)) { Put(random.Edge()); }
                break;
        }
    }

    private MemoryRegion Region(int which)
    {
        ulong size = (ulong)ram.LengthBytes;
        if (which == 0 && !random.OneIn(8)) { return new MemoryRegion(GuestRam.GuestBase, size, ram.UserBase, 0); }
        ulong gap = random.OneIn(3) ? size / 2 : 2 * size; // overlapping, or not
        ulong at = (ulong)which * gap;
        return random.Next(6) switch
        {
            0 => new MemoryRegion(random.Edge(), random.Edge(), random.Edge(), random.Edge()),
            1 => new MemoryRegion(random.Edge() & ~4095UL, size, random.Edge() & ~4095UL, 0),
            2 => new MemoryRegion(GuestRam.GuestBase + at, random.Edge() & ~4095UL, ram.UserBase + at, (ulong)random.Next(40) * 4096),
            3 => new MemoryRegion(GuestRam.GuestBase + at, size, ram.UserBase + at, random.Edge()),
            _ => new MemoryRegion(GuestRam.GuestBase + at, size, ram.UserBase + at, 0),
        };
    }

    private ulong Ring(ulong address) => random.Next(16) switch
    {
        0 => random.Edge(),
        1 => address + (ulong)random.Next(64),
        2 => ram.UserBase + (ulong)ram.LengthBytes - (ulong)(random.Next(20) * 16),
        _ => address,
    };

    private void Put<T>(T value)
        where T : unmanaged
    {
        MemoryMarshal.Write(_bytes.AsSpan(_length), value);
        _length += System.Runtime.CompilerServices.Unsafe.SizeOf<T>();
    }
}
