using System.Runtime.CompilerServices;
using VhostFs.Linux;

namespace VhostFs.Virtio;

/// <summary>The device side of one split virtqueue (virtio 1.2, 2.7).</summary>
/// <remarks>
/// Invariants: everything read from the rings is guest-controlled, read once into a local and checked before use; a head is in flight at
/// most once, hence at most <see cref="Size"/> chains are; the used index moves only while the queue runs; a queue that broke stays so until
/// <see cref="Stop"/>, and a parked head stays in flight beyond it. Ring pointers belong to one generation of the memory and are taken anew when it changes. Owned by one reactor.
/// </remarks>
public sealed unsafe class Virtqueue
{
    public const int MaxSize = 32768;

    /// <summary>Payload of one chain: above any request of ours (1 MiB and headers), below where sums of lengths are in danger.</summary>
    public const int MaxChainBytes = 64 << 20;

    /// <summary>A chain through an indirect table may be longer than a small queue (Linux and Windows drivers do that); still bounded.</summary>
    private const int MinChainLimit = 1024;

    private const ushort UsedFlagNoNotify = 1, AvailFlagNoInterrupt = 1;

    private readonly GuestMemory _memory;
    private readonly ChainReader _reader;
    private ulong[] _headsInFlight = [];
    private InflightQueue? _inflight;
    private ushort[] _left = []; // heads that a process before us has taken and not given back
    private int _leftTaken;
    private byte* _descriptors;
    private byte* _available;
    private byte* _used;
    private RingAddresses _addresses;
    private VirtioFeatures _features;
    private uint _generation;
    private ushort _mask;
    private ushort _nextAvailable;
    private ushort _availableSeen;
    private ushort _nextUsed;
    private ushort _signalledUsed;
    private bool _signalledValid;

    public Virtqueue(GuestMemory memory)
    {
        _memory = memory;
        _reader = new ChainReader(memory);
    }

    public int Size { get; private set; }

    public bool IsRunning { get; private set; }

    /// <summary>Latched by input no driver sends; why is in <see cref="BrokenReason"/>.</summary>
    public bool IsBroken { get; private set; }

    public string BrokenReason { get; private set; } = "";

    /// <summary>Chains taken and not yet pushed.</summary>
    public int InFlight { get; private set; }

    /// <summary>Of those in flight: whose request waits, perhaps for ever, and holds nothing but its head (<see cref="Park"/>).</summary>
    public int Parked { get; private set; }

    /// <summary>Enough of the ring is left for other requests. A chain of Linux' takes one entry with indirect tables, and three without.</summary>
    public bool CanPark => Parked < ((_features & VirtioFeatures.IndirectDesc) != 0 ? Size / 2 : Size / 8);

    /// <summary>Chains that were malformed and went back with length 0.</summary>
    public long MalformedChains { get; private set; }

    /// <summary>What GET_VRING_BASE answers and SET_VRING_BASE sets.</summary>
    public ushort NextAvailable => _nextAvailable;

    /// <summary>Chains finished since the driver was last considered for a call.</summary>
    public bool HasUnsignalled => IsRunning && _nextUsed != _signalledUsed;

    /// <summary>How many they are, modulo 65,536.</summary>
    public int UnsignalledCount => (ushort)(_nextUsed - _signalledUsed);

    /// <summary>Started so, the ring would be the one that was stopped with heads parked: nothing has moved, on either side.</summary>
    public bool CanContinue(int size, RingAddresses addresses, ushort nextAvailable)
    {
        if (IsRunning || Parked == 0 || size != Size || addresses != _addresses || nextAvailable != _nextAvailable) { return false; }
        byte* used = _memory.FindUser(addresses.Used, 4);
        return used is not null && Volatile.Read(ref *(ushort*)(used + 2)) == _nextUsed;
    }

    /// <summary>Begins to serve the ring; heads that are parked still are if it <see cref="CanContinue"/>, else they must have been forgotten. <paramref name="size"/> is a power of two up to <see cref="MaxSize"/>.</summary>
    /// <param name="inflight">Where what is in flight is written down; what a process before us has left there comes first. Null: nowhere.</param>
    /// <param name="index">Of this queue in it.</param>
    /// <returns>EFAULT when the ring is not inside guest memory, EINVAL when it is not aligned.</returns>
    public Errno Start(int size, RingAddresses addresses, ushort nextAvailable, VirtioFeatures features, InflightArea? inflight = null, int index = 0)
    {
        Invariant.That(!IsRunning && InFlight == Parked);
        Invariant.That(size is > 0 and <= MaxSize && (size & (size - 1)) == 0);
        Size = size;
        _mask = (ushort)(size - 1);
        _addresses = addresses;
        _features = features;
        if (!addresses.IsAligned) { return Errno.EINVAL; }
        if (!TakePointers()) { return Errno.EFAULT; }
        int words = (size + 63) >> 6;
        if (_headsInFlight.Length < words) { _headsInFlight = new ulong[words]; }
        if (Parked == 0) { Array.Clear(_headsInFlight); }
        _nextUsed = Volatile.Read(ref *(ushort*)(_used + 2));
        _inflight = inflight?.Queue(index, size);
        _left = _inflight?.Recover(_nextUsed) ?? [];
        _leftTaken = 0;
        // The front-end knows only what came back (the used index): what was taken beyond it is what is left.
        _nextAvailable = _left.Length == 0 ? nextAvailable : (ushort)(_nextUsed + _left.Length);
        _availableSeen = _nextAvailable;
        _signalledValid = false;
        // Whoever served the ring before may have died between publishing and calling.
        _signalledUsed = _nextUsed == 0 ? _nextUsed : (ushort)(_nextUsed - 1);
        IsBroken = false;
        BrokenReason = "";
        IsRunning = true;
        return Errno.None;
    }

    /// <summary>From here on nothing is read from or written to the ring; every chain must be back or parked.</summary>
    public void Stop()
    {
        Invariant.That(InFlight == Parked);
        IsRunning = false;
        _inflight = null;
        _descriptors = _available = _used = null;
    }

    /// <summary>After a change of guest memory: the ring must still be inside it, else the queue breaks.</summary>
    public bool Revalidate()
    {
        if (!IsRunning || _generation == _memory.Generation || TakePointers()) { return true; }
        Break("the ring is no longer inside guest memory");
        return false;
    }

    /// <summary>Takes the next chain: readable and writable segments are appended to lists that come in empty.</summary>
    public PopResult Pop(IoVecList readable, IoVecList writable, out ushort head)
    {
        head = 0;
        if (!IsRunning || IsBroken) { return IsBroken ? PopResult.Broken : PopResult.Empty; }
        if (_generation != _memory.Generation && !Revalidate()) { return PopResult.Broken; }
        bool isLeft = _leftTaken < _left.Length;
        if (isLeft) { head = _left[_leftTaken++]; }
        else
        {
            if (_nextAvailable == _availableSeen && !LookForMore()) { return IsBroken ? PopResult.Broken : PopResult.Empty; }
            head = *(ushort*)(_available + 4 + ((_nextAvailable & _mask) * 2));
            if (head >= Size) { return Break("an available head is not below the queue size"); }
        }
        ref ulong word = ref _headsInFlight[head >> 6];
        ulong bit = 1UL << (head & 63);
        if ((word & bit) != 0) { return Break("a head was made available twice"); }
        word |= bit;
        InFlight++;
        if (!isLeft)
        {
            _inflight?.Take(head);
            _nextAvailable++;
        }
        if (ReadChain(head, readable, writable)) { return PopResult.Chain; }

        readable.Clear();
        writable.Clear();
        MalformedChains++;
        Push(head, 0);
        return PopResult.Returned;
    }

    /// <summary>Gives a chain back: <paramref name="writtenBytes"/> bytes of its writable part were written.</summary>
    public void Push(ushort head, uint writtenBytes)
    {
        ref ulong word = ref _headsInFlight[head >> 6];
        ulong bit = 1UL << (head & 63);
        Invariant.That((word & bit) != 0);
        word &= ~bit;
        InFlight--;
        // With memory gone the request may have been about zeros: it is not acknowledged, the session is about to end.
        if (!IsRunning || IsBroken || _memory.HasFaulted || !Revalidate()) { return; }
        *(UsedElement*)(_used + 4 + ((_nextUsed & _mask) * 8)) = new UsedElement(head, writtenBytes);
        _nextUsed++;
        _inflight?.Returning(head);
        // Release: the driver that sees the index sees the element and the reply before it.
        Volatile.Write(ref *(ushort*)(_used + 2), _nextUsed);
        _inflight?.Returned(head, _nextUsed);
    }

    /// <summary>The request of this head begins to wait and lets go of its segments. The head stays in flight: the driver must not use it again.</summary>
    public void Park(ushort head)
    {
        Invariant.That((_headsInFlight[head >> 6] & (1UL << (head & 63))) != 0);
        Parked++;
    }

    /// <summary>The request goes on: its chain is read once more, and is no more to be trusted than the first time. The lists stay empty when it cannot be used now.</summary>
    public void Unpark(ushort head, IoVecList readable, IoVecList writable)
    {
        Parked--;
        if (!IsRunning || IsBroken || !Revalidate() || ReadChain(head, readable, writable)) { return; }
        readable.Clear();
        writable.Clear();
        MalformedChains++;
    }

    /// <summary>The parked heads belong to a driver that is gone.</summary>
    public void ForgetParked()
    {
        Invariant.That(InFlight == Parked);
        Array.Clear(_headsInFlight);
        InFlight = Parked = 0;
    }

    /// <summary>Calls that were made may not have been heard: the next <see cref="TakeCall"/> is for one of them, too. False: none was made.</summary>
    public bool TryRepeatCall()
    {
        if (!IsRunning || !_signalledValid) { return false; }
        _signalledValid = false;
        if (!HasUnsignalled) { _signalledUsed--; }
        return true;
    }

    /// <summary>Whether the driver wants a call for what was pushed since the last time; asked once per batch.</summary>
    public bool TakeCall()
    {
        if (!HasUnsignalled || IsBroken || !Revalidate()) { return false; }
        // The used index must be visible before we look at what the driver asked for (virtio 1.2, 2.7.10): it writes its event and then looks at the index.
        Interlocked.MemoryBarrier();
        ushort from = _signalledUsed;
        bool known = _signalledValid;
        _signalledUsed = _nextUsed;
        _signalledValid = true;
        if ((_features & VirtioFeatures.EventIdx) == 0) { return (Volatile.Read(ref *(ushort*)_available) & AvailFlagNoInterrupt) == 0; }
        if (!known) { return true; }
        ushort wanted = Volatile.Read(ref *(ushort*)(_available + 4 + (Size * 2)));
        return (ushort)(_nextUsed - wanted - 1) < (ushort)(_nextUsed - from);
    }

    /// <summary>Asks the driver for a kick when it adds more. True when something is available already: serve on instead of waiting.</summary>
    public bool EnableKicks()
    {
        if (!IsRunning || IsBroken || !Revalidate()) { return false; }
        if ((_features & VirtioFeatures.EventIdx) != 0) { Volatile.Write(ref *(ushort*)(_used + 4 + (Size * 8)), _nextAvailable); }
        else { Volatile.Write(ref *(ushort*)_used, 0); }
        // The wish must be visible before the last look, or a chain added between them waits for ever.
        Interlocked.MemoryBarrier();
        return HasAvailable();
    }

    /// <summary>While we look at the ring ourselves, kicks are not needed. With EVENT_IDX the event index simply stays behind.</summary>
    public void DisableKicks()
    {
        if (!IsRunning || IsBroken || !Revalidate()) { return; }
        if ((_features & VirtioFeatures.EventIdx) == 0) { Volatile.Write(ref *(ushort*)_used, UsedFlagNoNotify); }
    }

    /// <summary>A look at the available index, for polling.</summary>
    public bool HasAvailable() =>
        IsRunning && !IsBroken && Revalidate() && (_leftTaken < _left.Length || Volatile.Read(ref *(ushort*)(_available + 2)) != _nextAvailable);

    public PopResult Break(string reason)
    {
        if (!IsBroken)
        {
            IsBroken = true;
            BrokenReason = reason;
        }
        return PopResult.Broken;
    }

    private bool ReadChain(ushort head, IoVecList readable, IoVecList writable)
    {
        int limit = Math.Max(Size, MinChainLimit);
        return _reader.Read(_descriptors, Size, head, limit, (_features & VirtioFeatures.IndirectDesc) != 0, readable, writable);
    }

    private bool LookForMore()
    {
        ushort index = Volatile.Read(ref *(ushort*)(_available + 2)); // acquire: entries before the index
        var waiting = (ushort)(index - _nextAvailable);
        if (waiting == 0) { return false; }
        if (waiting > Size - InFlight)
        {
            Break("the available index runs ahead of the queue size");
            return false;
        }
        _availableSeen = index;
        return true;
    }

    private bool TakePointers()
    {
        bool eventIdx = (_features & VirtioFeatures.EventIdx) != 0;
        var size = (ulong)Size;
        _descriptors = _memory.FindUser(_addresses.Descriptors, size * Descriptor.Size);
        _available = _memory.FindUser(_addresses.Available, 4 + (size * 2) + (eventIdx ? 2UL : 0));
        _used = _memory.FindUser(_addresses.Used, 4 + (size * 8) + (eventIdx ? 2UL : 0));
        _generation = _memory.Generation;
        return _descriptors is not null && _available is not null && _used is not null;
    }
}
