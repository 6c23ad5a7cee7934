using System.Buffers.Binary;
using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>virtio-scsi behind one connection (virtio 1.2, 5.6): queue 0 is control, queue 1 events, all others carry commands.</summary>
/// <remarks>
/// Invariants: what a driver asks for is inside the bdev as it is then, or nothing is done; every chain is answered once; a bdev is not touched any more when its
/// target has been removed. Requests are pooled; the pool grows to what was in flight at once and shrinks at a reset.
/// </remarks>
public sealed class VhostUserScsiDevice : VhostUserDevice
{
    private const int DefaultSenseBytes = 96, DefaultCdbBytes = 32, MinCdbBytes = 16, MaxCdbBytes = 255;
    private const int FixedQueues = 2; // control and events
    private const uint SegMax = 126; // header, answer and payload within QEMU's 128 entries
    private const uint CommandsPerLun = 128;
    private const uint MaxLun = 16383;

    private readonly ScsiTargets _targets;
    private readonly string _initiator;
    private readonly int _maxInFlight;
    private readonly VhostLog _log;
    private readonly ScsiNexus?[] _nexuses = new ScsiNexus?[ScsiTargets.Count];
    private readonly ScsiEventQueue _events = new();
    private ScsiRequest? _free;
    private ScsiControlRequest? _freeControl;
    private int _inFlight;
    private bool _hasReportedBug;

    /// <param name="targets">Shared with others, and with those who come after this connection.</param>
    /// <param name="initiator">Who is connected, beyond the connection: persistent reservations are his.</param>
    /// <param name="maxInFlight">Commands under way at once; more wait in their rings. Task management is not counted.</param>
    public VhostUserScsiDevice(ScsiTargets targets, string initiator, VhostLog log, int maxInFlight = 1024)
    {
        _targets = targets;
        _initiator = initiator;
        _log = log;
        _maxInFlight = maxInFlight;
        for (int i = 0; i < ScsiTargets.Count; i++) { _nexuses[i] = targets[i]?.Attach(initiator); }
        targets.Attach(this);
    }

    internal int SenseBytes { get; private set; } = DefaultSenseBytes;

    internal int CdbBytes { get; private set; } = DefaultCdbBytes;

    internal override VirtioFeatures Features => (VirtioFeatures)(ScsiFeatures.Hotplug | ScsiFeatures.Change);

    internal override bool HasConfig => true;

    /// <summary>Reads, writes and the rest give the same result a second time; registrations, which might not, are gone with the process, and the unit attention of a new connection says so.</summary>
    internal override bool CanResume => true;

    internal override void ReadConfig(Span<byte> space)
    {
        var config = new ScsiConfig(QueueServer.MaxQueues - FixedQueues, SegMax, ScsiInquiry.MaxTransferBytes / 512, CommandsPerLun, ScsiEvent.Size,
            (uint)SenseBytes, (uint)CdbBytes, MaxChannel: 0, MaxTarget: ScsiTargets.Count - 1, MaxLun);
        MemoryMarshal.Write(space, config);
    }

    internal override Errno WriteConfig(VirtioFeatures negotiated, int offset, ReadOnlySpan<byte> bytes)
    {
        int senseBytes = SenseBytes, cdbBytes = CdbBytes;
        switch ((offset, bytes.Length))
        {
            case (ScsiConfig.SenseSizeOffset, 4):
                senseBytes = ReadSize(bytes);
                break;
            case (ScsiConfig.CdbSizeOffset, 4):
                cdbBytes = ReadSize(bytes);
                break;
            case (ScsiConfig.SenseSizeOffset, 8):
                (senseBytes, cdbBytes) = (ReadSize(bytes), ReadSize(bytes[4..]));
                break;
            default:
                return Errno.EPERM;
        }
        if (senseBytes is < 0 or > ScsiRequest.MaxSenseBytes || cdbBytes is < MinCdbBytes or > MaxCdbBytes) { return Errno.EINVAL; }
        (SenseBytes, CdbBytes) = (senseBytes, cdbBytes);
        return Errno.None;
    }

    internal override bool HasRoom(VhostUserRing ring) => ring.Index < FixedQueues || _inFlight < _maxInFlight;

    internal override bool WantsChains(VhostUserRing ring) => ring.Index != ScsiEventQueue.Index || _events.WantsBuffer;

    internal override PopResult TakeOne(QueueServer server, VhostUserRing ring) => ring.Index switch
    {
        0 => TakeControl(server, ring),
        ScsiEventQueue.Index => _events.TakeOne(server, ring),
        _ => TakeCommand(server, ring),
    };

    /// <summary>Null: there is no such target.</summary>
    internal ScsiNexus? FindNexus(ScsiAddress address) => (uint)address.Target < ScsiTargets.Count ? _nexuses[address.Target] : null;

    internal void Added(ScsiTarget target)
    {
        _nexuses[target.Number] = target.Attach(_initiator);
        Raise(ScsiFeatures.Hotplug, ScsiEvent.Added(target.Number));
    }

    internal void Removed(ScsiTarget target)
    {
        if (_nexuses[target.Number] is { } nexus) { target.Detach(nexus); }
        _nexuses[target.Number] = null;
        Raise(ScsiFeatures.Hotplug, ScsiEvent.Removed(target.Number));
    }

    internal void Resized(ScsiTarget target) => Raise(ScsiFeatures.Change, ScsiEvent.Changed(target.Number, ScsiSense.CapacityChanged));

    internal void Return(ScsiRequest request)
    {
        request.Readable.Clear();
        request.Writable.Clear();
        _inFlight--;
        request.Next = _free;
        _free = request;
    }

    internal void Return(ScsiControlRequest request)
    {
        request.Readable.Clear();
        request.Writable.Clear();
        if (_freeControl is null) { _freeControl = request; }
        else { request.Dispose(); }
    }

    /// <summary>The request is answered with an error, and the disk goes on.</summary>
    internal void ReportBug(Exception bug)
    {
        if (_hasReportedBug) { return; }
        _hasReportedBug = true;
        _log(VhostLogLevel.Error, $"{_initiator}: a request failed because of a bug, please report it: {bug}");
    }

    internal override void Reset()
    {
        (SenseBytes, CdbBytes) = (DefaultSenseBytes, DefaultCdbBytes);
        _events.Forget();
        foreach (ScsiNexus? nexus in _nexuses) { nexus?.Raise(ScsiUnitAttention.PowerOn); }
        while (_free is { } request)
        {
            _free = request.Next;
            request.Dispose();
        }
    }

    internal override void Close()
    {
        _targets.Detach(this);
        Reset();
        foreach (ScsiNexus? nexus in _nexuses) { nexus?.Target.Detach(nexus); }
        Array.Clear(_nexuses);
        _freeControl?.Dispose();
        _events.Dispose();
    }

    private PopResult TakeCommand(QueueServer server, VhostUserRing ring)
    {
        ScsiRequest request = _free ??= new ScsiRequest(this);
        PopResult result = ring.Queue.Pop(request.Readable, request.Writable, out ushort head);
        if (result != PopResult.Chain) { return result; }
        _free = request.Next;
        request.Next = null;
        _inFlight++;
        server.Memory.AddUser();
        request.RunAsync(server, ring, head).Detach();
        return result;
    }

    private PopResult TakeControl(QueueServer server, VhostUserRing ring)
    {
        ScsiControlRequest request = _freeControl ??= new ScsiControlRequest(this);
        PopResult result = ring.Queue.Pop(request.Readable, request.Writable, out ushort head);
        if (result != PopResult.Chain) { return result; }
        _freeControl = null;
        server.Memory.AddUser();
        request.RunAsync(server, ring, head).Detach();
        return result;
    }

    // Before a driver has said that it knows events there is nobody to tell.
    private void Raise(ScsiFeatures needed, ScsiEvent happened)
    {
        if (Queues is { } queues && ((ScsiFeatures)queues.Features & needed) != 0) { _events.Raise(queues, happened); }
    }

    private static int ReadSize(ReadOnlySpan<byte> bytes) => (int)Math.Min(BinaryPrimitives.ReadUInt32LittleEndian(bytes), int.MaxValue);
}
