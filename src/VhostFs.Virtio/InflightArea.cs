using VhostFs.Linux;

namespace VhostFs.Virtio;

/// <summary>Which chains of a device's queues are in flight, in memory that outlives this process: the front-end keeps it, and hands it to whoever serves the
/// device next (vhost-user.rst, "Inflight I/O tracking").</summary>
/// <remarks>The front-end may change it or take it away at any time: it is mapped as guest memory is, and nothing in it is trusted.</remarks>
public sealed class InflightArea : IDisposable
{
    private const int QueueAlignment = 64;

    /// <summary>QEMU 10 asks for as many entries as its queue-size says, and lets the driver have rings of up to 1024.</summary>
    private const int MinQueueSize = 1024;

    private const int VersionAt = 8; // in both layouts; 0: nothing is recorded yet

    private readonly GuestMapping _mapping;
    private readonly int _queueCount;
    private readonly int _queueBytes;
    private readonly bool _isPacked;

    private InflightArea(GuestMapping mapping, int queueCount, int queueBytes, bool isPacked)
    {
        _mapping = mapping;
        _queueCount = queueCount;
        _queueBytes = queueBytes;
        _isPacked = isPacked;
    }

    /// <summary>Both numbers are what a front-end may ask for.</summary>
    public static bool IsValid(int queueCount, int queueSize) => queueCount is > 0 and <= 256 && queueSize is > 0 and <= Virtqueue.MaxSize;

    /// <summary>How large an area of ours is.</summary>
    /// <param name="isPacked">The queues are packed ones.</param>
    public static long BytesFor(int queueCount, int queueSize, bool isPacked) => (long)queueCount * QueueBytes(Math.Max(queueSize, MinQueueSize), isPacked);

    /// <summary>A new area with nothing in flight, which cannot be shrunk.</summary>
    public static Errno Create(int queueCount, int queueSize, bool isPacked, out SafeFd fd)
    {
        Errno made = MemoryCalls.CreateMemfd("vhostfs-inflight", sealable: true, out fd);
        if (made == Errno.None) { made = FileCalls.Truncate(fd, BytesFor(queueCount, queueSize, isPacked)); }
        return made == Errno.None ? FileCalls.AddSeals(fd, FileCalls.F_SEAL_SHRINK) : made;
    }

    /// <summary>Maps the front-end's area into the life of <paramref name="memory"/>; the caller keeps (and may close) the fd.</summary>
    public static Errno TryMap(GuestMemory memory, SafeFd fd, ulong offset, ulong lengthBytes, int queueCount, int queueSize, bool isPacked, out InflightArea? area, out string reason)
    {
        area = null;
        reason = "the area is smaller than its queues, or its offset is not a page's";
        // What there is is shared out evenly: the front-end knows how large the area is, and not how large its queues are.
        int queueBytes = (int)Math.Min(lengthBytes / (ulong)queueCount, (ulong)QueueBytes(Virtqueue.MaxSize, isPacked)) & -QueueAlignment;
        if (lengthBytes > long.MaxValue || queueBytes < QueueBytes(queueSize, isPacked)) { return Errno.EINVAL; }
        if ((offset & ((ulong)Environment.SystemPageSize - 1)) != 0 || offset > long.MaxValue - lengthBytes) { return Errno.EINVAL; }
        Errno mapped = memory.TryMapBeside(fd, offset, (ulong)queueCount * (ulong)queueBytes, out GuestMapping? mapping, out reason);
        if (mapped == Errno.None) { area = new InflightArea(mapping!, queueCount, queueBytes, isPacked); }
        return mapped;
    }

    /// <summary>There is a part for such a queue, and it is large enough.</summary>
    public bool Holds(int index, int size, bool isPacked) => isPacked == _isPacked && index < _queueCount && QueueBytes(size, isPacked) <= _queueBytes;

    /// <summary>The part of one split queue; null when there is none, or it is too small.</summary>
    internal unsafe SplitInflight? Split(int index, int size) => Holds(index, size, isPacked: false) ? new SplitInflight(At(index), size) : null;

    /// <summary>The part of one packed queue; null when there is none, or it is too small.</summary>
    internal unsafe PackedInflight? Packed(int index, int size) => Holds(index, size, isPacked: true) ? new PackedInflight(At(index), size) : null;

    /// <summary>The front-end has been told where the queue has stopped, and nothing is in flight: wherever it starts next, this has nothing to say.</summary>
    public unsafe void Forget(int index)
    {
        if (index < _queueCount) { Volatile.Write(ref *(ushort*)(At(index) + VersionAt), 0); }
    }

    public void Dispose() => _mapping.Dispose();

    private unsafe byte* At(int index) => _mapping.Data + ((long)index * _queueBytes);

    private static int QueueBytes(int queueSize, bool isPacked)
    {
        int bytes = isPacked ? PackedInflight.HeaderBytes + (queueSize * PackedInflight.EntryBytes) : SplitInflight.HeaderBytes + (queueSize * SplitInflight.EntryBytes);
        return (bytes + QueueAlignment - 1) & -QueueAlignment;
    }
}
