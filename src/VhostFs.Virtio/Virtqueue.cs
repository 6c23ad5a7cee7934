using System.Runtime.CompilerServices;
using VhostFs.Linux;

namespace VhostFs.Virtio;

/// <summary>The device side of one virtqueue (virtio 1.2, 2.6): what both layouts have in common. The rings themselves: <see cref="SplitRing"/>, <see cref="PackedRing"/>.</summary>
/// <remarks>
/// Invariants: a head is in flight at most once, hence at most <see cref="Size"/> chains are; a queue that broke stays so until <see cref="Stop"/>, and a parked head stays in flight
/// beyond it. Ring pointers belong to one generation of the memory and are taken anew when it changes. Owned by one reactor.
/// Which layout it is is asked at each step, of a field: the processor foresees it, and nothing is called through a table.
/// </remarks>
public sealed class Virtqueue
{
    public const int MaxSize = 32768;

    /// <summary>Payload of one chain: above any request of ours (1 MiB and headers), below where sums of lengths are in danger.</summary>
    public const int MaxChainBytes = 64 << 20;

    /// <summary>A chain through an indirect table may be longer than a small queue (Linux and Windows drivers do that); still bounded.</summary>
    private const int MinHopLimit = 1024;

    private readonly GuestMemory _memory;
    private readonly SplitRing _split;
    private PackedRing? _packed; // null: the layout is split
    private PackedRing? _sparePacked;
    private ulong[] _headsInFlight = [];
    private ushort[] _left = []; // heads that a process before us has taken and not given back
    private int _leftTaken;
    private RingAddresses _addresses;
    private VirtioFeatures _features;
    private uint _generation;
    private bool _signalledValid;
    private IoVecList? _loggedReadable; // of a chain that is read again to mark its pages
    private IoVecList? _loggedWritable;

    public Virtqueue(GuestMemory memory)
    {
        _memory = memory;
        _split = new SplitRing(this, memory);
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

    /// <summary>What GET_VRING_BASE answers and SET_VRING_BASE sets: the next available index; of a packed ring two positions, each with its wrap counter in the highest of 16 bits (vhost-user.rst).</summary>
    public uint Base => _packed is null ? _split.Base : _packed.Base;

    /// <summary>The guest's address of the used ring, or of a packed ring's device event suppression, if writes to it are to be marked while the memory has a log (VHOST_VRING_F_LOG).</summary>
    public ulong? LogAddress { get; set; }

    /// <summary>Chains finished since the driver was last considered for a call.</summary>
    public bool HasUnsignalled => IsRunning && UnsignalledCount != 0;

    /// <summary>How many they are.</summary>
    public int UnsignalledCount { get; private set; }

    /// <summary>Everything that was taken, by this process or the one before, has gone back: at a stop nothing is recorded as in flight any more.</summary>
    public bool HasReturnedAll => !IsBroken && InFlight == 0 && _leftTaken == _left.Length;

    /// <summary>The most descriptors of a chain.</summary>
    internal int HopLimit { get; private set; }

    /// <summary>The base of a ring that nobody has served yet: both wrap counters of a packed one begin with 1 (virtio 1.2, 2.8.1).</summary>
    public static uint FirstBase(VirtioFeatures features) => IsPacked(features) ? 0x8000_8000 : 0;

    /// <summary>Started so, the ring would be the one that was stopped with heads parked: nothing has moved, on either side.</summary>
    public bool CanContinue(int size, RingAddresses addresses, uint @base, VirtioFeatures features)
    {
        bool isSame = !IsRunning && Parked > 0 && size == Size && addresses == _addresses && @base == Base && IsPacked(features) == (_packed is not null);
        return isSame && (_packed is not null || _split.IsUntouched(addresses));
    }

    /// <summary>Begins to serve the ring; heads that are parked still are if it <see cref="CanContinue"/>, else they must have been forgotten. <paramref name="size"/> is at most <see cref="MaxSize"/>.</summary>
    /// <param name="inflight">Where what is in flight is written down; what a process before us has left there comes first. Null: nowhere.</param>
    /// <param name="index">Of this queue in it.</param>
    /// <returns>EFAULT when the ring is not inside guest memory, EINVAL when it is not aligned, or size or base are none of its layout.</returns>
    public Errno Start(int size, RingAddresses addresses, uint @base, VirtioFeatures features, InflightArea? inflight = null, int index = 0)
    {
        Invariant.That(!IsRunning && InFlight == Parked && (Parked == 0 || inflight is null));
        Invariant.That(size is > 0 and <= MaxSize);
        Size = size;
        HopLimit = Math.Max(size, MinHopLimit);
        _addresses = addresses;
        _features = features;
        _packed = IsPacked(features) ? _sparePacked ??= new PackedRing(this, _memory) : null;
        if (!addresses.IsAligned(_packed is not null)) { return Errno.EINVAL; }
        Errno started = _packed is null
            ? _split.Start(size, addresses, @base, features, inflight?.Split(index, size), out _left)
            : _packed.Start(size, addresses, @base, features, inflight?.Packed(index, size), continues: Parked > 0, out _left);
        if (started != Errno.None) { return started; }
        int words = (size + 63) >> 6;
        if (_headsInFlight.Length < words) { _headsInFlight = new ulong[words]; }
        if (Parked == 0) { Array.Clear(_headsInFlight); }
        _generation = _memory.Generation;
        _leftTaken = 0;
        _signalledValid = false;
        // Whoever served the ring before may have died between publishing and calling.
        UnsignalledCount = (_packed is null ? _split.HasUsed : _packed.HasUsed) ? 1 : 0;
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
        _split.Stop();
        _packed?.Stop();
    }

    /// <summary>After a change of guest memory: the ring must still be inside it, else the queue breaks.</summary>
    public bool Revalidate()
    {
        if (!IsRunning || _generation == _memory.Generation) { return true; }
        _generation = _memory.Generation;
        if (_packed is null ? _split.TakePointers(_addresses) : _packed.TakePointers(_addresses)) { return true; }
        Break("the ring is no longer inside guest memory");
        return false;
    }

    /// <summary>Takes the next chain: readable and writable segments are appended to lists that come in empty.</summary>
    /// <param name="head">Of its descriptors; in a packed ring the buffer id.</param>
    public PopResult Pop(IoVecList readable, IoVecList writable, out ushort head)
    {
        head = 0;
        if (!IsRunning || IsBroken) { return IsBroken ? PopResult.Broken : PopResult.Empty; }
        if (_generation != _memory.Generation && !Revalidate()) { return PopResult.Broken; }
        bool isLeft = _leftTaken < _left.Length;
        if (isLeft) { head = _left[_leftTaken++]; }
        else
        {
            PopResult found = _packed is null ? _split.Find(out head) : _packed.Find(out head);
            if (found != PopResult.Chain) { return found; }
            if (head >= Size) { return Break("an available head is not below the queue size"); }
        }
        ref ulong word = ref _headsInFlight[head >> 6];
        ulong bit = 1UL << (head & 63);
        if ((word & bit) != 0) { return Break("a head was made available twice"); }
        word |= bit;
        InFlight++;
        if (!isLeft)
        {
            if (_packed is null) { _split.Take(head); }
            else { _packed.Take(head); }
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
        if (_memory.Log is { } log)
        {
            PushLogged(log, head, writtenBytes);
            return;
        }
        Publish(head, writtenBytes);
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
        if (UnsignalledCount == 0) { UnsignalledCount = 1; }
        return true;
    }

    /// <summary>Whether the driver wants a call for what was pushed since the last time; asked once per batch.</summary>
    public bool TakeCall()
    {
        if (!HasUnsignalled || IsBroken || !Revalidate()) { return false; }
        // What is used must be visible before we look at what the driver asked for (virtio 1.2, 2.7.10 and 2.8.14): it writes its wish and then looks at what is used.
        Interlocked.MemoryBarrier();
        int count = UnsignalledCount;
        bool isKnown = _signalledValid;
        UnsignalledCount = 0;
        _signalledValid = true;
        return _packed is null ? _split.WantsCall(count, isKnown) : _packed.WantsCall(isKnown);
    }

    /// <summary>Asks the driver for a kick when it adds more. True when something is available already: serve on instead of waiting.</summary>
    public bool EnableKicks()
    {
        if (!IsRunning || IsBroken || !Revalidate()) { return false; }
        if (_packed is null) { _split.EnableKicks(); }
        else { _packed.EnableKicks(); }
        if (_memory.Log is { } log) { LogKicks(log); }
        // The wish must be visible before the last look, or a chain added between them waits for ever.
        Interlocked.MemoryBarrier();
        return HasAvailable();
    }

    /// <summary>While we look at the ring ourselves, kicks are not needed.</summary>
    public void DisableKicks()
    {
        if (!IsRunning || IsBroken || !Revalidate()) { return; }
        if (_packed is null) { _split.DisableKicks(); }
        else { _packed.DisableKicks(); }
        if (_memory.Log is { } log) { LogKicks(log); }
    }

    /// <summary>A look at the ring, for polling.</summary>
    public bool HasAvailable() =>
        IsRunning && !IsBroken && Revalidate() && (_leftTaken < _left.Length || (_packed is null ? _split.HasAvailable() : _packed.HasAvailable()));

    public PopResult Break(string reason)
    {
        if (!IsBroken)
        {
            IsBroken = true;
            BrokenReason = reason;
        }
        return PopResult.Broken;
    }

    private static bool IsPacked(VirtioFeatures features) => (features & VirtioFeatures.RingPacked) != 0;

    private bool ReadChain(ushort head, IoVecList readable, IoVecList writable) => _packed is null ? _split.ReadChain(head, readable, writable) : _packed.ReadChain(head, readable, writable);

    private void Publish(ushort head, uint writtenBytes)
    {
        if (_packed is null) { _split.Publish(head, writtenBytes); }
        else { _packed.Publish(head, writtenBytes); }
        UnsignalledCount++;
    }

    // Data is marked before the driver can see it, and the ring when it has been written to.
    private void PushLogged(DirtyLog log, ushort head, uint writtenBytes)
    {
        MarkChain(log, head);
        Publish(head, writtenBytes);
        if (LogAddress is not { } usedAddress) { return; }
        if (_packed is null) { _split.LogPublished(log, usedAddress); }
        else if (_memory.GuestAddressOf(_addresses.Descriptors) is { } ringAddress) { _packed.LogPublished(log, ringAddress, head); }
    }

    // All that the device may have written to. A driver that has changed the chain meanwhile loses what was written to the old one, when it is migrated.
    private void MarkChain(DirtyLog log, ushort head)
    {
        IoVecList readable = _loggedReadable ??= new(), writable = _loggedWritable ??= new();
        readable.Clear();
        writable.Clear();
        if (ReadChain(head, readable, writable)) { _memory.MarkWritten(log, writable.View()); }
    }

    private void LogKicks(DirtyLog log)
    {
        if (LogAddress is not { } usedAddress) { return; }
        if (_packed is null) { _split.LogKicks(log, usedAddress); }
        else { log.Mark(usedAddress, EventSuppression.SizeBytes); }
    }
}
