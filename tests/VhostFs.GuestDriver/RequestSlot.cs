using System.Runtime.InteropServices;

namespace VhostFs.GuestDriver;

/// <summary>Guest memory for one request at a time: its table of descriptors, what the device reads, what it answers, and pages of data. Used again for the next one, so that a request allocates nothing.</summary>
/// <remarks>The table is written anew for every request, as a guest's driver does: what the device has in its cache is then as it would be. Invariant: a slot belongs to
/// the device from <see cref="SlotQueue.Submit"/> until <see cref="SlotQueue.TryTake"/> returns it, and nothing here is touched in between.</remarks>
internal sealed class RequestSlot
{
    /// <summary>Room for what the device reads, headers and names, and for its answer without data.</summary>
    public const int RequestBytes = 1024, ReplyBytes = 512;

    // Room for the descriptors beside those of the data.
    private const int FixedDescriptors = 6;

    private readonly GuestRam _ram;
    private readonly DriverQueue _queue;
    private readonly int[] _segments;
    private readonly int _table, _request, _reply;
    private int _count, _readableBytes, _writableBytes;
    private Desc _last;

    /// <param name="index">In its queue: the head of its chain.</param>
    /// <param name="segments">Offsets of the pieces of data in guest memory.</param>
    public RequestSlot(GuestRam ram, DriverQueue queue, int index, int[] segments, int segmentBytes)
    {
        _ram = ram;
        _queue = queue;
        _segments = segments;
        Index = index;
        SegmentBytes = segmentBytes;
        _table = ram.Allocate(16 * (segments.Length + FixedDescriptors), 64);
        _request = ram.Allocate(RequestBytes, 64);
        _reply = ram.Allocate(ReplyBytes, 64);
    }

    public int Index { get; }

    public int SegmentBytes { get; }

    public int SegmentCount => _segments.Length;

    public Span<byte> Request => _ram.At(_request, RequestBytes);

    public Span<byte> Reply => _ram.At(_reply, ReplyBytes);

    /// <summary>What the device says that it wrote.</summary>
    public uint UsedBytes { get; set; }

    public bool IsInFlight { get; set; }

    /// <summary>When its operation began, on the clock of <see cref="System.Diagnostics.Stopwatch"/>.</summary>
    public long StartedAt { get; set; }

    /// <summary>The user's own: which of the requests of an operation this is, what the operation is about, and an open file.</summary>
    public int Step { get; set; }

    /// <inheritdoc cref="Step"/>
    public int Item { get; set; }

    /// <inheritdoc cref="Step"/>
    public ulong Handle { get; set; }

    /// <summary>Counts the requests of this slot.</summary>
    public ulong Sequence { get; set; }

    /// <summary>Where its indirect table is, and how long; complete when the last descriptor has been added.</summary>
    public Desc Table => new(GuestRam.Gpa(_table), (uint)(16 * _count), Desc.FlagIndirect);

    public Span<byte> Segment(int at) => _ram.At(_segments[at], SegmentBytes);

    /// <summary>Begins a new request without descriptors.</summary>
    public void Clear() => _count = _readableBytes = _writableBytes = 0;

    /// <summary>The next bytes of <see cref="Request"/>, in a descriptor of their own.</summary>
    public void AddReadable(int bytes)
    {
        Add(_request + _readableBytes, bytes, 0);
        _readableBytes += bytes;
    }

    /// <summary>The next bytes of <see cref="Reply"/>, in a descriptor of their own.</summary>
    public void AddWritable(int bytes)
    {
        Add(_reply + _writableBytes, bytes, Desc.FlagWrite);
        _writableBytes += bytes;
    }

    /// <summary>The first <paramref name="bytes"/> of the segments, in a descriptor each.</summary>
    public void AddData(int bytes, bool isWritable)
    {
        for (int at = 0; bytes > 0; at++)
        {
            int length = Math.Min(bytes, SegmentBytes);
            Add(_segments[at], length, isWritable ? Desc.FlagWrite : (ushort)0);
            bytes -= length;
        }
    }

    private void Add(int offset, int bytes, ushort flags)
    {
        if (_count > 0) { _queue.WriteTableEntry(_table, _count - 1, _last, isLast: false); }
        _last = new Desc(GuestRam.Gpa(offset), (uint)bytes, flags);
        _queue.WriteTableEntry(_table, _count++, _last, isLast: true);
    }
}
