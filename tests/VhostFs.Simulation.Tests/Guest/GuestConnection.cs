using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Simulation.Tests.World;
using VhostFs.VhostUser;
using VhostFs.Virtio;

namespace VhostFs.Simulation.Tests.Guest;

/// <summary>What came of one request.</summary>
/// <param name="IsLost">The connection or the device went away first: nobody knows whether it was done.</param>
internal readonly record struct FuseReply(bool IsLost, Errno Errno, byte[] Body)
{
    public string Outcome => IsLost ? "lost" : Errno.ToString();

    public static FuseReply Lost => new(true, Errno.None, []);
}

/// <summary>One connection of a guest with its export: memory, queues, and FUSE requests on them, each followed from its submission to its reply.</summary>
internal sealed class GuestConnection : IDisposable
{
    public const int MaxPayloadBytes = 128 << 10;
    private const int HeaderAreaBytes = 4096;
    private const int HiprioQueue = 0;
    private const int ShareBytes = 4096 + (2 * (HeaderAreaBytes + MaxPayloadBytes));
    private const int FixedBytes = 256 << 10;

    private readonly SimWorld _world;
    private readonly SimRandom _random;
    private readonly Action<string> _fail;
    private readonly Action<FuseOpcode, ulong, string> _note;
    private readonly FrontEnd _frontEnd;
    private readonly GuestRam _ram;
    private readonly VirtioFeatures _features;
    private readonly int _requestQueueCount;
    private readonly Share[] _shares;
    private readonly List<IDisposable> _watches = [];
    private GuestQueue[] _queues = [];
    private ulong _unique = 1;

    public GuestConnection(SimWorld world, FrontEnd frontEnd, SimRandom random, VirtioFeatures features, int requestQueueCount, int shareCount, Action<string> fail, Action<FuseOpcode, ulong, string> note)
    {
        _world = world;
        _frontEnd = frontEnd;
        _random = random;
        _features = features;
        _requestQueueCount = requestQueueCount;
        _fail = fail;
        _note = note;
        _ram = new GuestRam(FixedBytes + (shareCount * ShareBytes));
        _shares = new Share[shareCount];
        for (int i = 0; i < shareCount; i++) { _shares[i] = new Share(i); }
    }

    /// <summary>The session is over, or the device was reset: what was under way is lost.</summary>
    public bool IsClosed { get; private set; }

    /// <summary>Somebody is doing something to the device.</summary>
    public bool IsBusy { get; set; }

    public int InFlight => _shares.Count(share => share.Waiter is not null);

    /// <summary>Everything up to the reply to INIT; false when the other side does not play along.</summary>
    public async IoTask<bool> StartAsync()
    {
        if (!await _frontEnd.NegotiateAsync(_features)) { return false; }
        bool mapped = _random.OneIn(2)
            ? await _frontEnd.AddMemoryAsync(GuestRam.GuestBase, GuestRam.UserBase, (ulong)_ram.LengthBytes, _ram.Fd)
            : await _frontEnd.SetMemoryTableAsync(GuestRam.GuestBase, GuestRam.UserBase, (ulong)_ram.LengthBytes, _ram.Fd);
        if (!mapped) { return false; }
        for (int i = 0; i < _shares.Length; i++) { _shares[i].Area = _ram.Allocate(ShareBytes); }
        return await StartQueuesAsync();
    }

    /// <summary>One request; the share says which part of memory and queues it uses, and carries one request at a time.</summary>
    public IoTask<FuseReply> CallAsync(int shareIndex, FuseOpcode opcode, ulong node, byte[] arguments, byte[]? payload = null, int replyBytes = 0)
    {
        if (IsClosed) { return new IoTask<FuseReply>(FuseReply.Lost); }
        Share share = _shares[shareIndex];
        Invariant.That(share.Waiter is null && (payload?.Length ?? 0) <= MaxPayloadBytes && replyBytes <= MaxPayloadBytes);
        bool isForget = opcode is FuseOpcode.FORGET or FuseOpcode.BATCH_FORGET;
        GuestQueue queue = _queues[isForget ? HiprioQueue : 1 + (shareIndex % _requestQueueCount)];
        share.Waiter = new IoCompletion<FuseReply>();
        share.Queue = queue;
        share.Unique = _unique++;
        share.ReplyRoom = isForget ? 0 : FuseOutHeader.Size + replyBytes;
        var header = new FuseInHeader((uint)(FuseInHeader.Size + arguments.Length + (payload?.Length ?? 0)), (uint)opcode, share.Unique, node, 0, 0, 1);
        _ram.Write(share.Request, header);
        arguments.CopyTo(_ram.At(share.Request + FuseInHeader.Size, arguments.Length));
        payload?.CopyTo(_ram.At(share.Payload, payload.Length));
        _note(opcode, share.Unique, "");
        List<QueueDescriptor> chain = Lay(share, FuseInHeader.Size + arguments.Length, payload?.Length ?? 0, isForget ? 0 : replyBytes);
        Submit(queue, share, chain);
        return share.Waiter.Task;
    }

    /// <summary>A chain that no driver would make, beside the good ones; it comes back empty, or nothing does and the queue is broken.</summary>
    public void SendGarbage(int shareIndex)
    {
        if (IsClosed || _shares[shareIndex].Waiter is not null) { return; }
        Share share = _shares[shareIndex];
        GuestQueue queue = _queues[1 + (shareIndex % _requestQueueCount)];
        int head = share.Index * GuestQueue.DescriptorsPerShare;
        ulong area = GuestRam.Guest(share.Area);
        const ushort Next = QueueDescriptor.HasNext, Writable = QueueDescriptor.IsWritable, Indirect = QueueDescriptor.IsIndirect;
        QueueDescriptor[] chain = _random.Below(8) switch
        {
            0 => [new(area, 64, Next, (ushort)head)], // for ever round
            1 => [new(0xFFFF_FFFF_FFFF_F000, 8192, 0, 0)],
            2 => [new(GuestRam.Guest(_ram.LengthBytes - 16), 64, 0, 0)], // past the end
            3 => [new(area, 64, Writable | Next, (ushort)(head + 1)), new(area, 64, 0, 0)], // writable before readable
            4 => [new(area, 64, Next, GuestQueue.Size)],
            5 => [new(area, 17, Indirect, 0)],
            6 => [new(area, uint.MaxValue, 0, 0)],
            _ => [new(area, 64, Indirect | Next, (ushort)(head + 1)), new(area, 64, 0, 0)],
        };
        for (int i = 0; i < chain.Length; i++) { queue.SetDescriptor(head + i, chain[i]); }
        share.Waiter = new IoCompletion<FuseReply>();
        share.Queue = queue;
        share.Unique = 0;
        share.ReplyRoom = 0;
        share.Waiter.Task.Detach();
        _note(0, (ulong)head, "a malformed chain");
        if (queue.Add(head)) { queue.SignalKick(); }
    }

    /// <summary>A well-formed chain with a FUSE request that no kernel sends; any error will do as an answer.</summary>
    public async IoTask<bool> SendNonsenseAsync(int shareIndex)
    {
        if (IsClosed || _shares[shareIndex].Waiter is not null) { return true; }
        byte[] arguments = new byte[_random.Below(200)];
        _random.Fill(arguments);
        FuseReply reply = await CallAsync(shareIndex, (FuseOpcode)_random.Between(60, 5000), _random.Next(), arguments, replyBytes: _random.Below(300));
        if (!reply.IsLost && reply.Errno == Errno.None) { _fail("an unknown opcode was answered with success"); }
        return true;
    }

    /// <summary>Stops one queue and starts it again where it stopped, as a guest does that is paused or migrated.</summary>
    public async IoTask<bool> RestartQueueAsync()
    {
        GuestQueue queue = _queues[_random.Between(0, _requestQueueCount)];
        if (await _frontEnd.StopQueueAsync(queue) is not { } next) { return false; }
        TakeReplies(queue);
        if (_shares.Any(share => share.Waiter is not null && share.Queue == queue && share.IsTaken(next))) { _fail($"queue {queue.Index} was stopped while a request that it had taken is unanswered"); }
        await _world.DelayAsync(_random.Below(2_000_000L));
        if (IsClosed || !await _frontEnd.StartQueueAsync(queue, next)) { return false; }
        queue.SignalKick(); // what was made available meanwhile
        return true;
    }

    /// <summary>RESET_DEVICE and everything anew, but for the memory.</summary>
    public async IoTask<bool> ResetAsync()
    {
        if (!await _frontEnd.SetBytesAsync(MessageId.ResetDevice, [])) { return false; }
        foreach (GuestQueue queue in _queues) { TakeReplies(queue); }
        LoseRequests();
        DropQueues();
        return await _frontEnd.SetAsync(MessageId.SetFeatures, (ulong)_features) && await StartQueuesAsync();
    }

    /// <summary>Adds memory nobody uses and takes it away again: requests are held meanwhile.</summary>
    public async IoTask<bool> ReplugMemoryAsync()
    {
        const ulong Guest = 0x8_0000_0000, User = 0x7100_0000_0000, Bytes = 1 << 16;
        using var extra = new GuestRam((int)Bytes);
        return await _frontEnd.AddMemoryAsync(Guest, User, Bytes, extra.Fd)
            && await _world.DelayAsync(_random.Below(1_000_000L))
            && await _frontEnd.RemoveMemoryAsync(Guest, User, Bytes);
    }

    public void SendJunkMessage()
    {
        byte[] junk = new byte[_random.Between(4, 60)];
        _random.Fill(junk);
        if (_random.OneIn(2)) { MemoryMarshal.Write(junk.AsSpan(), (uint)_random.Below(45)); }
        _frontEnd.SendRaw(junk);
    }

    /// <summary>Breaks a ring for good: only a reset or a new connection helps.</summary>
    public void BreakQueue()
    {
        GuestQueue queue = _queues[_random.Between(1, _requestQueueCount)];
        queue.RunAhead(GuestQueue.Size + 1 + _random.Below(1000));
        queue.SignalKick();
    }

    public void Dispose()
    {
        if (IsClosed) { return; }
        IsClosed = true;
        _frontEnd.Dispose();
        DropQueues();
        _ram.Dispose();
        LoseRequests();
    }

    private async IoTask<bool> StartQueuesAsync()
    {
        var queues = new GuestQueue[1 + _requestQueueCount];
        for (int i = 0; i < queues.Length; i++) { queues[i] = new GuestQueue(_ram, i, _features); }
        _queues = queues;
        foreach (GuestQueue queue in queues)
        {
            if (IsClosed || !await _frontEnd.StartQueueAsync(queue, 0)) { return false; }
            if (IsClosed) { return false; }
            _watches.Add(_world.Watch(queue.Call, 1, _ => _world.Schedule(_random.Below(20_000L), () => OnCall(queue))));
        }
        return await InitAsync();
    }

    private async IoTask<bool> InitAsync()
    {
        const FuseInitFlags Wanted = FuseInitFlags.ASYNC_READ | FuseInitFlags.BIG_WRITES | FuseInitFlags.MAX_PAGES | FuseInitFlags.ATOMIC_O_TRUNC
            | FuseInitFlags.DO_READDIRPLUS | FuseInitFlags.HANDLE_KILLPRIV_V2 | FuseInitFlags.PARALLEL_DIROPS;
        byte[] init = Wire.Bytes(new FuseInitIn(7, 38, 1 << 17, (uint)Wanted));
        FuseReply reply = await CallAsync(0, FuseOpcode.INIT, 0, init, replyBytes: 64);
        return !reply.IsLost && reply.Errno == Errno.None;
    }

    /// <summary>Cuts a request into descriptors somewhere, as drivers do in their various ways.</summary>
    private List<QueueDescriptor> Lay(Share share, int requestBytes, int payloadBytes, int replyBytes)
    {
        var chain = new List<QueueDescriptor>();
        Cut(chain, share.Request, requestBytes, 0, _random.OneIn(2) ? FuseInHeader.Size : requestBytes);
        Cut(chain, share.Payload, payloadBytes, 0, CutPoint(payloadBytes));
        if (share.ReplyRoom > 0)
        {
            Cut(chain, share.Reply, FuseOutHeader.Size, QueueDescriptor.IsWritable, FuseOutHeader.Size);
            Cut(chain, share.ReplyBody, replyBytes, QueueDescriptor.IsWritable, CutPoint(replyBytes));
        }
        return chain;
    }

    private int CutPoint(int length) => length < 2 || _random.OneIn(2) ? length : _random.OneIn(2) ? Math.Min(4096, length) : 1 + _random.Below(length - 1);

    private static void Cut(List<QueueDescriptor> chain, int at, int length, ushort flags, int firstBytes)
    {
        if (length == 0) { return; }
        chain.Add(new QueueDescriptor(GuestRam.Guest(at), (uint)firstBytes, flags, 0));
        if (firstBytes < length) { chain.Add(new QueueDescriptor(GuestRam.Guest(at + firstBytes), (uint)(length - firstBytes), flags, 0)); }
    }

    private void Submit(GuestQueue queue, Share share, List<QueueDescriptor> chain)
    {
        int head = share.Index * GuestQueue.DescriptorsPerShare;
        if ((_features & VirtioFeatures.IndirectDesc) != 0 && _random.OneIn(2))
        {
            for (int i = 0; i < chain.Count; i++)
            {
                bool isLast = i == chain.Count - 1;
                _ram.Write(share.Area + (i * QueueDescriptor.Size), chain[i] with { Flags = (ushort)(chain[i].Flags | (isLast ? 0 : QueueDescriptor.HasNext)), Next = (ushort)(i + 1) });
            }
            queue.SetDescriptor(head, new QueueDescriptor(GuestRam.Guest(share.Area), (uint)(chain.Count * QueueDescriptor.Size), QueueDescriptor.IsIndirect, 0));
        }
        else
        {
            for (int i = 0; i < chain.Count; i++)
            {
                bool isLast = i == chain.Count - 1;
                queue.SetDescriptor(head + i, chain[i] with { Flags = (ushort)(chain[i].Flags | (isLast ? 0 : QueueDescriptor.HasNext)), Next = (ushort)(head + i + 1) });
            }
        }
        share.AvailableIndex = queue.NextAvailable;
        if (!queue.Add(head)) { return; }
        if (_random.OneIn(2)) { queue.SignalKick(); }
        else { _world.Schedule(_random.Below(30_000L), () => { if (!IsClosed && _queues.Contains(queue)) { queue.SignalKick(); } }); }
    }

    private void OnCall(GuestQueue queue)
    {
        if (!IsClosed && _queues.Contains(queue)) { TakeReplies(queue); }
    }

    private void TakeReplies(GuestQueue queue)
    {
        while (queue.TryTakeUsed(out int head, out int length))
        {
            Share? share = _shares.FirstOrDefault(s => s.Index * GuestQueue.DescriptorsPerShare == head && s.Queue == queue);
            if (share?.Waiter is not { } waiter)
            {
                _fail($"queue {queue.Index} gives back chain {head}, which it was not given");
                return;
            }
            FuseReply reply = Decode(share, length);
            share.Waiter = null;
            waiter.Complete(reply);
            if (IsClosed) { return; }
        }
    }

    private FuseReply Decode(Share share, int length)
    {
        if (share.ReplyRoom == 0)
        {
            if (length != 0) { _fail($"{length} bytes were written to a chain without room"); }
            return new FuseReply(false, Errno.None, []);
        }
        if (length < FuseOutHeader.Size || length > share.ReplyRoom)
        {
            _fail($"a reply of {length} bytes in {share.ReplyRoom} bytes of room");
            return FuseReply.Lost;
        }
        FuseOutHeader header = _ram.Read<FuseOutHeader>(share.Reply);
        bool isSane = header.Length == (uint)length && header.Unique == share.Unique && header.Error is <= 0 and > -4096 && (header.Error == 0 || length == FuseOutHeader.Size);
        if (!isSane) { _fail($"a reply's header is {header}, but the request was {share.Unique} and {length} bytes came"); }
        return new FuseReply(false, (Errno)(-header.Error), _ram.At(share.ReplyBody, length - FuseOutHeader.Size).ToArray());
    }

    private void LoseRequests()
    {
        foreach (Share share in _shares)
        {
            if (share.Waiter is not { } waiter) { continue; }
            share.Waiter = null;
            _world.Schedule(0, () => waiter.Complete(FuseReply.Lost)); // not inline: whoever waits would go on in the middle of this
        }
    }

    private void DropQueues()
    {
        foreach (IDisposable watch in _watches) { watch.Dispose(); }
        _watches.Clear();
        foreach (GuestQueue queue in _queues) { queue.Dispose(); }
        _queues = [];
    }

    /// <summary>The memory and the descriptors for one request at a time.</summary>
    private sealed class Share(int index)
    {
        public int Index => index;

        /// <summary>An indirect table, the request, its payload, the reply's header and its body, one after another.</summary>
        public int Area { get; set; }

        public int Request => Area + 4096;

        public int Payload => Request + HeaderAreaBytes;

        public int Reply => Payload + MaxPayloadBytes;

        public int ReplyBody => Reply + HeaderAreaBytes;

        public int ReplyRoom { get; set; }

        public ulong Unique { get; set; }

        public ushort AvailableIndex { get; set; }

        public GuestQueue? Queue { get; set; }

        public IoCompletion<FuseReply>? Waiter { get; set; }

        /// <summary>The device that will look at <paramref name="next"/> next has taken this one.</summary>
        public bool IsTaken(ushort next) => (short)(AvailableIndex - next) < 0;
    }
}
