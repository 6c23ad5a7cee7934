using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VhostFs.Linux;
using static VhostFs.Linux.IoUring;

namespace VhostFs.Reactor;

/// <summary>One io_uring, used by one thread: the one that polls it first (the kernel enforces it).</summary>
/// <remarks>
/// Invariants: at most <see cref="SlotCount"/> transfers are in the kernel, further ones wait in a list in order; what waits for somebody else (a connection, a message, a command of a driver)
/// is not counted, so that ten thousand who listen keep nobody from reading; operations complete only inside <see cref="Poll"/>, never inside a submission; user_data is slot index and slot generation, so that a late completion cannot reach a later operation.
/// A descriptor and the memory of an operation stay open and mapped until it has completed: that is the caller's part.
/// </remarks>
public sealed unsafe class Ring : IReactorDriver, IDescriptorEvents
{
    private const int MaxCompletionsPerPoll = 1024;

    /// <summary>So many operations wait for the end of the turn. The device is to work while we serve the rest of a batch: one that gets 32 reads at once completes them at once,
    /// and both then wait for each other by turns. A call for each four brought a disk a fifth more reads at depths 16 and 32, for at most half a microsecond of processor time each.
    /// A read waits for no others as long as fewer than these are under way: the device has little to do.</summary>
    private const int MaxHeldBack = 4;

    /// <summary>Reads from this size on wait for no others at all: a call costs little beside what they carry, and of more than two in one call the kernel makes one
    /// request of those that are neighbours on the device. A disk then works on half as many at once, and answers all of such a request when the last of it is there.
    /// For writes it brought nothing.</summary>
    private const int LargeBytes = 64 * 1024;
    private const ulong WatchMark = 1UL << 63;
    private const ulong IgnoredUserData = ulong.MaxValue;
    private const ulong WakeUserData = ulong.MaxValue - 1;
    private const int MaxPooledOperations = 16384;
    private const int AsyncCancelAny = 4;

    private readonly SafeFd _fd;
    private readonly SafeFd _wakeFd;
    private readonly byte* _rings;
    private readonly nuint _ringsBytes;
    private readonly byte* _sqes;
    private readonly int _sqeShift;
    private readonly nuint _sqesBytes;
    private readonly uint* _sqHead;
    private readonly uint* _sqTail;
    private readonly uint* _sqFlags;
    private readonly uint _sqMask;
    private readonly uint _sqEntries;
    private readonly uint* _cqHead;
    private readonly uint* _cqTail;
    private readonly Cqe* _cqes;
    private readonly uint _cqMask;
    private readonly ulong* _sink; // eventfd counters nobody looks at
    private RingOperation?[] _slots;
    private uint[] _generations;
    private int[] _freeSlots;
    private readonly List<RingPoll?> _watches = [];
    private readonly Stack<int> _freeWatches = new();
    private readonly Queue<Sqe> _control = new();
    private uint _localTail;
    private int _freeSlotCount;
    private int _transferCount;
    private RingOperation? _free;
    private int _freeCount;
    private RingOperation? _firstPending;
    private RingOperation? _lastPending;
    private uint _watchGeneration;
    private Thread? _owner;
    private bool _wakeArmed;
    private int _wakeRequested;
    private bool _isTaskRunStale;
    private int _waiting;
    private bool _disposed;

    private Ring(SafeFd fd, SafeFd wakeFd, in IoUringParams p, byte* rings, nuint ringsBytes, byte* sqes, nuint sqesBytes)
    {
        _fd = fd;
        _wakeFd = wakeFd;
        SetupFlags = p.Flags;
        _rings = rings;
        _ringsBytes = ringsBytes;
        _sqes = sqes;
        _sqeShift = SqeShift(p.Flags);
        _sqesBytes = sqesBytes;
        _sqHead = (uint*)(rings + p.SqHead);
        _sqTail = (uint*)(rings + p.SqTail);
        _sqFlags = (uint*)(rings + p.SqFlags);
        _sqMask = *(uint*)(rings + p.SqRingMask);
        _sqEntries = p.SqEntries;
        _cqHead = (uint*)(rings + p.CqHead);
        _cqTail = (uint*)(rings + p.CqTail);
        _cqMask = *(uint*)(rings + p.CqRingMask);
        _cqes = (Cqe*)(rings + p.CqCqes);
        uint* array = (uint*)(rings + p.SqArray);
        for (uint i = 0; i < p.SqEntries; i++) { array[i] = i; } // entries are always used in ring order
        _localTail = *_sqTail;
        _sink = (ulong*)NativeMemory.AllocZeroed(sizeof(ulong));
        SlotCount = (int)p.CqEntries;
        _slots = [];
        _generations = [];
        _freeSlots = [];
        AddSlots(SlotCount);
    }

    public long NowNs => ProcessCalls.MonotonicNs;

    /// <summary>How many transfers may be in the kernel at once.</summary>
    public int SlotCount { get; }

    /// <summary>IORING_SETUP_* the kernel accepted.</summary>
    public uint SetupFlags { get; }

    /// <summary><see cref="CommandAsync"/> can be used: entries have 128 bytes.</summary>
    public bool HasCommands => (SetupFlags & IORING_SETUP_SQE128) != 0;

    public int InKernelCount => _slots.Length - _freeSlotCount;

    /// <summary>io_uring_enter calls so far, for the budget of system calls per request.</summary>
    public long EnterCount { get; private set; }

    public long CompletionCount { get; private set; }

    /// <exception cref="InvalidOperationException">io_uring cannot be used here; the message says what to enable.</exception>
    public static Ring Create(int entries)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(entries, 1);
        // Best first: each set drops what older kernels do not know (6.1 has them all; 5.19 lacks the last two).
        const uint Basis = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED;
        const uint Cooperative = Basis | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SQE128;
        ReadOnlySpan<uint> attempts = [Cooperative | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, Cooperative, Basis];
        Errno errno = Errno.None;
        foreach (uint flags in attempts)
        {
            var p = new IoUringParams { Flags = flags, CqEntries = (uint)Math.Max(entries * 4, 64) };
            errno = Setup((uint)entries, ref p, out SafeFd fd);
            if (errno == Errno.None) { return Map(fd, p); }
            if (errno != Errno.EINVAL) { break; }
        }
        throw new InvalidOperationException(Explain(errno));
    }

    internal static string Explain(Errno errno) => errno switch
    {
        Errno.ENOSYS => "io_uring is not available: this kernel has no io_uring (ENOSYS). Linux 6.1 or later with CONFIG_IO_URING=y is needed; in a container, allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile.",
        Errno.EPERM => "io_uring is not permitted here (EPERM). Set sysctl kernel.io_uring_disabled=0 (or =1 and add this process's group to kernel.io_uring_group); in a container, allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile.",
        Errno.ENOMEM => "io_uring could not get memory for its rings (ENOMEM). Raise the locked-memory limit (ulimit -l, systemd LimitMEMLOCK=) or use fewer entries.",
        Errno.EMFILE or Errno.ENFILE => $"io_uring could not get a file descriptor ({errno}). Raise the limit (ulimit -n, systemd LimitNOFILE=).",
        _ => $"io_uring could not be set up: {errno}. Linux 6.1 or later is needed.",
    };

    public IoTask<IoResult> ReadAsync(SafeFd fd, IoVecs target, long offset) => SubmitAsync(Transfer(fd, target, offset, SqeOpcode.IORING_OP_READ, SqeOpcode.IORING_OP_READV));

    public IoTask<IoResult> ReadAsync(SafeFd fd, IoVecs target, long offset, out IoHandle handle) =>
        SubmitAsync(Transfer(fd, target, offset, SqeOpcode.IORING_OP_READ, SqeOpcode.IORING_OP_READV), out handle);

    public IoTask<IoResult> ReadAsync(SafeFd fd, IoVec target, long offset) => SubmitAsync(Transfer(fd, target, offset, SqeOpcode.IORING_OP_READ));

    /// <summary>May be short. At most the first 1024 segments are transferred.</summary>
    public IoTask<IoResult> WriteAsync(SafeFd fd, IoVecs source, long offset) => SubmitAsync(Transfer(fd, source, offset, SqeOpcode.IORING_OP_WRITE, SqeOpcode.IORING_OP_WRITEV));

    public IoTask<IoResult> WriteAsync(SafeFd fd, IoVec source, long offset) => SubmitAsync(Transfer(fd, source, offset, SqeOpcode.IORING_OP_WRITE));

    public IoTask<IoResult> FsyncAsync(SafeFd fd, bool dataOnly) => SubmitAsync(new Sqe
    {
        Opcode = SqeOpcode.IORING_OP_FSYNC,
        Fd = fd.Fd,
        OpFlags = dataOnly ? 1u : 0u, // IORING_FSYNC_DATASYNC
    });

    public IoTask<IoResult> FallocateAsync(SafeFd fd, int mode, long offset, long length) => SubmitAsync(new Sqe
    {
        Opcode = SqeOpcode.IORING_OP_FALLOCATE,
        Fd = fd.Fd,
        Offset = (ulong)offset,
        Address = (ulong)length,
        Length = (uint)mode,
    });

    /// <summary>One event of <paramref name="events"/> (POLLIN...); the result is the events seen.</summary>
    public IoTask<IoResult> PollAsync(SafeFd fd, short events) => PollAsync(fd, events, out _);

    public IoTask<IoResult> PollAsync(SafeFd fd, short events, out IoHandle handle) => SubmitAsync(new Sqe
    {
        Opcode = SqeOpcode.IORING_OP_POLL_ADD,
        Fd = fd.Fd,
        OpFlags = (ushort)events,
    }, out handle);

    /// <summary>Waits until the counter is not zero and takes it.</summary>
    public IoTask<IoResult> ReadEventFdAsync(SafeFd fd) => ReadEventFdAsync(fd, out _);

    public IoTask<IoResult> ReadEventFdAsync(SafeFd fd, out IoHandle handle) => SubmitAsync(new Sqe
    {
        Opcode = SqeOpcode.IORING_OP_READ,
        Fd = fd.Fd,
        Offset = ulong.MaxValue,
        Address = (ulong)_sink,
        Length = sizeof(ulong),
    }, out handle);

    /// <summary>The result is the new descriptor (close-on-exec, non-blocking), owned by the caller.</summary>
    public IoTask<IoResult> AcceptAsync(SafeFd listener) => AcceptAsync(listener, out _);

    public IoTask<IoResult> AcceptAsync(SafeFd listener, out IoHandle handle) => SubmitAsync(new Sqe
    {
        Opcode = SqeOpcode.IORING_OP_ACCEPT,
        Fd = listener.Fd,
        OpFlags = FileCalls.O_CLOEXEC | FileCalls.O_NONBLOCK,
    }, out handle);

    /// <inheritdoc/>
    public IoTask<IoResult> WriteStreamAsync(SafeFd fd, IoVec source, out IoHandle handle) => SubmitAsync(Transfer(fd, source, -1, SqeOpcode.IORING_OP_WRITE), out handle);

    /// <summary>A command of a descriptor's own kind (IORING_OP_URING_CMD). It cannot be cancelled: the descriptor's driver ends it.</summary>
    /// <param name="arguments">May be gone when the command has been submitted; its segments may not.</param>
    /// <param name="first">The first 16 bytes of the command's area, then 8 more.</param>
    public IoTask<IoResult> CommandAsync(SafeFd fd, uint command, IoVecs arguments, (ulong Low, ulong High) first, ulong last)
    {
        Invariant.That(HasCommands, "only a ring with long entries takes commands");
        RingOperation operation = Rent(new Sqe
        {
            Opcode = SqeOpcode.IORING_OP_URING_CMD,
            Fd = fd.Fd,
            Offset = command,
            Address = arguments.Address,
            Length = (uint)arguments.Count,
            Address3 = first.Low,
            Reserved = first.High,
        });
        operation.CommandTail = last;
        Start(operation);
        return operation.Task;
    }

    /// <inheritdoc/>
    public IoTask<IoResult> CancelAsync(IoHandle handle)
    {
        if (handle.Operation is not RingOperation operation) { return new IoTask<IoResult>(Errno.ENOENT); }
        if (operation.Slot == RingOperation.NoSlot)
        {
            operation.CancelRequested = true; // completes with ECANCELED when its turn for a slot comes
            return new IoTask<IoResult>(new IoResult(0));
        }
        return SubmitAsync(new Sqe
        {
            Opcode = SqeOpcode.IORING_OP_ASYNC_CANCEL,
            Fd = -1,
            Address = UserData(operation.Slot),
        });
    }

    /// <inheritdoc cref="IDescriptorEvents.Watch"/>
    public RingPoll Watch(SafeFd fd, short events, Action<IoResult> onReady)
    {
        int index = _freeWatches.TryPop(out int free) ? free : _watches.Count;
        if (index == _watches.Count) { _watches.Add(null); }
        var watch = new RingPoll(this, fd, events, index, ++_watchGeneration & 0x7fff_ffff, onReady);
        _watches[index] = watch;
        Arm(watch);
        return watch;
    }

    IDisposable IDescriptorEvents.Watch(SafeFd fd, short events, Action<IoResult> onReady) => Watch(fd, events, onReady);

    public IoTask<IoResult> SubmitAsync(in Sqe sqe) => SubmitAsync(sqe, out _);

    public IoTask<IoResult> SubmitAsync(in Sqe sqe, out IoHandle handle)
    {
        RingOperation operation = Rent(sqe);
        handle = new IoHandle(operation);
        Start(operation);
        return operation.Task;
    }

    public bool IsReady =>
        Volatile.Read(ref *_cqTail) != *_cqHead || _firstPending is not null || Volatile.Read(ref _wakeRequested) != 0
        || (Volatile.Read(ref *_sqFlags) & (_isTaskRunStale ? IORING_SQ_CQ_OVERFLOW : IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;

    public int Poll(long deadlineNs)
    {
        if (_owner is null) { Bind(); }
        Invariant.That(ReferenceEquals(_owner, Thread.CurrentThread), "a ring is used by one thread");
        ArmWake();
        int ran = StartPending();
        uint ready = Volatile.Read(ref *_cqTail) - *_cqHead;
        long waitNs = 0;
        if (ran == 0 && ready == 0 && _firstPending is null && deadlineNs != 0)
        {
            waitNs = deadlineNs == long.MaxValue ? long.MaxValue : deadlineNs - NowNs;
        }
        if (waitNs > 0)
        {
            Volatile.Write(ref _waiting, 1);
            Interlocked.MemoryBarrier(); // pairs with the exchange in Wake: one of the two sees the other
            if (Volatile.Read(ref _wakeRequested) != 0) { waitNs = 0; }
        }
        uint toSubmit = PublishTail();
        bool enters = waitNs > 0 || toSubmit > 0 || (Volatile.Read(ref *_sqFlags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
        if (waitNs > 0) { EnterWait(toSubmit, waitNs); }
        else if (enters) { EnterNow(toSubmit, IORING_ENTER_GETEVENTS); }
        // The kernel sets the flag after it has listed the work, and we may have done the work in between: the flag then stays until there is more. Taken for work it would keep the reactor
        // turning for nothing, and from looking at the rings that it has promised to look at. What comes meanwhile is found by the wait, or by the next call.
        _isTaskRunStale = enters && (Volatile.Read(ref *_sqFlags) & IORING_SQ_TASKRUN) != 0;
        Volatile.Write(ref _waiting, 0);
        // With a full barrier: what the reactor looks at next must not be read before this is seen. Else somebody who adds work in between finds the request of an earlier one, wakes
        // nobody, and this takes his request away with the other.
        if (Volatile.Read(ref _wakeRequested) != 0) { Interlocked.Exchange(ref _wakeRequested, 0); }
        return ran + Reap();
    }

    public void Wake()
    {
        if (Interlocked.Exchange(ref _wakeRequested, 1) == 0 && Volatile.Read(ref _waiting) != 0 && !_disposed) { EventFd.Signal(_wakeFd); }
    }

    /// <summary>Cancels what is in the kernel and waits for it (bounded), so that nothing writes to memory that is freed afterwards.</summary>
    public void Dispose()
    {
        if (_disposed) { return; }
        Drain();
        _disposed = true;
        MemoryCalls.Unmap((nuint)_sqes, (long)_sqesBytes);
        MemoryCalls.Unmap((nuint)_rings, (long)_ringsBytes);
        _fd.Dispose();
        _wakeFd.Dispose();
        NativeMemory.Free(_sink);
    }

    internal void Return(RingOperation operation)
    {
        if (_freeCount >= MaxPooledOperations) { return; }
        operation.Next = _free;
        _free = operation;
        _freeCount++;
    }

    internal void Unwatch(RingPoll watch)
    {
        _watches[watch.Index] = null;
        _freeWatches.Push(watch.Index);
        SubmitControl(new Sqe { Opcode = SqeOpcode.IORING_OP_POLL_REMOVE, Fd = -1, Address = UserData(watch), UserData = IgnoredUserData });
    }

    private RingOperation Rent(in Sqe sqe)
    {
        RingOperation operation = _free ?? new RingOperation(this);
        if (ReferenceEquals(operation, _free))
        {
            _free = operation.Next;
            _freeCount--;
            operation.Next = null;
        }
        operation.Sqe = sqe;
        return operation;
    }

    private void Start(RingOperation operation)
    {
        if ((_firstPending is null || operation.IsWait) && TryStart(operation)) { return; }
        if (_lastPending is null) { _firstPending = operation; }
        else { _lastPending.Next = operation; }
        _lastPending = operation;
    }

    // Entries of 128 bytes: the others leave the second half as it is, and the kernel does not look at it.
    private static int SqeShift(uint setupFlags) => (setupFlags & IORING_SETUP_SQE128) != 0 ? 7 : 6;

    private static Ring Map(SafeFd fd, in IoUringParams p)
    {
        const uint Needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;
        if ((p.Features & Needed) != Needed) { throw new InvalidOperationException("io_uring of this kernel is too old: Linux 6.1 or later is needed."); }
        nuint ringsBytes = Math.Max(p.SqArray + (p.SqEntries * sizeof(uint)), p.CqCqes + (p.CqEntries * (uint)sizeof(Cqe)));
        nuint sqesBytes = (nuint)p.SqEntries << SqeShift(p.Flags);
        const int Protection = MemoryCalls.PROT_READ | MemoryCalls.PROT_WRITE;
        const int MapFlags = MemoryCalls.MAP_SHARED | MemoryCalls.MAP_POPULATE;
        Errno errno = MemoryCalls.Map(fd, IORING_OFF_SQ_RING, (long)ringsBytes, Protection, MapFlags, out nuint rings);
        if (errno == Errno.None)
        {
            errno = MemoryCalls.Map(fd, IORING_OFF_SQES, (long)sqesBytes, Protection, MapFlags, out nuint sqes);
            if (errno == Errno.None)
            {
                errno = EventFd.Create(out SafeFd wakeFd, nonBlocking: false); // the ring waits on it; a non-blocking one would give EAGAIN
                if (errno == Errno.None) { return new Ring(fd, wakeFd, p, (byte*)rings, ringsBytes, (byte*)sqes, sqesBytes); }
            }
        }
        fd.Dispose();
        throw new InvalidOperationException(Explain(errno));
    }

    private static Sqe Transfer(SafeFd fd, IoVecs vectors, long offset, SqeOpcode single, SqeOpcode many)
    {
        if (vectors.Count == 1) { return Transfer(fd, vectors[0], offset, single); }
        return new Sqe { Opcode = many, Fd = fd.Fd, Offset = (ulong)offset, Address = vectors.Address, Length = (uint)Math.Min(vectors.Count, 1024) };
    }

    private static Sqe Transfer(SafeFd fd, IoVec vector, long offset, SqeOpcode opcode) =>
        new() { Opcode = opcode, Fd = fd.Fd, Offset = (ulong)offset, Address = vector.Address, Length = (uint)vector.Length };

    private static ulong UserData(RingPoll watch) => WatchMark | ((ulong)watch.Generation << 32) | (uint)watch.Index;

    private ulong UserData(int slot) => ((ulong)_generations[slot] << 32) | (uint)slot;

    // The ring is created disabled, so that the thread that polls it becomes its single issuer, whoever created it.
    private void Bind()
    {
        _owner = Thread.CurrentThread;
        IoResult enabled = Register(_fd, IORING_REGISTER_ENABLE_RINGS, null, 0);
        if (enabled.IsError) { throw new InvalidOperationException($"io_uring could not be enabled: {enabled.Errno}"); }
    }

    private void ArmWake()
    {
        if (_wakeArmed) { return; }
        if (!TryGetSqe(out Sqe* sqe)) { return; }
        *sqe = new Sqe { Opcode = SqeOpcode.IORING_OP_READ, Fd = _wakeFd.Fd, Offset = ulong.MaxValue, Address = (ulong)_sink, Length = sizeof(ulong), UserData = WakeUserData };
        _wakeArmed = true;
    }

    private void Arm(RingPoll watch) => SubmitControl(new Sqe
    {
        Opcode = SqeOpcode.IORING_OP_POLL_ADD,
        Fd = watch.Fd.Fd,
        OpFlags = (ushort)watch.Events,
        Length = 1, // IORING_POLL_ADD_MULTI
        UserData = UserData(watch),
    });

    // Watches need no slot: their number is that of the descriptors watched.
    private void SubmitControl(in Sqe sqe)
    {
        if (_control.Count == 0 && TryGetSqe(out Sqe* target)) { *target = sqe; }
        else { _control.Enqueue(sqe); }
    }

    private bool TryStart(RingOperation operation)
    {
        if ((!operation.IsWait && _transferCount == SlotCount) || !TryGetSqe(out Sqe* sqe)) { return false; }
        if (!operation.IsWait) { _transferCount++; }
        if (_freeSlotCount == 0) { AddSlots(_slots.Length); }
        int slot = _freeSlots[--_freeSlotCount];
        _slots[slot] = operation;
        operation.Slot = slot;
        *sqe = operation.Sqe;
        sqe->UserData = UserData(slot);
        if (operation.Sqe.Opcode == SqeOpcode.IORING_OP_URING_CMD) { *(ulong*)(sqe + 1) = operation.CommandTail; }
        int held = operation.IsDeviceRead && (_transferCount <= MaxHeldBack || operation.HasBytes(LargeBytes)) ? 1 : MaxHeldBack;
        if (_localTail - Volatile.Read(ref *_sqHead) >= held && _owner is not null) { EnterNow(PublishTail(), 0); }
        return true;
    }

    // Of what waits there are as many as descriptors that it waits for.
    private void AddSlots(int count)
    {
        int first = _slots.Length;
        Array.Resize(ref _slots, first + count);
        Array.Resize(ref _generations, first + count);
        Array.Resize(ref _freeSlots, first + count);
        for (int i = 0; i < count; i++) { _freeSlots[i] = first + count - 1 - i; }
        _freeSlotCount = count;
    }

    // Returns how many ended here because they had been cancelled while they waited.
    private int StartPending()
    {
        while (_control.Count > 0 && TryGetSqe(out Sqe* sqe)) { *sqe = _control.Dequeue(); }
        int cancelled = 0;
        while (_firstPending is { } operation)
        {
            if (!operation.CancelRequested && !TryStart(operation)) { break; }
            _firstPending = operation.Next;
            if (_firstPending is null) { _lastPending = null; }
            operation.Next = null;
            if (!operation.CancelRequested) { continue; }
            operation.CancelRequested = false;
            cancelled++;
            operation.Complete(Errno.ECANCELED);
        }
        return cancelled;
    }

    private bool TryGetSqe(out Sqe* sqe)
    {
        if (_localTail - Volatile.Read(ref *_sqHead) >= _sqEntries && !TryMakeRoom())
        {
            sqe = null;
            return false;
        }
        sqe = (Sqe*)(_sqes + ((nuint)(_localTail & _sqMask) << _sqeShift));
        _localTail++;
        return true;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool TryMakeRoom()
    {
        if (!ReferenceEquals(_owner, Thread.CurrentThread)) { return false; } // not polled yet: it cannot submit
        EnterNow(PublishTail(), 0);
        return _localTail - Volatile.Read(ref *_sqHead) < _sqEntries;
    }

    private uint PublishTail()
    {
        Volatile.Write(ref *_sqTail, _localTail);
        return _localTail - Volatile.Read(ref *_sqHead);
    }

    private void EnterNow(uint toSubmit, uint flags)
    {
        EnterCount++;
        Check(Enter(_fd.Fd, toSubmit, 0, flags, null, 0));
    }

    private void EnterWait(uint toSubmit, long waitNs)
    {
        EnterCount++;
        var time = new TimeSpec { Seconds = waitNs / 1_000_000_000, Nanoseconds = waitNs % 1_000_000_000 };
        var argument = new IoUringGetEventsArg { TimeSpec = waitNs == long.MaxValue ? 0 : (ulong)&time };
        Check(Enter(_fd.Fd, toSubmit, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument, sizeof(IoUringGetEventsArg)));
    }

    // EINTR and ETIME end a wait. EAGAIN and EBUSY: the kernel is short of memory or wants completions reaped first; what was not consumed stays
    // in the ring and goes with the next turn. Anything else means that the ring itself is broken.
    private static void Check(IoResult entered) =>
        Invariant.That(!entered.IsError || entered.Errno is Errno.EINTR or Errno.ETIME or Errno.EAGAIN or Errno.EBUSY, "io_uring_enter works");

    private int Reap()
    {
        uint head = *_cqHead;
        int ran = 0;
        int left = (int)Math.Min(Volatile.Read(ref *_cqTail) - head, MaxCompletionsPerPoll);
        while (left-- > 0)
        {
            Cqe cqe = _cqes[head & _cqMask];
            Volatile.Write(ref *_cqHead, ++head); // before the continuation: an exception in it must not repeat the completion
            if (Dispatch(cqe)) { ran++; }
        }
        CompletionCount += ran;
        return ran;
    }

    private bool Dispatch(in Cqe cqe)
    {
        if (cqe.UserData == IgnoredUserData) { return false; }
        if (cqe.UserData == WakeUserData)
        {
            _wakeArmed = false;
            return false;
        }
        if ((cqe.UserData & WatchMark) != 0) { return DispatchWatch(cqe); }
        int slot = (int)(uint)cqe.UserData;
        Invariant.That((uint)slot < (uint)_slots.Length && (uint)(cqe.UserData >> 32) == _generations[slot], "a completion belongs to the operation in its slot");
        RingOperation operation = _slots[slot]!;
        _slots[slot] = null;
        _generations[slot] = (_generations[slot] + 1) & 0x7fff_ffff;
        _freeSlots[_freeSlotCount++] = slot;
        if (!operation.IsWait) { _transferCount--; }
        operation.Slot = RingOperation.NoSlot;
        operation.Complete(new IoResult(cqe.Result));
        return true;
    }

    private bool DispatchWatch(in Cqe cqe)
    {
        int index = (int)(uint)cqe.UserData;
        RingPoll? watch = index < _watches.Count ? _watches[index] : null;
        if (watch is null || UserData(watch) != cqe.UserData) { return false; }
        // The kernel may end a multishot poll at any time (memory, overflow); as long as it reported an event, it is armed again.
        if ((cqe.Flags & IORING_CQE_F_MORE) == 0 && cqe.Result >= 0) { Arm(watch); }
        watch.Notify(new IoResult(cqe.Result));
        return true;
    }

    /// <summary>Ends everything in flight and runs its completions; on the ring's own thread.</summary>
    internal void Drain()
    {
        if (!ReferenceEquals(_owner, Thread.CurrentThread)) { return; }
        long limit = NowNs + 5_000_000_000;
        while ((InKernelCount > 0 || _firstPending is not null) && NowNs < limit)
        {
            for (RingOperation? pending = _firstPending; pending is not null; pending = pending.Next) { pending.CancelRequested = true; }
            SubmitControl(new Sqe { Opcode = SqeOpcode.IORING_OP_ASYNC_CANCEL, Fd = -1, OpFlags = AsyncCancelAny | 1, UserData = IgnoredUserData });
            Poll(NowNs + 10_000_000);
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct TimeSpec
    {
        public long Seconds;
        public long Nanoseconds;
    }
}
