using VhostFs.Linux;

namespace VhostFs.Virtio;

/// <summary>Which chains of a device's split queues are in flight, in memory that outlives this process: the front-end keeps it, and hands it to whoever serves the
/// device next (vhost-user.rst, "Inflight I/O tracking").</summary>
/// <remarks>The front-end may change it or take it away at any time: it is mapped as guest memory is, and nothing in it is trusted.</remarks>
public sealed class InflightArea : IDisposable
{
    private const int QueueAlignment = 64;

    private readonly GuestMapping _mapping;
    private readonly int _queueCount;
    private readonly int _queueSize;

    private InflightArea(GuestMapping mapping, int queueCount, int queueSize)
    {
        _mapping = mapping;
        _queueCount = queueCount;
        _queueSize = queueSize;
    }

    /// <summary>Both numbers are what a front-end may ask for.</summary>
    public static bool IsValid(int queueCount, int queueSize) => queueCount is > 0 and <= 256 && queueSize is > 0 and <= Virtqueue.MaxSize;

    public static long BytesFor(int queueCount, int queueSize) => (long)queueCount * QueueBytes(queueSize);

    /// <summary>A new area with nothing in flight, which cannot be shrunk.</summary>
    public static Errno Create(int queueCount, int queueSize, out SafeFd fd)
    {
        Errno made = MemoryCalls.CreateMemfd("vhostfs-inflight", sealable: true, out fd);
        if (made == Errno.None) { made = FileCalls.Truncate(fd, BytesFor(queueCount, queueSize)); }
        return made == Errno.None ? FileCalls.AddSeals(fd, FileCalls.F_SEAL_SHRINK) : made;
    }

    /// <summary>Maps the front-end's area into the life of <paramref name="memory"/>; the caller keeps (and may close) the fd.</summary>
    public static Errno TryMap(GuestMemory memory, SafeFd fd, ulong offset, ulong lengthBytes, int queueCount, int queueSize, out InflightArea? area, out string reason)
    {
        area = null;
        reason = "the area is smaller than its queues, or its offset is not a page's";
        if (lengthBytes > long.MaxValue || (long)lengthBytes < BytesFor(queueCount, queueSize)) { return Errno.EINVAL; }
        if ((offset & ((ulong)Environment.SystemPageSize - 1)) != 0 || offset > long.MaxValue - lengthBytes) { return Errno.EINVAL; }
        Errno mapped = memory.TryMapBeside(fd, offset, (ulong)BytesFor(queueCount, queueSize), out GuestMapping? mapping, out reason);
        if (mapped == Errno.None) { area = new InflightArea(mapping!, queueCount, queueSize); }
        return mapped;
    }

    /// <summary>The part of one queue; null when there is none, or it is too small.</summary>
    internal unsafe InflightQueue? Queue(int index, int size) =>
        index < _queueCount && size <= _queueSize ? new InflightQueue(_mapping.Data + (index * (long)QueueBytes(_queueSize)), size) : null;

    public void Dispose() => _mapping.Dispose();

    private static int QueueBytes(int queueSize) => (InflightQueue.HeaderBytes + (queueSize * InflightQueue.EntryBytes) + QueueAlignment - 1) & -QueueAlignment;
}
