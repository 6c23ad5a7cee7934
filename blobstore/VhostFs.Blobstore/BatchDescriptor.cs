using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>The first page of a chunk of <see cref="LogMemory"/>: how much of the batch behind it counts.</summary>
/// <remarks>
/// Whatever the process is doing when it is killed, the batch is one that it had: what changes with every record is written to the one of two places that does not count,
/// and then a single store makes it count. The bytes that it speaks of, record and images, are stored before that.
/// </remarks>
internal readonly unsafe struct BatchDescriptor(nuint address)
{
    public const int Bytes = 4096;
    public const ulong Magic = 0x5341424C53464856; // "VHFSLBAS"
    public const int MaxImages = (Bytes - ImagesOffset) / sizeof(int);
    public const int ImagesOffset = 128;

    private readonly Fields* _fields = (Fields*)address;

    /// <summary>Nothing counts yet.</summary>
    public void Begin(in LogBatchIdentity identity)
    {
        Invariant.That(_fields->Sequence == 0, "a batch's memory describes no other one");
        _fields->Magic = Magic;
        _fields->Identity = identity;
    }

    /// <param name="page">Its number (<see cref="LogChunk.PageNumber"/>).</param>
    public void SetImage(int index, int page)
    {
        Invariant.That((uint)index < MaxImages && page != 0);
        ((int*)((byte*)_fields + ImagesOffset))[index] = page;
    }

    /// <summary>From here on the batch is this.</summary>
    public void Publish(in LogBatchExtent extent)
    {
        uint next = _fields->Sequence + 1;
        if (next == 0) { next = 2; } // 0 is nothing; the other place as well
        if ((next & 1) == 0) { _fields->Even = extent; }
        else { _fields->Odd = extent; }
        Volatile.Write(ref _fields->Sequence, next);
    }

    /// <summary>Nothing counts any more: before any of the memory is used again.</summary>
    public void Clear() => Volatile.Write(ref _fields->Sequence, 0);

    public bool Describes(Guid volume) => _fields->Magic == Magic && _fields->Sequence != 0 && _fields->Identity.Volume == volume;

    /// <summary>Reads one of any origin. False: nothing counts.</summary>
    public static bool TryRead(ReadOnlySpan<byte> page, out LogBatchIdentity identity, out LogBatchExtent extent)
    {
        Fields fields = MemoryMarshal.Read<Fields>(page);
        identity = fields.Identity;
        extent = (fields.Sequence & 1) == 0 ? fields.Even : fields.Odd;
        return fields.Magic == Magic && fields.Sequence != 0;
    }

    [StructLayout(LayoutKind.Explicit, Size = ImagesOffset)]
    private struct Fields
    {
        [FieldOffset(0)] public ulong Magic;
        [FieldOffset(8)] public LogBatchIdentity Identity;
        [FieldOffset(44)] public uint Sequence;
        [FieldOffset(48)] public LogBatchExtent Even;
        [FieldOffset(88)] public LogBatchExtent Odd;
    }
}

/// <summary>What is known of a batch when its first record comes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 4)]
internal readonly record struct LogBatchIdentity(Guid Volume, ulong Epoch, ulong FirstLsn, uint PreviousCrc);

/// <summary>What changes about a batch with every record.</summary>
/// <param name="RecordsCrc">CRC32C of the record bytes.</param>
[StructLayout(LayoutKind.Sequential, Pack = 8)]
internal readonly record struct LogBatchExtent(int Records, int RecordBytes, int Images, uint RecordsCrc, ulong DurableLsn, ulong NextInode);
