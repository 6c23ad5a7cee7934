using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>One ring of a block device on virtual time: a driver whose kicks are events of the clock, and a device whose calls are written down with their times.</summary>
internal sealed class SimulatedRing : IDisposable
{
    private readonly SimulatedDescriptors _driver = new();
    private readonly Reactor.Reactor _reactor;
    private readonly MallocBdev _bdev = new("memory", 1 << 20, 512);
    private readonly GuestRam _ram = new(1 << 20);
    private readonly QueueServer _server;
    private readonly VhostUserRing _ring;
    private readonly ushort _head;

    public SimulatedRing(VirtioFeatures features = VirtioFeatures.Version1)
    {
        _reactor = new Reactor.Reactor(_driver, "simulated");
        _server = new QueueServer(_reactor, new VhostUserBlkDevice(_bdev, (_, _) => { }), "ring", (_, _) => { }, reason => throw new InvalidOperationException(reason), Coalescing) { Features = features };
        Assert.Equal(Errno.None, _server.Memory.Add(_ram.Fd, new GuestRegion(GuestRam.GuestBase, (ulong)_ram.LengthBytes, _ram.UserBase, 0), out _));
        Queue = new SplitDriverQueue(_ram, 0, 64, features);
        int header = _ram.Allocate(BlkRequestHeader.Size), status = _ram.Allocate(1);
        System.Runtime.InteropServices.MemoryMarshal.Write(_ram.At(header, BlkRequestHeader.Size), new BlkRequestHeader(BlkRequestType.Flush, 0, 0));
        _head = Queue.Chain(new Desc(GuestRam.Gpa(header), BlkRequestHeader.Size), new Desc(GuestRam.Gpa(status), 1, Desc.FlagWrite));
        _ring = _server.Ring(0)!;
        Configure(0);
    }

    public CallCoalescing Coalescing { get; } = new();

    public DriverQueue Queue { get; }

    public long NowNs => _driver.NowNs;

    /// <summary>When the driver was called.</summary>
    public List<long> CallsNs => _driver.CallsNs;

    /// <summary>When its requests ended.</summary>
    public List<long> EndsNs { get; } = [];

    /// <summary>Nothing will ever happen, unless the driver asks for it.</summary>
    public bool IsIdle
    {
        get
        {
            long before = NowNs;
            try { _reactor.RunOnce(wait: true); }
            catch (InvalidOperationException) { return NowNs == before; }
            return false;
        }
    }

    /// <summary>One flush after the other, one each so many nanoseconds.</summary>
    public void Work(int requests, long everyNs)
    {
        for (int i = 0; i < requests; i++)
        {
            Queue.MakeAvailable(_head);
            _driver.Kick();
            do { _reactor.RunOnce(wait: false); }
            while (Queue.UsedIndex != Queue.AvailIndex);
            EndsNs.Add(NowNs);
            Queue.LastUsed = Queue.UsedIndex;
            Pass(everyNs);
        }
    }

    /// <summary>Time passes, with all that happens in it.</summary>
    public void Pass(long ns)
    {
        long endNs = NowNs + ns;
        bool isOver = false;
        _driver.Time.Schedule(ns, () => isOver = true);
        while (!isOver) { _reactor.RunOnce(wait: true); }
        _reactor.RunOnce(wait: false); // what is written at the end of a turn goes out with the next
        Assert.Equal(endNs, NowNs);
    }

    /// <summary>GET_VRING_BASE.</summary>
    public uint Stop() => _reactor.RunUntilComplete(() => _server.StopAsync(_ring));

    public void Start(uint at) => Configure(at);

    /// <summary>The front-end has gone.</summary>
    public void Close() => _reactor.RunUntilComplete(_server.CloseAsync);

    public void Dispose()
    {
        if (_ring.Queue.IsRunning) { Close(); }
        _reactor.Dispose();
        Queue.Dispose();
        _ram.Dispose();
        _bdev.Dispose();
    }

    private void Configure(uint at)
    {
        _ring.Size = Queue.Size;
        _ring.Addresses = new RingAddresses(Queue.Descriptors, Queue.Used, Queue.Available);
        _ring.Base = at;
        _ring.IsEnabled = true;
        _ring.Call.Replace(NewEventFd());
        _ring.SetKick(NewEventFd());
    }

    private static SafeFd NewEventFd()
    {
        Assert.Equal(Errno.None, EventFd.Create(out SafeFd fd));
        return fd;
    }
}
