using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>virtio-blk behind one connection (virtio 1.2, 5.2): a bdev as a disk, every queue alike.</summary>
/// <remarks>
/// Invariants: what the driver asks for is inside the bdev as it is then, or nothing is done; a write is answered when the bdev has it, and in a
/// write-through session when it is durable. Requests are pooled; the pool grows to what was in flight at once and shrinks at a reset.
/// Several devices may be on one bdev: who writes where is for the guests to settle, as on any shared disk.
/// </remarks>
/// <param name="bdev">Not owned; it is there until the session is over, or until <see cref="ReplaceBdevAsync"/> has completed.</param>
/// <param name="maxInFlight">Requests under way at once; more wait in their rings.</param>
public sealed class VhostUserBlkDevice : VhostUserDevice
{
    internal const int SectorBytes = 512;
    internal const int IdBytes = 20;

    /// <summary>Of one discard or write-zeroes request.</summary>
    internal const int MaxRanges = 32;

    /// <summary>1 GiB: what a bdev may be kept busy with by one range.</summary>
    internal const uint MaxRangeSectors = 1 << 21;

    // Without indirect tables a request and its two ends must fit into QEMU's 128 entries; all of it into Virtqueue.MaxChainBytes.
    private const uint SegMax = 126;
    private const uint SizeMax = 512 << 10;
    private const int PhysicalBlockBytes = 4096;

    private readonly bool _isReadOnly;
    private readonly int _maxInFlight;
    private readonly VhostLog _log;
    private readonly Action<long> _onResized;
    private readonly byte[] _id = new byte[IdBytes];
    private BlkRequest? _free;
    private IoCompletion<bool>? _idle;
    private int _inFlight;
    private bool _wantsWriteback = true;
    private bool _hasReportedBug;

    public VhostUserBlkDevice(IBdev bdev, VhostLog log, bool isReadOnly = false, int maxInFlight = 1024)
    {
        Bdev = bdev;
        _log = log;
        _isReadOnly = isReadOnly || bdev.IsReadOnly;
        _maxInFlight = maxInFlight;
        Encoding.UTF8.GetEncoder().Convert(bdev.Name, _id, flush: true, out _, out _, out _);
        _onResized = _ => ConfigChanged?.Invoke();
        bdev.Resized += _onResized;
    }

    /// <summary>Sectors of 512 bytes, whatever the bdev's block size is.</summary>
    internal ulong CapacitySectors => (ulong)(Bdev.SizeBytes / SectorBytes);

    internal IBdev Bdev { get; private set; }

    internal ReadOnlySpan<byte> Id => _id;

    internal bool CanWrite => !_isReadOnly;

    internal override bool HasConfig => true;

    internal override bool CanResume => true;

    internal override bool CanMigrate => true;

    internal override VirtioFeatures Features
    {
        get
        {
            BlkFeatures features = BlkFeatures.SizeMax | BlkFeatures.SegMax | BlkFeatures.BlkSize | BlkFeatures.Topology | BlkFeatures.Flush | BlkFeatures.ConfigWce | BlkFeatures.MultiQueue;
            if (_isReadOnly) { return (VirtioFeatures)(features | BlkFeatures.ReadOnly); }
            if (Bdev.SupportsUnmap) { features |= BlkFeatures.Discard; }
            return (VirtioFeatures)(features | BlkFeatures.WriteZeroes);
        }
    }

    internal override void ReadConfig(Span<byte> space)
    {
        int blockSectors = Bdev.BlockSize / SectorBytes;
        bool discards = CanWrite && Bdev.SupportsUnmap;
        var config = new BlkConfig(CapacitySectors, SizeMax, SegMax, 0, 0, 0, (uint)Bdev.BlockSize,
            PhysicalBlockExponent: (byte)BitOperations.Log2((uint)(PhysicalBlockBytes / Bdev.BlockSize)), AlignmentOffset: 0, MinIoBlocks: (ushort)(PhysicalBlockBytes / Bdev.BlockSize), OptimalIoBlocks: 0,
            Writeback: _wantsWriteback ? (byte)1 : (byte)0, 0, QueueServer.MaxQueues,
            discards ? MaxRangeSectors : 0, discards ? (uint)MaxRanges : 0, (uint)blockSectors,
            CanWrite ? MaxRangeSectors : 0, CanWrite ? (uint)MaxRanges : 0, WriteZeroesMayUnmap: discards && Bdev.UnmapReadsZero ? (byte)1 : (byte)0, 0, 0);
        MemoryMarshal.Write(space, config);
    }

    /// <summary>The cache mode (5.2.5): the driver of a session with CONFIG_WCE may change it at any time.</summary>
    internal override Errno WriteConfig(VirtioFeatures negotiated, int offset, ReadOnlySpan<byte> bytes)
    {
        if (!Has(negotiated, BlkFeatures.ConfigWce)) { return Errno.EPERM; }
        if (offset != BlkConfig.WritebackOffset || bytes is not [0 or 1]) { return Errno.EINVAL; }
        _wantsWriteback = bytes[0] == 1;
        return Errno.None;
    }

    /// <summary>A driver without FLUSH cannot ask for durability, and so has it with each write (5.2.6.2).</summary>
    internal bool IsWriteThrough(VirtioFeatures negotiated) =>
        Bdev.HasWriteCache && (!Has(negotiated, BlkFeatures.Flush) || (Has(negotiated, BlkFeatures.ConfigWce) && !_wantsWriteback));

    /// <summary>Everything from here on goes to another bdev of the same geometry (<see cref="GoneBdev"/>: it fails). Completes when nothing is under way on the old one. On the reactor.</summary>
    public async IoTask<bool> ReplaceBdevAsync(IBdev bdev)
    {
        Bdev.Resized -= _onResized;
        Bdev = bdev;
        bdev.Resized += _onResized;
        // What comes meanwhile is answered at once, so that this ends with those that were there before.
        while (_inFlight > 0)
        {
            _idle ??= new IoCompletion<bool>();
            await _idle.Task;
        }
        return true;
    }

    // Whatever ends makes its ring look again.
    internal override bool HasRoom(VhostUserRing ring) => _inFlight == 0 || (_inFlight < _maxInFlight && !Bdev.IsBehind);

    internal override PopResult TakeOne(QueueServer server, VhostUserRing ring)
    {
        BlkRequest request = _free ??= new BlkRequest(this);
        PopResult result = ring.Queue.Pop(request.Readable, request.Writable, out ushort head);
        if (result != PopResult.Chain) { return result; }
        _free = request.Next;
        request.Next = null;
        _inFlight++;
        server.Memory.AddUser();
        request.RunAsync(server, ring, head).Detach();
        return result;
    }

    internal void Return(BlkRequest request)
    {
        request.Readable.Clear();
        request.Writable.Clear();
        request.Next = _free;
        _free = request;
        if (--_inFlight == 0 && _idle is { IsAwaited: true } idle) { idle.Complete(true); }
    }

    /// <summary>The request is answered with an error, and the disk goes on.</summary>
    internal void ReportBug(Exception bug)
    {
        if (_hasReportedBug) { return; }
        _hasReportedBug = true;
        _log(VhostLogLevel.Error, $"{Bdev.Name}: a request failed because of a bug, please report it: {bug}");
    }

    internal override void Reset()
    {
        _wantsWriteback = true;
        while (_free is { } request)
        {
            _free = request.Next;
            request.Dispose();
        }
    }

    internal override void Close()
    {
        Bdev.Resized -= _onResized;
        Reset();
    }

    private static bool Has(VirtioFeatures negotiated, BlkFeatures feature) => ((BlkFeatures)negotiated & feature) != 0;
}
