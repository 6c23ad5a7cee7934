using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>One connection with a front-end: negotiation and configuration, message by message (QEMU docs/interop/vhost-user.rst).</summary>
/// <remarks>
/// A message has exactly the payload and the descriptors of its kind. One that is refused is answered with a non-zero acknowledgement if
/// the front-end asked for one and negotiated REPLY_ACK; otherwise the connection ends, because the front-end would go on as if it had been obeyed. A message
/// that breaks the framing, and one whose natural answer cannot be given, ends it too. Messages are handled strictly one after another.
/// </remarks>
internal sealed class VhostUserSession
{
    private const VirtioFeatures TransportFeatures =
        VirtioFeatures.Version1 | VirtioFeatures.EventIdx | VirtioFeatures.IndirectDesc | VirtioFeatures.RingPacked | VirtioFeatures.ProtocolFeatures;

    private const VhostUserProtocolFeatures CommonProtocolFeatures =
        VhostUserProtocolFeatures.MultiQueue | VhostUserProtocolFeatures.ReplyAck | VhostUserProtocolFeatures.BackendReq
        | VhostUserProtocolFeatures.ResetDevice | VhostUserProtocolFeatures.ConfigureMemSlots;

    /// <summary>Regions in one SET_MEM_TABLE (VHOST_MEMORY_BASELINE_NREGIONS).</summary>
    private const int MaxTableRegions = 8;

    /// <summary>Messages handled before other work of the reactor has its turn.</summary>
    private const int MessagesPerRound = 32;

    /// <summary>A front-end must not fill the log.</summary>
    private const int MaxRefusalsLogged = 16;

    private const short PollIn = 1, PollRdHup = 0x2000;

    private readonly Reactor.Reactor _reactor;
    private readonly MessageSocket _socket;
    private readonly QueueServer _queues;
    private readonly VhostUserDevice _device;
    private readonly string _name;
    private readonly VhostLog _log;
    private VhostUserProtocolFeatures _protocolFeatures;
    private SafeFd? _backendRequestFd;
    private IoHandle _waiting;
    private bool _isWaiting;
    private string? _failure;
    private string _refusal = "";
    private int _refusalCount;

    public VhostUserSession(Reactor.Reactor reactor, SafeFd socket, VhostUserDevice device, string name, VhostLog log, CallCoalescing? coalescing = null)
    {
        _reactor = reactor;
        _socket = new MessageSocket(socket);
        _device = device;
        _name = name;
        _log = log;
        _queues = new QueueServer(reactor, device, name, log, Fail, coalescing);
        device.ConfigChanged = SendConfigChange;
    }

    private VirtioFeatures OfferedFeatures => TransportFeatures | _device.Features | (_device.CanMigrate ? VirtioFeatures.LogAll : 0);

    private VhostUserProtocolFeatures OfferedProtocolFeatures => CommonProtocolFeatures | (_device.HasConfig ? VhostUserProtocolFeatures.Config : 0)
        | (_device.CanResume ? VhostUserProtocolFeatures.InflightShmFd : 0) | (_device.CanMigrate ? VhostUserProtocolFeatures.LogShmFd : 0);

    private bool HasLog => (_protocolFeatures & VhostUserProtocolFeatures.LogShmFd) != 0;

    private bool IsPacked => (_queues.Features & VirtioFeatures.RingPacked) != 0;

    /// <summary>The session ended, or is ending, because the front-end took guest memory away.</summary>
    public bool IsMemoryLost => _queues.IsMemoryLost;

    /// <summary>Queues that the driver has set up and kicked.</summary>
    public int RunningQueues => _queues.RunningCount;

    public int InFlight => _queues.InFlight;

    /// <summary>The front-end has gone, or has been sent away; requests of its may still be under way.</summary>
    public bool IsLeaving => _failure is not null || FileCalls.Poll(_socket.Socket, PollRdHup, timeoutMs: 0) is { IsError: true } or { Value: > 0 };

    /// <summary>Serves the connection to its end and cleans up: nothing of the front-end is left when this completes.</summary>
    public async IoTask<bool> RunAsync()
    {
        int round = 0;
        while (_failure is null)
        {
            Errno received = _socket.TryReceive();
            if (received == Errno.None)
            {
                await HandleAsync();
                _socket.Finish();
                if (++round % MessagesPerRound != 0) { continue; }
            }
            else if (received != Errno.EAGAIN)
            {
                bool isPlainEnd = received is Errno.EPIPE or Errno.ECONNRESET;
                if (!isPlainEnd) { Fail($"bad message: {received}"); }
                break;
            }
            await WaitAsync();
        }
        if (_failure is not null) { _log(VhostLogLevel.Warning, $"{_name}: connection closed: {_failure}"); }
        await _queues.CloseAsync();
        _backendRequestFd?.Dispose();
        _socket.Dispose();
        return true;
    }

    /// <summary>Ends the connection soon, for a reason worth a line in the log.</summary>
    public void Fail(string reason)
    {
        if (_failure is not null) { return; }
        _failure = reason;
        if (_isWaiting) { _reactor.Descriptors.CancelAsync(_waiting).Detach(); }
    }

    private async IoTask<bool> WaitAsync()
    {
        _isWaiting = true;
        await _reactor.Descriptors.PollAsync(_socket.Socket, PollIn | PollRdHup, out _waiting);
        _isWaiting = false;
        return true;
    }

    private async IoTask<bool> HandleAsync()
    {
        MessageHeader header = _socket.Header;
        _refusal = "";
        bool wantsAck = (header.Flags & MessageFlags.NeedReply) != 0;
        Errno result = await DispatchAsync(header.Id);
        bool answersItself = AnswersItself(header.Id);
        // Asked after the message: SET_PROTOCOL_FEATURES may itself negotiate acknowledgements.
        wantsAck &= !answersItself && (_protocolFeatures & VhostUserProtocolFeatures.ReplyAck) != 0;
        if (wantsAck)
        {
            if (result != Errno.None && ++_refusalCount <= MaxRefusalsLogged) { _log(VhostLogLevel.Warning, $"{_name}: refused {header.Id}: {result} {_refusal}"); }
            ulong status = result == Errno.None ? 0UL : 1UL;
            Answer(status);
        }
        else if (result != Errno.None) { Fail($"refused {header.Id}: {result} {_refusal}"); }
        return true;
    }

    private bool AnswersItself(MessageId id) => id
        is MessageId.GetFeatures or MessageId.GetProtocolFeatures or MessageId.GetQueueNum
        or MessageId.GetVringBase or MessageId.GetMaxMemSlots or MessageId.GetConfig or MessageId.GetInflightFd
        || (id == MessageId.SetLogBase && HasLog);

    /// <summary>One line per message: its exact payload, its descriptors, its method.</summary>
    private IoTask<Errno> DispatchAsync(MessageId id) => id switch
    {
        MessageId.GetFeatures => Now(Has(0, 0) ? Answer((ulong)OfferedFeatures) : Errno.EINVAL),
        MessageId.SetFeatures => Now(Has(8, 0) ? SetFeatures((VirtioFeatures)Read<ulong>()) : Errno.EINVAL),
        MessageId.SetOwner => Now(Has(0, 0) ? Errno.None : Errno.EINVAL),
        MessageId.ResetOwner => Now(Has(0, 0) ? Errno.None : Errno.EINVAL), // obsolete; the specification lets it be ignored
        MessageId.SetMemTable => SetMemTableAsync(),
        MessageId.SetLogBase => Now(HasLog ? SetLogBase() : Errno.EOPNOTSUPP),
        MessageId.SetLogFd => Now(_device.CanMigrate ? SetLogFd() : Errno.EOPNOTSUPP),
        MessageId.SetVringNum => Now(Has(VringState.Size, 0) ? SetVringNum(Read<VringState>()) : Errno.EINVAL),
        MessageId.SetVringAddr => Now(Has(VringAddress.Size, 0) ? SetVringAddr(Read<VringAddress>()) : Errno.EINVAL),
        MessageId.SetVringBase => Now(Has(VringState.Size, 0) ? SetVringBase(Read<VringState>()) : Errno.EINVAL),
        MessageId.GetVringBase => Has(VringState.Size, 0) ? GetVringBaseAsync(Read<VringState>()) : Now(Errno.EINVAL),
        MessageId.SetVringKick => Now(SetVringFd(MessageId.SetVringKick)),
        MessageId.SetVringCall => Now(SetVringFd(MessageId.SetVringCall)),
        MessageId.SetVringErr => Now(SetVringFd(MessageId.SetVringErr)),
        MessageId.GetProtocolFeatures => Now(Has(0, 0) ? Answer((ulong)OfferedProtocolFeatures) : Errno.EINVAL),
        MessageId.SetProtocolFeatures => Now(Has(8, 0) ? SetProtocolFeatures((VhostUserProtocolFeatures)Read<ulong>()) : Errno.EINVAL),
        MessageId.GetQueueNum => Now(Has(0, 0) ? Answer(QueueServer.MaxQueues) : Errno.EINVAL),
        MessageId.SetVringEnable => Now(Has(VringState.Size, 0) ? SetVringEnable(Read<VringState>()) : Errno.EINVAL),
        MessageId.SetBackendReqFd => Now(Has(0, 1) ? SetBackendRequestFd() : Errno.EINVAL),
        MessageId.GetConfig => Now(_device.HasConfig ? GetConfig() : Errno.EOPNOTSUPP),
        MessageId.SetConfig => Now(_device.HasConfig ? SetConfig() : Errno.EOPNOTSUPP),
        MessageId.GetInflightFd => Now(_device.CanResume ? GetInflightFd() : Errno.EOPNOTSUPP),
        MessageId.SetInflightFd => Now(_device.CanResume ? SetInflightFd() : Errno.EOPNOTSUPP),
        MessageId.ResetDevice => Has(0, 0) ? ResetDeviceAsync() : Now(Errno.EINVAL),
        MessageId.GetMaxMemSlots => Now(Has(0, 0) ? Answer(GuestMemory.MaxRegions) : Errno.EINVAL),
        MessageId.AddMemReg => Now(Has(8 + MemoryRegion.Size, 1) ? AddMemReg(Read<MemoryRegion>(8)) : Errno.EINVAL),
        MessageId.RemMemReg => RemMemRegAsync(),
        _ => Now(Errno.EOPNOTSUPP),
    };

    private Errno SetFeatures(VirtioFeatures features)
    {
        if ((features & ~OfferedFeatures) != 0) { return Refuse(Errno.EINVAL, "features that were not offered"); }
        _queues.Features = features;
        if ((features & VirtioFeatures.ProtocolFeatures) == 0) { _queues.EnableAll(); }
        return Errno.None;
    }

    private Errno SetProtocolFeatures(VhostUserProtocolFeatures features)
    {
        if ((features & ~OfferedProtocolFeatures) != 0) { return Refuse(Errno.EINVAL, "protocol features that were not offered"); }
        _protocolFeatures = features;
        return Errno.None;
    }

    private async IoTask<Errno> SetMemTableAsync()
    {
        if (_socket.Payload.Length < 8) { return Errno.EINVAL; }
        uint count = Read<uint>();
        if (count > MaxTableRegions) { return Refuse(Errno.EINVAL, $"{count} regions in one table"); }
        if (!Has(8 + ((int)count * MemoryRegion.Size), (int)count)) { return Errno.EINVAL; }
        await _queues.PauseAsync();
        _queues.Memory.Clear();
        Errno result = Errno.None;
        for (int i = 0; i < count && result == Errno.None; i++) { result = Map(i, Read<MemoryRegion>(8 + (i * MemoryRegion.Size))); }
        if (result != Errno.None) { _queues.Memory.Clear(); } // all or nothing
        _queues.Resume();
        return result;
    }

    private Errno AddMemReg(MemoryRegion region) => Map(0, region);

    private async IoTask<Errno> RemMemRegAsync()
    {
        // Old QEMU sends the region's descriptor along here too; the specification lets us close it.
        if (_socket.Payload.Length != 8 + MemoryRegion.Size || _socket.FdCount > 1) { return Errno.EINVAL; }
        MemoryRegion region = Read<MemoryRegion>(8);
        await _queues.PauseAsync();
        Errno removed = _queues.Memory.Remove(Describe(region));
        _queues.Resume();
        return removed;
    }

    private Errno Map(int fdIndex, MemoryRegion region)
    {
        using SafeFd fd = _socket.TakeFd(fdIndex);
        Errno added = _queues.Memory.Add(fd, Describe(region), out string reason);
        return added == Errno.None ? added : Refuse(added, $"memory region at {region.GuestAddress:x}: {reason}");
    }

    private static GuestRegion Describe(MemoryRegion region) => new(region.GuestAddress, region.SizeBytes, region.UserAddress, region.MmapOffset);

    private Errno SetVringNum(VringState state)
    {
        if (_queues.Ring(state.Index) is not { } ring) { return Refuse(Errno.EINVAL, $"no queue {state.Index}"); }
        // A packed ring may be of any size (virtio 1.2, 2.8).
        if (state.Value is 0 or > Virtqueue.MaxSize || (!IsPacked && !uint.IsPow2(state.Value))) { return Refuse(Errno.EINVAL, $"queue size {state.Value}"); }
        if (ring.Queue.IsRunning) { return Refuse(Errno.EBUSY, "the queue is running"); }
        ring.Size = (int)state.Value;
        return Errno.None;
    }

    private Errno SetVringAddr(VringAddress address)
    {
        if (_queues.Ring(address.Index) is not { } ring) { return Refuse(Errno.EINVAL, $"no queue {address.Index}"); }
        var addresses = new RingAddresses(address.Descriptors, address.Used, address.Available);
        if ((address.Flags & ~(_device.CanMigrate ? VringAddress.FlagLog : 0)) != 0) { return Refuse(Errno.EINVAL, $"flags {address.Flags:x}"); }
        if (!addresses.IsAligned(IsPacked)) { return Refuse(Errno.EINVAL, "the ring is not aligned"); }
        if (ring.Queue.IsRunning && ring.Addresses != addresses) { return Refuse(Errno.EBUSY, "the queue is running"); }
        ring.Queue.LogAddress = (address.Flags & VringAddress.FlagLog) != 0 ? address.Log : null; // also of a ring that runs
        if (ring.Queue.IsRunning) { return Errno.None; }
        ring.Addresses = addresses;
        ring.IsReported = false;
        return Errno.None;
    }

    private Errno SetVringBase(VringState state)
    {
        if (_queues.Ring(state.Index) is not { } ring) { return Refuse(Errno.EINVAL, $"no queue {state.Index}"); }
        if (!IsPacked && state.Value > ushort.MaxValue) { return Refuse(Errno.EINVAL, $"index {state.Value}"); }
        if (ring.Queue.IsRunning) { return Refuse(Errno.EBUSY, "the queue is running"); }
        ring.Base = state.Value;
        return Errno.None;
    }

    private async IoTask<Errno> GetVringBaseAsync(VringState state)
    {
        if (_queues.Ring(state.Index) is not { } ring) { return Refuse(Errno.EINVAL, $"no queue {state.Index}"); }
        bool wasRunning = ring.Queue.IsRunning;
        uint @base = await _queues.StopAsync(ring);
        Errno answered = Answer(state.Index | ((ulong)@base << 32));
        // Not before: whoever is killed in between leaves the record or the answer.
        if (wasRunning && ring.Queue.HasReturnedAll) { _queues.Inflight?.Forget(ring.Index); }
        return answered;
    }

    private Errno SetLogBase()
    {
        if (!Has(LogDescription.Size, 1)) { return Errno.EINVAL; }
        LogDescription description = Read<LogDescription>();
        using SafeFd fd = _socket.TakeFd(0);
        Errno mapped = DirtyLog.TryMap(_queues.Memory, fd, description.Offset, description.SizeBytes, out DirtyLog? log, out string reason);
        if (mapped != Errno.None) { return Refuse(mapped, $"log of {description.SizeBytes} bytes: {reason}"); }
        _queues.ReplaceLog(log!);
        return Answer(0);
    }

    private Errno SetLogFd()
    {
        if (!Has(0, 1)) { return Errno.EINVAL; }
        if (!TryTakeEventFd(out SafeFd? fd)) { return Refuse(Errno.EINVAL, "not an eventfd"); }
        _queues.LogSignal.Replace(fd);
        return Errno.None;
    }

    private Errno SetVringFd(MessageId id)
    {
        if (_socket.Payload.Length != 8) { return Errno.EINVAL; }
        var payload = new VringFdPayload(Read<ulong>());
        if (!payload.IsValid || !Has(8, payload.HasNoFd ? 0 : 1)) { return Refuse(Errno.EINVAL, "descriptor count"); }
        if (_queues.Ring((uint)payload.Index) is not { } ring) { return Refuse(Errno.EINVAL, $"no queue {payload.Index}"); }
        SafeFd? fd = null;
        if (!payload.HasNoFd && !TryTakeEventFd(out fd)) { return Refuse(Errno.EINVAL, "not an eventfd"); }
        switch (id)
        {
            case MessageId.SetVringKick when fd is null:
                return Refuse(Errno.EOPNOTSUPP, "a queue without a kick descriptor would have to be polled");
            case MessageId.SetVringKick:
                ring.SetKick(fd);
                _queues.Serve(ring);
                break;
            case MessageId.SetVringCall:
                ring.Call.Replace(fd);
                // QEMU gives a descriptor that nobody listens to, starts the ring, and then gives the real one: a call in between would never be heard.
                if (ring.Queue.TryRepeatCall()) { ring.PostCall(); }
                break;
            default:
                ring.Error.Replace(fd);
                break;
        }
        return Errno.None;
    }

    private bool TryTakeEventFd(out SafeFd? fd)
    {
        fd = _socket.TakeFd(0);
        // An anonymous inode has no file type. Pipes, files, sockets and directories are no eventfds.
        if (FileCalls.Status(fd, out FileStatus status) == Errno.None && (status.Mode & 0xF000) == 0) { return true; }
        fd.Dispose();
        fd = null;
        return false;
    }

    private Errno SetVringEnable(VringState state)
    {
        if (_queues.Ring(state.Index) is not { } ring) { return Refuse(Errno.EINVAL, $"no queue {state.Index}"); }
        if (state.Value > 1) { return Refuse(Errno.EINVAL, $"enable {state.Value}"); }
        ring.IsEnabled = state.Value == 1;
        _queues.Serve(ring); // what was made available while it was disabled
        return Errno.None;
    }

    private Errno SetBackendRequestFd()
    {
        _backendRequestFd?.Dispose();
        _backendRequestFd = _socket.TakeFd(0); // kept open, so that the front-end sees it close with the session
        return Errno.None;
    }

    private Errno GetConfig()
    {
        if (!TryReadConfigRange(out ConfigRange range)) { return Answer([]); } // an empty answer says that there is none
        Span<byte> space = stackalloc byte[ConfigRange.SpaceBytes];
        space.Clear();
        _device.ReadConfig(space);
        Span<byte> reply = stackalloc byte[ConfigRange.Size + ConfigRange.SpaceBytes];
        MemoryMarshal.Write(reply, range);
        space.Slice((int)range.Offset, (int)range.SizeBytes).CopyTo(reply[ConfigRange.Size..]);
        return Answer(reply[..(ConfigRange.Size + (int)range.SizeBytes)]);
    }

    private Errno SetConfig()
    {
        if (!TryReadConfigRange(out ConfigRange range)) { return Refuse(Errno.EINVAL, "a range that is not inside the configuration space"); }
        Errno written = _device.WriteConfig(_queues.Features, (int)range.Offset, _socket.Payload[ConfigRange.Size..]);
        return written == Errno.None ? written : Refuse(written, "this part of the configuration space is read-only, or the value is none");
    }

    private bool TryReadConfigRange(out ConfigRange range)
    {
        range = _socket.Payload.Length >= ConfigRange.Size ? Read<ConfigRange>() : default;
        return range.SizeBytes is > 0 and <= ConfigRange.SpaceBytes && range.Offset <= ConfigRange.SpaceBytes - range.SizeBytes && Has(ConfigRange.Size + (int)range.SizeBytes, 0);
    }

    // Not waited for: what does not fit into the socket says nothing that is not waiting there already.
    private void SendConfigChange()
    {
        if (_backendRequestFd is null || (_protocolFeatures & VhostUserProtocolFeatures.Config) == 0) { return; }
        var message = new MessageHeader((MessageId)BackendMessageId.ConfigChange, MessageFlags.Version1, 0);
        UnixSocket.Send(_backendRequestFd, MemoryMarshal.AsBytes(new ReadOnlySpan<MessageHeader>(in message)), []);
    }

    // A new area; the front-end gives it back with SET_INFLIGHT_FD, to us or to whoever serves it next.
    private Errno GetInflightFd()
    {
        if (!TryReadInflight(out InflightDescription wanted, fdCount: 0)) { return Refuse(Errno.EINVAL, "no number of queues, or of entries, that there may be"); }
        Errno made = InflightArea.Create(wanted.QueueCount, wanted.QueueSize, IsPacked, out SafeFd area);
        using (area)
        {
            if (made != Errno.None) { return Refuse(made, "no memory to write down what is in flight"); }
            Span<byte> reply = stackalloc byte[InflightDescription.PaddedSize];
            reply.Clear();
            MemoryMarshal.Write(reply, wanted with { SizeBytes = (ulong)InflightArea.BytesFor(wanted.QueueCount, wanted.QueueSize, IsPacked), Offset = 0 });
            return Answer(reply[.._socket.Payload.Length], area.Fd);
        }
    }

    private Errno SetInflightFd()
    {
        if (!TryReadInflight(out InflightDescription given, fdCount: 1)) { return Refuse(Errno.EINVAL, "not an area for what is in flight"); }
        using SafeFd fd = _socket.TakeFd(0);
        Errno mapped = InflightArea.TryMap(_queues.Memory, fd, given.Offset, given.SizeBytes, given.QueueCount, given.QueueSize, IsPacked, out InflightArea? area, out string reason);
        if (mapped != Errno.None) { return Refuse(mapped, reason); }
        Errno replaced = _queues.ReplaceInflight(area!);
        if (replaced == Errno.None) { return Errno.None; }
        area!.Dispose();
        return Refuse(replaced, "a queue is running");
    }

    private bool TryReadInflight(out InflightDescription description, int fdCount)
    {
        description = default;
        if (_socket.Payload.Length is not (InflightDescription.Size or InflightDescription.PaddedSize) || _socket.FdCount != fdCount) { return false; }
        description = new InflightDescription(Read<ulong>(), Read<ulong>(8), Read<ushort>(16), Read<ushort>(18));
        return InflightArea.IsValid(description.QueueCount, description.QueueSize);
    }

    private async IoTask<Errno> ResetDeviceAsync()
    {
        await _queues.ResetAsync();
        return Errno.None;
    }

    private Errno Answer(ulong value) => Answer(MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in value)));

    private Errno Answer(ReadOnlySpan<byte> payload, params ReadOnlySpan<int> fds)
    {
        Errno sent = _socket.Reply(payload, fds);
        if (sent != Errno.None) { Fail($"the front-end does not take answers: {sent}"); }
        return Errno.None;
    }

    private Errno Refuse(Errno errno, string why)
    {
        _refusal = why;
        return errno;
    }

    private bool Has(int payloadBytes, int fdCount)
    {
        bool exact = _socket.Payload.Length == payloadBytes && _socket.FdCount == fdCount;
        if (!exact) { _refusal = $"{_socket.Payload.Length} bytes and {_socket.FdCount} descriptors; {payloadBytes} and {fdCount} expected"; }
        return exact;
    }

    private T Read<T>(int offset = 0)
        where T : unmanaged => MemoryMarshal.Read<T>(_socket.Payload[offset..]);

    private static IoTask<Errno> Now(Errno result) => new(result);
}
