using VhostFs.Bdev;
using VhostFs.Campaigns;
using VhostFs.GuestDriver;
using VhostFs.Linux;
using VhostFs.VhostUser;
using VhostFs.VhostUser.Tests;
using VhostFs.Virtio;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Fuzz.Tests.Disks;

/// <summary>One ring of a disk in memory: chains in descriptors of any sizes, and what must hold whatever is asked for.</summary>
internal sealed class FuzzRing : IDisposable
{
    public const int DiskBytes = 128 << 10;

    private const int QueueSize = 32, MostPieces = 8;
    private readonly FuzzRandom _random;
    private readonly SimulatedDescriptors _driver = new();
    private readonly IoReactor _reactor;
    private readonly GuestRam _ram = new(256 << 10);
    private readonly QueueServer _server;
    private readonly VhostUserRing _ring;
    private readonly DriverQueue _queue;
    private readonly MallocBdev _disk;
    private readonly int _dataAt;
    private readonly byte[] _before;
    private readonly List<(int At, int Length)> _room = [];

    /// <param name="device">Made for the disk.</param>
    /// <param name="index">Of the ring.</param>
    public FuzzRing(FuzzRandom random, MallocBdev disk, VhostUserDevice device, int index)
    {
        _random = random;
        _disk = disk;
        _reactor = new IoReactor(_driver, "fuzz");
        VirtioFeatures features = VirtioFeatures.Version1 | VirtioFeatures.IndirectDesc | (random.OneIn(2) ? VirtioFeatures.RingPacked : 0);
        _server = new QueueServer(_reactor, device, "fuzz", (_, line) => throw new FindingException(line), reason => throw new FindingException(reason)) { Features = features };
        if (_server.Memory.Add(_ram.Fd, new GuestRegion(GuestRam.GuestBase, (ulong)_ram.LengthBytes, _ram.UserBase, 0), out string problem) != Errno.None) { throw new InvalidOperationException(problem); }
        _queue = DriverQueue.New(_ram, index, QueueSize, features);
        _queue.SuppressCalls();
        _dataAt = _ram.Mark;
        _before = new byte[_ram.LengthBytes - _dataAt];
        random.Fill(_ram.At(_dataAt, _before.Length));
        random.Fill(Disk);
        Model = Disk.ToArray();
        _ring = _server.Ring((uint)index)!;
        _ring.Size = QueueSize;
        _ring.Addresses = new RingAddresses(_queue.Descriptors, _queue.Used, _queue.Available);
        _ring.IsEnabled = true;
        if (EventFd.Create(out SafeFd kick) != Errno.None) { throw new InvalidOperationException("no eventfd"); }
        _ring.SetKick(kick);
    }

    /// <summary>What the disk must hold.</summary>
    public byte[] Model { get; private set; }

    /// <summary>What it holds.</summary>
    public Span<byte> Disk => _disk.TryGetMemory(0, DiskBytes, out IoVec memory) ? memory.Span : throw new InvalidOperationException("a disk in memory shows it");

    /// <summary>One request to its end: what is in the room for its answer then, and how much of it the device says that it wrote.</summary>
    public (byte[] Room, byte[] RoomBefore, int Used) Exchange(ReadOnlySpan<byte> request, int roomBytes)
    {
        _ram.Rewind(_dataAt);
        var parts = new List<Desc>();
        int done = 0;
        foreach ((int at, int length) in Place(request.Length))
        {
            request.Slice(done, length).CopyTo(_ram.At(at, length));
            done += length;
            parts.Add(new Desc(GuestRam.Gpa(at), (uint)length));
        }
        _room.Clear();
        _room.AddRange(Place(roomBytes));
        parts.AddRange(_room.Select(r => new Desc(GuestRam.Gpa(r.At), (uint)r.Length, Desc.FlagWrite)));
        if (parts.Count == 0) { parts.Add(new Desc(GuestRam.Gpa(_dataAt), 1)); }
        ushort head = _random.OneIn(2) ? _queue.IndirectChain([.. parts]) : _queue.Chain([.. parts]);
        _ram.At(_dataAt, _before.Length).CopyTo(_before);
        byte[] roomBefore = TakeRoom();
        _queue.MakeAvailable(head);
        _driver.Kick();
        for (int turns = 0; _queue.UsedIndex != _queue.AvailIndex; turns++)
        {
            Expect(turns < 10_000, "the request does not come back");
            _reactor.RunOnce(wait: false);
        }
        Expect(_queue.TryTakeUsed(out uint id, out uint used) && id == head && used <= roomBytes, $"{used} bytes used of {roomBytes}, in chain {id} and not {head}");
        byte[] room = TakeRoom();
        CheckRest();
        return (room, roomBefore, (int)used);
    }

    public void CheckDisk()
    {
        int at = Disk.CommonPrefixLength(Model);
        Expect(at == DiskBytes, $"the disk differs from what was written to it, at byte {at}");
    }

    /// <summary>What changed it is not reckoned here.</summary>
    public void AcceptDisk() => Model = Disk.ToArray();

    public static void Expect(bool condition, string otherwise)
    {
        if (!condition) { throw new FindingException(otherwise); }
    }

    public void Dispose()
    {
        _reactor.RunUntilComplete(_server.CloseAsync);
        _reactor.Dispose();
        _queue.Dispose();
        _ram.Dispose();
        _disk.Dispose();
    }

    private byte[] TakeRoom()
    {
        byte[] room = new byte[_room.Sum(r => r.Length)];
        int done = 0;
        foreach ((int at, int length) in _room)
        {
            _ram.At(at, length).CopyTo(room.AsSpan(done));
            done += length;
        }
        return room;
    }

    // Of all memory only the room may have changed.
    private void CheckRest()
    {
        foreach ((int at, int length) in _room) { _ram.At(at, length).CopyTo(_before.AsSpan(at - _dataAt)); }
        int same = _ram.At(_dataAt, _before.Length).CommonPrefixLength(_before);
        Expect(same == _before.Length, $"memory that was not to be written is, at {same}");
    }

    // Whole, or in pieces that begin anywhere; a gap behind each.
    private List<(int At, int Length)> Place(int bytes)
    {
        var places = new List<(int At, int Length)>();
        while (bytes > 0)
        {
            int length = _random.OneIn(3) || places.Count == MostPieces ? bytes : 1 + _random.Next(_random.OneIn(2) ? Math.Min(bytes, 32) : bytes);
            places.Add((_ram.Allocate(length + 1 + _random.Next(8), alignment: 1), length));
            bytes -= length;
        }
        return places;
    }
}
